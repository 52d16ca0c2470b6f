"""The plot of a soak: a small panel a quantity, all over the same minutes."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from reports import plots
from tests.soak.campaign import Soaked
from tests.soak.slopes import WARM_UP, Trend
from tests.soak.trends import looks

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = 3
ON_PAPER = "background: #fff; color: #1a1a1a"
"""A file that stands alone has no page to take its colours from."""


def picture(soaked: Soaked, trends: Sequence[Trend]) -> str:
    """An SVG file. Dots are looks, the line is the slope; what is left out as warm-up is grey."""

    def draw(figure: "Figure") -> None:
        rows = -(-len(trends) // COLUMNS)
        panels = figure.subplots(rows, COLUMNS, sharex=True, squeeze=False).flat
        for panel, one in zip(panels, trends, strict=False):
            drawn(panel, one, soaked)
        for panel in list(panels)[len(trends) :]:
            panel.set_visible(False)

    described = "; ".join(f"{one.name} {one.level:,.1f} {one.unit}, {one.growth:+,.2f}" for one in trends)
    height = 1.3 * -(-len(trends) // COLUMNS) + 0.4
    found = plots.picture("soak", "A soak", described, draw, (8.4, height))
    return found.svg.replace('style="stroke-linejoin', f'style="{ON_PAPER}; stroke-linejoin', 1) + "\n"


def drawn(panel: "Axes", one: Trend, soaked: Soaked) -> None:
    times, values = looks(soaked, one.name)
    start = soaked.samples[0]["time"]
    minutes = [(time - start) / 60 for time in times]
    panel.set_title(f"{one.name}, {one.unit}", fontsize=8)
    panel.plot(minutes, values, ".", color=plots.TEACHER, markersize=2)
    panel.set_ylim(bottom=0, top=1.15 * max([*values, 1e-9]))
    if minutes:
        first = minutes[0] + WARM_UP * (minutes[-1] - minutes[0])
        panel.axvspan(0, first, color=plots.SHARED, alpha=0.5, linewidth=0)
        ends = [one.level - one.growth / 2, one.level + one.growth / 2]
        panel.plot([first, minutes[-1]], ends, color=plots.STUDENT, linewidth=1.2)
    panel.tick_params(labelsize=7)
