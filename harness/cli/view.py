"""`harness view`."""

import gc
import json
import os
from pathlib import Path

import click

from harness.cli import completing
from harness.cli.found import benchmarks
from harness.cli.options import Place, place_options


@click.command()
@click.argument("run", metavar="RUN[/ROW]", shell_complete=completing.run_or_row)
@click.argument("other", metavar="[OTHER[/ROW]]", required=False, shell_complete=completing.run_or_row)
@click.option("--host", default="127.0.0.1", show_default=True, help="0.0.0.0 lets other computers in.")
@click.option("--port", type=click.IntRange(0, 65535), default=8020, show_default=True, help="0: a free one.")
@click.option("--open/--no-open", "opened", default=False, help="Open the page in a browser.")
@click.option("--json", "as_line", is_flag=True, help="Once ready, one line of JSON for a program.")
@place_options
def view(
    run: str,
    other: str | None,
    host: str,
    port: int,
    opened: bool,
    as_line: bool,
    runs: Path,
    data: Path | None,
    machine: Path | None,
) -> None:
    """Look at the stored samples of RUN in a browser, until Ctrl-C.

    With OTHER, each sample stands beside that of another run, and can be chosen by how its verdict changed.
    A run that is still under way shows what is there. Nothing is written, and nothing is downloaded.
    """
    os.environ["HF_HUB_OFFLINE"] = "1"  # read by huggingface_hub when it is imported
    gc.disable()  # all that is made until the first page stays: looking through it took a third of that time
    from reports.view.server import Offer
    from reports.view.server import view as answer

    place = Place(runs, data, machine)

    def ready(url: str) -> None:
        gc.freeze()
        gc.enable()
        click.echo(json.dumps({"url": url}) if as_line else f"{run} is shown at {url} (Ctrl-C ends it)")
        if opened:
            click.launch(url)

    answer(
        Offer(
            store=place.store(),
            run=run,
            other=other,
            benchmarks=benchmarks,
            data=place.machine().data,
            host=host,
            port=port,
        ),
        ready,
    )
    click.echo("stopped", err=True)
