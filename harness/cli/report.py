"""`harness report`."""

from pathlib import Path

import click

from harness.cli import completing
from harness.cli.document import aside, print_document
from harness.cli.found import find_run
from harness.cli.options import Place, json_option, place_options
from harness.cli.running import running, show_report


@click.command()
@click.argument("run", shell_complete=completing.run)
@click.option("--engine", shell_complete=completing.engine, help="Engine instead of that of the run.")
@click.option("--sensitivity", is_flag=True, help="Try every other reading that stored answers allow.")
@json_option
@place_options
def report(
    run: str,
    engine: str | None,
    sensitivity: bool,
    as_document: bool,
    runs: Path,
    data: Path | None,
    machine: Path | None,
) -> None:
    """Write the report of RUN (a recipe, or the name of a run) again from what is measured so far."""
    from reports.sensitivity import sensitivity as vary

    place = Place(runs, data, machine)
    store = place.store()
    found, labels = find_run(store, run, engine)
    with aside(as_document):
        if sensitivity:
            with running(place) as (store, context):
                told = show_report(store, found, labels, list(vary(store, labels, context)))
        else:
            told = show_report(store, found, labels)
    if as_document:
        print_document(told)
