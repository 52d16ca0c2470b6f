"""Groups of commands: an unknown one is answered with the nearest, and a command's module is imported
when it is asked for."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import click


class Suggesting(click.Group):
    """A group that answers an unknown command with the nearest one."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        from harness.discover import suggestion

        if args and self.get_command(ctx, args[0]) is None and not args[0].startswith("-"):
            raise click.UsageError(
                f"unknown command {args[0]!r}. {suggestion(args[0], self.list_commands(ctx))}"
            )
        return super().resolve_command(ctx, args)


class Lazy(Suggesting):
    """A group whose commands are `module:name` until they are asked for.

    `harness list` need not import what `harness serve` is made of.
    """

    def __init__(self, *args: Any, places: Mapping[str, str], **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.places = places

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.places)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.places:
            return None
        module, _, name = self.places[cmd_name].partition(":")
        found = getattr(import_module(module), name)
        assert isinstance(found, click.Command)
        return found
