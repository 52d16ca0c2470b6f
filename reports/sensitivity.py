"""Sensitivity: what the score would be under each other reading that stored answers allow.

A paper leaves choices open (`ambiguities.toml`). Those that need no new answers (extraction, grader
version, time limit, window) are tried on the ones there are, so that a reader sees how much of a
difference from the published number they could explain.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from harness.benchmark import Variation
from harness.errors import UsageError
from harness.evaluate import Mark, asked_counts
from harness.rows import read_rows
from harness.stage import Stage
from harness.statistics import Score, score
from harness.store import Context, RunStore
from harness.types import Grade

WORTH_SHOWING = 0.9


@dataclass(frozen=True, kw_only=True)
class Varied:
    """One row's score on one benchmark under another reading, beside the one reported.

    `questions` is how many of the reading's `of` questions have stored answers.
    """

    row: str
    benchmark: str
    ambiguity: str
    alternative: str
    reported: float | None
    score: Score
    questions: int
    of: int


def sensitivity(store: RunStore, labels: Mapping[str, Stage], context: Context) -> Iterator[Varied]:
    """Every alternative of every finished evaluation. Grades again where that is needed; asks nothing.

    A window of other questions is left out where fewer than nine in ten of them were asked.
    """
    for label, mark in labels.items():
        if isinstance(mark, Mark) and store.state(mark) == "done":
            _, row, benchmark = label.split("/")
            check_grader(label, mark)
            questions, draws = asked_counts(store.whole(mark.asked))
            reported = score(graded(store, mark), questions, draws).average
            for variation in mark.asked.benchmark.variations():
                found, questions, of = under(variation, mark, store, context)
                if questions < WORTH_SHOWING * of:
                    continue
                yield Varied(
                    row=row,
                    benchmark=benchmark,
                    ambiguity=variation.ambiguity,
                    alternative=variation.name,
                    reported=reported,
                    score=score(found, questions, draws),
                    questions=questions,
                    of=of,
                )


def under(
    variation: Variation, mark: Mark, store: RunStore, context: Context
) -> tuple[list[Grade], int, int]:
    """The grades under one reading, how many questions they cover, and how many it has."""
    questions = mark.asked.questions(context)
    grades, of = graded(store, mark), variation.of or len(questions)
    if variation.holds is not None:
        both = {question.id for question in questions if variation.holds(question)}
        return [grade for grade in grades if grade.question in both], len(both), of
    if variation.benchmark is None:
        return ([lenient(grade) for grade in grades] if variation.lenient else grades), len(questions), of
    again = Mark(asked=replace(mark.asked, benchmark=variation.benchmark), grader=variation.benchmark.grader)
    store.build(again, context)
    return graded(store, again), len(questions), of


def check_grader(label: str, mark: Mark) -> None:
    """Raises UsageError for verdicts of another version: the spread would hold its changes too."""
    now = mark.asked.benchmark.grader
    if mark.grader != now:
        raise UsageError(
            f"{label} was graded by grader {mark.grader}, and this version has grader {now}",
            "Run `harness regrade` on it first.",
        )


def graded(store: RunStore, mark: Mark) -> list[Grade]:
    return list(read_rows(store.whole(mark) / "grades.jsonl", Grade))


def lenient(grade: Grade) -> Grade:
    """The grade with the verdict on the whole text, truncated or not."""
    return replace(grade, correct=grade.lenient)


def spread(found: Sequence[Varied], row: str, benchmark: str) -> tuple[float, float] | None:
    """The lowest and the highest score among the reported one and its complete alternatives."""
    own = [one for one in found if (one.row, one.benchmark) == (row, benchmark) and one.questions == one.of]
    values = [one.score.average for one in own if one.score.complete and one.score.average is not None]
    values += [one.reported for one in own[:1] if one.reported is not None]
    return (min(values), max(values)) if values else None


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What can be tried on stored answers: an alternative to what is open, and on which benchmarks."""

    ambiguity: str
    alternative: str
    benchmarks: tuple[str, ...]


def readings(marks: Iterable[Mark]) -> list[Reading]:
    """Every alternative that `sensitivity` would try."""
    found: dict[tuple[str, str], dict[str, None]] = {}
    for mark in marks:
        benchmark = mark.asked.benchmark
        for variation in benchmark.variations():
            found.setdefault((variation.ambiguity, variation.name), {})[benchmark.name] = None
    return [
        Reading(ambiguity=what, alternative=name, benchmarks=tuple(on)) for (what, name), on in found.items()
    ]
