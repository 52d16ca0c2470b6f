"""The pages as HTML. Everything is escaped but what `visible` has escaped itself."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from jinja2 import Environment, PackageLoader, StrictUndefined

from reports.view.choosing import LENIENT, Chosen, Wanted, choose
from reports.view.found import Evaluation
from reports.view.index import PENDING, Samples
from reports.view.listing import page_of, sample_path
from reports.view.questions import Loaded
from reports.view.sample import Side, differences, other_verdict, side_of, strip
from reports.view.state import State
from reports.view.text import visible

Texts = Literal["whole", "lines"]
TITLES = {"row": "row", "benchmark": "benchmark", "verdict": "verdict", "lenient": "strict or lenient",
          "error": "error", "flip": "flip"}  # fmt: skip
SORT_NAMES = {"question": "question", "draw": "draw", "tokens": "fewest tokens", "-tokens": "most tokens"}
LENIENT_SHORT = dict(zip(LENIENT, ("lenient only", "strict only"), strict=True))


def slug(value: str) -> str:
    """A verdict or kind as the name of a class."""
    return value.replace(" ", "-")


@dataclass(frozen=True, kw_only=True)
class Pages:
    """`prefix` comes before every address; `other` is the name of the run beside this one."""

    prefix: str
    run: str
    other: str | None

    @cached_property
    def environment(self) -> Environment:
        found = Environment(
            loader=PackageLoader("reports"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        found.filters |= {"visible": visible, "slug": slug}
        found.globals |= {
            "prefix": self.prefix,
            "run": self.run,
            "other": self.other,
            "titles": TITLES,
            "sort_names": SORT_NAMES,
            "short": LENIENT_SHORT,
        }
        return found

    def render(self, name: str, **values: Any) -> str:
        return self.environment.get_template(f"view/{name}.html.j2").render(values)

    def listing(
        self,
        state: State,
        wanted: Wanted,
        chosen: Chosen,
        loaded: Mapping[Evaluation, Loaded | None],
        trouble: str,
    ) -> str:
        samples = state.samples
        found = page_of(samples, state.others, chosen, wanted.page, loaded)
        facets = [one for one in chosen.facets if len(one.values) > 1 or wanted.values(one.name)]
        return self.render(
            "list",
            wanted=wanted,
            page=found,
            facets=facets,
            samples=len(samples),
            pending=int((samples.verdict == PENDING).sum()),
            rows=len({part.evaluation.row for part in samples.parts}) > 1,
            benchmarks=len({part.evaluation.benchmark for part in samples.parts}) > 1,
            troubles=sorted({one.trouble for one in loaded.values() if one is not None and one.trouble}),
            trouble=trouble,
            waits=any(one is None for one in loaded.values()),
            hidden=wanted.pairs("q", "page"),
        )

    def sample(
        self,
        state: State,
        wanted: Wanted,
        place: int,
        texts: Texts,
        loaded: tuple[Loaded | None, Loaded | None],
    ) -> str:
        samples, others = state.samples, state.others
        ours, theirs = side_of(samples, place, loaded[0]), None
        beside = int(samples.other[place])
        if others is not None and beside >= 0:
            theirs = side_of(others, beside, loaded[1])
        chosen = choose(samples, wanted)
        return self.render(
            "sample",
            wanted=wanted,
            sides=[(self.run, ours)] if theirs is None else [(self.run, ours), (str(self.other), theirs)],
            ours=ours,
            theirs=theirs,
            draws=strip(samples, others, place),
            differences=differences(ours, theirs) if texts == "lines" and theirs is not None else [],
            texts=texts,
            other_verdict=other_verdict(samples, others, place),
            waits=any(one is None for one in loaded[: 1 + (theirs is not None)])
            and needs_tests(ours, theirs),
            **neighbours(samples, chosen, place),
        )

    def failure(self, message: str, remedy: str) -> str:
        return self.render("failure", message=message, remedy=remedy)


def needs_tests(ours: Side, theirs: Side | None) -> bool:
    """Whether a failing test is shown once the data set is read; the page then looks again by itself."""
    return any(one is not None and one.judged.failing is not None for one in (ours, theirs))


def neighbours(samples: Samples, chosen: Chosen, place: int) -> dict[str, Any]:
    """The samples before and after this one among those that are wanted, and how many they are."""
    hits = (chosen.places == place).nonzero()[0]
    if not len(hits):
        return {"before": None, "after": None, "number": None, "of": len(chosen.places)}
    at = int(hits[0])

    def path(number: int) -> str | None:
        if not 0 <= number < len(chosen.places):
            return None
        there = int(chosen.places[number])
        part, _ = samples.part_of(there)
        return sample_path(
            part.evaluation, samples.questions[samples.question[there]], int(samples.draw[there])
        )

    return {"before": path(at - 1), "after": path(at + 1), "number": at + 1, "of": len(chosen.places)}
