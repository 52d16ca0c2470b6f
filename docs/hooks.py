"""What the site's pages hold that stands elsewhere: the help of every command, the register of ambiguities.

A page says `<!-- commands -->` or `<!-- ambiguities -->` where it wants them.
"""

from collections.abc import Callable, Iterator
from typing import Any

import click

from harness.cli import cli
from reports.published import load_ambiguities

WIDTH = 96


def on_page_markdown(markdown: str, **_: Any) -> str:
    for mark, text in MARKS.items():
        if mark in markdown:
            markdown = markdown.replace(mark, text())
    return markdown


def commands() -> str:
    """A heading and the help of each command, in the order of `harness --help`."""
    return "\n\n".join(
        f"### {context.command_path}\n\n```text\n{context.get_help()}\n```" for context in every_command()
    )


def every_command() -> Iterator[click.Context]:
    context = click.Context(cli, info_name="harness", terminal_width=WIDTH, **cli.context_settings)
    waiting = [context]
    while waiting:
        context = waiting.pop(0)
        yield context
        if isinstance(context.command, click.Group):
            found = {name: context.command.get_command(context, name) for name in names_in(context)}
            waiting[:0] = [
                click.Context(command, parent=context, info_name=name)
                for name, command in found.items()
                if command is not None and not command.hidden
            ]


def names_in(context: click.Context) -> list[str]:
    assert isinstance(context.command, click.Group)
    return context.command.list_commands(context)


def ambiguities() -> str:
    """The register of the paper's recipe as a table."""
    rows = [
        f"| `{each.id}` | {cell(each.question)} | {cell(each.default)} "
        f"| {cell('; '.join(each.alternatives))} | {each.varied_on} |"
        for each in load_ambiguities("dasd_4b")
    ]
    head = "| id | question | here | other readings | varied on |\n|---|---|---|---|---|"
    return "\n".join([head, *rows])


def cell(text: str) -> str:
    """Text that is nothing but text in a cell of a table."""
    return text.replace("|", r"\|").replace("<", "&lt;")


MARKS: dict[str, Callable[[], str]] = {
    "<!-- commands -->": commands,
    "<!-- ambiguities -->": ambiguities,
}
