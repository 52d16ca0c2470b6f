"""Writes a report as Markdown, HTML and JSON, all from one structure."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from jinja2 import Environment, PackageLoader, StrictUndefined

from harness.files import write_json, write_whole
from harness.sequential import METHOD
from reports import interval
from reports.claim_table import SYMBOLS, against_authors, claim_table, full_table, headline
from reports.differences import places
from reports.inline import policy, script
from reports.plots import Picture, identifier
from reports.published import Ambiguity
from reports.sensitivity import Varied
from reports.table import Entry

Cell = str | int | float | None
Group = Literal["", "tables", "benchmark", "stage", "provenance"]
PARTS: tuple[tuple[Group, str], ...] = (
    ("tables", "The paper’s tables"),
    ("benchmark", "Benchmarks"),
    ("stage", "Stages"),
    ("", "Further"),
    ("provenance", "Provenance"),
)


@dataclass(frozen=True, kw_only=True)
class Section:
    """A further table below the main one: drop reasons, training losses, peers …

    `pictures` stand beside the table, which has their numbers; only the HTML page shows them. `group`
    is the part of the page that it belongs to. A `folded` one opens on demand. `copyable` is a command
    with a button that copies it. `greyed` are the rows (from 0) that nobody measured here. `spans` head
    several columns at once: a name, and how many. The last `totals` rows sum up and stay last when the table
    is sorted.
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
    spans: Sequence[tuple[str, int]] = ()
    totals: int = 0


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
        """Why numbers are no scores; which ones, where that is not about all that were measured."""
        counted = [entry for entry in self.entries if entry.questions]
        reasons = dict.fromkeys(reason for entry in counted for reason in entry.not_a_score)
        return tuple(
            f"{told}: {reason}" if told != "all" else reason
            for reason in reasons
            for told in (places([one for one in counted if reason in one.not_a_score], counted),)
        )


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
        "headline": headline(report.entries),
        "kind": report.kind,
        "claims": report.claims_title,
        "not_a_score": report.not_a_score,
        "entries": report.entries,
        "differences": report.differences,
        "provenance": report.provenance,
        "engines": report.engines,
        "sections": [
            {
                "title": one.title,
                "group": one.group,
                "columns": one.columns,
                "rows": one.rows,
                "note": one.note,
                **({"copyable": one.copyable} if one.copyable else {}),
                **({"greyed": sorted(one.greyed)} if one.greyed else {}),
                **({"totals": one.totals} if one.totals else {}),
            }
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
        finalize=tame,
    )
    found.filters["bar"] = mark_down
    found.filters["code"] = lambda text: f"`{str(text).replace('`', chr(39))}`"
    found.filters["minus"] = lambda text: re.sub(r"-(?=\d)", "−", str(text))
    found.globals.update(policy=policy, script=script, symbols=SYMBOLS, numeric=numeric)
    return found


UNSEEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def tame(value: Any) -> Any:
    """What a template prints, without control characters and those that turn the direction of the text."""
    return UNSEEN.sub("\ufffd", value) if type(value) is str else value


def render(name: str, report: Report) -> str:
    """One of the two templates, filled."""
    reference = report.kind == "reference"
    ends = interval.reach(report.entries)
    return (
        environment(name)
        .get_template(f"{name}.j2")
        .render(
            report=report,
            headline=headline(report.entries),
            claims=claim_table(report.entries, reference),
            full=full_table(report.entries),
            authors=against_authors(report.entries, report.provenance),
            ends=ends,
            drawn=lambda entry: interval.drawn(entry, ends),
            axis=interval,
            differences=differences(report),
            parts=parts(report),
        )
    )


@dataclass(frozen=True, kw_only=True)
class Part:
    """Sections under one heading, each with a name for links to it."""

    title: str
    anchor: str
    sections: Sequence[tuple[str, Section]]


def parts(report: Report) -> list[Part]:
    """All sections by group, in the page's order. A name is never given twice."""
    found: list[Part] = []
    taken: Counter[str] = Counter()
    everything = [*report.sections, *own_sections(report)]
    for group, title in PARTS:
        named: list[tuple[str, Section]] = []
        for section in everything:
            if section.group == group:
                anchor = identifier(section.title).lower()
                taken[anchor] += 1
                if (times := taken[anchor]) > 1:
                    anchor, section = (
                        f"{anchor}-{times}",
                        replace(section, title=f"{section.title} ({times})"),
                    )
                named.append((f"s-{anchor}", section))
        if named:
            found.append(Part(title=title, anchor=f"part-{group or 'further'}", sections=named))
    return found


AMOUNT = r"\d[\d,]*(?:\.\d+)?%?"
NUMBER = re.compile(
    rf"[≥<~+−-]?{AMOUNT}(?:[ (\[,]+(?:±|×|of|to|s|min|h|/|\?|[+−-]?{AMOUNT})[)\]]*)*(?: ?[✓✗≈○])?"
)


def numeric(section: Section) -> list[bool]:
    """Which columns hold numbers alone, and stand to the right."""
    filled = [[row[place] for row in section.rows if row[place] not in (None, "", "–")]
              for place in range(len(section.columns))]  # fmt: skip
    return [bool(column) and all(NUMBER.fullmatch(str(value)) for value in column) for column in filled]


MARKS = re.compile(r"[|`\[\]]")


def mark_down(value: Cell) -> str:
    """A value in a Markdown table cell. Some come from data sets: none becomes a tag or a link."""
    if value is None:
        return "–"
    return MARKS.sub(r"\\\g<0>", str(value).replace("\n", " ").replace("<", "&lt;"))


# Sections made from the claims' files -------------------------------------------------------


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
    section = Section(
        title="Drawn until resolved", columns=columns, rows=rows, note=METHOD, group="benchmark"
    )
    return [section] if rows else []


def ambiguities_section(ambiguities: Sequence[Ambiguity]) -> Section:
    """What the paper leaves open, and what was done."""
    return Section(
        title="What the paper leaves open",
        columns=["question", "what the sources say", "here", "alternatives", "can be varied on"],
        rows=[
            [one.question, one.sources, one.default, "; ".join(one.alternatives), one.varied_on]
            for one in ambiguities
        ],
        group="provenance",
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
        group="benchmark",
    )


def points(average: float | None, error: float | None) -> str:
    if average is None:
        return "–"
    return f"{average:.1f} ± {'?' if error is None else format(error, '.1f')}"


# Sections made from the entries -------------------------------------------------------------


def own_sections(report: Report) -> list[Section]:
    """Where values come from and how they were asked for: what has something to say and is not said yet."""
    said = {section.title for section in report.sections}
    keys = [[label, key] for label, key in report.provenance.items()]
    engines = [[name, told] for name, told in report.engines.items()]
    found = [
        sources_section(report.entries),
        asked_section(report.entries),
        Section(title="All stages", columns=("stage", "key"), rows=keys),
        Section(title="Engines", columns=("engine", "session"), rows=engines),
    ]
    return [
        replace(one, group="provenance", folded=True) for one in found if one.rows and one.title not in said
    ]


def sources_section(entries: Sequence[Entry]) -> Section:
    """Whose value each claim is, and which counts of right responses round to it."""
    return Section(
        title="Where the values come from",
        columns=(
            "row",
            "benchmark",
            "model",
            "source",
            "published under",
            "right responses that round to it",
        ),
        rows=[
            [
                one.row,
                one.benchmark,
                one.model,
                one.source,
                one.claim_sampling,
                f"{one.counts[0]} to {one.counts[-1]}" if one.counts else None,
            ]
            for one in entries
            if one.source
        ],
    )


def asked_section(entries: Sequence[Entry]) -> Section:
    """Each setting of the protocol with the rows and benchmarks that it was asked under."""
    asked = [(one.row, one.benchmark) for one in entries if one.protocol]
    where: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for one in entries:
        for setting in one.protocol.items():
            where.setdefault(setting, []).append((one.row, one.benchmark))
    names = list(dict.fromkeys(name for name, _ in where))
    return Section(
        title="How each row was asked",
        columns=("setting", "value", "of"),
        rows=[
            [name, value, described(pairs, asked)]
            for (name, value), pairs in sorted(where.items(), key=lambda item: names.index(item[0][0]))
        ],
    )


def described(pairs: Sequence[tuple[str, str]], asked: Sequence[tuple[str, str]]) -> str:
    """Rows and benchmarks in few words: a benchmark alone stands for all its rows."""
    if set(pairs) == set(asked):
        return "all"
    rows_of = by_benchmark(pairs)
    everyone = by_benchmark(asked)
    return "; ".join(
        name if rows == everyone[name] else f"{name} ({', '.join(rows)})" for name, rows in rows_of.items()
    )


def by_benchmark(pairs: Sequence[tuple[str, str]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for row, benchmark in pairs:
        found.setdefault(benchmark, []).append(row)
    return found


def differences(report: Report) -> list[str]:
    """What differs from the claims' protocol, the report's own and what its lines note; each said once."""
    noted: dict[str, list[str]] = {}
    for entry in report.entries:
        for note in entry.notes:
            noted.setdefault(note, []).append(f"{entry.row} on {entry.benchmark}")
    return [*report.differences, *(f"{', '.join(where)}: {note}" for note, where in noted.items())]
