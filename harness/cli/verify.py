"""`harness verify`."""

import sys
from pathlib import Path

import click

from harness.cli import completing
from harness.cli.document import aside, print_document
from harness.cli.options import Place, json_option, place_options


@click.command()
@click.argument("run", required=False, shell_complete=completing.run)
@click.option("--mend", "mending", is_flag=True, help="Put damaged rows and files aside; nothing is removed.")
@json_option
@place_options
def verify(
    run: str | None,
    mending: bool,
    as_document: bool,
    runs: Path,
    data: Path | None,
    machine: Path | None,
) -> None:
    """Compare what RUN is made of, or everything in the runs folder, with what was written.

    Exit code 1 where something is damaged and was not put aside. After --mend, the same commands as before
    make what is missing. What cannot be read is left as it is.
    """
    from harness.mend import mend
    from harness.progress import open_progress
    from harness.verify import damages, stages_of

    store = Place(runs, data, machine).store()
    keys = stages_of(store, run)
    with aside(as_document):
        progress = open_progress()
        found = []
        with progress.counter("stages compared", len(keys)) as counter:
            for key in keys:
                own = list(damages(store.stages / key))
                found += own
                counter.advance(failures=len(own))
        for one in found:
            click.echo(one.what)
        done = list(mend(store, found, progress.say)) if mending else []
        for line in done:
            click.echo(line)
        click.echo(concluded(len(keys), len(found), mending))
    if as_document:
        print_document({"stages": keys, "damages": found, "mended": done})
    if found and not (mending and all(one.read for one in found)):
        sys.exit(1)


def concluded(stages: int, found: int, mending: bool) -> str:
    if not found:
        return f"{stages} stages: nothing is damaged"
    if mending:
        return "Run the same commands as before: they make what is missing."
    return f"{stages} stages: {found} files are damaged. `harness verify --mend` puts them aside."
