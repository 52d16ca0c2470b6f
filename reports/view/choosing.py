"""What a reader wants to see: filters, order and page, all of it in the page's address."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal
from urllib.parse import urlencode

import numpy as np
import numpy.typing as npt

from reports.view.index import FLIPS, VERDICTS, Samples, Whole

Mask = npt.NDArray[np.bool_]
PAGE = 100
SORTS = ("question", "draw", "tokens", "-tokens")
LENIENT = ("right by the lenient rule only", "right by the strict rule only")
FacetName = Literal["row", "benchmark", "verdict", "lenient", "error", "flip"]
FACETS: tuple[FacetName, ...] = ("row", "benchmark", "verdict", "lenient", "error", "flip")
NO_ERROR = "none"


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A list's state. Of each facet any of the values given will do; none given takes all."""

    row: tuple[str, ...] = ()
    benchmark: tuple[str, ...] = ()
    verdict: tuple[str, ...] = ()
    lenient: tuple[str, ...] = ()
    error: tuple[str, ...] = ()
    flip: tuple[str, ...] = ()
    q: str = ""
    sort: str = SORTS[0]
    page: int = 1

    def values(self, facet: FacetName) -> tuple[str, ...]:
        found: tuple[str, ...] = getattr(self, facet)
        return found

    def toggled(self, facet: FacetName, value: str) -> "Wanted":
        """With this value of a facet taken away where it is asked for, else added; on the first page."""
        now = self.values(facet)
        left = tuple(one for one in now if one != value) if value in now else (*now, value)
        changed: dict[str, Any] = {facet: left, "page": 1}
        return replace(self, **changed)

    def with_sort(self, sort: str) -> "Wanted":
        return replace(self, sort=sort, page=1)

    def on_page(self, page: int) -> "Wanted":
        return replace(self, page=page)

    @property
    def narrowed(self) -> bool:
        return bool(self.q or any(self.values(facet) for facet in FACETS))

    def pairs(self, *without: str) -> list[tuple[str, str]]:
        """The state as fields of an address; what is as always is left out."""
        found: list[tuple[str, str]] = [(facet, value) for facet in FACETS for value in self.values(facet)]
        found += [("q", self.q)] if self.q else []
        found += [("sort", self.sort)] if self.sort != SORTS[0] else []
        found += [("page", str(self.page))] if self.page > 1 else []
        return [pair for pair in found if pair[0] not in without]

    def query(self, **more: str) -> str:
        """`?…`, or nothing."""
        fields = [*self.pairs(), *more.items()]
        return f"?{urlencode(fields)}" if fields else ""


def wanted_of(query: Iterable[tuple[str, str]]) -> Wanted:
    """The state in an address. What makes no sense there is passed over."""
    fields: dict[str, list[str]] = {}
    for name, value in query:
        fields.setdefault(name, []).append(value)

    def last(name: str, default: str) -> str:
        return fields.get(name, [default])[-1]

    sort, page = last("sort", SORTS[0]), last("page", "1")
    facets: dict[str, Any] = {facet: tuple(dict.fromkeys(fields.get(facet, ()))) for facet in FACETS}
    return Wanted(
        **facets,
        q=last("q", "").strip()[:200],
        sort=sort if sort in SORTS else SORTS[0],
        page=max(1, int(page)) if page.isdecimal() and len(page) < 9 else 1,
    )


@dataclass(frozen=True, kw_only=True)
class Facet:
    """A filter: each value with how many samples it would leave, given all other filters."""

    name: FacetName
    values: Sequence[tuple[str, int]]


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """The places of all samples that are wanted, in order, and the facets to choose from."""

    places: Whole
    facets: Sequence[Facet]


def choose(samples: Samples, wanted: Wanted) -> Chosen:
    labels, columns = labelled(samples)
    masks = {facet: mask_of(labels[facet], columns[facet], wanted.values(facet)) for facet in FACETS}
    found = searched(samples, wanted.q)
    facets = []
    for facet in FACETS:
        rest = found.copy()
        for name, mask in masks.items():
            if name != facet:
                rest &= mask
        counts = np.bincount(columns[facet][rest], minlength=len(labels[facet])).tolist()
        facets.append(Facet(name=facet, values=shown(labels[facet], counts, wanted.values(facet))))
    for mask in masks.values():
        found &= mask
    return Chosen(places=in_order(samples, found, wanted.sort), facets=facets)


def labelled(samples: Samples) -> tuple[Mapping[FacetName, list[str]], Mapping[FacetName, Whole]]:
    """Each facet's values, and which of them each sample has. The value "" is not offered."""
    rows = [part.evaluation.row for part in samples.parts]
    benchmarks = [part.evaluation.benchmark for part in samples.parts]
    row_names, benchmark_names = list(dict.fromkeys(rows)), list(dict.fromkeys(benchmarks))
    row_of = np.array([row_names.index(name) for name in rows], dtype=np.int64)
    benchmark_of = np.array([benchmark_names.index(name) for name in benchmarks], dtype=np.int64)
    strict = samples.verdict == 0
    lenient = np.where((samples.lenient == 1) & ~strict, 1, np.where((samples.lenient == 0) & strict, 2, 0))
    return (
        {
            "row": row_names,
            "benchmark": benchmark_names,
            "verdict": list(VERDICTS),
            "lenient": ["", *LENIENT],
            "error": samples.errors,
            "flip": list(FLIPS),
        },
        {
            "row": row_of[samples.evaluation],
            "benchmark": benchmark_of[samples.evaluation],
            "verdict": samples.verdict,
            "lenient": lenient,
            "error": samples.error,
            "flip": samples.flip,
        },
    )


def shown(labels: list[str], counts: list[int], asked: tuple[str, ...]) -> list[tuple[str, int]]:
    """What there is to choose; a value that is asked for stays, so that it can be taken away."""
    named = [(label, count) for label, count in zip(labels, counts, strict=True) if label]
    gone = [(label, 0) for label in asked if label not in labels]
    return [(label, count) for label, count in named if count or label in asked] + gone


def mask_of(labels: list[str], column: Whole, asked: tuple[str, ...]) -> Mask:
    if not asked:
        return np.ones(len(column), dtype=np.bool_)
    return np.isin(column, [number for number, label in enumerate(labels) if label and label in asked])


def searched(samples: Samples, text: str) -> Mask:
    """Whose question's id holds this text, in capitals or not."""
    if not text:
        return np.ones(len(samples), dtype=np.bool_)
    folded = text.casefold()
    hit = [number for number, name in enumerate(samples.questions) if folded in name.casefold()]
    return np.isin(samples.question, hit)


def in_order(samples: Samples, mask: Mask, sort: str) -> Whole:
    """The places where the mask holds. Samples without a row come last by tokens."""
    order = samples.order
    places = order[mask[order]]
    match sort:
        case "draw":
            return places[np.argsort(samples.draw[places], kind="stable")]
        case "tokens" | "-tokens":
            tokens = samples.tokens[places]
            key = np.where(tokens < 0, np.iinfo(np.int64).max, tokens if sort == "tokens" else -tokens)
            return places[np.argsort(key, kind="stable")]
    return places
