"""The trend page of `harness nightly`: every line of the history by night, in one file without a network.

Outcomes are told by the shape of a mark, colour only repeats it: a filled circle passed, a hollow diamond
is inconclusive, a filled triangle that points down regressed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.files import write_whole
from harness.nightly.config import Nightly
from harness.nightly.gate import POWER, Outcome
from harness.nightly.history import Flip, Night, Result
from reports.nightly import JUDGED, PUBLISHED, Columns, advised, cells, points
from reports.page import environment
from reports.plots import INK, PAGE, STUDENT, TEACHER, WIDTH, Picture, identifier, picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_LABELS = 9
DRAWN = 120  # nights in a picture; the table has them all
MARKS: dict[Outcome, dict[str, Any]] = {
    "pass": {"marker": "o", "markersize": 5, "color": TEACHER},
    "inconclusive": {"marker": "D", "markersize": 5, "color": INK, "markerfacecolor": PAGE},
    "regression": {"marker": "v", "markersize": 9, "color": STUDENT},
}
Told = tuple[Night, Result]


@dataclass(frozen=True, kw_only=True)
class Line:
    """One benchmark of one checkpoint over the nights, oldest first."""

    name: str
    nights: Sequence[Told]
    pictures: Sequence[Picture]

    @property
    def last(self) -> Result:
        return self.nights[-1][1]

    @property
    def told(self) -> tuple[str, ...]:
        """The last night's row of the first table."""
        return cells(LAST, self.last)

    @property
    def rows(self) -> list[tuple[str, tuple[str, ...]]]:
        """The table of all nights, newest first: the night's name and its row."""
        return [(night.label, cells(ALL, result)) for night, result in reversed(self.nights)]

    @property
    def advice(self) -> str:
        return advised(self.last)

    @property
    def flipped(self) -> list[tuple[str, tuple[Flip, ...]]]:
        """The flips of the last night and of each that regressed, newest first."""
        shown = [
            (night.label, result.flips)
            for place, (night, result) in enumerate(self.nights, 1)
            if result.flips and (place == len(self.nights) or result.judged.outcome == "regression")
        ]
        return shown[::-1]


def write_trend(file: Path, config: Nightly, nights: Sequence[Night]) -> None:
    """Writes the page. The same history gives the same bytes."""
    over = [night for night in nights if night.finished is not None]
    found = lines(over)
    page = environment("trend.html").get_template("trend.html.j2")
    content = page.render(
        config=config, night=over[-1] if over else None, nights=len(over), lines=found, power=f"{POWER:.0%}",
        last_columns=tuple(LAST), all_columns=tuple(ALL),
    )  # fmt: skip
    file.parent.mkdir(parents=True, exist_ok=True)
    write_whole(file, content.encode())


def lines(nights: Sequence[Night]) -> list[Line]:
    """Every line that the history has, those of the last night first."""
    by_name: dict[str, list[Told]] = {}
    for night in nights:
        for result in night.results:
            by_name.setdefault(result.line, []).append((night, result))
    order = list(dict.fromkeys([one.line for one in (nights[-1].results if nights else ())] + list(by_name)))
    return [
        Line(name=name, nights=by_name[name], pictures=list(pictures(name, by_name[name]))) for name in order
    ]


def engine_cell(result: Result) -> str:
    return " ".join(result.versions.get(name, "") for name in ("engine", "version")).strip() or "–"


def tokens_cell(result: Result) -> str:
    return f"{result.tokens / result.responses:,.0f}" if result.responses else "–"


def truncated_cell(result: Result) -> str:
    return f"{result.truncated / result.responses:.1%}" if result.responses else "–"


LAST: Columns = {**JUDGED, **PUBLISHED}
ALL: Columns = {
    **JUDGED,
    "tokens / response": tokens_cell,
    "truncated": truncated_cell,
    "ungraded": lambda result: str(result.ungraded),
    "missing": lambda result: str(result.missing),
    "checkpoint": lambda result: result.model or "–",
    "engine": engine_cell,
}


# Pictures -----------------------------------------------------------------------------------


def pictures(name: str, nights: Sequence[Told]) -> "list[Picture]":
    """Score, and tokens with truncation, by night; none before there is a score."""
    shown = [(night, result) for night, result in nights if result.score is not None][-DRAWN:]
    if not shown:
        return []
    return [score_picture(name, shown), token_picture(name, shown)]


def score_picture(name: str, nights: Sequence[Told]) -> Picture:
    """Each night's score with its 95 % interval over re-runs, the gate's line and the published value."""
    results = [result for _, result in nights]

    def draw(figure: "Figure") -> None:
        panel = figure.subplots()
        places = range(len(results))
        gate = [
            (at, one.judged.threshold) for at, one in enumerate(results) if one.judged.threshold is not None
        ]
        if gate:
            panel.step(
                [at for at, _ in gate], [value for _, value in gate], where="mid", color=STUDENT,
                linewidth=1.4, linestyle="-.", label="regression at (mean − kσ of our history)",
            )  # fmt: skip
        if results[-1].published is not None:
            panel.axhline(
                results[-1].published, color=INK, linewidth=1.0, linestyle="--",
                label="published: shown, not gated on",
            )  # fmt: skip
        scores = [float(one.score or 0.0) for one in results]
        errors = [1.96 * (one.error or 0.0) for one in results]
        panel.errorbar(places, scores, yerr=errors, fmt="none", ecolor=INK, elinewidth=0.6, alpha=0.6)
        panel.plot(places, scores, color=TEACHER, linewidth=0.6, alpha=0.6)
        marks(panel, results, scores)
        new_histories(panel, results)
        night_axis(panel, nights)
        panel.set_ylabel("score")
        figure.legend(loc="outside upper left", ncols=2, fontsize="small")

    last = results[-1]
    told = f"{len(results)} nights of {name}, the last at {points(last.score)}: {last.judged.outcome}."
    regressed = [night.label for night, one in nights if one.judged.outcome == "regression"]
    told += f" Regressions: {', '.join(regressed)}." if regressed else " No regression."
    if last.published is not None:
        told += f" Published: {last.published:g}, not gated on."
    return picture(identifier(f"score {name}"), f"Score by night: {name}", told, draw, (WIDTH, 3.1))


def marks(panel: "Axes", results: Sequence[Result], scores: Sequence[float]) -> None:
    """The outcome of each night, by its shape."""
    for outcome, style in MARKS.items():
        own = [at for at, one in enumerate(results) if one.judged.outcome == outcome]
        if own:
            panel.plot(own, [scores[at] for at in own], linestyle="none", label=outcome, **style)


def new_histories(panel: "Axes", results: Sequence[Result]) -> None:
    """A line where the setting changed: what is left of it is not compared with what is right."""
    for at in range(1, len(results)):
        if results[at].setting != results[at - 1].setting:
            panel.axvline(at - 0.5, color=INK, linewidth=0.8, linestyle=":")


def token_picture(name: str, nights: Sequence[Told]) -> Picture:
    """Tokens a response, and the share of responses cut at the limit."""
    results = [result for _, result in nights]
    tokens = [one.tokens / one.responses for one in results]
    cut = [100 * one.truncated / one.responses for one in results]

    def draw(figure: "Figure") -> None:
        above, below = figure.subplots(2, 1, sharex=True)
        for panel, values, label in ((above, tokens, "tokens a\nresponse"), (below, cut, "truncated\n%")):
            panel.plot(range(len(values)), values, color=TEACHER, linewidth=1.2, marker=".", markersize=4)
            panel.set_ylim(bottom=0)
            panel.set_ylabel(label, fontsize="small")
        night_axis(below, nights)
        figure.align_ylabels()

    told = (
        f"Tokens a response from {tokens[0]:.0f} to {tokens[-1]:.0f}, "
        f"truncated responses from {cut[0]:.1f} % to {cut[-1]:.1f} %."
    )
    return picture(identifier(f"tokens {name}"), f"Tokens by night: {name}", told, draw, (WIDTH, 2.2))


def night_axis(panel: "Axes", nights: Sequence[Told]) -> None:
    """Some of the nights' names below the axis, the last always."""
    step = -(-len(nights) // MOST_LABELS)
    places = list(range(len(nights) - 1, -1, -step))[::-1]
    panel.set_xticks(
        places, [nights[at][0].label for at in places], rotation=30, ha="right", fontsize="small"
    )
    panel.set_xlim(-0.6, max(len(nights) - 0.4, 0.6))
