"""The report's main table for a terminal or a log."""

from rich.console import Console
from rich.table import Table

from reports.claim_table import SPREAD
from reports.page import Report
from reports.table import (
    Entry,
    cell,
    delta_cell,
    published_cell,
    spread_cell,
    stopped_early,
    verdict_cell,
)

WIDTH = 140
COLUMNS = (
    "row", "benchmark", "claimed", "measured ± SE", SPREAD, "questions × draws", "Δ [90 %]", "verdict",
)  # fmt: skip
STYLES = {"reproduced": "green", "not reproduced": "red", "inconclusive": "yellow"}


def print_report(report: Report) -> None:
    """Prints the claims with their verdicts; colours only on a terminal."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)
    console.print(main_table(report))
    for entry in report.entries:
        if stopped := stopped_early(entry):
            console.print(f"{entry.row}, {entry.benchmark}: {stopped}", markup=False, highlight=False)
    for reason in report.not_a_score:
        console.print(f"Not a score: {reason}", style="yellow", markup=False)


def main_table(report: Report) -> Table:
    table = Table(title=report.recipe, title_justify="left", expand=False)
    varied = any(entry.spread for entry in report.entries)
    for name in COLUMNS if varied else [name for name in COLUMNS if name != SPREAD]:
        table.add_column(name, no_wrap=True)
    previous = ""
    for entry in report.entries:
        if previous not in ("", entry.row):
            table.add_section()
        table.add_row(*line(entry, varied), style=STYLES.get(entry.verdict or ""))
        previous = entry.row
    return table


def measured(entry: Entry) -> str:
    """The value with its error over re-runs; `± ?` where one draw gives none."""
    if entry.measured is None:
        return cell(entry)
    return f"{entry.measured:.1f} ± {'?' if entry.se_rerun is None else format(entry.se_rerun, '.1f')}"


def line(entry: Entry, varied: bool) -> tuple[str, ...]:
    return (
        entry.row,
        entry.benchmark,
        published_cell(entry),
        measured(entry),
        *((spread_cell(entry),) if varied else ()),
        f"{entry.questions} × {entry.draws}",
        delta_cell(entry),
        entry.verdict or verdict_cell(entry),
    )
