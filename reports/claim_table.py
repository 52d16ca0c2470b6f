"""The claims in two tables: each with its verdict, and all that was counted on the way to it.

Where a recipe also measures the authors' own checkpoint (row `released`), its score stands between the
published value and ours: a difference to the first is our harness's, one between the two our training's.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from reports.table import (
    Entry,
    delta_cell,
    lenient_cell,
    plural,
    published_cell,
    score_remark,
    score_text,
    spread_cell,
    verdict_name,
    verdict_reason,
    voted_cell,
)

RELEASED = "released"
SYMBOLS = {"reproduced": "✓", "not reproduced": "✗", "inconclusive": "≈", "not measured": "○"}
WORST_FIRST = ("not reproduced", "inconclusive", "not measured", "not a score", "reproduced", "no claim")

SPREAD = "over alternatives"
Kind = Literal["name", "number", "verdict"]


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A cell: `text`, what qualifies it, and the value that it is sorted by."""

    text: str
    remark: str = ""
    by: float | None = None

    def __str__(self) -> str:
        return f"{self.text} ({self.remark})" if self.remark else self.text


@dataclass(frozen=True, kw_only=True)
class Column:
    heading: str
    kind: Kind = "number"


@dataclass(frozen=True, kw_only=True)
class Claims:
    """A table whose lines are entries. Each line has a cell a column."""

    columns: Sequence[Column]
    lines: Sequence[tuple[Entry, Sequence[Shown]]]


def headline(entries: Sequence[Entry]) -> str:
    """What came of the claims, in one line."""
    verdicts = Counter(entry.verdict for entry in entries if entry.verdict is not None)
    claimed = verdicts.total()
    if not claimed:
        return unclaimed(entries) if entries else "nothing measured yet"
    said = [f"{verdicts['reproduced']} of {claimed} claims reproduced"]
    said += [
        f"{verdicts[name]} {name}"
        for name in ("inconclusive", "not reproduced", "not measured")
        if verdicts[name]
    ]
    return ", ".join(said)


def unclaimed(entries: Sequence[Entry]) -> str:
    """What was measured where nothing is claimed: scores, and numbers that are none."""
    kinds = Counter(
        "not a score" if entry.not_a_score else "ungraded in part" if entry.ungraded else "score"
        for entry in entries
    )
    scores = kinds.pop("score", 0)
    said = [f"{scores} score{plural(scores)}"] if scores else []
    said += [f"{count} {name}" for name, count in sorted(kinds.items())]
    return f"{', '.join(said)}; nothing is claimed about {'it' if len(entries) == 1 else 'them'}"


def claim_table(entries: Sequence[Entry], reference: bool) -> Claims | None:
    """One line a claim; None where nothing is claimed. `reference`: the values are our own, not published."""
    if all(entry.verdict is None for entry in entries):
        return None
    authors = {(one.model, one.benchmark): one for one in entries if one.row == RELEASED and one.questions}
    columns = [
        Column(heading="row", kind="name"),
        Column(heading="benchmark", kind="name"),
        Column(heading="reference" if reference else "published"),
        *([Column(heading="authors’ checkpoint, our harness")] if authors else ()),
        Column(heading="our reproduction" if authors else "measured ± SE"),
        Column(heading="Δ [90 %]"),
        Column(heading="margin"),
        Column(heading="verdict", kind="verdict"),
    ]
    return Claims(columns=columns, lines=[(one, claim_cells(one, authors)) for one in entries])


def claim_cells(entry: Entry, authors: dict[tuple[str, str], Entry]) -> list[Shown]:
    """A claim's line. The authors' checkpoint is nobody's reproduction: its score has a column of its own."""
    ours = score_shown(entry)
    if authors:
        theirs = authors.get((entry.model, entry.benchmark))
        scores = [
            score_shown(theirs) if theirs else Shown(text="–"),
            Shown(text="–") if entry.row == RELEASED else ours,
        ]
    else:
        scores = [ours]
    return [
        Shown(text=entry.row),
        Shown(text=entry.benchmark),
        Shown(text=published_cell(entry), by=entry.published),
        *scores,
        Shown(text=delta_cell(entry), by=entry.delta),
        Shown(text="–" if entry.margin is None else f"±{entry.margin:.1f}", by=entry.margin),
        Shown(
            text=verdict_name(entry),
            remark=verdict_reason(entry),
            by=WORST_FIRST.index(verdict_name(entry)),
        ),
    ]


def full_table(entries: Sequence[Entry]) -> Claims:
    """Everything that was counted, a line for each row and benchmark that was asked."""
    asked = [entry for entry in entries if entry.questions]
    varied = any(entry.spread for entry in asked)
    headings = (
        "measured ± SE over re-runs", *((SPREAD,) if varied else ()), "lenient rule", "SE over questions",
        "maj@K / pass@K", "questions × draws", "truncated", "no answer", "ungraded", "missing",
    )  # fmt: skip
    columns = [Column(heading=name, kind="name") for name in ("row", "benchmark")]
    columns += [Column(heading=name) for name in headings]
    return Claims(columns=columns, lines=[(one, full_cells(one, varied)) for one in asked])


def wide_table(entries: Sequence[Entry], reference: bool) -> Claims:
    """Both in one, where there is room for one table only."""
    claims, full = claim_table(entries, reference), full_table(entries)
    if claims is None:
        return full
    varied = any(entry.spread for entry in entries)
    return Claims(
        columns=[*claims.columns, *full.columns[3:]],
        lines=[(one, [*cells, *full_cells(one, varied)[3:]]) for one, cells in claims.lines],
    )


def full_cells(entry: Entry, varied: bool) -> list[Shown]:
    spread = [Shown(text=spread_cell(entry), by=entry.spread[0] if entry.spread else None)] if varied else []
    error, asked = entry.se_questions, bool(entry.questions)
    counts = (entry.truncated, entry.no_answer, entry.ungraded, entry.short)
    return [
        Shown(text=entry.row),
        Shown(text=entry.benchmark),
        score_shown(entry),
        *spread,
        Shown(text=lenient_cell(entry), by=entry.lenient),
        Shown(text="–" if error is None else f"{error:.1f}", by=error),
        Shown(text=voted_cell(entry), by=entry.any_right),
        Shown(text=f"{entry.questions} × {entry.draws}" if asked else "–", by=entry.questions * entry.draws),
        *(Shown(text=str(count) if asked else "–", by=count) for count in counts),
    ]


def score_shown(entry: Entry) -> Shown:
    """Our number as it may be shown, what qualifies it apart."""
    value = entry.lowest if entry.measured is None else entry.measured
    return Shown(text=score_text(entry), remark=score_remark(entry), by=value)


def against_authors(
    entries: Sequence[Entry], provenance: Mapping[str, str]
) -> list[tuple[Entry, float, float | None]]:
    """Each reproduction less the authors' checkpoint on the same harness, in points, with the error of
    that difference; None for the error where either has none.

    What is no score is compared with nothing, and no evaluation with itself: where two rows share one,
    `provenance` has the same key for both.
    """
    scores = [one for one in entries if one.measured is not None and not one.not_a_score]
    authors = {(one.model, one.benchmark): one for one in scores if one.row == RELEASED}
    found: list[tuple[Entry, float, float | None]] = []
    for entry in scores:
        theirs = authors.get((entry.model, entry.benchmark))
        if theirs and theirs is not entry and not one_evaluation(entry, theirs, provenance):
            errors = (entry.se_rerun, theirs.se_rerun)
            error = None if None in errors else math.hypot(*(one or 0.0 for one in errors))
            found.append((entry, (entry.measured or 0.0) - (theirs.measured or 0.0), error))
    return found


def one_evaluation(entry: Entry, other: Entry, provenance: Mapping[str, str]) -> bool:
    """Whether two lines tell the same answers."""
    own, its = (provenance.get(f"eval/{one.row}/{one.benchmark}") for one in (entry, other))
    return own is not None and own == its
