"""Published claims and the ambiguity register, read from `reports/<name>/*.toml`.

`published.toml` holds values of a paper, or reference values of our own runs with their errors;
`ambiguities.toml` what the paper leaves open: our default, the alternatives, how to vary it.
"""

from importlib.resources import files
from typing import Literal, TypeVar

import msgspec

from harness.errors import DataError
from harness.statistics import Claim
from harness.toml import table_in

Kind = Literal["paper", "reference"]
Variation = Literal["stored generations", "new generations", "new training"]
T = TypeVar("T")


class Model(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One model's published values by benchmark, in points.

    `rows` are the rows of `recipe`'s report that are compared with it; a peer has none. `se` are
    standard errors where known; `own_sampling` says that `sampling` is not the paper's protocol.
    """

    name: str
    source: str
    values: dict[str, float]
    recipe: str = ""
    rows: tuple[str, ...] = ()
    sampling: str = ""
    own_sampling: bool = False
    se: dict[str, float] = {}


class Protocol(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the values were measured, as far as it is told: sampling, and the token limit by benchmark.
    `silent` names what is not told."""

    source: str
    temperature: float
    top_p: float
    max_tokens: dict[str, int]
    silent: tuple[str, ...] = ()


class Published(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A file of claims. `draws` is how many responses a question they were measured with."""

    kind: Kind
    title: str
    sampling: str
    models: tuple[Model, ...]
    margins: dict[str, float]
    draws: int | None = None
    rounding: float = 0.1
    protocol: Protocol | None = None


class PublishedClaim(msgspec.Struct, frozen=True, kw_only=True):
    """One value that one row of a report is compared with."""

    recipe: str
    row: str
    benchmark: str
    model: str
    source: str
    sampling: str
    own_sampling: bool
    claim: Claim


class Ambiguity(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One choice that the paper leaves open. `varied_on` is what trying an alternative takes."""

    id: str
    question: str
    sources: str
    default: str
    alternatives: tuple[str, ...]
    varied_on: Variation


class Register(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    ambiguities: tuple[Ambiguity, ...]


def load_published(name: str) -> Published:
    """The claims of `reports/<name>/published.toml`."""
    return load(name, "published.toml", Published)


def load_ambiguities(name: str) -> tuple[Ambiguity, ...]:
    """The register of `reports/<name>/ambiguities.toml`; empty where there is none."""
    if not files("reports").joinpath(name, "ambiguities.toml").is_file():
        return ()
    return load(name, "ambiguities.toml", Register).ambiguities


def load(name: str, file: str, kind: type[T]) -> T:
    """A typed TOML file of the reports package. Raises DataError that says what is wrong with it."""
    path = files("reports").joinpath(name, file)
    try:
        return msgspec.convert(table_in(path.read_bytes()), kind)
    except FileNotFoundError as error:
        raise DataError(f"reports/{name}/{file} does not exist") from error
    except ValueError as error:
        raise DataError(f"reports/{name}/{file}: {error}") from error


def claims(published: Published, recipe: str) -> list[PublishedClaim]:
    """All claims on rows of `RECIPE`, or on those that `RECIPE/ROW,ROW` names.

    Raises DataError for a benchmark without a margin.
    """
    name, _, chosen = recipe.partition("/")
    return [
        PublishedClaim(
            recipe=name,
            row=row,
            benchmark=benchmark,
            model=model.name,
            source=model.source,
            sampling=model.sampling or published.sampling,
            own_sampling=model.own_sampling,
            claim=claim(published, model, benchmark),
        )
        for model in published.models
        if model.recipe == name
        for row in model.rows
        if not chosen or row in chosen.split(",")
        for benchmark in model.values
    ]


def claim(published: Published, model: Model, benchmark: str) -> Claim:
    if benchmark not in published.margins:
        raise DataError(f"{published.title}: no margin for {benchmark}", "Add it under [margins].")
    return Claim(
        value=model.values[benchmark],
        margin=published.margins[benchmark],
        se=model.se.get(benchmark),
        draws=None if model.own_sampling else published.draws,
        rounding=published.rounding,
    )
