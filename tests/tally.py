"""The table in which each acceptance check of reliability ends: what was tried, and how it ended."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Literal, get_args

Ending = Literal["survived", "lost", "wrongly graded", "escaped"]
"""Survived: nothing below happened, and what had to be said was said. Lost: rows, a result or the run itself
are gone, are there twice, or cannot be had by running again; or nothing was said. Wrongly graded: a score,
a verdict or a row is another than it would be without the disturbance. Escaped: something got where it
must not."""

ENDINGS: tuple[Ending, ...] = get_args(Ending)


def table(endings: Mapping[str, Iterable[Ending]]) -> str:
    """One line a name, and one of all where there are several."""
    counted = {name: Counter(found) for name, found in endings.items()}
    if len(counted) > 1:
        counted["all"] = sum(counted.values(), Counter())
    width = max(map(len, counted), default=0) + 2
    lines = [f"{'':{width}}{'tried':>8}" + "".join(f"{ending:>16}" for ending in ENDINGS)]
    lines += [
        f"{name:{width}}{counts.total():8,}" + "".join(f"{counts[ending]:16,}" for ending in ENDINGS)
        for name, counts in counted.items()
    ]
    return "\n".join(lines)


def figure(endings: Iterable[Ending]) -> str:
    """The last line: `1,218 tried, 1,218 survived, 0 lost, 0 wrongly graded, 0 escaped`."""
    counts = Counter(endings)
    return ", ".join([f"{counts.total():,} tried", *(f"{counts[ending]:,} {ending}" for ending in ENDINGS)])
