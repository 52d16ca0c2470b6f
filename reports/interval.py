"""Where each difference lies on one axis of points: the figure beside the claims, as geometry.

All lines of a table share one scale, so that they can be compared; what lies beyond it ends in an arrow.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from reports.table import Entry

WIDTH = 220.0
EDGE = 10.0
REACHES = (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 75.0, 100.0)
FARTHEST = 4.0  # margins from zero: a line far outside must not press all others together


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """One line's positions, 0 to WIDTH. `low` and `high` are None where there is no interval.

    `cut_low` and `cut_high` say that the interval goes on beyond the axis.
    """

    left: float
    right: float
    delta: float
    low: float | None = None
    high: float | None = None
    cut_low: bool = False
    cut_high: bool = False
    told: str


def reach(entries: Iterable[Entry]) -> float | None:
    """Points from zero to either end of the axis; None where nothing has a difference to draw."""
    drawn = [entry for entry in entries if entry.delta is not None and entry.margin]
    if not drawn:
        return None
    widest = max(entry.margin or 0.0 for entry in drawn)
    ends = [abs(end) for entry in drawn for end in entry.interval or (entry.delta or 0.0,)]
    wanted = max(1.2 * widest, min(max(ends), FARTHEST * widest))
    return next((nice for nice in REACHES if nice >= wanted), REACHES[-1])


def drawn(entry: Entry, ends: float | None) -> Drawn | None:
    """The line's figure on an axis from −`ends` to +`ends` points."""
    if entry.delta is None or not entry.margin or ends is None:
        return None
    found = Drawn(
        left=position(-entry.margin, ends),
        right=position(entry.margin, ends),
        delta=position(entry.delta, ends),
        told=where(entry),
    )
    if entry.interval is None:
        return found
    low, high = entry.interval
    return replace(
        found,
        low=position(low, ends),
        high=position(high, ends),
        cut_low=low < -ends,
        cut_high=high > ends,
    )


def position(points: float, ends: float) -> float:
    """The place of a difference on the axis; at its end where it lies beyond."""
    share = max(-1.0, min(1.0, points / ends))
    return round(WIDTH / 2 + share * (WIDTH / 2 - EDGE), 1)


def where(entry: Entry) -> str:
    """The figure in words, for who does not see it."""
    if entry.interval is None or entry.margin is None:
        return "a difference without an interval"
    low, high = entry.interval
    if -entry.margin < low and high < entry.margin:
        return "the interval lies inside the margin"
    if low > entry.margin or high < -entry.margin:
        return "the interval lies wholly outside the margin"
    return "the interval crosses the edge of the margin"
