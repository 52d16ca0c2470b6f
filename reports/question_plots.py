"""Pictures of one row's draws on a benchmark: accuracy by question, and tokens against correctness.

Their layout is fixed: matplotlib's own takes as long as all else, and a report has fifty of them.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from reports.plots import INK, PAGE, SHARED, STUDENT, TEACHER, WIDTH, Picture, picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Kind = Literal["right", "wrong", "no answer", "truncated", "not graded"]
KINDS: tuple[Kind, ...] = ("right", "wrong", "no answer", "truncated", "not graded")
FILLS: dict[Kind, dict[str, Any]] = {
    "right": {"facecolor": TEACHER, "edgecolor": TEACHER},
    "wrong": {"facecolor": STUDENT, "edgecolor": PAGE, "hatch": "////"},
    "no answer": {"facecolor": PAGE, "edgecolor": STUDENT, "hatch": "\\\\\\\\"},
    "truncated": {"facecolor": SHARED, "edgecolor": SHARED},
    "not graded": {"facecolor": PAGE, "edgecolor": INK},
}
FEW = 60  # questions that have room for a mark and a name each
BINS = 40
HEIGHT = 2.5  # inches


@dataclass(frozen=True, kw_only=True)
class Share:
    """How many of a question's graded draws are right, with the 95 % interval of their share."""

    question: str
    right: int
    graded: int
    low: float
    high: float

    @property
    def value(self) -> float:
        return self.right / self.graded


# Accuracy by question -----------------------------------------------------------------------


def accuracy_by_question(name: str, title: str, shares: Sequence[Share]) -> Picture:
    """Each question's accuracy with its interval, the easiest first.

    Up to 60 questions have a mark each, which says its name when pointed at; more are a line in a band.
    """
    ranked = sorted(shares, key=lambda one: (-one.value, one.question))
    mean = math.fsum(one.value for one in ranked) / len(ranked)

    def draw(figure: "Figure") -> None:
        panel = fixed(figure)
        panel.axhline(mean, color=INK, linewidth=0.8, linestyle="--", label=f"mean {mean:.1%}")
        (marks if len(ranked) <= FEW else band)(panel, ranked)
        panel.set_xlim(0.3, len(ranked) + 0.7)
        panel.set_ylim(-0.02, 1.02)
        panel.yaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
        panel.set_xlabel("questions, the easiest first")
        panel.set_ylabel("accuracy over draws")
        figure.legend(loc="upper left", ncols=3, fontsize="small")

    always, never = (sum(one.right == of for one, of in every(ranked, end)) for end in ("always", "never"))
    description = (
        f"Accuracy of {len(ranked)} questions with 95 % Wilson intervals: mean {mean:.1%}, median "
        f"{float(np.median([one.value for one in ranked])):.1%}; {always} always right, {never} never."
    )
    hovers = {gid(place): hover(one) for place, one in enumerate(ranked, 1)} if len(ranked) <= FEW else {}
    return picture(name, title, description, draw, (WIDTH, HEIGHT), hovers)


def every(shares: Sequence[Share], end: str) -> list[tuple[Share, int]]:
    """Each question with the number of right draws that it has at one end of the scale."""
    return [(one, one.graded if end == "always" else 0) for one in shares]


def marks(panel: "Axes", ranked: Sequence[Share]) -> None:
    places = range(1, len(ranked) + 1)
    lows, highs = ([getattr(one, end) for one in ranked] for end in ("low", "high"))
    panel.vlines(places, lows, highs, color=TEACHER, linewidth=1.2, label="95 % interval")
    panel.plot(places, [one.value for one in ranked], "o", color=TEACHER, markersize=4, label="accuracy")
    for place in places:
        panel.axvspan(place - 0.5, place + 0.5, color=SHARED, alpha=0.01, linewidth=0, gid=gid(place))


def band(panel: "Axes", ranked: Sequence[Share]) -> None:
    edges = np.arange(len(ranked) + 1) + 0.5
    lows, values, highs = (
        np.array([getattr(one, end) for one in ranked]) for end in ("low", "value", "high")
    )
    panel.stairs(highs, edges, baseline=lows, fill=True, color=TEACHER, alpha=0.25, label="95 % interval")
    panel.stairs(values, edges, baseline=None, color=TEACHER, linewidth=1.4, label="accuracy")


def gid(place: int) -> str:
    return f"question-{place}"


def hover(one: Share) -> str:
    return f"{one.question}: {one.right} of {one.graded}, {one.value:.0%} [{one.low:.0%}, {one.high:.0%}]"


# Tokens against correctness -----------------------------------------------------------------


def tokens_by_kind(name: str, title: str, tokens: Mapping[Kind, NDArray[np.int64]], limit: int) -> Picture:
    """How long responses are, the right ones above the axis and all others below it; the limit marked.

    Equal bins of the logarithm. Kinds without a response are left out.
    """
    present = [kind for kind in KINDS if len(tokens.get(kind, ()))]
    bins = log_bins(np.concatenate([tokens[kind] for kind in present]), limit)

    def draw(figure: "Figure") -> None:
        panel = fixed(figure)
        below = np.zeros(len(bins) - 1)
        for kind in present:
            counts = np.histogram(np.clip(tokens[kind], bins[0], bins[-1]), bins)[0].astype(np.float64)
            if kind == "right":
                panel.stairs(counts, bins, fill=True, linewidth=0.4, label=kind, **FILLS[kind])
            else:
                panel.stairs(
                    below - counts, bins, baseline=below, fill=True, linewidth=0.4, label=kind, **FILLS[kind]
                )
                below = below - counts
        panel.axhline(0, color=INK, linewidth=0.6)
        panel.axvline(limit, color=INK, linewidth=0.9, linestyle=":", label=f"limit {compact(limit)}")
        token_axis(panel, bins)
        panel.set_ylabel("responses")
        panel.yaxis.set_major_formatter(lambda count, _: f"{abs(count):,.0f}")
        figure.legend(loc="upper left", ncols=6, fontsize="small")

    told = "; ".join(
        f"{len(tokens[kind]):,} {kind}, median {middle(tokens[kind])} tokens" for kind in present
    )
    description = (
        f"Responses by length, right ones above and all others below: {told}. Limit {limit:,} tokens."
    )
    return picture(name, title, description, draw, (WIDTH, HEIGHT))


def log_bins(tokens: NDArray[np.int64], limit: int) -> NDArray[np.float64]:
    """Edges of equal bins of the logarithm, from the shortest response to the limit or beyond."""
    low = max(1.0, float(tokens.min()))
    high = max(float(limit), float(tokens.max()), 2 * low)
    return np.geomspace(low, high * 1.0001, BINS + 1)


def token_axis(panel: "Axes", bins: NDArray[np.float64]) -> None:
    panel.set_xscale("log")
    panel.set_xlim(bins[0] / 1.03, bins[-1] * 1.03)
    panel.set_xticks(ticks(bins[0], bins[-1]))
    panel.xaxis.set_major_formatter(lambda count, _: compact(count))
    panel.minorticks_off()
    panel.set_xlabel("tokens of a response (logarithmic)")


def ticks(low: float, high: float) -> list[float]:
    """Round numbers between two others: the fewest kinds of them that give at least four, or the most."""
    found: list[float] = []
    for steps in ((1,), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 7), tuple(step / 4 for step in range(4, 40))):
        exponents = range(int(math.log10(low)) - 1, int(math.log10(high)) + 1)
        found = [step * 10.0**exponent for exponent in exponents for step in steps]
        found = [tick for tick in found if low <= tick <= high]
        if len(found) >= 4:
            break
    return found


def middle(tokens: NDArray[np.int64]) -> str:
    return f"{float(np.median(tokens)):,.0f}" if len(tokens) else "–"


def compact(count: float) -> str:
    """`800`, `20K`, `102.4K`."""
    return f"{count:,.0f}" if count < 1000 else f"{count / 1000:,.5g}K"


def fixed(figure: "Figure") -> "Axes":
    """The figure's one panel, with room for its labels and a legend above."""
    figure.set_layout_engine(None)
    panel = figure.subplots()
    figure.subplots_adjust(left=0.1, right=0.985, bottom=0.19, top=0.87)
    return panel
