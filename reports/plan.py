"""The plan for a terminal, a log or a machine."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import groupby

import msgspec
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from harness.capacity import STREAM, Span
from harness.finish import Finish
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
    yield from finish_notes(plan)
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


def finish_notes(plan: Plan) -> Iterator[str]:
    """When all will be finished, what that rests on, and what would change it."""
    if plan.finish is None:
        return
    clocks = [(one.name, one.clock) for one in plan.stages if one.clock is not None]
    uncounted = [(name, clock.unknown) for name, clock in clocks if clock.unknown]
    yield finished(plan.finish, everything=not uncounted)
    for name, why in uncounted:
        yield f"  not counted: {name}, {why}"
    if plan.finish.hours.likely:
        yield from basis(plan.finish, given=plan.gpus)
    few = sum(clock.bound_by_requests for _, clock in clocks)
    if few:
        yield (
            f"  stages with too few requests at once for their GPUs: {few} (a response is taken to grow by "
            f"at most {STREAM:g} tokens/s); raise machine.toml's concurrency, or have more copies of a model"
        )
    idle = max((clock.idle for _, clock in clocks), default=0)
    if idle:
        yield f"  up to {idle} GPUs have nothing to do: a server takes only whole numbers of them"


def finished(found: Finish, everything: bool) -> str:
    """`Finished in about 14 days on 8 × H100 (between 13 and 15; the tail of long responses is 3% of it).`"""
    hours = found.hours
    if not hours.likely:
        return "Nothing is left to do." if everything else "When it will be finished is not known:"
    devices = f"{found.gpus} × {found.device}" if found.gpus else found.device
    parts = {
        "starting servers and trainers": found.starts,
        "grading after all else": found.grading,
    }
    shares = [
        f"{name} {part / hours.likely:.0%}" for name, part in parts.items() if part >= 0.005 * hours.likely
    ]
    tail = f"the tail of long responses is {share(found.tail, hours.likely)} of it"
    counted = "" if everything else ", without what is not counted"
    inside = "; ".join([*between(hours), ", ".join([tail, *shares])])
    return f"Finished in about {duration(hours.likely)} on {devices}{counted} ({inside})."


def basis(found: Finish, given: int) -> Iterator[str]:
    if found.supposed and not found.gpus:
        yield "  at the speeds of this machine's CPU, which --gpus does not change"
    elif found.supposed:
        here = f"there are {given}" if given else "there is none"
        yield f"  as if they were in this machine ({here}), with as many servers as fit; for others: --gpus N"
    if found.assumed_speeds:
        yield "  the range is what scheduling may do at the speeds reckoned here, which may be off by more"


def share(part: float, whole: float) -> str:
    return f"{part / whole:.0%}" if part >= 0.005 * whole else "less than 1%"


UNITS = (("days", 24.0, 48.0), ("hours", 1.0, 1.5), ("minutes", 1 / 60, 1.5 / 60), ("seconds", 1 / 3600, 0.0))


def unit_of(hours: float) -> tuple[str, float]:
    """The unit in which so many hours are told, and its hours."""
    return next((name, size) for name, size, least in UNITS if hours >= least)


def duration(hours: float) -> str:
    """`14 days`, `41 hours`, `12 minutes`: two digits."""
    name, size = unit_of(hours)
    return f"{rounded(hours / size)} {name}"


def between(hours: Span) -> Iterator[str]:
    """`between 13 and 15`, in the unit of the likely time; nothing where both are the same."""
    _, size = unit_of(hours.likely)
    least, most = rounded(hours.least / size), rounded(hours.most / size)
    if least != most:
        yield f"between {least} and {most}"


def rounded(number: float) -> str:
    return f"{number:.2g}" if number < 99.5 else f"{number:,.0f}"
