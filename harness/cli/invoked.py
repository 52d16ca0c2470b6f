"""The command that is running, as a report tells it."""

from collections.abc import Iterator
from typing import Any

import click
from click.core import ParameterSource

LEFT_OUT = ("runs", "data", "machine", "as_document")
"""They say where things stand on this machine and how the end is told, and cannot change a number."""


def invoked() -> tuple[str, ...]:
    """The running command's words: what was given, without what only this machine knows."""
    from reports.discreet import without_servers

    context = click.get_current_context()
    given = [
        parameter
        for parameter in context.command.params
        if parameter.name not in LEFT_OUT
        and context.get_parameter_source(str(parameter.name)) != ParameterSource.DEFAULT
    ]
    given.sort(key=lambda parameter: isinstance(parameter, click.Option))
    words = [word for parameter in given for word in words_of(parameter, context.params[str(parameter.name)])]
    return ("harness", str(context.info_name), *without_servers(words))


def words_of(parameter: click.Parameter, value: Any) -> Iterator[str]:
    """A parameter as it is written: an argument alone, an option behind its longest name."""
    from reports.discreet import discreet

    for one in value if isinstance(value, list | tuple) else (value,):
        if isinstance(parameter, click.Option):
            yield max(parameter.opts, key=len)
        if not (isinstance(parameter, click.Option) and parameter.is_flag):
            yield discreet(str(one))
