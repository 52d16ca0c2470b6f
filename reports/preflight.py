"""A preflight's checks for a terminal or a log."""

from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.preflight.report import Check, Report

WIDTH = 140
STYLES = {"passed": "green", "could not be told": "yellow", "not applicable": "dim"}


def print_preflight(report: Report, title: str, console: Console | None = None) -> None:
    """Prints a line a check, then what mends those that failed; colours only on a terminal."""
    shown = console or Console()
    if not shown.is_terminal:
        shown = Console(file=shown.file, width=WIDTH)
    with shown.capture() as printed:
        shown.print(make_table(report, title))
    shown.file.writelines(f"{line.rstrip()}\n" for line in printed.get().splitlines())
    for check in report.checks:
        if check.outcome == "failed":
            shown.print(Text(f"{check.name}: {check.remedy}"), soft_wrap=True)
    stopping = len(report.stopping)
    told = f"{stopping} of these would stop the run" if stopping else "nothing stops the run"
    shown.print(Text(told, style="red" if stopping else "green"))


def make_table(report: Report, title: str) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    table.add_column("check", no_wrap=True)
    table.add_column("outcome", no_wrap=True)
    table.add_column("observed", overflow="fold")
    for check in report.checks:
        outcome = Text(outcome_of(check), style=STYLES.get(check.outcome, "red" if check.stops else "yellow"))
        table.add_row(Text(check.name), outcome, Text(observed(check)))
    return table


def outcome_of(check: Check) -> str:
    """The outcome, and of a failure whether it only stands in the record."""
    return "failed (noted)" if check.outcome == "failed" and not check.stops else check.outcome


def observed(check: Check) -> str:
    expected = f"; expected: {check.expected}" if check.outcome == "failed" and check.expected else ""
    return check.observed + expected
