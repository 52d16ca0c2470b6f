"""`harness data`: pins, presence, columns."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli import completing
from harness.cli.document import print_document
from harness.cli.found import find_recipe
from harness.cli.group import Suggesting
from harness.cli.options import Place, json_option, place_options

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.machine import Machine
    from pipeline.needs import Need


@click.group(cls=Suggesting)
def data() -> None:
    """Data sets, checkpoints and benchmarks from outside: pins, presence, columns."""


@data.command()
@click.argument("recipe", shell_complete=completing.recipe)
@json_option
@place_options
def pin(recipe: str, as_document: bool, runs: Path, data: Path | None, machine: Path | None) -> None:
    """Resolve what RECIPE leaves unpinned to commits, and write them into harness.lock."""
    from pipeline.needs import pinned

    look_at_needs(recipe, Place(runs, data, machine).machine(), pinned, as_document)


@data.command()
@click.argument("recipe", shell_complete=completing.recipe)
@json_option
@place_options
def verify(recipe: str, as_document: bool, runs: Path, data: Path | None, machine: Path | None) -> None:
    """Say of each thing that RECIPE needs whether it is here and has the columns that are asked for."""
    from pipeline.needs import verified

    look_at_needs(recipe, Place(runs, data, machine).machine(), verified, as_document)


@data.command()
@place_options
def columns(runs: Path, data: Path | None, machine: Path | None) -> None:
    """The columns that each known data set is read by, with the renamings of machine.toml."""
    from pipeline.needs import column_lines

    for line in column_lines(Place(runs, data, machine).machine()):
        click.echo(line)


def look_at_needs(
    recipe: str, machine: "Machine", look: "Callable[[Need, Machine], str]", as_document: bool
) -> None:
    """Prints what `look` says of each need of the recipe. Exits with 1 where it finds fault with one."""
    from pipeline.needs import looked_at

    found = []
    for one in looked_at(find_recipe(recipe, None).labels().values(), machine, look):
        found.append(one)
        if not as_document:
            click.echo(f"{'ok    ' if one.fine else 'not ok'} {one.line}")
    if as_document:
        print_document(found)
    if not all(one.fine for one in found):
        sys.exit(1)
