"""Running stages for a command, and showing what came of it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from harness.cli.options import Place
from harness.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.recipe import Recipe
    from harness.stage import Stage
    from harness.store import Context, RunStore
    from reports.sensitivity import Varied


@contextmanager
def running(place: Place) -> "Iterator[tuple[RunStore, Context]]":
    """A store and a context; whatever they started is stopped on every way out."""
    from harness.progress import open_progress
    from harness.serve import ServerPool
    from harness.store import Context

    machine, store, progress = place.machine(), place.store(), open_progress()
    with ServerPool(machine, progress.say) as pool:
        context = Context(store, machine, progress, pool)
        try:
            yield store, context
        finally:
            context.close()


def build(store: "RunStore", context: "Context", name: str, labels: dict[str, Any]) -> None:
    from harness.store import Runner

    Runner(store, context).build(name, labels)


def resolve(store: "RunStore", context: "Context", recipe: "Recipe", labels: "Mapping[str, Stage]") -> None:
    """Builds the stages, then draws one model's evaluations after the other's until they are decided."""
    from harness.adaptive import draw_until_resolved, keep_rounds, registration
    from harness.evaluate import Mark
    from harness.store import Runner
    from reports.assemble import claims_by_label

    claims = claims_by_label(recipe)
    if recipe.limit or not claims:
        raise UsageError(
            "--until-resolved has nothing to decide: "
            + ("--limit is not a score" if recipe.limit else f"nothing is claimed about {recipe.name}"),
            "Leave it out; or, with `harness evaluate`, name what is published: --claims dasd-4b/released.",
        )
    marks = {label: stage for label, stage in labels.items() if isinstance(stage, Mark)}
    keep_rounds(store, recipe.name, registration(marks, claims))
    runner = Runner(store, context)
    runner.build(recipe.name, {label: stage for label, stage in labels.items() if label not in marks})
    for model in dict.fromkeys(mark.asked.model.key for mark in marks.values()):
        own = {label: mark for label, mark in marks.items() if mark.asked.model.key == model}
        draw_until_resolved(runner, recipe.name, own, claims, context.progress.say)


def show_report(
    store: "RunStore", recipe: "Recipe", labels: "Mapping[str, Stage]", varied: "Sequence[Varied]" = ()
) -> "dict[str, Any]":
    """Writes the report's three files, prints the table, and returns the content of report.json."""
    from harness.runs import write_recipe
    from harness.store import writable
    from reports.assemble import assemble
    from reports.page import as_json, write_report
    from reports.terminal import print_report

    assembled = assemble(store, recipe, labels, varied)
    home = store.root / recipe.name
    with writable(store.root):
        write_recipe(store, recipe)
        write_report(home, assembled)
    print_report(assembled)
    click.echo(f"report: {home / 'report.html'}")
    return as_json(assembled)
