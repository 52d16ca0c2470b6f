"""How a command ends: exit codes, and SIGTERM as Ctrl-C."""

import signal
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


def end_on_sigterm() -> None:
    """SIGTERM (of systemd, Slurm, `timeout`, `docker stop`) ends this process as Ctrl-C does: what it started
    is stopped, what is finished is kept."""
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, as_interrupt)


def as_interrupt(number: int, frame: FrameType | None) -> None:
    """Whatever handles Ctrl-C now: an event loop has a way of its own. A shell's background job has none."""
    handler = signal.getsignal(signal.SIGINT)
    if not callable(handler):
        raise KeyboardInterrupt
    handler(signal.SIGINT, frame)
