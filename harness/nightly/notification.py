"""Tells somebody: a command of the user's gets the night as JSON on its standard input.

    HARNESS_OUTCOME   pass, regression or inconclusive
    HARNESS_NIGHT     the night's name
    HARNESS_PAGE      the trend page

No shell runs it and nothing is added to its arguments, which other users of a machine can read. What
becomes of it is said and never changes the night's outcome.
"""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from harness.nightly.config import Notify


def notify(told: Notify, content: bytes, environment: dict[str, str], folder: Path) -> str:
    """Runs the command in `folder`. Returns what went wrong, or nothing.

    Its output goes to standard error: standard output may be somebody's JSON.
    """
    name = told.command[0]
    try:
        process = subprocess.Popen(
            told.command,
            cwd=folder,
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,
            stdout=sys.stderr.fileno(),
            start_new_session=True,
        )
    except OSError as error:
        return f"notification: {name} cannot be run: {error.strerror}"
    try:
        process.communicate(content, timeout=told.timeout)
    except BaseException as error:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if not isinstance(error, subprocess.TimeoutExpired):
            raise
        return f"notification: {name} had not ended after {told.timeout:g} s and was stopped"
    return "" if process.returncode == 0 else f"notification: {name} exited with {process.returncode}"
