"""Collect: the training questions (report §6.1).

Each source gives its questions best first. They are taken in that order until there are as many as
wanted; one that is a benchmark's, or like one already taken, is left out and the reason kept. So which
of two duplicates stays depends on the sources' order in the recipe and on the questions, not on files.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from benchmarks.micro import Domain, training_questions
from harness.benchmark import Benchmark
from harness.cost import Amount, Estimator, Volume, Work
from harness.errors import StageError
from harness.files import write_json, write_rows
from harness.machine import Machine
from harness.stage import Json, Stage
from harness.store import Context
from harness.types import Question
from pipeline import control
from pipeline.contamination import Contamination, Overlap, indexed, loaded
from pipeline.duplicates import Near, NearIndex
from pipeline.sources import Pool, Source, normalised


@dataclass(frozen=True, kw_only=True)
class MicroSource:
    """`count` procedural questions of one domain, from the training split."""

    domain: Domain
    count: int
    seed: int = 0

    @property
    def name(self) -> str:
        return f"micro {self.domain}"

    def pool(self, machine: Machine) -> Pool:
        return Pool(questions=training_questions(self.domain, self.count, self.seed), facts={})


@dataclass(frozen=True, kw_only=True)
class Removed:
    """A question that did not make it, and why.

    `of` is the question that it duplicates, or the test question that it holds. `share` and `run` say how
    much of it and which words in common were met first (of a benchmark that is not public: their hash).
    """

    question: str
    reason: str
    of: str = ""
    benchmark: str = ""
    share: float = 0.0
    run: str = ""


@dataclass(frozen=True, kw_only=True)
class Collect(Stage):
    """Writes questions.jsonl, removed.jsonl with a reason a row, and sources.json with what was found.

    Exact duplicates, questions whose whole text is a benchmark's, and those with a control token always
    go; near duplicates and overlapping ones where `near` and `overlap` say so. (Procedural questions are all
    alike.)
    """

    version: ClassVar[int] = 2

    sources: tuple[Source, ...]
    decontaminate: tuple[Benchmark, ...] = ()
    overlap: Overlap | None = None
    near: Near | None = None

    @property
    def identity(self) -> dict[str, Json]:
        """How the benchmarks are asked does not change which questions they hold."""
        identity = super().identity
        for benchmark in identity["decontaminate"]:
            del benchmark["sampling"]
        return identity

    def run(self, out: Path, context: Context) -> None:
        gate = self.gate(context.machine.data)
        kept: list[Question] = []
        removed: list[Removed] = []
        facts: list[dict[str, object]] = []
        for source in self.sources:
            pool = source.pool(context.machine)
            before = len(kept), len(removed)
            for row in take(source.count, pool.questions, gate):
                (kept if isinstance(row, Question) else removed).append(row)  # type: ignore[arg-type]
            taken = len(kept) - before[0]
            told = {"wanted": source.count, "taken": taken, "removed": len(removed) - before[1]}
            facts.append({"name": source.name, **told, **pool.facts})
            if taken < source.count:
                context.progress.say(f"{source.name}: {taken:,} questions of the {source.count:,} wanted")
        if not kept:
            raise StageError("no question is left after deduplication and decontamination")
        write_json(out / "sources.json", facts)
        write_rows(out / "removed.jsonl", removed)
        write_rows(out / "questions.jsonl", kept)

    def gate(self, data: Path | None) -> "Gate":
        """What a question must pass. Raises DataError where a benchmark cannot be read."""
        tests = list(loaded(self.decontaminate, data))
        known = {
            text
            for _, questions in tests
            for question in questions
            for text in (question.id, normalised(question.prompt))
        }
        overlapping = indexed(tests, self.overlap) if self.overlap else None
        return Gate(known, overlapping, NearIndex(self.near) if self.near else None)

    def expected(self, estimator: Estimator) -> Volume:
        found: dict[str, Amount] = {}
        for source in self.sources:
            prompt = estimator.prompt(source.domain) * source.count
            amount = Amount(rows=source.count, questions=source.count, prompt=prompt)
            found[source.domain] = found.get(source.domain, Amount()) + amount
        return Volume(domains=found)

    def work(self, estimator: Estimator) -> Work:
        downloads = sum(estimator.download(source.name) for source in self.sources)
        setting = ", ".join(f"{source.count:,} {source.domain}" for source in self.sources)
        return Work(disk=downloads + estimator.text_bytes(estimator.volume(self)), setting=setting)


class Gate:
    """Lets each question pass once."""

    def __init__(
        self, known: set[str], overlapping: Contamination | None = None, near: NearIndex | None = None
    ) -> None:
        self.known = known
        self.overlapping = overlapping
        self.near = near
        self.seen: dict[str, str] = {}

    def __call__(self, question: Question) -> Removed | None:
        """The reason against a question; None where there is none, and it now counts as taken."""
        text = normalised(question.prompt)
        if control.holds_control_token(question.prompt):
            return Removed(question=question.id, reason=control.REASON)
        if text in self.known or question.id in self.known:
            return Removed(question=question.id, reason="benchmark question")
        if text in self.seen:
            return Removed(question=question.id, reason="duplicate", of=self.seen[text])
        if self.overlapping and (match := self.overlapping.match(question.prompt)):
            return Removed(
                question=question.id,
                reason="benchmark overlap",
                of=match.question,
                benchmark=match.benchmark,
                share=match.share,
                run=match.run,
            )
        if self.near and (alike := self.near.add(question.id, question.prompt)):
            return Removed(question=question.id, reason="near duplicate", of=alike)
        self.seen[text] = question.id
        return None


def take(
    count: int, questions: Iterable[Question], reason_against: Callable[[Question], Removed | None]
) -> Iterator[Question | Removed]:
    """The first `count` questions that nothing speaks against, and those left out on the way to them."""
    for question in questions:
        if count == 0:
            return
        removed = reason_against(question)
        yield removed or question
        count -= removed is None
