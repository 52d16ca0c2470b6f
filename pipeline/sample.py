"""Sample: several responses of the teacher to each question at one temperature (report §6.2).

The log-probabilities of the sampled tokens are kept: divergence-aware selection needs them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.client import Request
from harness.evaluate import ask, conversation, draw_seed
from harness.generate import read_rows
from harness.stage import Service, Stage
from harness.store import Context
from harness.types import Question, Sampling
from pipeline.collect import Collect


@dataclass(frozen=True, kw_only=True)
class Sample(Stage):
    """Writes generations.jsonl with `sampling.draws` candidates a question."""

    questions: Collect
    teacher: Stage
    engine: str
    sampling: Sampling
    system: str | None = None

    def service(self) -> Service:
        return Service(model=self.teacher, engine=self.engine, sampling=self.sampling)

    def requests(self, questions: list[Question]) -> Iterator[Request]:
        for draw in range(self.sampling.draws):
            for question in questions:
                yield Request(
                    question=question.id,
                    draw=draw,
                    messages=conversation(question.prompt, self.system),
                    sampling=self.sampling,
                    seed=draw_seed(self.sampling.seed, question.id, draw),
                    kept={"domain": question.domain, "prompt": question.prompt},
                    logprobs=True,
                )

    def run(self, out: Path, context: Context) -> None:
        questions = list(read_rows(context.path(self.questions) / "questions.jsonl", Question))
        total = len(questions) * self.sampling.draws
        ask(self.requests(questions), total, self.service(), out, context)
