"""A night for a terminal, for a log, and as JSON for scripts and hooks."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from harness.nightly.gate import Outcome
from harness.nightly.history import Night, Result
from harness.nightly.night import Over

WIDTH = 150
SHOWN_FLIPS = 10
Columns = Mapping[str, Callable[[Result], str]]
"""The columns of a table: what is written above, and the cell of a result."""
STYLES: dict[Outcome, str] = {"pass": "green", "regression": "red", "inconclusive": "yellow"}


def as_told(over: Over, page: str) -> dict[str, Any]:
    """What `--json` prints and the hook gets: the night, and everything about each result."""
    return {
        "name": over.night.name,
        "night": over.night.label,
        "outcome": over.outcome,
        "asked_anew": over.asked,
        "asked_before": over.there,
        "page": page,
        "results": over.results,
    }


def print_night(over: Over) -> None:
    """The table, then what there is to say of each line."""
    console = console_of()
    console.print(night_table(f"night {over.night.label}: {over.outcome}", over.results))
    for result in over.results:
        for told in remarks(result):
            console.print(told, markup=False, highlight=False)
    console.print(provenance(over), markup=False, highlight=False)


def provenance(over: Over) -> str:
    """Where the responses are from: never from a cache."""
    if not over.asked and over.there:
        return f"asked anew: nothing; the {over.there:,} responses of this night are there already"
    earlier = f"; {over.there:,} of this night were there from an interrupted call" if over.there else ""
    return f"asked anew: {over.asked:,} responses, with seeds of this night alone{earlier}"


def print_history(nights: Sequence[Night]) -> None:
    """All nights, oldest first, one line for each result."""
    console = console_of()
    table = Table(title="history", title_justify="left")
    for name in ("night", *COLUMNS):
        table.add_column(name, no_wrap=True)
    for night in nights:
        if night.finished is None:
            empty = {"outcome": "not over"}
            table.add_row(night.label, *(empty.get(name, "–") for name in COLUMNS))
        for result in night.results:
            table.add_row(night.label, *cells(COLUMNS, result), style=STYLES[result.judged.outcome])
    console.print(table)


def console_of() -> Console:
    console = Console()
    return console if console.is_terminal else Console(width=WIDTH)


def night_table(title: str, results: Sequence[Result]) -> Table:
    table = Table(title=title, title_justify="left")
    for name in COLUMNS:
        table.add_column(name, no_wrap=True)
    for result in results:
        table.add_row(*cells(COLUMNS, result), style=STYLES[result.judged.outcome])
    return table


def cells(columns: Columns, result: Result) -> tuple[str, ...]:
    """One line of a table."""
    return tuple(cell(result) for cell in columns.values())


def outcome_cell(result: Result) -> str:
    return result.judged.outcome


def score_cell(result: Result) -> str:
    return "–" if result.score is None else f"{points(result.score)} ± {points(result.error, '?')}"


def history_cell(result: Result) -> str:
    return f"{points(result.judged.mean)} ({result.judged.nights} nights)"


def difference_cell(result: Result) -> str:
    return points(result.judged.difference, signed=True)


def threshold_cell(result: Result) -> str:
    told = result.judged
    return "–" if told.threshold is None else f"{told.threshold:.1f} = mean − {told.k:.1f}σ"


def sees_cell(result: Result) -> str:
    return points(result.judged.sees)


def published_cell(result: Result) -> str:
    return "–" if result.published is None else f"{result.published:g} (not gated on)"


JUDGED: Columns = {
    "outcome": outcome_cell,
    "tonight": score_cell,
    "history": history_cell,
    "Δ": difference_cell,
    "regression at": threshold_cell,
    "sees": sees_cell,
}
"""What every table of results has: on the terminal, and both on the trend page."""
PUBLISHED: Columns = {"published": published_cell}
COLUMNS: Columns = {
    "checkpoint": lambda result: result.checkpoint,
    "benchmark": lambda result: result.benchmark,
    **JUDGED,
    **PUBLISHED,
}


def points(value: float | None, nothing: str = "–", signed: bool = False) -> str:
    if value is None:
        return nothing
    return f"{value:+.1f}" if signed else f"{value:.1f}"


def remarks(result: Result) -> Iterator[str]:
    """Why, what would help, what changed since the last night that passed, and which questions flipped."""
    told = result.judged
    if told.reason:
        yield f"{result.line}: {told.outcome}: {told.reason}"
    if advice := advised(result):
        yield f"{result.line}: {advice}"
    if told.better:
        yield (
            f"{result.line}: above its history; where that is meant, --accept --line {result.line} "
            "makes it the new level"
        )
    for change in result.changed:
        yield f"{result.line}: since the last pass: {change}" if told.nights else f"{result.line}: {change}"
    if told.outcome == "regression":
        yield from flipped(result)


def advised(result: Result) -> str:
    """What would let the gate see the drop that it is held to."""
    told = result.judged
    if told.outcome != "inconclusive" or told.sees is None:
        return ""
    draws = f"{result.benchmark}:{told.draws_needed}, or " if told.draws_needed else ""
    return f"it would with {draws}a longer history; or set drop = {told.sees + 0.05:.1f} in [gate]"


def flipped(result: Result) -> Iterator[str]:
    """The questions that lost most, as `question  history 75 %, last pass 100 % → 25 %`."""
    lost = [flip for flip in result.flips if flip.tonight < flip.before]
    for flip in lost[:SHOWN_FLIPS]:
        yield (
            f"{result.line}: {flip.question}  history {flip.before:.0%}, "
            f"last pass {flip.last:.0%} → {flip.tonight:.0%}"
        )
    if len(lost) > SHOWN_FLIPS:
        yield f"{result.line}: {len(lost) - SHOWN_FLIPS} more such questions are on the trend page"
