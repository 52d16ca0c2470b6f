"""Whether a quantity that was sampled all along grows."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Direction = Literal["up", "down"]

WARM_UP = 0.15
"""The share of a soak that is left out: modules are imported and pools filled when first needed."""
BLOCKS = 30


@dataclass(frozen=True, kw_only=True)
class Allowed:
    """What counts as no growth: less than this share of the level, or less than this much, over the soak."""

    share: float = 0.02
    amount: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Trend:
    """What became of one quantity. `growth` is what the slope adds over the looked-at time, with the ends of
    its 95 % interval, `low` and `high`, in the quantity's own unit; `level` is its median."""

    name: str
    unit: str
    level: float
    growth: float
    low: float
    high: float
    allowed: Allowed
    harmful: Direction

    @property
    def worsening(self) -> float:
        """What the slope adds, or takes where less is worse."""
        return self.growth if self.harmful == "up" else -self.growth

    @property
    def tells(self) -> bool:
        """Whether there were looks enough to tell a slope."""
        return math.isfinite(self.low)

    @property
    def verdict(self) -> str:
        if not self.tells:
            return "too few looks"
        return "steady" if self.steady else "grows" if self.harmful == "up" else "falls"

    @property
    def steady(self) -> bool:
        """No slope the wrong way beyond noise: the interval holds zero, or all that the slope adds is less
        than what is allowed. Both are needed: a quantity that hardly varies, such as a count, has an
        interval of no width, and one file more in half an hour is no leak."""
        beyond = self.low > 0 if self.harmful == "up" else self.high < 0
        return not beyond or self.worsening < max(self.allowed.share * abs(self.level), self.allowed.amount)

    def share(self, amount: float) -> float:
        """In percent of the level."""
        return 100 * amount / self.level if self.level else (0.0 if not amount else math.inf)


def trend(
    name: str,
    unit: str,
    times: Sequence[float],
    values: Sequence[float],
    *,
    allowed: Allowed | None = None,
    harmful: Direction = "up",
    warm_up: float = WARM_UP,
) -> Trend:
    """The slope of Theil and Sen over medians of equal stretches of time.

    Their estimator bears outliers: a server that is down for a minute does not look like a slope. Its
    interval takes samples for independent, which neighbours are not (they belong to one round, or to one
    loss of a server); medians of stretches that are longer than a round nearly are. Fewer than four
    stretches with samples tell nothing: the interval is then without end.
    """
    xs, ys = blocks(times, values, warm_up)
    level = statistics.median(ys) if ys else 0.0
    limits = allowed or Allowed()
    if len(xs) < 4:
        growth, low, high = 0.0, -math.inf, math.inf
    else:
        from scipy.stats import theilslopes

        span = xs[-1] - xs[0]
        found = theilslopes(ys, xs, alpha=0.95)
        growth, low, high = found.slope * span, found.low_slope * span, found.high_slope * span
    return Trend(
        name=name, unit=unit, level=level, growth=float(growth), low=float(low), high=float(high),
        allowed=limits, harmful=harmful,
    )  # fmt: skip


def blocks(
    times: Sequence[float], values: Sequence[float], warm_up: float
) -> tuple[list[float], list[float]]:
    """The medians of times and values in up to BLOCKS equal stretches of time after the warm-up."""
    if not times:
        return [], []
    start = times[0] + warm_up * (times[-1] - times[0])
    width = (times[-1] - start) / BLOCKS or 1.0
    found: dict[int, list[tuple[float, float]]] = {}
    for time, value in zip(times, values, strict=True):
        if time >= start:
            found.setdefault(min(int((time - start) / width), BLOCKS - 1), []).append((time, value))
    stretches = [found[index] for index in sorted(found)]
    xs = [statistics.median(time for time, _ in stretch) for stretch in stretches]
    return xs, [statistics.median(value for _, value in stretch) for stretch in stretches]


def table(trends: Sequence[Trend]) -> str:
    """A line a quantity: its level, what its slope adds over the soak, the interval, and the verdict."""
    lines = [f"{'':32}{'level':>12}{'over the soak':>16}{'95 % interval':>24}  verdict"]
    for one in trends:
        interval = f"{one.low:+,.2f} … {one.high:+,.2f}"
        lines.append(
            f"{one.name + ', ' + one.unit:32}{one.level:12,.2f}{one.growth:+16,.2f}{interval:>24}"
            f"  {one.verdict}"
        )
    return "\n".join(lines)


def steepest(trends: Sequence[Trend]) -> str:
    """The quantity whose slope goes the wrong way most, as a share of its level, and the noise of that."""
    finite = [one for one in trends if one.tells]
    if not finite:
        return "too short for a slope"
    worst = max(finite, key=lambda one: one.share(one.worsening))
    noise = worst.share((worst.high - worst.low) / 2)
    return f"{worst.name} {worst.share(worst.growth):+.1f} % (noise ±{noise:.1f} %)"
