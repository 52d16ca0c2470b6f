"""`harness calibrate`."""

from pathlib import Path

import click

from harness.cli import completing
from harness.cli.document import aside, print_document
from harness.cli.found import find_recipe
from harness.cli.options import Place, json_option, place_options, recipe_options


@click.command()
@click.argument("recipe", shell_complete=completing.recipe)
@click.option(
    "--seconds", type=click.FloatRange(min=1), default=60.0, show_default=True, help="Of each kind of work."
)
@click.option("--download", is_flag=True, help="Fetch models that are not on this machine.")
@json_option
@recipe_options
@place_options
def calibrate(
    recipe: str,
    seconds: float,
    download: bool,
    as_document: bool,
    entry: str | None,
    engine: str | None,
    runs: Path,
    data: Path | None,
    machine: Path | None,
) -> None:
    """Measure how fast this machine does each kind of work of RECIPE, for `harness plan`.

    Runs each for a short time and keeps the speeds in throughput.json of the runs folder.
    """
    from harness.hardware import hardware
    from harness.throughput import FILE, keep_rates
    from pipeline.calibrate import Calibration

    place = Place(runs, data, machine)
    found, here, store = find_recipe(recipe, engine, entry), place.machine(), place.store()
    devices = hardware(here)
    rates = []
    with aside(as_document):
        for rate in Calibration(store, found, here, devices, seconds, download, click.echo).rates():
            keep_rates(store.root, [rate])
            rates.append(rate)
        click.echo(f"speeds: {store.root / FILE}")
    if as_document:
        print_document(rates)
