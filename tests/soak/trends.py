"""The quantities of a soak, and which way each of them must not go."""

from tests.soak.campaign import Effort, Soaked
from tests.soak.samples import AT_REST, UNITS
from tests.soak.slopes import Allowed, Trend, trend

THROUGHPUT = "throughput"
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
    memory = MEMORY[effort.seconds >= LONG]
    found = []
    for name in names:
        unit = UNITS.get(name, "count")
        times, values = looks(soaked, name)
        allowed = memory if unit == "MB" else COUNT
        found.append(trend(name, unit, times, values, allowed=allowed))
    times, values = looks(soaked, THROUGHPUT)
    return [*found, trend(THROUGHPUT, "rows/s", times, values, allowed=SPEED, harmful="down")]


def looks(soaked: Soaked, name: str) -> tuple[list[float], list[float]]:
    """Times and values of a quantity. Throughput is rows a second of the rounds that were left alone; the
    first of them, in which the server starts, tells nothing of it."""
    if name == THROUGHPUT:
        alone = [each for each in soaked.rounds[1:] if not each.fault and each.seconds]
        return [each.time for each in alone], [each.rows / each.seconds for each in alone]
    found = soaked.rests if name in AT_REST else soaked.samples
    return [each["time"] for each in found], [each[name] for each in found]
