"""Collect: the training questions (report §6.1).

Questions come from sources, are told apart by their text (exact duplicates go) and are checked
against the benchmarks that the recipe measures: a training question whose text is a test question's
is removed, and the reason kept.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.micro import Domain, training_questions
from harness.benchmark import Benchmark
from harness.errors import StageError
from harness.files import write_rows
from harness.stage import Json, Stage
from harness.store import Context
from harness.types import Question


@dataclass(frozen=True, kw_only=True)
class MicroSource:
    """`count` procedural questions of one domain, from the training split."""

    domain: Domain
    count: int
    seed: int = 0

    def questions(self) -> list[Question]:
        return training_questions(self.domain, self.count, self.seed)


@dataclass(frozen=True, kw_only=True)
class Removed:
    """A question that did not make it, and why."""

    question: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Collect(Stage):
    """Writes questions.jsonl, and removed.jsonl with a reason a row."""

    sources: tuple[MicroSource, ...]
    decontaminate: tuple[Benchmark, ...] = ()

    @property
    def identity(self) -> dict[str, Json]:
        """How the benchmarks are asked does not change which questions they hold."""
        identity = super().identity
        for benchmark in identity["decontaminate"]:
            del benchmark["sampling"]
        return identity

    def run(self, out: Path, context: Context) -> None:
        tests = {
            known
            for benchmark in self.decontaminate
            for question in benchmark.load(context.machine.data)
            for known in (question.id, normalised(question.prompt))
        }
        judged = list(judge((q for source in self.sources for q in source.questions()), tests))
        kept = [row for row in judged if isinstance(row, Question)]
        if not kept:
            raise StageError("no question is left after deduplication and decontamination")
        write_rows(out / "removed.jsonl", (row for row in judged if isinstance(row, Removed)))
        write_rows(out / "questions.jsonl", kept)


def judge(questions: Iterator[Question], tests: set[str]) -> Iterator[Question | Removed]:
    """Each question, or the reason why it goes."""
    seen: set[str] = set()
    for question in questions:
        text = normalised(question.prompt)
        if text in tests or question.id in tests:
            yield Removed(question=question.id, reason="benchmark question")
        elif text in seen:
            yield Removed(question=question.id, reason="duplicate")
        else:
            seen.add(text)
            yield question


def normalised(text: str) -> str:
    """Text without differences of case and white space."""
    return " ".join(text.casefold().split())
