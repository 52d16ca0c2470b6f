"""`harness data`: pins, presence, columns."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli import completing
from harness.cli.found import find_recipe
from harness.cli.group import Suggesting
from harness.cli.options import Place, place_options

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.machine import Machine
    from pipeline.needs import Need


@click.group(cls=Suggesting)
def data() -> None:
    """Data sets, checkpoints and benchmarks from outside: pins, presence, columns."""


@data.command()
@click.argument("recipe", shell_complete=completing.recipe)
@place_options
def pin(recipe: str, runs: Path, data: Path | None, machine: Path | None) -> None:
    """Resolve what RECIPE leaves unpinned to commits, and write them into harness.lock."""
    from pipeline.needs import pinned

    look_at_needs(recipe, Place(runs, data, machine).machine(), pinned)


@data.command()
@click.argument("recipe", shell_complete=completing.recipe)
@place_options
def verify(recipe: str, runs: Path, data: Path | None, machine: Path | None) -> None:
    """Say of each thing that RECIPE needs whether it is here and has the columns that are asked for."""
    from pipeline.needs import verified

    look_at_needs(recipe, Place(runs, data, machine).machine(), verified)


@data.command()
@place_options
def columns(runs: Path, data: Path | None, machine: Path | None) -> None:
    """The columns that each known data set is read by, with the renamings of machine.toml."""
    from pipeline.needs import column_lines

    for line in column_lines(Place(runs, data, machine).machine()):
        click.echo(line)


def look_at_needs(recipe: str, machine: "Machine", look: "Callable[[Need, Machine], str]") -> None:
    """Prints what `look` says of each need of the recipe. Exits with 1 where it finds fault with one."""
    from pipeline.needs import lines

    stages = find_recipe(recipe, None).labels().values()
    content = True
    for fine, line in lines(stages, machine, look):
        content &= fine
        click.echo(f"{'ok    ' if fine else 'not ok'} {line}")
    if not content:
        sys.exit(1)
