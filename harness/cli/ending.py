"""How a command ends: exit codes, and SIGTERM as Ctrl-C."""

import atexit
import os
import signal
import sys
import threading
from contextlib import suppress
from types import FrameType
from typing import NoReturn

EXIT_CODES = """\b
Exit codes:
  0    done
  1    failed; or doctor, preflight, verify or data verify found something missing or damaged
  64   wrong usage: an unknown name, an impossible option
  75   run the same command again later: a batch is under way
  130  interrupted by Ctrl-C or SIGTERM: the same command continues
  nightly: 0 pass, 1 regression, 2 inconclusive
"""

_told = threading.Event()

SOON = 0.05
"""Seconds: a finalizer is through by then, and if another is at work it comes once more."""


def end_on_sigterm() -> None:
    """SIGTERM (of systemd, Slurm, `timeout`, `docker stop`) ends this process as Ctrl-C does: what it started
    is stopped, what is finished is kept."""
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, as_interrupt)
        sys.unraisablehook = interrupted_again


def interrupted_again(swallowed: "sys.UnraisableHookArgs") -> None:
    """An interruption that met a finalizer, in which Python raises nothing: it comes again in a moment."""
    if isinstance(swallowed.exc_value, KeyboardInterrupt):
        again = threading.Timer(SOON, os.kill, (os.getpid(), signal.SIGTERM))
        again.daemon = True
        again.start()
    else:
        sys.__unraisablehook__(swallowed)


def told_to_end() -> bool:
    """Whether SIGTERM came. A native function that it meets (matplotlib's, by pybind11) makes an error of its
    own of it."""
    return _told.is_set()


def as_interrupt(number: int, frame: FrameType | None) -> None:
    """Whatever handles Ctrl-C now: an event loop has a way of its own. A shell's background job has none."""
    _told.set()
    handler = signal.getsignal(signal.SIGINT)
    if not callable(handler):
        raise KeyboardInterrupt
    handler(signal.SIGINT, frame)


def leave(code: int) -> NoReturn:
    """Ends this process without Python's own end: the threads of native libraries, which nobody has told to
    end, may meet it half-way, and then it is a crash. What was registered for the exit is done."""
    with suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    atexit._run_exitfuncs()
    os._exit(code)
