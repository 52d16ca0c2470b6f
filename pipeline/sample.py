"""Sample: several responses of the teacher to each question at one temperature (report §6.2).

The sampled tokens are kept with their log-probabilities (tokens.arrow): divergence-aware selection
needs them. A teacher that speaks harmony (gpt-oss) is asked with its reasoning effort in the prompt,
and its channels come back as `<think>…</think>` and answer.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harness.asking import Request
from harness.cost import Amount, Estimator, Volume, Work, drawn, generation
from harness.evaluate import ask, conversation, draw_seed
from harness.rows import read_rows
from harness.stage import Service, Stage
from harness.store import Context
from harness.types import Question, Sampling


@dataclass(frozen=True, kw_only=True)
class Sample(Stage):
    """Writes generations.jsonl with `sampling.draws` candidates a question, and tokens.arrow.

    `per_domain` asks only the first so many questions of each domain it names; none: all. `effort` is
    the reasoning effort and `date` the day that the prompt tells, of teachers whose template knows them.
    """

    questions: Stage
    teacher: Stage
    engine: str
    sampling: Sampling
    system: str | None = None
    per_domain: tuple[tuple[str, int], ...] = ()
    effort: Literal["", "low", "medium", "high"] = ""
    date: str = ""

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
                    effort=self.effort,
                    date=self.date,
                    tagged=True,
                )

    def run(self, out: Path, context: Context) -> None:
        rows = read_rows(context.path(self.questions) / "questions.jsonl", Question)
        questions = list(first_of_each(rows, dict(self.per_domain)))
        total = len(questions) * self.sampling.draws
        ask(self.requests(questions), total, self.service(), out, context)

    def expected(self, estimator: Estimator) -> Volume:
        counts, found = dict(self.per_domain), {}
        for domain, asked in estimator.volume(self.questions).domains.items():
            questions = min(asked.questions, counts.get(domain, 0)) if counts else asked.questions
            rows = questions * self.sampling.draws
            response = estimator.response(domain, self.sampling) * rows
            prompt = asked.part(rows, questions).prompt
            found[domain] = Amount(rows=rows, questions=questions, prompt=prompt, response=response)
        return Volume(domains=found)

    def work(self, estimator: Estimator) -> Work:
        effort = f", effort {self.effort}" if self.effort else ""
        return generation(self, self.service(), estimator, drawn(self.sampling) + effort, logprobs=True)


def first_of_each(questions: Iterable[Question], counts: dict[str, int]) -> Iterator[Question]:
    """The first `counts[domain]` questions of each domain; all of them where no counts are given."""
    seen: dict[str, int] = defaultdict(int)
    for question in questions:
        if not counts or seen[question.domain] < counts.get(question.domain, 0):
            seen[question.domain] += 1
            yield question
