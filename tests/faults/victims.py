"""Whoever of a command's processes is struck, once the command is at some point of its work."""

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from harness.errors import UsageError
from harness.machine import Machine
from harness.setup import environment_python
from harness.supervise import descendants
from tests.faults.struck import PATIENCE, Blow, Running, Trouble, catches, ended_within, hit, said_in

POLL = 0.005
SHRUG = 90.0
"""Seconds after which who was told to end and is still there is taken for not having heard."""
LONGEST = 1800.0
"""Seconds that a moment may be waited for: a real server starts in minutes where the machine is busy."""


@dataclass(frozen=True, kw_only=True)
class Strike:
    """A signal to one of a command's processes, so many seconds after `begun` says so, which gets its id.

    `victim` is `command`, `group` (the command's process group), `all` (the command and everything below it)
    or the role of processes below it.
    """

    victim: str
    signal: signal.Signals
    after: float
    begun: Callable[[int], bool] = lambda command: True

    def __str__(self) -> str:
        return f"{self.signal.name} to {self.victim}"

    @property
    def meets_command(self) -> bool:
        return self.victim in ("command", "group", "all")


@dataclass(frozen=True, kw_only=True)
class Struck:
    """How a command ended. `strike` is None where nobody was there any more to be struck; `caught` says
    whether the command handled SIGTERM already."""

    code: int
    said: str
    strike: Strike | None
    caught: bool


Start = Callable[[Path], Running]
"""Starts a command that writes what it says to a file."""


def struck(start: Start, log: Path, strike: Strike | None, roles: Mapping[str, str]) -> Struck:
    """Runs the command and strikes, if so: the command itself where the victim is not there.

    Raises Trouble where it does not end then.
    """
    process = start(log)
    try:
        given = strike if strike is not None and reached(strike, process) else None
        caught = catches(process.pid, signal.SIGTERM)
        if given is not None and not sent(given, process.pid, roles):
            given = replace(given, victim="command")
            sent(given, process.pid, roles)
        if given is not None and shrugged_off(given, process, roles):
            given = replace(given, victim="command")
            sent(given, process.pid, roles)
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        raise Trouble("lost", f"still there {PATIENCE:.0f} s after {strike}: {said_in(log)}") from None
    finally:
        if process.poll() is None:
            hit(process.pid, Blow(after=0, signal=signal.SIGKILL, group=True))
            process.wait()
    return Struck(code=process.wait(), said=said_in(log), strike=given, caught=caught)


def shrugged_off(strike: Strike, process: Running, roles: Mapping[str, str]) -> bool:
    """Whether the victim goes on as if no SIGTERM had come: vLLM loses one that meets its imports."""
    if strike.signal == signal.SIGKILL or strike.meets_command or ended_within(process, SHRUG):
        return False
    return bool(family(process.pid, roles).get(strike.victim))


def reached(strike: Strike, process: Running) -> bool:
    """Waits for the moment; whether the command is still at work then."""
    deadline = time.monotonic() + LONGEST
    while process.poll() is None and not strike.begun(process.pid) and time.monotonic() < deadline:
        time.sleep(POLL)
    with suppress(subprocess.TimeoutExpired):
        process.wait(strike.after)
    return process.poll() is None


def sent(strike: Strike, command: int, roles: Mapping[str, str]) -> bool:
    """Whether the signal reached somebody."""
    if strike.victim == "group":
        with suppress(ProcessLookupError):  # a fork has no group of its own in its first moment
            os.killpg(command, strike.signal)
            return True
        return False
    below = family(command, roles)
    every = [command, *(one for found in below.values() for one in found)]
    chosen = {"command": [command], "all": every}.get(strike.victim, below.get(strike.victim, []))
    return send(chosen, strike.signal)


def send(processes: Iterable[int], which: signal.Signals) -> bool:
    reached = False
    for process in processes:
        with suppress(ProcessLookupError):
            os.kill(process, which)
            reached = True
    return reached


def family(command: int, roles: Mapping[str, str]) -> dict[str, list[int]]:
    """The processes below a command by role: the first one whose pattern is in the command line.

    `supervisors` are the two processes of harness/supervise.py, `outer` and `inner` each of them.
    """
    found: dict[str, list[int]] = {}
    for process in descendants(command):
        words = command_line(process)
        role = next((role for role, pattern in roles.items() if re.search(pattern, words)), "other")
        if "supervise.py" in words:
            role = "inner" if "outer" in found else "outer"
            found.setdefault("supervisors", []).append(process)
        found.setdefault(role, []).append(process)
    return found


def command_line(process: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return ""


def lacking(environment: str) -> str:
    """What to do where an engine's environment is not set up; nothing where it is."""
    try:
        environment_python(environment, Machine(gpus=0))
    except UsageError:
        return f"run: harness setup {environment}"
    return ""
