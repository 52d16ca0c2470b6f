"""What names on the command line mean: recipes, benchmarks, runs and their rows."""

from typing import TYPE_CHECKING, Any

from harness.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.benchmark import Benchmark
    from harness.recipe import Recipe
    from harness.runs import Evaluated
    from harness.stage import Stage
    from harness.store import RunStore


def recipes() -> "dict[str, Recipe]":
    import pipeline.recipes
    from harness.discover import discover
    from harness.recipe import Recipe

    return discover(pipeline.recipes, Recipe)


def benchmarks() -> "dict[str, Benchmark]":
    import benchmarks as package
    from harness.benchmark import Benchmark
    from harness.discover import discover

    return discover(package, Benchmark)


def find_recipe(name: str, engine: str | None = None, entry: str | None = None) -> "Recipe":
    """The recipe called `name`, from another entry point or on another engine where one is given."""
    from harness.discover import find_engine, pick, suggestion

    found = pick("recipe", name, recipes())
    if entry is not None and entry not in found.entries:
        raise UsageError(f"{name} cannot start from {entry!r}. {suggestion(entry, found.entries)}")
    if engine is None and entry is None:
        return found
    if found.make is None:
        raise UsageError(f"the recipe {name!r} runs on {found.engine} only", "Leave --engine out.")
    return found.make(entry or found.entries[0], find_engine(engine or found.engine).name)


def find_run(store: "RunStore", name: str, engine: str | None) -> "tuple[Recipe, Mapping[str, Stage]]":
    """A recipe with its stages, or a run that only its folder knows. Raises UsageError for neither.

    A recipe may be named in its form from another entry (`dasd-4b-from-data`). Without `engine` it is that
    of the engine which the run was last made or reported on, else the recipe's own; on another one something
    has to be measured, for the page of the run is written over.
    """
    from harness.discover import suggestion
    from harness.models import recipe_named
    from harness.runs import as_recipe, compared_with, evaluations, known_runs, told_recipe

    known = recipes()
    if (found := recipe_named(name, known)) is not None:
        before = told_recipe(store.root / name).engine
        found = on_engine(found, engine or before or found.engine)
        if before not in ("", found.engine) and all(
            store.state(one) != "done" for one in found.marks().values()
        ):
            raise UsageError(
                f"nothing of {name} is measured on {found.engine}", f"It was on {before}: leave --engine out."
            )
        return found, found.labels()
    if engine:
        raise UsageError(f"unknown recipe {name!r}. {suggestion(name, known)}")
    kept = known_runs(store)
    if name not in kept:
        raise UsageError(f"unknown recipe or run {name!r}. {suggestion(name, [*known, *kept])}")
    marked = evaluations(store, name, benchmarks())
    found = as_recipe(name, marked, **compared_with(store, name))
    return found, {one.label: one.mark for one in marked}


def on_engine(found: "Recipe", engine: str) -> "Recipe":
    """The same recipe from the same entry on an engine. Raises UsageError where it has but its own."""
    from harness.discover import find_engine

    name = find_engine(engine).name
    if name == found.engine:
        return found
    if found.make is None:
        raise UsageError(f"the recipe {found.name!r} runs on {found.engine} only", "Leave --engine out.")
    forms = [found.make(entry, name) for entry in found.entries]
    return next(form for form in forms if form.name == found.name)


def evaluated(store: "RunStore", text: str) -> "list[Evaluated]":
    """The evaluations that `RUN` or `RUN/ROW` names. Raises UsageError where there is no such row."""
    from harness.discover import suggestion
    from harness.runs import evaluations

    run, _, row = text.partition("/")
    found = evaluations(store, run, benchmarks())
    if row and row not in (rows := {one.row for one in found}):
        raise UsageError(f"{run} has no row {row!r}. {suggestion(row, rows)}")
    return [one for one in found if row in ("", one.row)]


def asked_benchmark(
    text: str, max_tokens: int | None, temperature: float | None, settings: dict[str, str]
) -> "Benchmark":
    """The benchmark of `NAME[:DRAWS]` with the given overrides of sampling and settings."""
    from dataclasses import replace

    from harness.discover import pick
    from harness.runs import with_settings

    name, _, draws = text.partition(":")
    found = pick("benchmark", name, benchmarks())
    if draws and not (draws.isdigit() and int(draws) > 0):
        raise UsageError(f"{text!r}: DRAWS is a number from 1, as in {name}:64")
    overrides = {"draws": int(draws) if draws else None, "max_tokens": max_tokens, "temperature": temperature}
    given: dict[str, Any] = {field: value for field, value in overrides.items() if value is not None}
    return with_settings(replace(found, sampling=replace(found.sampling, **given)), settings)


def windowed(found: "Benchmark", start: str, end: str) -> "Benchmark":
    """The benchmark over the contests between two dates, where one is given."""
    from benchmarks.livecodebench import LiveCodeBench, between

    if not start and not end:
        return found
    if not isinstance(found, LiveCodeBench):
        raise UsageError(f"{found.name} has no contest dates", "Leave --start and --end to LiveCodeBench.")
    return between(found, start, end)


def in_place_of(found: "Recipe", text: str) -> "Recipe":
    """The evaluation of one model as `RECIPE/ROW[,ROW]`. Raises UsageError where nothing is claimed so."""
    from dataclasses import replace

    from harness.discover import suggestion
    from reports.assemble import claimed, claims_by_label

    name, _, wanted = text.partition("/")
    recipe = find_recipe(name)
    known = list(dict.fromkeys(label.split("/")[1] for label in claims_by_label(recipe)))
    if not known:
        raise UsageError(f"--claims {text}: nothing is published about the recipe {name!r}")
    for row in wanted.split(","):
        if row not in known:
            raise UsageError(f"--claims {text}: no value is published for {row!r}. {suggestion(row, known)}")
    (measured,) = found.models.values()
    return replace(
        found,
        models=dict.fromkeys(wanted.split(","), measured),
        published=recipe.published,
        claimed=f"{claimed(recipe)}/{wanted}",
    )
