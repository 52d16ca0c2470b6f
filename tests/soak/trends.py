"""The quantities of a soak, and which way each of them must not go."""

from tests.soak.campaign import Effort, Soaked
from tests.soak.samples import AT_REST, UNITS
from tests.soak.slopes import WARM_UP, Allowed, Trend, trend

LONG = 600.0
"""Seconds from which on a slope of memory says something."""
MEMORY = {True: Allowed(share=0.02, amount=0.0), False: Allowed(share=0.10, amount=0.0)}
"""Of a long soak and of a short one: in its first minutes Python still fills its caches and arenas."""
COUNT = Allowed(share=0.02, amount=1.0)
SPEED = Allowed(share=0.10, amount=0.0)
"""Rows a second depend on whatever else a machine does."""


def trends(soaked: Soaked, effort: Effort) -> list[Trend]:
    """One of each quantity that was sampled, and of the throughput of undisturbed rounds."""
    names = [name for name in (soaked.samples or [{}])[0] if name != "time"]
    found = []
    for name in names:
        unit = UNITS.get(name, "count")
        allowed = MEMORY[effort.seconds >= LONG] if unit == "MB" else COUNT
        looks = soaked.rests if name in AT_REST else soaked.samples
        times, values = [each["time"] for each in looks], [each[name] for each in looks]
        found.append(trend(name, unit, times, values, allowed=allowed))
    return [*found, throughput(soaked)]


def throughput(soaked: Soaked) -> Trend:
    """Rows a second of the rounds that were left alone."""
    alone = [each for each in soaked.rounds[2:] if not each.fault and each.seconds]
    return trend(
        "throughput",
        "rows/s",
        [each.time for each in alone],
        [each.rows / each.seconds for each in alone],
        allowed=SPEED,
        harmful="down",
        warm_up=WARM_UP,
    )
