"""What a finished run left behind, found again from its folder alone.

    runs/NAME/eval/ROW/BENCHMARK → ../../../stages/mark-8673efda

A run made by `harness evaluate` has no recipe in the code: its folder is enough to grade it again, to
compare it and to report it. Nothing is asked again.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import msgspec

from harness.benchmark import Benchmark
from harness.discover import suggestion
from harness.errors import DataError, UsageError
from harness.evaluate import Ask, Mark
from harness.files import UNREADABLE, read_json, write_json
from harness.integrity import IDENTITY, is_of
from harness.recipe import Recipe, Row
from harness.stage import Json, Stage
from harness.store import RunStore
from harness.types import Sampling

T = TypeVar("T")

RECIPE = "recipe.json"
MOVED = "Was the folder moved in part, or changed?"


class ToldRecipe(msgspec.Struct):
    """What is read of a run's recipe.json."""

    engine: str = ""
    rows: list[str] = []
    benchmarks: list[str] = []
    published: str = ""
    claimed: str = ""
    commands: list[tuple[str, ...]] = []


class ToldMark(msgspec.Struct):
    """What is read of the identity of a Mark."""

    asked: str
    grader: int
    grading: dict[str, Json] = {}


class ToldBenchmark(msgspec.Struct):
    """What every stored benchmark has."""

    kind: str = msgspec.field(name="class")
    name: str


class ToldAsk(msgspec.Struct):
    """What is read of the identity of an Ask."""

    model: str
    benchmark: dict[str, Json]
    engine: str
    system: str | None
    sampling: dict[str, Json] | None
    limit: int | None


@dataclass(frozen=True, kw_only=True)
class Stored(Stage):
    """A stage of which nothing is known but its key: whoever made it has done so."""

    stored: str

    @property
    def key(self) -> str:
        return self.stored


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """One evaluation of a run: which row and benchmark, and the stage that graded it."""

    row: str
    benchmark: str
    mark: Mark

    @property
    def label(self) -> str:
        return f"eval/{self.row}/{self.benchmark}"


def known_runs(store: RunStore) -> list[str]:
    """Names of the runs in a store that hold evaluations."""
    return sorted(folder.parent.name for folder in store.root.glob("*/eval") if folder.is_dir())


def evaluations(store: RunStore, name: str, benchmarks: Mapping[str, Benchmark]) -> list[Evaluated]:
    """The graded evaluations of a run, in the order of its report.

    Raises UsageError where there is no such run, and DataError where the questions or prompts that it
    was asked with are no longer those of this version.
    """
    links = sorted((store.root / name / "eval").glob("*/*"))
    found = [
        Evaluated(row=link.parent.name, benchmark=link.name, mark=mark_of(store, link, benchmarks))
        for link in links
        if link.is_symlink()
    ]
    if not found:
        raise UsageError(
            f"no run {name!r} with evaluations in {store.root}. {suggestion(name, known_runs(store))}"
        )
    order = order_of(store.root / name)
    return sorted(found, key=lambda one: order.get(one.label, len(order)))


def order_of(run: Path) -> dict[str, int]:
    """Where each evaluation stands in the run's recipe; links alone have no order."""
    told = told_recipe(run)
    labels = (f"eval/{row}/{benchmark}" for row in told.rows for benchmark in told.benchmarks)
    return {label: place for place, label in enumerate(labels)}


def told_recipe(run: Path) -> ToldRecipe:
    """What a run's recipe.json says; nothing where there is none. Raises DataError where it is damaged."""
    try:
        return read_json(run / RECIPE, ToldRecipe, "Remove it: the run is then reported without it.")
    except FileNotFoundError:
        return ToldRecipe()


def mark_of(store: RunStore, link: Path, benchmarks: Mapping[str, Benchmark]) -> Mark:
    """The Mark that a link leads to, with its Ask and benchmark made anew from what they wrote down."""
    home = link.resolve()
    marked = understood(identity_of(home), ToldMark, home)
    home = store.stages / marked.asked
    asked = understood(identity_of(home), ToldAsk, home)
    benchmark = remade(asked.benchmark, marked.grading, benchmarks)
    ask = Ask(
        model=Stored(stored=asked.model),
        benchmark=benchmark,
        engine=asked.engine,
        system=asked.system,
        sampling=None if asked.sampling is None else understood(asked.sampling, Sampling, home),
        limit=asked.limit,
    )
    if ask.key != marked.asked:
        raise DataError(
            f"{link} was asked with other questions or prompts of {benchmark.name} than this version has "
            f"({marked.asked}, now {ask.key})",
            "Use the version of the harness that asked, or evaluate again.",
        )
    return Mark(asked=ask, grader=marked.grader)


def understood(told: dict[str, Json], kind: type[T], home: Path) -> T:
    """What a stage says of itself, as this kind. Raises DataError where it is none."""
    try:
        return msgspec.convert(told, kind)
    except msgspec.ValidationError as error:
        raise DataError(f"{home} is not a stage's directory: {error}", MOVED) from error


def identity_of(path: Path) -> dict[str, Any]:
    """What a stage's directory says of it. Raises DataError where that is nothing, or another's."""
    try:
        told = msgspec.json.decode((path / IDENTITY).read_bytes(), type=dict[str, Any])
    except (OSError, ValueError, *UNREADABLE) as error:
        raise DataError(f"{path} is not a stage's directory: {error}", MOVED) from error
    if not is_of(told, path.name):
        raise DataError(
            f"{path / IDENTITY} is not that of its folder: what it says has another key",
            f"It was changed, or damaged: `harness verify --mend` restores it. {MOVED}",
        )
    return told


def remade(
    described: dict[str, Json], grading: dict[str, Json], benchmarks: Mapping[str, Benchmark]
) -> Benchmark:
    """The benchmark of a stored description, of whichever class here has that name."""
    kinds = {type(one).__name__: type(one) for one in benchmarks.values()}
    try:
        told = msgspec.convert(described, ToldBenchmark)
        if (kind := kinds.get(told.kind)) is None:
            raise DataError(f"this version has no benchmark of the kind {told.kind!r}")
        return msgspec.convert({**described, **grading}, kind)
    except msgspec.ValidationError as error:
        raise DataError(
            f"{described.get('name')}: its stored settings are not this version's ({error})"
        ) from error


def with_settings(benchmark: Benchmark, settings: Mapping[str, str]) -> Benchmark:
    """The benchmark with some fields set from text, as `seconds=30`.

    Raises UsageError where it has no such field, or where the value does not fit.
    """
    kinds = get_type_hints(type(benchmark))
    known = {each.name for each in fields(benchmark)} - {"name", "sampling"}
    changed = {}
    for name, value in settings.items():
        if name not in known:
            raise UsageError(f"{benchmark.name} has no setting {name!r}. {suggestion(name, known)}")
        try:
            changed[name] = msgspec.convert(value, kinds[name], strict=False)
        except msgspec.ValidationError as error:
            raise UsageError(f"{benchmark.name}: {name}={value}: {error}") from error
    return replace(benchmark, **changed)


def compared_with(store: RunStore, name: str) -> dict[str, str]:
    """The claims that a run was made to be compared with, as its `recipe.json` says: what `as_recipe`
    takes. Empty for a run without claims."""
    told = told_recipe(store.root / name)
    claims = {"published": told.published, "claimed": told.claimed}
    return {field: value for field, value in claims.items() if value}


def commands_of(store: RunStore, name: str) -> tuple[tuple[str, ...], ...]:
    """The commands that made a run, as its `recipe.json` says. Empty where it does not."""
    return tuple(told_recipe(store.root / name).commands)


def commands_behind(store: RunStore, recipe: Recipe) -> tuple[tuple[str, ...], ...]:
    """The commands that made a recipe's run: its own, else those in its `recipe.json`. A recipe's stages on
    another engine are others: no command is known of a run that stands there on another one."""
    told = told_recipe(store.root / recipe.name) if not recipe.commands else ToldRecipe()
    same = recipe.make is None or told.engine == recipe.engine
    return recipe.commands or (tuple(told.commands) if same else ())


def as_recipe(name: str, found: list[Evaluated], published: str = "", claimed: str = "") -> Recipe:
    """A recipe of just these rows and benchmarks, so that they are reported as any other run is."""
    rows = dict.fromkeys(one.row for one in found)
    measured = {one.benchmark: one.mark.asked.benchmark for one in found}
    first = found[0].mark.asked
    return Recipe(
        name=name,
        summary=f"{', '.join(rows)} on {', '.join(measured)}",
        stages={},
        models={one.row: Row(model=one.mark.asked.model, system=one.mark.asked.system) for one in found},
        benchmarks=tuple(measured.values()),
        published=published,
        claimed=claimed,
        engine=first.engine,
        limit=first.limit,
    )


def write_recipe(store: RunStore, recipe: Recipe) -> None:
    """Writes `recipe.json` into the run's folder: what the links beside it cannot say.

    The commands that made it stay where the recipe names none. While the run holds evaluations that are
    not this recipe's, what is told of those stays beside: their rows and benchmarks, commands and claims.
    """
    home = store.root / recipe.name
    home.mkdir(parents=True, exist_ok=True)
    kept = told_recipe(home) if {*linked(home)} - {*recipe.marks()} else ToldRecipe()
    commands = [*(one for one in kept.commands if one not in recipe.commands), *recipe.commands]
    compared = recipe if recipe.published else kept
    write_json(
        home / RECIPE,
        {
            "name": recipe.name,
            "summary": recipe.summary,
            "engine": recipe.engine,
            "rows": list(dict.fromkeys([*kept.rows, *recipe.models])),
            "benchmarks": list(dict.fromkeys([*kept.benchmarks, *(one.name for one in recipe.benchmarks)])),
            "published": compared.published,
            "claimed": compared.claimed,
            "commands": commands or commands_behind(store, recipe),
        },
    )


def linked(run: Path) -> Iterator[str]:
    """The labels of the evaluations that a run's links lead to."""
    for link in sorted((run / "eval").glob("*/*")):
        if link.is_symlink():
            yield f"eval/{link.parent.name}/{link.name}"


def regraded(found: list[Evaluated], settings: Mapping[str, str]) -> dict[str, Mark]:
    """The same answers marked by this version's graders, with other grading settings where given.

    Raises UsageError where no benchmark of the run has such a setting.
    """
    marks: dict[str, Mark] = {}
    for one in found:
        own = one.mark.asked.benchmark
        known = {name: value for name, value in settings.items() if name in own.grading}
        changed = with_settings(own, known)
        marks[one.label] = Mark(asked=replace(one.mark.asked, benchmark=changed), grader=changed.grader)
    every = {name for one in found for name in one.mark.asked.benchmark.grading}
    if unknown := [name for name in settings if name not in every]:
        raise UsageError(
            f"no benchmark of this run has a grading setting {unknown[0]!r}. "
            f"{suggestion(unknown[0], every) if every else 'They have none.'}"
        )
    return marks
