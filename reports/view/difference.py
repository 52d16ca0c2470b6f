"""Two texts line by line, in bounded time and room however long and unlike they are."""

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, zip_longest
from typing import Literal

from reports.view.text import LONGEST, Shown, whole_or_ends

MOST_WORK = 3_000_000
MOST_LINES = 4_000
MOST_CHARACTERS = 2 * LONGEST
LONGEST_LINE = 100_000
AROUND = 3
Kind = Literal["same", "changed", "removed", "added", "gap"]


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of a side-by-side difference. A gap stands for `skipped` equal lines."""

    kind: Kind
    left: str = ""
    right: str = ""
    left_number: int | None = None
    right_number: int | None = None
    skipped: int = 0

    @property
    def shown(self) -> tuple[Shown, Shown]:
        """Both sides as a page shows them."""
        return whole_or_ends(self.left, LONGEST_LINE), whole_or_ends(self.right, LONGEST_LINE)


@dataclass(frozen=True, kw_only=True)
class Difference:
    """`rough`: the texts are too unlike to be aligned throughout. `cut`: lines that are not shown."""

    lines: Sequence[Line]
    equal: bool
    rough: bool
    cut: int


class Bounded(difflib.SequenceMatcher[str]):
    """A matcher that stops looking after so many steps; what is left counts as changed.

    A search from `alo` to `ahi` takes a step for each line there and for each place where it also stands
    in the other text. Counted, not timed: the same texts give the same difference everywhere.
    """

    def __init__(self, a: Sequence[str], b: Sequence[str]) -> None:
        super().__init__(None, a, b)
        places: dict[str, list[int]] = self.b2j  # type: ignore[attr-defined]
        self.steps = [0, *accumulate(1 + len(places.get(line, ())) for line in a)]
        self.left = MOST_WORK
        self.rough = False

    def find_longest_match(
        self, alo: int = 0, ahi: int | None = None, blo: int = 0, bhi: int | None = None
    ) -> difflib.Match:
        until = len(self.steps) - 1 if ahi is None else ahi
        cost = self.steps[until] - self.steps[alo]
        if cost > self.left:
            self.rough = True
            return difflib.Match(alo, blo, 0)
        self.left -= cost
        return super().find_longest_match(alo, ahi, blo, bhi)


def difference(left: str, right: str) -> Difference:
    """What differs, with a few equal lines around it."""
    a, b = left.split("\n"), right.split("\n")
    start = next((n for n, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    shorter = min(len(a), len(b)) - start
    end = next((n for n in range(shorter) if a[-1 - n] != b[-1 - n]), shorter)
    middle = Bounded(a[start : len(a) - end], b[start : len(b) - end])
    codes = [
        ("equal", 0, start, 0, start),
        *((tag, i + start, j + start, k + start, m + start) for tag, i, j, k, m in middle.get_opcodes()),
        ("equal", len(a) - end, len(a), len(b) - end, len(b)),
    ]
    lines = [line for code in codes for line in lines_of(code, a, b)]
    shown = list(fitting(lines))
    return Difference(lines=shown, equal=left == right, rough=middle.rough, cut=len(lines) - len(shown))


def fitting(lines: Sequence[Line]) -> Iterator[Line]:
    """The first lines, as many as a browser shows well."""
    room = MOST_CHARACTERS
    for line in lines[:MOST_LINES]:
        room -= min(len(line.left), LONGEST_LINE) + min(len(line.right), LONGEST_LINE)
        if room < 0:
            return
        yield line


def lines_of(code: tuple[str, int, int, int, int], a: list[str], b: list[str]) -> Iterator[Line]:
    tag, i, j, k, m = code
    if tag == "equal":
        yield from equal_lines(i, j, k, a, first=i == 0, last=j == len(a))
        return
    pairs = zip_longest(range(i, j), range(k, m))
    for ours, theirs in pairs:
        yield Line(
            kind="added" if ours is None else "removed" if theirs is None else "changed",
            left="" if ours is None else a[ours],
            right="" if theirs is None else b[theirs],
            left_number=None if ours is None else ours + 1,
            right_number=None if theirs is None else theirs + 1,
        )


def equal_lines(i: int, j: int, k: int, a: list[str], *, first: bool, last: bool) -> Iterator[Line]:
    """Those next to a change; a gap for the others."""
    head, tail = (0 if first else AROUND), (0 if last else AROUND)
    skipped = j - i - head - tail
    for n in range(j - i):
        if skipped > 1 and head <= n < j - i - tail:
            if n == head:
                yield Line(kind="gap", skipped=skipped)
            continue
        yield Line(kind="same", left=a[i + n], right=a[i + n], left_number=i + n + 1, right_number=k + n + 1)
