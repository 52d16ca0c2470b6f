"""`harness crosscheck`."""

from pathlib import Path

import click

from harness.cli import completing
from harness.cli.document import aside, print_document
from harness.cli.found import evaluated
from harness.cli.options import Place, json_option, place_options
from harness.cli.running import build, running

SHOWN = 20


@click.command()
@click.argument("run", metavar="RUN[/ROW]", shell_complete=completing.run_or_row)
@click.option("--all", "everything", is_flag=True, help="List every disagreement.")
@json_option
@place_options
def crosscheck(
    run: str,
    everything: bool,
    as_document: bool,
    runs: Path,
    data: Path | None,
    machine: Path | None,
) -> None:
    """Judge the stored answers of RUN by lighteval's own metrics too, and list where the two disagree.

    Needs `harness setup lighteval`. Programs run under bubblewrap, one process each. Running it again
    continues.
    """
    from harness.crosscheck import ROWS, Compared, Crosscheck, counted, listed, summary
    from harness.rows import read_rows

    place, name = Place(runs, data, machine), run.partition("/")[0]
    store = place.store()
    found = evaluated(store, run)
    checks = {f"crosscheck/{one.row}/{one.benchmark}": Crosscheck(marked=one.mark) for one in found}
    with aside(as_document), running(place) as (_, context):
        build(store, context, name, dict(checks))
    found_rows = {
        label: list(read_rows(store.path(check) / ROWS, Compared)) for label, check in checks.items()
    }
    if as_document:
        print_document({label.partition("/")[2]: counted(rows) for label, rows in found_rows.items()})
        return
    for label, rows in found_rows.items():
        lines = list(listed(rows))
        shown = lines if everything else lines[:SHOWN]
        click.echo("\n".join([label.partition("/")[2], *summary(rows), *shown]))
        if len(shown) < len(lines):
            click.echo(f"  … {len(lines) - SHOWN} more: --all, or {store.root / name / label / ROWS}")
