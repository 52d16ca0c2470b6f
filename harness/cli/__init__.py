"""The command line: the only package that sees harness, benchmarks, pipeline and reports.

One module a command. Heavy imports happen inside the commands, so that `harness --help` answers at once.
Exit codes are in `ending.py`.
"""

import errno
import sys
from pathlib import Path
from typing import NoReturn

import click

from harness.cli.ending import EXIT_CODES, end_on_sigterm, leave, told_to_end
from harness.cli.group import Lazy
from harness.errors import HarnessError, UsageError
from harness.secrets import keep_crashes_quiet

COMMANDS = {
    "list": "harness.cli.listing:list_",
    "doctor": "harness.cli.doctor:doctor",
    "setup": "harness.cli.setup:setup",
    "plan": "harness.cli.plan:plan",
    "calibrate": "harness.cli.calibrate:calibrate",
    "data": "harness.cli.data:data",
    "reproduce": "harness.cli.reproduce:reproduce",
    "evaluate": "harness.cli.evaluate:evaluate",
    "preflight": "harness.cli.preflight:preflight",
    "serve": "harness.cli.serve:serve",
    "report": "harness.cli.report:report",
    "verify": "harness.cli.verify:verify",
    "regrade": "harness.cli.regrade:regrade",
    "compare": "harness.cli.compare:compare",
    "crosscheck": "harness.cli.crosscheck:crosscheck",
    "sentences": "harness.cli.sentences:sentences",
    "nightly": "harness.cli.nightly:nightly",
    "publish": "harness.cli.publish:publish",
    "convert": "harness.cli.convert:convert",
    "view": "harness.cli.view:view",
    "export": "harness.cli.export:export",
    "completion": "harness.cli.completion:completion",
}
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


@click.group(
    cls=Lazy,
    places=COMMANDS,
    epilog=EXIT_CODES,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(package_name="dasd-harness")
def cli() -> None:
    """Reproduce the DASD distillation report, from questions to a verdict on every number."""


def main() -> None:
    """Entry point: errors as one line and a remedy, never a traceback for what a user can mend."""
    end_on_sigterm()
    keep_crashes_quiet()
    try:
        cli.main(standalone_mode=False)
    except (click.exceptions.Abort, KeyboardInterrupt):
        end_interrupted()
    except click.ClickException as error:
        error.show()
        sys.exit(UsageError.exit_code)
    except HarnessError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
    except OSError as error:
        if told_to_end():
            end_interrupted()
        if error.errno not in NO_ROOM:
            raise
        from harness.store import unwritten

        click.echo(f"error: {unwritten(error, Path.cwd())}", err=True)
        sys.exit(HarnessError.exit_code)
    except Exception:
        if told_to_end():
            end_interrupted()
        raise


def end_interrupted() -> NoReturn:
    click.echo("interrupted: run the same command again to continue", err=True)
    leave(130)
