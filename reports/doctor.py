"""The findings of `harness doctor` for a terminal, a log or a machine."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.doctor.finding import Finding, Purpose, State, blocking

SYMBOLS: dict[State, str] = {"ok": "✓", "warning": "!", "missing": "✗"}
STYLES: dict[State, str] = {"ok": "green", "warning": "yellow", "missing": "red"}
UNLIMITED = 10_000  # columns of a pipe: a line is never broken there


def as_json(findings: Sequence[Finding], purposes: Sequence[Purpose]) -> dict[str, object]:
    """One document: what was asked for (the first purpose) and whether it can run, the same of everything
    else, and all findings."""
    return {
        "purpose": purposes[0].command,
        "able": not blocking(findings, purposes[0]),
        "purposes": {one.command: not blocking(findings, one) for one in purposes},
        "findings": findings,
    }


def print_doctor(
    findings: Sequence[Finding], purposes: Sequence[Purpose], console: Console | None = None
) -> None:
    """Prints what was found by area, below each shortcoming what it blocks and how to get it, and at the end
    what can run here. Colours only on a terminal."""
    shown = console or Console(highlight=False)
    if not shown.is_terminal:
        shown = Console(file=shown.file, width=UNLIMITED)
    everything = [one.command for one in purposes]
    with shown.capture() as printed:
        for area, group in groupby(findings, key=lambda one: one.area):
            shown.print(Text(area, style="bold"))
            shown.print(table(group, everything))
        shown.print()
        for line in verdict(findings, purposes):
            shown.print(line, soft_wrap=True)
    shown.file.writelines(f"{line.rstrip()}\n" for line in printed.get().splitlines())


def table(findings: Iterable[Finding], everything: list[str]) -> Table:
    made = Table.grid(padding=(0, 2, 0, 0))
    made.add_column(no_wrap=True)
    made.add_column(no_wrap=True)
    made.add_column(overflow="fold")
    for group in alike(findings):
        for one in group:
            state = Text(f"  {SYMBOLS[one.state]} {one.state}", style=STYLES[one.state])
            made.add_row(state, plain(one.name), plain(one.found))
        lost = dict.fromkeys(command for one in group for command in one.blocks)
        for word, told in (("blocks", blocked(list(lost), everything)), ("get it", group[0].remedy)):
            if told:
                made.add_row("", Text(word, style="dim", justify="right"), plain(told))
    return made


def alike(findings: Iterable[Finding]) -> Iterable[list[Finding]]:
    """Findings of one state and one remedy together, what is fine first: twenty data sets are fetched in one
    way."""
    groups: dict[tuple[State, str], list[Finding]] = {}
    for one in sorted(findings, key=lambda one: one.state != "ok"):
        groups.setdefault((one.state, one.remedy), []).append(one)
    return groups.values()


def blocked(commands: list[str], everything: list[str]) -> str:
    """The commands, or that they are all of them."""
    if len(everything) > 1 and len(commands) == len(everything):
        return "everything"
    return ", ".join(commands)


def plain(text: str) -> Text:
    """Text from outside as one line without control characters: it could move a terminal's cursor."""
    return Text("".join(each if each.isprintable() else " " for each in text))


def verdict(findings: Sequence[Finding], purposes: Sequence[Purpose]) -> Iterator[Text]:
    """Whether what was asked for can run here, then which of the rest can."""
    purpose, *rest = purposes
    missing = blocking(findings, purpose)
    if missing:
        names = ", ".join(one.name for one in missing)
        yield Text(f"{purpose.command} cannot run here. Missing: {names}", style="red")
    else:
        yield Text(f"{purpose.command} can run here", style="green")
    able = [one.command for one in rest if not blocking(findings, one)]
    if able:
        yield Text(f"so can: {', '.join(able)}")
