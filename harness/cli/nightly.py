"""`harness nightly`."""

import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli.document import aside, print_document
from harness.cli.options import json_option, place_options
from harness.errors import HarnessError, UsageError

if TYPE_CHECKING:
    from harness.cli.nights import Work
    from harness.nightly.gate import Outcome
    from harness.nightly.history import History
    from harness.nightly.night import Over

INCONCLUSIVE = 2


@click.command()
@click.argument("config", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--night", "wanted", metavar="LABEL", help="Which night. [default: today's date, UTC]")
@click.option("--again", is_flag=True, help="Another night of today: asks everything once more.")
@click.option("--show", is_flag=True, help="Print the history; run nothing.")
@click.option("--dry-run", "trying", is_flag=True, help="Say what would be asked and removed; run nothing.")
@click.option("--accept", "accepting", is_flag=True, help="Take the last night's level for the new one.")
@click.option(
    "--line",
    "lines",
    multiple=True,
    metavar="CHECKPOINT/BENCHMARK",
    help="With --accept: of this one. [default: of those that regressed]",
)
@json_option
@place_options
def nightly(
    config: Path,
    wanted: str | None,
    again: bool,
    show: bool,
    trying: bool,
    accepting: bool,
    lines: tuple[str, ...],
    as_document: bool,
    runs: Path,
    data: Path | None,
    machine: Path | None,
) -> None:
    """Ask what CONFIG names anew, and compare it with the nights before.

    Exits with 0 (pass), 1 (regression) or 2 (inconclusive: too little history, or something broke on the
    way). The gate is our own history; published values are shown beside it.
    """
    code = 0
    with never_a_regression():
        from harness.cli.nights import Work, dry_run
        from harness.nightly.config import load_nightly
        from harness.nightly.gate import EXIT_CODES
        from harness.nightly.history import History
        from harness.nightly.night import accept
        from reports.nightly import print_history

        if sum((show, trying, accepting)) > 1 or (lines and not accepting) or (wanted and again):
            raise UsageError(
                "these options do not go together",
                "One of --show, --dry-run and --accept; --line with --accept; --night or --again.",
            )
        if as_document and (trying or accepting):
            raise UsageError(
                "--json prints a night or, with --show, the history",
                "Leave it out with --dry-run and --accept.",
            )
        work = Work(config=load_nightly(config), file=config, runs=runs, data=data, machine=machine)
        with closing(History(work.history)) as history:
            if show and as_document:
                print_document(history.nights(work.config.name))
            elif show:
                print_history(history.nights(work.config.name))
            elif trying:
                print(*dry_run(work, history, wanted, again), sep="\n")
            elif accepting:
                print(*accept(history, work.config.name, lines), sep="\n")
            else:
                code = EXIT_CODES[asked(work, history, wanted, again, as_document)]
    sys.exit(code)


@contextmanager
def never_a_regression() -> Iterator[None]:
    """Whatever breaks makes the night inconclusive: exit code 1 is kept for scores that fell.

    Imports are inside as well: a half-installed harness is no regression either. Nor is a pipe that somebody
    closed, for which rich, and click, exit with 1.
    """
    try:
        yield
    except (click.ClickException, click.Abort):
        raise
    except HarnessError as error:
        if error.exit_code != HarnessError.exit_code:
            raise
        click.echo(f"error: {error}", err=True)
        sys.exit(INCONCLUSIVE)
    except SystemExit as ended:
        sys.exit(INCONCLUSIVE if ended.code == 1 else ended.code)
    except Exception as error:  # noqa: BLE001  Python's own exit code for it would be 1
        traceback.print_exc()
        click.echo(f"error: the harness itself failed: {error}\nNothing of this night counts.", err=True)
        sys.exit(INCONCLUSIVE)


def asked(work: "Work", history: "History", wanted: str | None, again: bool, as_document: bool) -> "Outcome":
    """Runs the night and prints what came of it. The hook is told where it came to no end, too."""
    from harness.batch import BatchPending
    from harness.cli.nights import one_night, tell
    from harness.interruption import held_back

    with held_back():  # what the gate imports when it judges
        import scipy.fft
        import scipy.special  # noqa: F401

    try:
        with aside(as_document):
            over, told = one_night(work, history, wanted, again)
    except (UsageError, BatchPending):
        raise
    except Exception as error:
        failed = {"name": work.config.name, "outcome": "inconclusive", "error": str(error)}
        for line in tell(work, "inconclusive", wanted or "", failed):
            click.echo(line, err=True)
        raise
    try:
        printed(work, over, told, as_document)
    except (OSError, SystemExit) as error:
        unprinted(error)
    return over.outcome


def printed(work: "Work", over: "Over", told: list[str], as_document: bool) -> None:
    """Prints a night, and what there is to say of what followed it."""
    from reports.nightly import as_told, print_night

    if as_document:
        print_document(as_told(over, str(work.page.resolve())))
    else:
        print_night(over)
    for line in told:
        click.echo(line, err=as_document)
    sys.stdout.flush()


def unprinted(error: OSError | SystemExit) -> None:
    """A closed pipe or a full disk changes no outcome: what is left to print goes nowhere, so that Python's
    last flush does not fail as well and end with an exit code of its own."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    with suppress(OSError):
        click.echo(f"the night is recorded and could not be printed: {error}", err=True)
