"""One section a stage, in the order of the recipe, behind an overview of all: what it took, what it left."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

import msgspec

from harness.evaluate import Ask, Mark
from harness.rows import read_rows
from harness.stage import Stage
from harness.store import RunStore
from reports.diagnostics import selection_sections, training_sections
from reports.names import names_of
from reports.page import Cell, Section
from reports.plots import Picture, clean, steps_of
from reports.stage_facts import Facts, evaluations, facts, load
from reports.stage_plots import Bar, wall_times

OVERVIEW = ("state", "rows in", "rows out", "wall time", "tokens in", "tokens out", "tokens/s", "hours")
MANY = 12  # reasons that are told of a stage


class Reason(msgspec.Struct):
    reason: str


def stage_sections(store: RunStore, labels: Mapping[str, Stage]) -> Iterator[Section]:
    """The overview of all stages, that of all evaluations, then what each stage did."""
    names = names_of(labels)
    found = [replace(one, name=names[one.stage.key]) for one in facts(store, labels)]
    own = [one for one in found if not isinstance(one.stage, Ask | Mark)]
    graded = list(evaluations(found))
    labelled = {stage.key for stage in labels.values()}
    yield overview(own, graded)
    if any(asked.state != "missing" for asked, _ in graded):
        yield evaluations_overview(graded)
    yield from selections_overview(own)
    for one in own:
        if one.state == "done" and one.stage.key in labelled:
            yield from sections_of(one)


# Overviews ----------------------------------------------------------------------------------


def overview(own: Sequence[Facts], graded: Sequence[tuple[Facts, Facts]]) -> Section:
    """Every stage but for evaluations, and all of those in one line."""
    everything = [*own, *chain.from_iterable(graded)]
    money = currency_of(everything)
    rows = [[one.name, *overview_row(one, money)] for one in own]
    if graded:
        rows.append(["evaluations, below", *summed([], graded, money)])
    return Section(
        title="All stages",
        columns=("stage", *OVERVIEW, *((money,) if money else ())),
        rows=[*rows, ["all", *summed(own, graded, money)]],
        note=" ".join(notes(everything, money)),
        pictures=tuple(timed(own, graded)),
        group="stage",
        totals=2 if graded else 1,
    )


NOTES = (
    "Tokens/s are those that a model writes, or reads where it writes none, over the wall time of the stage, "
    "its start included. Hours are those of all GPUs that the machine may use, or of its CPU where it has "
    "none; of a server that somebody else runs they are not known. Grading runs beside the asking: a sum has "
    "the longer of the two. Evaluations that ran beside one another count each."
)
NO_PRICE = "No money is told: machine.toml had no price_per_gpu_hour, or nothing ran on its GPUs."
NO_MACHINE = (
    "Hours are missing where an earlier version of the harness, which ran the stage, kept no machine."
)
CONTINUED = (
    "≥: the stage was continued, or took rows over from another run; only the time since its last start was "
    "kept, so that hours and money are the least that it can have been, and no speed is told."
)


def notes(everything: Sequence[Facts], money: str) -> Iterator[str]:
    yield NOTES
    if not money:
        yield NO_PRICE
    if any(one.state == "done" and not one.workplace for one in everything):
        yield NO_MACHINE
    if any(one.continued for one in everything):
        yield CONTINUED


def overview_row(one: Facts, money: str) -> list[Cell]:
    return [
        one.state,
        one.rows_in,
        one.rows_out,
        wall(one),
        whole(one.tokens_in),
        whole(one.tokens_out),
        None if one.rate is None else f"{one.rate:,.0f}",
        hours(one),
        *((cost(one),) if money else ()),
    ]


def summed(own: Sequence[Facts], graded: Sequence[tuple[Facts, Facts]], money: str) -> list[Cell]:
    """The sums of what adds up; of an evaluation the longer of its asking and grading, which overlap."""
    group = [*own, *chain.from_iterable(graded)]
    states = Counter(one.state for one in group)
    spent = {
        device: [one for one in group if one.device == device and one.hours] for device in ("GPU", "CPU")
    }
    told = [
        f"{sum(one.hours or 0.0 for one in those):.3g} {device}" for device, those in spent.items() if those
    ]
    costs = [one for one in group if one.cost is not None]
    price = f"{least(costs)}{sum(one.cost or 0.0 for one in costs):,.2f}" if costs else None
    return [
        ", ".join(f"{count} {state}" for state, count in states.items()),
        None,
        None,
        least(group) + duration(sum(one.seconds or 0.0 for one in own) + sum(map(together, graded))),
        whole(sum(one.tokens_in or 0.0 for one in group)),
        whole(sum(one.tokens_out or 0.0 for one in group)),
        None,
        least(chain.from_iterable(spent.values())) + " + ".join(told) or None,
        *((price,) if money else ()),
    ]


def currency_of(group: Sequence[Facts]) -> str:
    """The currency in which anything has a price; nothing where nothing has, or there are several."""
    found = {one.currency for one in group if one.cost is not None}
    return found.pop() if len(found) == 1 else ""


def wall(one: Facts) -> str | None:
    return None if one.seconds is None else f"{least([one])}{duration(one.seconds)}"


def hours(one: Facts) -> str | None:
    return None if one.hours is None else f"{least([one])}{one.hours:.3g} {one.device}"


def cost(one: Facts) -> str | None:
    return None if one.cost is None else f"{least([one])}{one.cost:,.2f}"


def least(group: Iterable[Facts]) -> str:
    """The mark before what is only known to be at least so much."""
    return "≥ " if any(one.continued for one in group) else ""


def together(evaluation: tuple[Facts, Facts]) -> float:
    """Seconds of an evaluation, whose grading follows the responses as they come."""
    return max(one.seconds or 0.0 for one in evaluation)


def whole(count: float | None) -> int | None:
    return round(count) if count else None


def duration(seconds: float) -> str:
    """`0.4 s`, `12 min 5 s`, `3 h 20 min`, `2 d 4 h`."""
    if round(seconds, 1) < 60:
        return f"{seconds:.1f} s"
    for size, name, smaller, under in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        large, rest = divmod(round(seconds / smaller) * smaller, size)
        if large:
            return f"{large} {name} {rest // smaller} {under}"
    raise AssertionError(seconds)


def timed(own: Sequence[Facts], graded: Sequence[tuple[Facts, Facts]]) -> Iterator[Picture]:
    """Wall time by stage; in one bar all evaluations of a row, whose grading runs beside the asking. Of two
    bars the table tells as much."""
    bars = [Bar(label=one.name, kind=one.kind, seconds=one.seconds) for one in own if one.seconds]
    rows: dict[str, float] = {}
    for asked, mark in graded:
        row = ", ".join(dict.fromkeys(told.split("/")[0] for told in measured_by(mark)))
        rows[row] = rows.get(row, 0.0) + together((asked, mark))
    bars += [
        Bar(label=f"evaluations of {row}", kind="generate", seconds=spent)
        for row, spent in rows.items()
        if spent
    ]
    if len(bars) > 2:
        yield wall_times("stages-wall-time", "Wall time by stage", bars)


def evaluations_overview(graded: Sequence[tuple[Facts, Facts]]) -> Section:
    """The asking and grading of each evaluation that has begun."""
    begun = [(asked, mark) for asked, mark in graded if asked.state != "missing"]
    money = currency_of([asked for asked, _ in graded])
    return Section(
        title="All evaluations",
        columns=(
            "evaluation", "state", "responses", "asking", "tokens in", "tokens out", "tokens/s", "hours",
            *((money,) if money else ()), "graded", "grading", "graded/s",
        ),
        rows=[evaluation_row(asked, mark, money) for asked, mark in begun],
        note="Grading follows the responses as they come, so that its time is mostly that of the asking."
        + f" {len(graded) - len(begun)} evaluations have not begun." * (len(begun) < len(graded)),
        group="stage",
        folded=len(graded) > MANY,
    )  # fmt: skip


def measured_by(mark: Facts) -> list[str]:
    """`row/benchmark` of each line that an evaluation stands for: several where rows share it."""
    return mark.name.removeprefix("eval/").split(", eval/")


def evaluation_row(asked: Facts, mark: Facts, money: str) -> list[Cell]:
    told = overview_row(asked, money)
    graded = mark.rows_out / mark.seconds if mark.rows_out and mark.seconds and not mark.continued else None
    return [
        ", ".join(measured_by(mark)),
        mark.state,
        asked.rows_out,
        *told[3:],
        mark.rows_out,
        wall(mark),
        None if graded is None else f"{graded:,.0f}",
    ]


def selections_overview(own: Sequence[Facts]) -> Iterator[Section]:
    """Every divergence-aware selection in one line."""
    files = [(one.name, one.path / "diagnostics.json") for one in own]
    rows = [selection_row(name, file) for name, file in files if file.exists()]
    if rows:
        yield Section(
            title="Divergence-aware selection",
            columns=("stage", "teacher sentences", "student", "shared", "questions with a choice"),
            rows=rows,
            note="Shares over all candidates' sentences; report §4.",
            group="stage",
        )


def selection_row(name: str, file: Path) -> list[Cell]:
    found = load(file)
    shares = (
        "teacher_sentences",
        "student_sentences",
        "shared_sentences",
        "questions_with_differing_candidates",
    )
    return [name, *(f"{found[share]:.1%}" for share in shares)]


# A stage of its own -------------------------------------------------------------------------


def sections_of(one: Facts) -> Iterator[Section]:
    """What a stage is and took, then what it found, dropped, chose or learned."""
    more = [
        *sources_sections(one),
        *reasons_sections(one, "removed.jsonl", "questions or rows left out"),
        *dropped_sections(one),
        *reasons_sections(one, "unscored.jsonl", "responses without a score"),
        *selection_sections({one.name: one.path}),
        *training_sections({one.name: one.path}),
    ]
    yield facts_section(one)
    yield from (replace(section, group="stage") for section in more)


def facts_section(one: Facts) -> Section:
    rows: list[list[Cell]] = [
        ["key", one.stage.key],
        ["made from", ", ".join(read.key for read in one.stage.inputs) or "nothing"],
        ["setting", clean(one.setting) or None],
        ["engine", one.engine or None],
        ["rows in", one.rows_in],
        ["rows out", one.rows_out],
        ["tokens read", whole(one.tokens_in)],
        ["tokens written", whole(one.tokens_out)],
        ["wall time", wall(one)],
        ["tokens/s", None if one.rate is None else f"{one.rate:,.0f}"],
        ["hours", hours(one)],
        ["finished", one.finished or None],
        *training_facts(one.path),
    ]
    told = [row for row in rows if row[1] is not None]
    return Section(
        title=f"Stage {one.name}", columns=("what", "value"), rows=told, group="stage", folded=True
    )


def training_facts(path: Path) -> Iterator[list[Cell]]:
    if not (path / "training.json").exists():
        return
    told, (steps, _) = load(path / "training.json"), steps_of(load(path / "losses.json"))
    yield ["optimiser steps", told["steps"]]
    yield ["rows cut to the training context", told.get("truncated")]
    if steps:
        yield ["loss, first and last", f"{steps[0].loss:.3f} → {steps[-1].loss:.3f}"]


def sources_sections(one: Facts) -> Iterator[Section]:
    """What a collection found in each source."""
    if (one.path / "sources.json").exists():
        told = load(one.path / "sources.json")
        yield Section(
            title=f"Sources of {one.name}",
            columns=("source", "wanted", "taken", "left out", "what else is known"),
            rows=[
                [clean(each["name"]), each["wanted"], each["taken"], each["removed"], remaining(each)]
                for each in told
            ],
        )


def remaining(told: Mapping[str, object]) -> str | None:
    """Facts of a source beyond the counts, as far as they are numbers or names."""
    plain = {
        name: value for name, value in told.items() if name not in ("name", "wanted", "taken", "removed")
    }
    return clean("; ".join(f"{name}: {value}" for name, value in plain.items()))[:300] or None


def reasons_sections(one: Facts, file: str, title: str) -> Iterator[Section]:
    """How many rows of a file have each reason."""
    if (one.path / file).exists():
        counts = Counter(row.reason for row in read_rows(one.path / file, Reason))
        if counts:
            yield Section(
                title=f"{title.capitalize()} by {one.name}",
                columns=("reason", "rows"),
                rows=[[clean(reason)[:120], count] for reason, count in counts.most_common(MANY)],
                note=f"The {MANY} most frequent of {len(counts)} reasons." * (len(counts) > MANY),
            )


def dropped_sections(one: Facts) -> Iterator[Section]:
    """What became of a filter's responses, by domain and temperature; shares are of these."""
    if not (one.path / "counts.json").exists():
        return
    rows: list[list[Cell]] = []
    for group in load(one.path / "counts.json"):
        outcomes = {"kept": group["kept"], **group["dropped"]}
        total = sum(outcomes.values())
        rows += [
            [group["domain"], group["temperature"], outcome, count, total, f"{count / total:.1%}"]
            for outcome, count in outcomes.items()
        ]
    yield Section(
        title=f"Kept and dropped by {one.name}",
        columns=("domain", "temperature", "outcome", "rows", "of", "share"),
        rows=rows,
        note="Outcomes are kept, or the reason for a drop (docs/filters.md).",
    )
