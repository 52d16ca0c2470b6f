"""Wall time by stage, as bars."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.cost import Kind
from reports.plots import INK, PAGE, SHARED, STUDENT, TEACHER, WIDTH, Picture, clean, picture

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FILLS: dict[Kind, dict[str, Any]] = {
    "generate": {"facecolor": TEACHER, "edgecolor": TEACHER},
    "train": {"facecolor": STUDENT, "edgecolor": PAGE, "hatch": "////"},
    "score": {"facecolor": PAGE, "edgecolor": TEACHER, "hatch": "\\\\\\\\"},
    "grade": {"facecolor": SHARED, "edgecolor": INK},
    "none": {"facecolor": SHARED, "edgecolor": SHARED},
}
TITLES: dict[Kind, str] = {
    "generate": "asks a model", "train": "trains", "score": "scores", "grade": "grades", "none": "other",
}  # fmt: skip
UNITS = ((86400, "days"), (3600, "hours"), (60, "minutes"), (1, "seconds"))


def share(part: float) -> str:
    return f" {part:.0%}" if part >= 0.01 else " <1%"


@dataclass(frozen=True, kw_only=True)
class Bar:
    """A stage, or several together, what it mostly does, and its seconds."""

    label: str
    kind: Kind
    seconds: float


def wall_times(name: str, title: str, bars: Sequence[Bar]) -> Picture:
    """One bar a stage, from the top in the order given, with its share of the sum."""
    longest, total = max(bar.seconds for bar in bars), sum(bar.seconds for bar in bars)
    size, unit = next((each for each in UNITS if longest >= 2 * each[0]), UNITS[-1])

    def draw(figure: "Figure") -> None:
        from matplotlib.patches import Patch

        panel = figure.subplots()
        for place, bar in enumerate(bars):
            panel.barh(place, bar.seconds / size, height=0.75, linewidth=0.5, **FILLS[bar.kind])
            panel.text(bar.seconds / size, place, share(bar.seconds / total), va="center", fontsize="small")
        panel.set_yticks(range(len(bars)), [clean(bar.label) for bar in bars])
        panel.set_ylim(len(bars) - 0.4, -0.6)
        panel.set_xlim(0, 1.08 * longest / size)
        panel.set_xlabel(f"wall time ({unit})")
        panel.tick_params(axis="y", length=0)
        kinds = [kind for kind in FILLS if any(bar.kind == kind for bar in bars)]
        patches = [Patch(label=TITLES[kind], linewidth=0.5, **FILLS[kind]) for kind in kinds]
        figure.legend(handles=patches, loc="outside upper left", ncols=len(kinds), fontsize="small")

    told = "; ".join(f"{clean(bar.label)} {bar.seconds / size:.3g}" for bar in bars)
    description = f"Wall time of each stage in {unit}: {told}."
    return picture(name, title, description, draw, (WIDTH, 0.9 + 0.24 * len(bars)))
