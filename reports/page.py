"""Writes a report as Markdown, HTML and JSON, all from one structure."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from jinja2 import Environment, PackageLoader, StrictUndefined

from harness.files import write_json, write_whole
from harness.sequential import METHOD
from reports.plots import Picture
from reports.published import Ambiguity, Published
from reports.sensitivity import Varied
from reports.table import (
    Entry,
    cell,
    delta_cell,
    lenient_cell,
    published_cell,
    spread_cell,
    verdict_cell,
    voted_cell,
)

Cell = str | int | float | None
Group = Literal["", "tables", "benchmark", "stage", "provenance"]

SPREAD = "over alternatives"
COLUMNS = (
    "row", "benchmark", "published", "measured ± SE over re-runs", SPREAD, "lenient rule",
    "SE over questions", "maj@K / pass@K", "questions × draws", "Δ [90 %]", "margin", "verdict",
    "truncated", "no answer", "ungraded", "missing",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Section:
    """A further table below the main one: drop reasons, training losses, peers …

    `pictures` stand beside the table, which has their numbers; only the HTML page shows them. `group`
    is the part of the page that it belongs to. A `folded` one opens on demand. `copyable` is a command
    with a button that copies it. `greyed` are the rows (from 0) that nobody measured here.
    """

    title: str
    columns: Sequence[str] = ()
    rows: Sequence[Sequence[Cell]] = ()
    note: str = ""
    pictures: Sequence[Picture] = ()
    group: Group = ""
    folded: bool = False
    copyable: str = ""
    greyed: frozenset[int] = frozenset()


@dataclass(frozen=True, kw_only=True)
class Report:
    """Everything a report says.

    `claims_title` names the source of the published values, `kind` whether they are a paper's or our
    own reference. `differences` say what differs from the claims' protocol; `provenance` maps labels
    to stage keys, `engines` names to versions.
    """

    recipe: str
    summary: str
    entries: Sequence[Entry]
    kind: Literal["paper", "reference", "none"] = "none"
    claims_title: str = ""
    differences: Sequence[str] = ()
    provenance: dict[str, str] = field(default_factory=dict)
    engines: dict[str, str] = field(default_factory=dict)
    sections: Sequence[Section] = ()

    @property
    def not_a_score(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(reason for entry in self.entries for reason in entry.not_a_score))


def write_report(out: Path, report: Report) -> list[Path]:
    """Writes `report.json`, `report.md` and `report.html` into `out`. Returns their paths."""
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "report.json", as_json(report))
    for name in ("report.md", "report.html"):
        write_whole(out / name, render(name, report).encode())
    return [out / name for name in ("report.json", "report.md", "report.html")]


def as_json(report: Report) -> dict[str, Any]:
    """The report for machines: `entries` has one object a claim, then what has no claim."""
    return {
        "recipe": report.recipe,
        "summary": report.summary,
        "kind": report.kind,
        "claims": report.claims_title,
        "not_a_score": report.not_a_score,
        "entries": report.entries,
        "differences": report.differences,
        "provenance": report.provenance,
        "engines": report.engines,
        "sections": [
            {"title": one.title, "columns": one.columns, "rows": one.rows, "note": one.note}
            for one in report.sections
        ],
    }


def environment(name: str) -> Environment:
    """Where templates come from. What goes into a page is escaped, what goes into Markdown is not."""
    found = Environment(
        loader=PackageLoader("reports"),
        autoescape=name.endswith(".html"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    found.filters["bar"] = mark_down
    found.filters["code"] = lambda text: f"`{str(text).replace('`', chr(39))}`"
    return found


def render(name: str, report: Report) -> str:
    """One of the two templates, filled."""
    kept = columns(report)
    lines = [
        (entry, [text for column, text in zip(COLUMNS, cells(entry), strict=True) if column in kept],
         interval_plot(entry))
        for entry in report.entries
    ]  # fmt: skip
    template = environment(name).get_template(f"{name}.j2")
    return template.render(report=report, columns=headings(report), lines=lines)


def columns(report: Report) -> tuple[str, ...]:
    """The columns that say something here: the spread only where alternatives were tried."""
    varied = any(entry.spread for entry in report.entries)
    return tuple(name for name in COLUMNS if varied or name != SPREAD)


def headings(report: Report) -> tuple[str, ...]:
    """Our own reference values are never headed as published ones."""
    return tuple(
        "reference" if name == "published" and report.kind == "reference" else name
        for name in columns(report)
    )


def cells(entry: Entry) -> list[str]:
    """One line of the main table, in the order of COLUMNS."""
    return [
        entry.row,
        entry.benchmark,
        published_cell(entry),
        cell(entry),
        spread_cell(entry),
        lenient_cell(entry),
        "–" if entry.se_questions is None else f"{entry.se_questions:.1f}",
        voted_cell(entry),
        f"{entry.questions} × {entry.draws}" if entry.questions else "–",
        delta_cell(entry),
        "–" if entry.margin is None else f"±{entry.margin:.1f}",
        verdict_cell(entry),
        *(str(count) if entry.questions else "–" for count in counts(entry)),
    ]


def counts(entry: Entry) -> tuple[int, int, int, int]:
    return entry.truncated, entry.no_answer, entry.ungraded, entry.short


MARKS = re.compile(r"[|`\[\]]")


def mark_down(value: Cell) -> str:
    """A value in a Markdown table cell. Some come from data sets: none becomes a tag or a link."""
    if value is None:
        return "–"
    return MARKS.sub(r"\\\g<0>", str(value).replace("\n", " ").replace("<", "&lt;"))


# The interval beside each verdict -----------------------------------------------------------

PLOT_WIDTH = 120.0
PLOT_MARGINS = 2.5


def interval_plot(entry: Entry) -> dict[str, float] | None:
    """Positions in a plot 120 wide that spans ±2.5 margins; None where there is no interval."""
    if entry.interval is None or entry.delta is None or not entry.margin:
        return None
    margin = entry.margin

    def position(points: float) -> float:
        relative = max(-PLOT_MARGINS, min(PLOT_MARGINS, points / margin))
        return round(PLOT_WIDTH * (relative / PLOT_MARGINS + 1) / 2, 1)

    return {
        "low": position(entry.interval[0]),
        "high": position(entry.interval[1]),
        "delta": position(entry.delta),
        "left": position(-margin),
        "right": position(margin),
    }


# Sections made from the claims' files -------------------------------------------------------


def peers_section(published: Published, benchmarks: Sequence[str]) -> Section:
    """What the paper says of models that nobody measures here: context, never a claim."""
    peers = [model for model in published.models if not model.rows]
    return Section(
        title="Other models in the paper (as published there, not measured here)",
        columns=["model", *benchmarks, "source"],
        rows=[[peer.name, *(peer.values.get(name) for name in benchmarks), peer.source] for peer in peers],
    )


def rounds_sections(entries: Sequence[Entry]) -> list[Section]:
    """How far each benchmark was drawn in a run that stops when it is decided; none for another run."""
    drawn = [(entry, entry.in_rounds) for entry in entries if entry.in_rounds is not None]
    rows: list[list[Cell]] = [
        [
            entry.row,
            entry.benchmark,
            ", ".join(map(str, own.rounds)),
            own.draws,
            f"{own.level:.2%}",
            own.saved.generations,
            own.saved.tokens,
        ]
        for entry, own in drawn
    ]
    columns = (
        "row", "benchmark", "looked at after", "draws made", "level of this round",
        "generations saved", "tokens saved (about)",
    )  # fmt: skip
    return [Section(title="Drawn until resolved", columns=columns, rows=rows, note=METHOD)] if rows else []


def ambiguities_section(ambiguities: Sequence[Ambiguity]) -> Section:
    """What the paper leaves open, and what was done."""
    return Section(
        title="What the paper leaves open",
        columns=["question", "what the sources say", "here", "alternatives", "can be varied on"],
        rows=[
            [one.question, one.sources, one.default, "; ".join(one.alternatives), one.varied_on]
            for one in ambiguities
        ],
    )


def sensitivity_section(varied: Sequence[Varied]) -> Section:
    """The score under each other reading that the stored answers allow."""
    return Section(
        title="Sensitivity to what is left open",
        columns=[
            "row",
            "benchmark",
            "what is open",
            "alternative",
            "score",
            "Δ to the reported",
            "questions",
        ],
        rows=[
            [
                one.row,
                one.benchmark,
                one.ambiguity,
                one.alternative,
                points(one.score.average if one.score.complete else None, one.score.se_rerun),
                "–"
                if None in (one.score.average, one.reported)
                else f"{one.score.average - one.reported:+.1f}",  # type: ignore[operator]
                str(one.of) if one.questions == one.of else f"{one.questions} of {one.of}: not a score of it",
            ]
            for one in varied
        ],
        note="The same stored answers, graded otherwise. What needs new answers or new training is not here, "
        "nor a window of other questions of which fewer than nine in ten were asked.",
    )


def points(average: float | None, error: float | None) -> str:
    if average is None:
        return "–"
    return f"{average:.1f} ± {'?' if error is None else format(error, '.1f')}"
