"""Draft: the student answers, with a cap on its length (report §5, first half of mixed policy)."""

import math
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from harness.asking import Request
from harness.cost import Estimator, Volume, Work, drawn, generation, some
from harness.evaluate import ask, conversation, draw_seed
from harness.rows import Key, read_in_order, read_rows
from harness.stage import Service, Stage
from harness.store import Context
from harness.types import Generation, Sampling


@dataclass(frozen=True, kw_only=True)
class Draft(Stage):
    """Writes generations.jsonl: one answer of the student to each of `questions` questions of `data`.

    An answer may take `cap` times as many tokens as the teacher's answer in `data` took.
    """

    student: Stage
    data: Stage
    engine: str
    sampling: Sampling
    questions: int
    cap: float = 1.5
    system: str | None = None
    seed: int = 0

    def service(self) -> Service:
        return Service(model=self.student, engine=self.engine, sampling=self.sampling)

    def requests(self, rows: Iterable[Generation]) -> Iterator[Request]:
        for row in rows:
            limit = min(math.ceil(self.cap * row.completion_tokens), self.sampling.max_tokens)
            yield Request(
                question=row.question,
                draw=0,
                messages=conversation(row.kept["prompt"], self.system),
                sampling=replace(self.sampling, max_tokens=limit),
                seed=draw_seed(self.seed, row.question, 0),
                kept={"domain": row.kept["domain"], "prompt": row.kept["prompt"]},
                tagged=True,
            )

    def run(self, out: Path, context: Context) -> None:
        file = context.path(self.data) / "generations.jsonl"
        chosen = choose(((row.question, row.draw) for row in read_rows(file, Key)), self.questions, self.seed)
        rows = (row for row in read_in_order(file, Generation) if (row.question, row.draw) in chosen)
        ask(self.requests(rows), len(chosen), self.service(), out, context)

    def expected(self, estimator: Estimator) -> Volume:
        """The student's answers are as long as the teacher's, but for those that run into the cap."""
        data, share = estimator.volume(self.data), estimator.assumptions.truncated.value
        first = Volume(
            domains={name: one.part(one.questions, one.questions) for name, one in data.domains.items()}
        )
        longer = 1 + share * (self.cap - 1)
        return Volume(
            domains={
                name: replace(one, response=one.response * longer)
                for name, one in some(first, self.questions).domains.items()
            }
        )

    def work(self, estimator: Estimator) -> Work:
        capped = f"{self.questions:,} questions, capped at {self.cap} × the teacher's tokens, "
        return generation(self, self.service(), estimator, capped + drawn(self.sampling))


def choose(keys: Iterable[tuple[str, int]], count: int, seed: int) -> set[tuple[str, int]]:
    """The first draw of each of `count` questions, whatever the order of the keys."""
    first: dict[str, int] = {}
    for question, draw in keys:
        first[question] = min(draw, first.get(question, draw))
    order = sorted(first, key=lambda question: random.Random(f"{seed}:{question}").random())
    return {(question, first[question]) for question in order[:count]}
