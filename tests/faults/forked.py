"""A command in a fork of this process, which has imported what it needs: a start of Python is spared.

Hundreds of strikes would otherwise spend nine tenths of their time on imports. The process that forks must
have no threads. A fork has a session and group of its own, no open files of ours, and none of what is
registered here for the exit.
"""

import atexit
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from tests.faults.struck import MARK, ROOT, Scene

POLL = 0.01
NOTHING_MORE: Mapping[str, str] = {}


class Fork:
    """As much of a subprocess.Popen as is needed."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None:
            found, status = os.waitpid(self.pid, os.WNOHANG)
            if found:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        until = None if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            if until is not None and time.monotonic() > until:
                raise subprocess.TimeoutExpired("a fork", timeout or 0.0)
            time.sleep(POLL)
        return code


def forked(
    scene: Scene, arguments: Sequence[str], log: Path, places: Mapping[str, str] = NOTHING_MORE
) -> Fork:
    """`harness ARGUMENTS…` in the scene, without a start of Python. `places` are commands of its own."""
    scene.scratch.mkdir(parents=True, exist_ok=True)
    process = os.fork()
    if not process:
        told = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        marked = {**scene.environment, MARK: str(scene.folder), "TMPDIR": str(scene.scratch)}
        become(marked, arguments, told, places)
    scene.processes.add(process)
    return Fork(process)


def become(
    environment: Mapping[str, str], arguments: Sequence[str], told: int, places: Mapping[str, str]
) -> NoReturn:
    """The fork: as if it had been started so, up to an exit by `sys.exit`."""
    code = 1
    try:
        atexit._clear()
        os.setsid()
        os.chdir(ROOT)
        os.environ.update(environment)
        tempfile.tempdir = None
        for descriptor, target in ((os.open(os.devnull, os.O_RDONLY), 0), (told, 1), (told, 2)):
            os.dup2(descriptor, target)
        os.closerange(3, 1024)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.argv = ["harness", *arguments]
        from harness.cli import COMMANDS, main

        COMMANDS.update(places)
        main()
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    except BaseException:  # noqa: BLE001  what Python itself does at its end
        traceback.print_exc()
    finally:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
