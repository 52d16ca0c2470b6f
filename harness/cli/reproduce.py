"""`harness reproduce`."""

from dataclasses import replace
from pathlib import Path

import click

from harness.cli import completing
from harness.cli.document import aside, print_document
from harness.cli.found import find_recipe
from harness.cli.invoked import invoked
from harness.cli.options import (
    Place,
    json_option,
    place_options,
    recipe_options,
    trust_option,
    until_resolved_option,
)
from harness.cli.running import build, resolve, running, show_report


@click.command()
@click.argument("recipe", shell_complete=completing.recipe)
@click.option(
    "--until",
    shell_complete=completing.stage,
    help="Stop after this stage (a label that `harness plan` shows).",
)
@until_resolved_option
@trust_option
@json_option
@recipe_options
@place_options
def reproduce(
    recipe: str,
    until: str | None,
    until_resolved: bool,
    trusts_code: bool,
    as_document: bool,
    entry: str | None,
    engine: str | None,
    runs: Path,
    data: Path | None,
    machine: Path | None,
) -> None:
    """Run RECIPE to its report. Running it again continues or shows what is done."""
    place = Place(runs, data, machine, trusts_code=trusts_code)
    found = replace(find_recipe(recipe, engine, entry), commands=(invoked(),))
    labels = found.labels(until)
    with aside(as_document), running(place) as (store, context):
        if until_resolved:
            resolve(store, context, found, labels)
        else:
            build(store, context, found.name, labels)
        folders = {"stages": {label: str(store.path(stage)) for label, stage in labels.items()}}
        told = show_report(store, found, labels) if until is None else folders
    if as_document:
        print_document(told)
