"""Which checkpoint a MODEL on the command line means: a folder, a recipe's row, a run's row, or a Hub id.

./checkpoint           a folder
dasd-micro/final       a row, or a stage that makes a checkpoint, of a recipe
my-run/some-row        a row of a run that `harness evaluate` made
ORG/NAME[@COMMIT]      a checkpoint on the Hub
"""

import difflib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.benchmark import Benchmark
from harness.discover import engines, suggestion
from harness.errors import StageError, UsageError
from harness.hub import Checkpoint, check_checkpoint, checkpoint
from harness.recipe import Recipe, Row
from harness.runs import evaluations, known_runs
from harness.serving import Model, without_limits
from harness.stage import Stage
from harness.store import RunStore
from harness.types import Sampling

Build = Callable[[Stage], Path]


@dataclass(frozen=True, kw_only=True)
class Known:
    """What a name may mean. `build` makes or finds a stage's directory, compares what it holds with what was
    written, and is asked for checkpoints alone."""

    store: RunStore
    recipes: Mapping[str, Recipe]
    benchmarks: Mapping[str, Benchmark]
    build: Build


def find_model(text: str, known: Known) -> Model:
    """The checkpoint of MODEL, downloaded where need be.

    Raises UsageError for an unknown name, StageError for a row that is not made yet, and DataError as the
    Hub does and where a checkpoint of the store is damaged.
    """
    if Path(text).is_dir():
        check_checkpoint(Path(text))
        return Model(folder=Path(text).resolve(), name=Path(text).resolve().name)
    run, _, row = text.partition("/")
    if not row:
        raise UsageError(
            f"{text!r} is neither a folder nor RUN/ROW nor ORG/NAME",
            suggestion(text, [*known.recipes, *known_runs(known.store)]),
        )
    if (recipe := recipe_named(run, known.recipes)) is not None:
        return row_of_recipe(recipe, row, known)
    if run in (runs := known_runs(known.store)):
        return row_of_run(run, row, known)
    near = difflib.get_close_matches(run, [*known.recipes, *runs], n=1, cutoff=0.8)
    if near and "@" not in row:
        raise UsageError(f"unknown recipe or run {run!r}. Did you mean {near[0] + '/' + row!r}?")
    found = checkpoint(text)
    return Model(folder=known.build(found) / "model", name=found.source)


def recipe_named(name: str, recipes: Mapping[str, Recipe]) -> Recipe | None:
    """A recipe by its name, or by that of its form from another entry: `dasd-4b-from-data`."""
    if name in recipes:
        return recipes[name]
    for recipe in recipes.values():
        for entry in recipe.entries:
            if recipe.make and name == f"{recipe.name}-from-{entry}":
                return recipe.make(entry, recipe.engine)
    return None


def row_of_recipe(recipe: Recipe, row: str, known: Known) -> Model:
    """A row of the recipe's report, or one of its stages that trains.

    The recipe may have been run on another engine than its own: then its rows are other stages.
    """
    wanted = rows_of(recipe)
    if row not in wanted:
        raise UsageError(f"{recipe.name} has no row {row!r}. {suggestion(row, recipe.models)}")
    for form in forms(recipe):
        found = rows_of(form)[row]
        trained = not isinstance(found.model, Checkpoint)
        if trained and known.store.state(found.model) != "done":
            continue
        folder = known.build(found.model) / "model"
        if not folder.is_dir():
            raise UsageError(f"{recipe.name}/{row} makes no checkpoint. {suggestion(row, recipe.models)}")
        return Model(
            folder=folder,
            name=f"{recipe.name}/{row}",
            system=found.system,
            sampling=shared_sampling(form) if trained else None,
            trained=trained,
        )
    raise not_made(recipe, row, known.store)


def rows_of(recipe: Recipe) -> dict[str, Row]:
    """The rows of a recipe, and its stages, with the system prompt that all trained rows share."""
    trained = {row.system for row in recipe.models.values() if not isinstance(row.model, Checkpoint)}
    system = trained.pop() if len(trained) == 1 else None
    return {
        **{name: Row(model=stage, system=system) for name, stage in recipe.stages.items()},
        **recipe.models,
    }


def forms(recipe: Recipe) -> Iterator[Recipe]:
    """The recipe, then the same from the same entry on the other engines."""
    yield recipe
    for entry in recipe.entries:
        for name in engines():
            if recipe.make and name != recipe.engine:
                form = recipe.make(entry, name)
                if form.name == recipe.name:
                    yield form


def shared_sampling(recipe: Recipe) -> Sampling | None:
    """How the recipe's benchmarks sample, where all do alike."""
    found = {without_limits(benchmark.sampling) for benchmark in recipe.benchmarks}
    return found.pop() if len(found) == 1 else None


def not_made(recipe: Recipe, row: str, store: RunStore) -> StageError:
    """The error for a row that is not trained yet, or was with other settings."""
    name, _, entry = recipe.name.partition("-from-")
    command = f"harness reproduce {name}{f' --from {entry}' if entry else ''}"
    stage = next((label for label, each in recipe.stages.items() if each == rows_of(recipe)[row].model), None)
    command += f" --until {stage}" if stage else ""
    where = "" if store.root == Path("runs") else f" --runs {store.root}"
    made = next(
        (link for link in (store.root / recipe.name).glob(f"[0-9][0-9]-{row}") if link.exists()), None
    )
    if made is None:
        return StageError(f"{recipe.name}/{row} is not made yet in {store.root}", f"Run: {command}{where}")
    return StageError(
        f"{recipe.name}/{row} is made with other settings than this version's",
        f"To serve that one, give its folder: {made / 'model'}. To make the present one: {command}{where}",
    )


def row_of_run(run: str, row: str, known: Known) -> Model:
    """A row of a run that `harness evaluate` made; it is asked as it was evaluated."""
    found = [one for one in evaluations(known.store, run, known.benchmarks) if one.row == row]
    if not found:
        rows = {one.row for one in evaluations(known.store, run, known.benchmarks)}
        raise UsageError(f"{run} has no row {row!r}. {suggestion(row, rows)}")
    asked = found[0].mark.asked
    folder = known.store.path(asked.model) / "model"
    if not any(folder.glob("*.safetensors")):
        raise UsageError(
            f"{run}/{row} was served by somebody else when it was evaluated", "Give a checkpoint's folder."
        )
    known.build(asked.model)
    trained = not asked.model.key.startswith("checkpoint-")
    sampled = {without_limits(one.mark.asked.sampling or one.mark.asked.benchmark.sampling) for one in found}
    return Model(
        folder=folder,
        name=f"{run}/{row}",
        system=asked.system,
        sampling=sampled.pop() if trained and len(sampled) == 1 else None,
        trained=trained,
    )
