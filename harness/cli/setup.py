"""`harness setup`."""

from pathlib import Path

import click

from harness.cli import completing
from harness.cli.options import Place, place_options
from harness.errors import UsageError


@click.command()
@click.argument("name", shell_complete=completing.environment)
@click.option(
    "--locked",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Install exactly the files that this locked.txt of such an environment names by their hashes.",
)
@place_options
def setup(name: str, locked: Path | None, runs: Path, data: Path | None, machine: Path | None) -> None:
    """Build what NAME needs: the Python environment of an engine, or the image of the `sandbox`."""
    from harness.discover import suggestion
    from harness.sandboxes import open_sandbox
    from harness.setup import ENVIRONMENTS, set_up

    found = Place(runs, data, machine).machine()
    if name == "sandbox":
        if locked:
            raise UsageError("--locked is for the environments of engines", "Leave it out.")
        open_sandbox(found, click.echo).close()
    elif name in ENVIRONMENTS:
        set_up(name, found, click.echo, locked)
    else:
        raise UsageError(f"nothing to set up for {name!r}. {suggestion(name, [*ENVIRONMENTS, 'sandbox'])}")
