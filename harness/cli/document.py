"""--json: one JSON document on standard output, and everything else on standard error."""

import sys
from contextlib import AbstractContextManager, nullcontext, redirect_stdout

import click


def aside(as_document: bool) -> AbstractContextManager[object]:
    """Where a document is wanted, what is printed meanwhile goes to standard error."""
    return redirect_stdout(sys.stderr) if as_document else nullcontext()


def print_document(value: object) -> None:
    """One JSON document, indented; dataclasses become objects, what is no number becomes null."""
    click.echo(document(value))


def document(value: object) -> str:
    """What `print_document` prints, for other readers."""
    import msgspec

    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
