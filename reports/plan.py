"""The plan for a terminal, a log or a machine."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import groupby

import msgspec
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from harness.plan import Entry, Lack, Plan, Totals, gigabytes
from harness.throughput import SHARES, Hours

STYLES = {"done": "green", "partial": "yellow", "missing": ""}
NOTHING = "–"
FIGURES = ("requests", "tokens in", "tokens out", "GPU-hours", "disk")


@dataclass(frozen=True, kw_only=True)
class Line:
    """A row of the table: a stage, or an evaluation's asking and grading together."""

    state: str
    name: str
    setting: str
    figures: tuple[str, ...]
    marks: str
    changed: tuple[str, ...] = ()


def as_json(plan: Plan) -> str:
    return msgspec.json.format(msgspec.json.encode(plan), indent=2).decode()


def print_plan(plan: Plan, console: Console | None = None, assumptions: bool = False) -> None:
    """Prints the table and what is to be known beside it. Piped, a stage is one line, however long."""
    shown = console or Console()
    table = make_table(plan, stacked=False)
    needed = Measurement.get(shown, shown.options, table)
    unlimited = Console(file=shown.file, width=10_000, force_terminal=False)
    if not shown.is_terminal:
        shown.width = Measurement.get(unlimited, unlimited.options, table).maximum
    elif needed.maximum >= shown.width:
        table = make_table(plan, stacked=True)
        shown.width = max(shown.width, Measurement.get(unlimited, unlimited.options, table).minimum)
    with shown.capture() as printed:
        shown.print(table)
    shown.file.writelines(f"{line.rstrip()}\n" for line in printed.get().splitlines())
    for text in notes(plan, assumptions):
        shown.print(Text(text), soft_wrap=True)


def make_table(plan: Plan, stacked: bool) -> Table:
    """One row a line. `stacked` puts the setting below the stage's name: for narrow terminals."""
    money = (plan.currency,) if plan.price_per_gpu_hour else ()
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("state", no_wrap=True)
    table.add_column("stage", no_wrap=not stacked, overflow="fold")
    for name in (*FIGURES, *money):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("lacks", no_wrap=True)
    if not stacked:
        table.add_column("setting", no_wrap=True)
    for line in [*lines(plan), *sums(plan)]:
        name = Text(line.name)
        if stacked and line.setting:
            name.append(f"\n  {line.setting}", style="dim")
        setting = () if stacked else (Text(line.setting),)
        table.add_row(line.state, name, *line.figures, line.marks, *setting, style=STYLES.get(line.state, ""))
        for change in line.changed:
            told = Text(f"  changed: {change}")
            table.add_row("", *((told,) if stacked else ("",) * (len(table.columns) - 2) + (told,)))
    return table


def lines(plan: Plan) -> Iterator[Line]:
    marks = numbered(plan)
    for entry, grading in folded(plan.stages):
        lacks = [*entry.lacks, *(grading.lacks if grading else ())]
        states = {entry.state, grading.state} if grading else {entry.state}
        yield Line(
            state=states.pop() if len(states) == 1 else "partial",
            name=grading.name if grading else entry.name,
            setting=entry.setting,
            figures=figures(entry, plan),
            marks=ranges(sorted({marks[lack] for lack in lacks})),
            changed=tuple(dict.fromkeys((*entry.changed, *(grading.changed if grading else ())))),
        )


def folded(stages: tuple[Entry, ...]) -> Iterator[tuple[Entry, Entry | None]]:
    """The stages; one that is graded, together with its grading, and with the disk of both."""
    for _, group in groupby(stages, key=lambda one: one.label):
        own = list(group)
        grading = next((one for one in own if one.kind == "grade"), None)
        asked = next((one for one in own if one.kind == "generate"), None)
        for one in own:
            if grading is None or asked is None or one not in (grading, asked):
                yield one, None
            elif one is asked:
                yield replace(one, disk=one.disk + grading.disk), grading


def figures(entry: Entry, plan: Plan) -> tuple[str, ...]:
    money = (amount(entry.money),) if plan.price_per_gpu_hour else ()
    return (
        amount(entry.requests),
        amount(entry.tokens_in),
        amount(entry.tokens_out),
        device_hours(entry.hours),
        gigabytes(entry.disk),
        *money,
    )


def sums(plan: Plan) -> Iterator[Line]:
    for name, totals, shares in (
        ("total", plan.total, (1.0 for _ in plan.stages)),
        ("left to do", plan.left, (one.left for one in plan.stages)),
    ):
        counted = [one.hours for one, share in zip(plan.stages, shares, strict=True) if share and one.hours]
        yield Line(state="", name=name, setting="", figures=sum_figures(totals, counted, plan), marks="")


def sum_figures(totals: Totals, counted: list[Hours], plan: Plan) -> tuple[str, ...]:
    guessed = any(one.value and one.origin == "assumed" for one in counted)
    gpu = Hours(value=totals.gpu_hours, device="GPU", origin="assumed" if guessed else "calibrated")
    cpu = Hours(value=totals.cpu_hours, device="CPU", origin="calibrated")
    money = (amount(totals.money),) if plan.price_per_gpu_hour else ()
    return (
        amount(totals.requests),
        amount(totals.tokens_in),
        amount(totals.tokens_out),
        " + ".join(device_hours(one) for one in (gpu, cpu) if one.value) or NOTHING,
        gigabytes(totals.disk),
        *money,
    )


def device_hours(hours: Hours | None) -> str:
    """`~12.3` where it is assumed, `0.4 CPU` of this machine's CPU, `?` where the model is not known."""
    if hours is None:
        return "?"
    if not hours.value:
        return NOTHING
    number = f"{hours.value:,.0f}" if hours.value >= 100 else f"{hours.value:.3g}"
    if hours.value < 0.001:
        number = "<0.001"
    mark = "~" if hours.origin == "assumed" else ""
    return f"{mark}{number}{' CPU' if hours.device == 'CPU' else ''}"


def amount(number: float) -> str:
    """`105.2K`, `1,445.6M`, `20.3B`: as the report writes counts."""
    if number >= 1e10:
        return f"{number / 1e9:,.1f}B"
    if number >= 1e6:
        return f"{number / 1e6:,.1f}M"
    if number >= 1e4:
        return f"{number / 1e3:,.1f}K"
    if not number:
        return NOTHING
    return f"{number:,.0f}" if number >= 1 else "<1"


def ranges(numbers: list[int]) -> str:
    """`1–4 7`."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return " ".join(str(run[0]) if len(run) == 1 else f"{run[0]}–{run[-1]}" for run in runs)


def numbered(plan: Plan) -> dict[Lack, int]:
    """The different lacks, from 1, in the order in which the stages meet them."""
    found = dict.fromkeys(lack for entry in plan.stages for lack in entry.lacks)
    return {lack: number for number, lack in enumerate(found, 1)}


def notes(plan: Plan, assumptions: bool) -> Iterator[str]:
    """What stands below the table."""
    yield ""
    marks = numbered(plan)
    yield "Missing on this machine:" if marks else "Nothing is missing on this machine."
    for lack, number in marks.items():
        yield f"  {number:2} {lack.what}: {lack.remedy}"
    yield f"Disk: {gigabytes(plan.peak_disk)} more at the fullest moment, {gigabytes(plan.free_disk)} free."
    yield from speed_notes(plan)
    if plan.unknown:
        yield "Without any assumption:"
        yield from (f"  {name}: {how}" for name, how in plan.unknown.items())
    if assumptions:
        yield "Assumed until it is measured:"
        yield from (f"  {name}: {plainly(value)} ({source})" for name, value, source in plan.assumed)


def plainly(number: float) -> str:
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def speed_notes(plan: Plan) -> Iterator[str]:
    origins = {one.hours.origin for one in plan.stages if one.hours and one.hours.value}
    if "assumed" in origins:
        shares = ", ".join(f"{share:.0%} to {kind}" for kind, share in SHARES.items())
        yield (
            f"~ is reckoned, not measured: operations over a GPU's {plan.gpu_tflops:,.0f} TFLOP/s "
            f"(of which {shares}). On the machine that will run it: harness calibrate {plan.recipe}"
        )
    if origins & {"calibrated", "measured"}:
        yield f"Other hours are measured on this machine: {plan.gpus or 1} × {plan.device}."
