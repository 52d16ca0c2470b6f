"""Two runs beside each other, question by question, with the flips and with what was asked otherwise."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from harness.errors import UsageError
from harness.evaluate import Mark
from harness.rows import read_rows
from harness.runs import Evaluated
from harness.statistics import Comparison, compare
from harness.store import RunStore, differences
from harness.types import Grade

COLUMNS = (
    "row", "benchmark", "questions", "difference", "95 % over questions", "SE over re-runs", "gained", "lost",
)  # fmt: skip
SHOWN_FLIPS = 20
WIDTH = 140


@dataclass(frozen=True, kw_only=True)
class Compared:
    """One benchmark in both runs. `otherwise` are the settings that differ; `only` counts the
    questions that just one of them has; `same_answers`: one set of answers, graded twice."""

    row: str
    benchmark: str
    comparison: Comparison
    otherwise: tuple[str, ...]
    common: int
    only: tuple[int, int]
    same_answers: bool

    @property
    def gained(self) -> int:
        return sum(after > before for _, before, after in self.comparison.flips)

    @property
    def lost(self) -> int:
        return len(self.comparison.flips) - self.gained


def compare_runs(store: RunStore, first: Sequence[Evaluated], second: Sequence[Evaluated]) -> list[Compared]:
    """Every benchmark that both have. Raises UsageError where there is none, or rows cannot be paired."""
    found = [compared(store, a, b) for a, b in pairs(first, second)]
    if not found:
        raise UsageError(
            "the two have no row and benchmark in common", "Name one row of each, as in RUN/ROW OTHER/ROW."
        )
    return found


def pairs(first: Sequence[Evaluated], second: Sequence[Evaluated]) -> Iterator[tuple[Evaluated, Evaluated]]:
    """By row and benchmark; by benchmark alone where each side has one row."""
    single = len({one.row for one in first}) == len({one.row for one in second}) == 1
    for a in first:
        for b in second:
            if a.benchmark == b.benchmark and (single or a.row == b.row):
                yield a, b


def compared(store: RunStore, a: Evaluated, b: Evaluated) -> Compared:
    before, after = grades(store, a.mark), grades(store, b.mark)
    left, right = ({grade.question for grade in own} for own in (before, after))
    try:
        comparison = compare(before, after)
    except ValueError as error:
        raise UsageError(f"{a.label} cannot be compared with {b.label}: {error}") from error
    return Compared(
        row=a.row if a.row == b.row else f"{a.row} → {b.row}",
        benchmark=a.benchmark,
        comparison=comparison,
        otherwise=tuple(asked_otherwise(a.mark, b.mark)),
        common=len(left & right),
        only=(len(left - right), len(right - left)),
        same_answers=a.mark.asked.key == b.mark.asked.key,
    )


def grades(store: RunStore, mark: Mark) -> list[Grade]:
    return list(read_rows(store.whole(mark) / "grades.jsonl", Grade))


def asked_otherwise(a: Mark, b: Mark) -> Iterator[str]:
    """The settings of asking and grading that differ; the model may of course."""
    ours, theirs = ({**mark.asked.identity, **mark.identity, "asked": ""} for mark in (a, b))
    yield from differences({**ours, "model": ""}, {**theirs, "model": ""})


def as_json(found: Sequence[Compared]) -> list[dict[str, Any]]:
    """For machines, with every flip. One set of answers that was graded twice has neither error."""
    return [
        {
            "row": one.row,
            "benchmark": one.benchmark,
            "questions": one.common,
            "only_first": one.only[0],
            "only_second": one.only[1],
            "difference": one.comparison.difference,
            "interval": None if one.same_answers else one.comparison.interval,
            "se_rerun": None if one.same_answers else one.comparison.se_rerun,
            "same_answers": one.same_answers,
            "otherwise": one.otherwise,
            "gained": one.gained,
            "lost": one.lost,
            "flips": [
                {"question": question, "before": before, "after": after}
                for question, before, after in one.comparison.flips
            ],
        }
        for one in found
    ]


def print_comparison(found: Sequence[Compared], names: tuple[str, str], everything: bool) -> None:
    """A table, then the flips, those that changed most first."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)
    table = Table(title=f"{names[1]} against {names[0]}", title_justify="left")
    for name in COLUMNS:
        table.add_column(name, no_wrap=True)
    for one in found:
        table.add_row(*line(one))
    console.print(table)
    for one in found:
        for told in remarks(one, everything):
            console.print(told, markup=False, highlight=False)


def line(one: Compared) -> tuple[str, ...]:
    """One line of the table. Of one set of answers graded twice neither error is told: it has none."""
    told = one.comparison
    span = "–" if told.interval is None else f"[{told.interval[0]:+.1f}, {told.interval[1]:+.1f}]"
    error = "–" if told.se_rerun is None else f"{told.se_rerun:.1f}"
    span, error = ("–", "–") if one.same_answers else (span, error)
    return (one.row, one.benchmark, str(one.common), f"{told.difference:+.1f}", span, error,
            str(one.gained), str(one.lost))  # fmt: skip


def remarks(one: Compared, everything: bool) -> Iterator[str]:
    """What differs in the settings, what only one run has, and the flips."""
    where = f"{one.row}, {one.benchmark}"
    for setting in one.otherwise:
        yield f"{where}: {setting}"
    if any(one.only):
        yield f"{where}: {one.only[0]} questions only in the first, {one.only[1]} only in the second"
    flips = sorted(one.comparison.flips, key=lambda flip: (-abs(flip[2] - flip[1]), flip[0]))
    shown = flips if everything else flips[:SHOWN_FLIPS]
    for question, before, after in shown:
        yield f"{where}: {question}  {before:.0%} → {after:.0%}"
    if len(shown) < len(flips):
        yield f"{where}: {len(flips) - len(shown)} more flips; --all lists them"
