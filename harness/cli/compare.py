"""`harness compare`."""

from pathlib import Path

import click

from harness.cli import completing
from harness.cli.document import print_document
from harness.cli.found import evaluated
from harness.cli.options import Place, json_option, place_options


@click.command()
@click.argument("a", metavar="RUN[/ROW]", shell_complete=completing.run_or_row)
@click.argument("b", metavar="OTHER[/ROW]", shell_complete=completing.run_or_row)
@click.option("--all", "everything", is_flag=True, help="List every flip.")
@json_option
@place_options
def compare(
    a: str,
    b: str,
    everything: bool,
    as_document: bool,
    runs: Path,
    data: Path | None,
    machine: Path | None,
) -> None:
    """Compare two runs, or two rows of one, question by question, and list the flips."""
    from reports.comparison import as_json, compare_runs, print_comparison

    store = Place(runs, data, machine).store()
    first, second = (evaluated(store, text) for text in (a, b))
    found = compare_runs(store, first, second)
    if as_document:
        print_document(as_json(found))
    else:
        print_comparison(found, (a, b), everything)
