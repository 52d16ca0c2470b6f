"""`harness reproduce`."""

from pathlib import Path

import click

from harness.cli import completing
from harness.cli.found import find_recipe
from harness.cli.options import Place, place_options, recipe_options, until_resolved_option
from harness.cli.running import build, resolve, running, show_report


@click.command()
@click.argument("recipe", shell_complete=completing.recipe)
@click.option(
    "--until",
    shell_complete=completing.stage,
    help="Stop after this stage (a label that `harness plan` shows).",
)
@until_resolved_option
@recipe_options
@place_options
def reproduce(
    recipe: str,
    until: str | None,
    until_resolved: bool,
    entry: str | None,
    engine: str | None,
    runs: Path,
    data: Path | None,
    machine: Path | None,
) -> None:
    """Run RECIPE to its report. Running it again continues or shows what is done."""
    place = Place(runs, data, machine)
    found = find_recipe(recipe, engine, entry)
    labels = found.labels(until)
    with running(place) as (store, context):
        if until_resolved:
            resolve(store, context, found, labels)
        else:
            build(store, context, found.name, labels)
        if until is None:
            show_report(store, found, labels)
