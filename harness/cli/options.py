"""Options that many commands take, and what they mean: where a command works."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli import completing
from harness.errors import UsageError

if TYPE_CHECKING:
    from harness.machine import Machine
    from harness.store import RunStore


class Place:
    """Where a command works: runs folder, data folder, machine."""

    def __init__(
        self,
        runs: Path,
        data: Path | None,
        machine: Path | None,
        base_url: str | None = None,
        *,
        trusts_code: bool = False,
    ) -> None:
        self.runs = runs
        self._data = data
        self._machine = machine
        self._base_url = base_url
        self._trusts_code = trusts_code

    def machine(self) -> "Machine":
        """The machine of `--machine`, with what other options say about it."""
        from dataclasses import replace

        from harness.machine import load_machine

        found = replace(load_machine(self._machine), trusts_code=self._trusts_code)
        if self._data:
            found = replace(found, data=self._data)
        if self._base_url:
            remote = replace(found.engine("remote"), base_url=self._base_url)
            found = replace(found, engines={**found.engines, "remote": remote})
        return found

    def store(self) -> "RunStore":
        from harness.store import RunStore

        return RunStore(self.runs)


def place_options(command: Any) -> Any:
    """--runs, --data and --machine, which every command takes."""
    for option in (
        click.option(
            "--machine",
            type=click.Path(path_type=Path, dir_okay=False),
            help="Machine settings [default: ./machine.toml if there].",
        ),
        click.option(
            "--data",
            type=click.Path(path_type=Path, file_okay=False),
            envvar="HARNESS_DATA",
            help="Folder of data sets, looked in before the Hub.",
        ),
        click.option(
            "--runs",
            type=click.Path(path_type=Path, file_okay=False),
            default=Path("runs"),
            show_default=True,
            help="Folder of results.",
        ),
    ):
        command = option(command)
    return command


def json_option(command: Any) -> Any:
    """--json, for what a program would want to read (`harness/cli/document.py`)."""
    return click.option(
        "--json",
        "as_document",
        is_flag=True,
        help="One JSON document on standard output; what else is said goes to standard error.",
    )(command)


def recipe_options(command: Any) -> Any:
    """--from and --engine, which choose among a recipe's forms."""
    command = click.option(
        "--engine", shell_complete=completing.engine, help="Engine instead of the recipe's."
    )(command)
    return click.option(
        "--from",
        "entry",
        metavar="ENTRY",
        shell_complete=completing.entry,
        help="Where to start: questions (everything), data (the released training set), "
        "checkpoint (evaluate the released model). [default: questions]",
    )(command)


def trust_option(command: Any) -> Any:
    """--trust-remote-code, which confirms what a recipe names (`harness/weights.py`)."""
    return click.option(
        "--trust-remote-code",
        "trusts_code",
        is_flag=True,
        help="Run the Python of checkpoints for which the recipe names it, with its commit. Read it first.",
    )(command)


def until_resolved_option(command: Any) -> Any:
    """--until-resolved, for what compares with published values."""
    return click.option(
        "--until-resolved",
        is_flag=True,
        help="Draw in rounds, and stop a benchmark as soon as each claim on it is decided.",
    )(command)


def pairs_of(settings: tuple[str, ...]) -> dict[str, str]:
    """`NAME=VALUE` texts as a table. Raises UsageError for a text without an equals sign."""
    for text in settings:
        if "=" not in text:
            raise UsageError(f"--set {text}: NAME=VALUE is expected")
    return {name: value for name, _, value in (text.partition("=") for text in settings)}
