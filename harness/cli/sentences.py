"""`harness sentences`."""

from pathlib import Path

import click

from harness.cli import completing
from harness.cli.options import Place, place_options


@click.command()
@click.argument("selection", metavar="RUN/LABEL", shell_complete=completing.selection)
@click.argument("question", metavar="[QUESTION[:DRAW]]", default="")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="A .html or a .svg file.")
@place_options
def sentences(
    selection: str, question: str, out: Path | None, runs: Path, data: Path | None, machine: Path | None
) -> None:
    """Show what teacher and student thought of each sentence of a response that a selection saw.

    harness sentences dasd-micro/selected-low sum-17*4+55:2

    Without QUESTION: the kept response with the largest share of Teacher Sentences.
    """
    from pipeline.sentences import find_selection, tell
    from reports.plots import identifier
    from reports.sentences import Explained, print_sentences, write_sentences

    store = Place(runs, data, machine).store()
    found = find_selection(store, selection)
    told = tell(found, question)
    title = f"{found.label}, {told.candidate.question}:{told.candidate.draw}"
    shown = Explained(
        title=title,
        prompt=told.prompt,
        facts=told.facts,
        margin=found.margin,
        sentences=told.sentences,
    )
    print_sentences(shown)
    page = out or store.root / selection.partition("/")[0] / "sentences" / f"{identifier(title)}.html"
    write_sentences(page, shown)
    click.echo(f"sentences: {page}")
