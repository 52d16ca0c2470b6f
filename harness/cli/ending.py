"""How a command ends: exit codes, and SIGTERM as Ctrl-C."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

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


@contextmanager
def held_back() -> Iterator[None]:
    """Around imports of native modules: Ctrl-C and SIGTERM wait until they are done.

    An exception within such an import is lost there, or aborts the whole process (scipy's, by pybind11).
    """
    met: list[int] = []
    before = {
        which: signal.signal(which, lambda number, frame: met.append(number))
        for which in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for which, handler in before.items():
            signal.signal(which, handler)
    for number in met:
        signal.raise_signal(number)
