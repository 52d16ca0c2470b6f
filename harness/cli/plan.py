"""`harness plan`."""

from pathlib import Path

import click

from harness.cli import completing
from harness.cli.found import find_recipe
from harness.cli.options import Place, json_option, place_options, recipe_options


@click.command()
@click.argument("recipe", shell_complete=completing.recipe)
@json_option
@click.option("--assumptions", is_flag=True, help="List what is assumed, with its sources.")
@click.option(
    "--gpus",
    type=click.IntRange(min=1),
    metavar="N",
    help="When it would be finished if this machine had N GPUs. [default: what it has]",
)
@recipe_options
@place_options
def plan(
    recipe: str,
    as_document: bool,
    assumptions: bool,
    gpus: int | None,
    entry: str | None,
    engine: str | None,
    runs: Path,
    data: Path | None,
    machine: Path | None,
) -> None:
    """What of RECIPE is done, what the rest costs, and what this machine lacks for it.

    Requests, tokens, GPU-hours, disk and money of each stage before it runs, and when all of it will be
    finished. Starts nothing and asks no network.
    """
    from harness.hardware import hardware
    from harness.plan import make_plan
    from harness.throughput import read_rates
    from pipeline.lacks import Lacks
    from reports.plan import as_json, print_plan

    place = Place(runs, data, machine)
    found, here, store = find_recipe(recipe, engine, entry), place.machine(), place.store()
    devices = hardware(here)
    rates = read_rates(store.root, devices.device)
    made = make_plan(store, found, here, devices, rates, Lacks(here, devices), gpus)
    if as_document:
        click.echo(as_json(made))
    else:
        print_plan(made, assumptions=assumptions)
