"""`harness crosscheck`."""

from pathlib import Path

import click

from harness.cli import completing
from harness.cli.found import evaluated
from harness.cli.options import Place, place_options
from harness.cli.running import build, running

SHOWN = 20


@click.command()
@click.argument("run", metavar="RUN[/ROW]", shell_complete=completing.run_or_row)
@click.option("--all", "everything", is_flag=True, help="List every disagreement.")
@place_options
def crosscheck(run: str, everything: bool, runs: Path, data: Path | None, machine: Path | None) -> None:
    """Judge the stored answers of RUN by lighteval's own metrics too, and list where the two disagree.

    Needs `harness setup lighteval`. Programs run under bubblewrap, one process each. Running it again
    continues.
    """
    from harness.crosscheck import ROWS, Compared, Crosscheck, listed, summary
    from harness.rows import read_rows

    place, name = Place(runs, data, machine), run.partition("/")[0]
    store = place.store()
    found = evaluated(store, run)
    checks = {f"crosscheck/{one.row}/{one.benchmark}": Crosscheck(marked=one.mark) for one in found}
    with running(place) as (_, context):
        build(store, context, name, dict(checks))
    for label, check in checks.items():
        file = store.path(check) / ROWS
        rows = list(read_rows(file, Compared))
        lines = list(listed(rows))
        shown = lines if everything else lines[:SHOWN]
        click.echo("\n".join([label.partition("/")[2], *summary(rows), *shown]))
        if len(shown) < len(lines):
            click.echo(f"  … {len(lines) - SHOWN} more: --all, or {store.root / name / label / ROWS}")
