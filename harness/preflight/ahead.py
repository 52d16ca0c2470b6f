"""The preflights of an evaluation without the evaluation: `harness preflight`."""

from collections.abc import Iterator

from harness.preflight import look_through, plain_wanted, wanted_by
from harness.preflight.report import Report
from harness.recipe import Recipe
from harness.stage import Service
from harness.store import Context, RunStore
from harness.types import Sampling


def preflights(
    recipe: Recipe, store: RunStore, context: Context, sampling: Sampling, seeds: bool
) -> Iterator[tuple[str, Report]]:
    """A report for each benchmark of a recipe of one row, by the benchmark's name; without any, one for
    `sampling` and a short conversation. `seeds` says whether they are required.

    Raises HarnessError where the server or a data set cannot be had.
    """
    (row,) = recipe.models.values()
    store.build(row.model, context)
    if not recipe.benchmarks:
        service = Service(model=row.model, engine=recipe.engine, sampling=sampling)
        wanted = plain_wanted(sampling, row.system, seeds)
        yield "a short conversation", context.preflights.of(context.endpoint(service), wanted)
    for mark in recipe.marks().values():
        asked = mark.asked
        seen, _ = look_through(asked.requests(asked.questions(context)))
        wanted = wanted_by(seen, asked.drawn, seeds)
        yield asked.benchmark.name, context.preflights.of(context.endpoint(asked.service()), wanted)
