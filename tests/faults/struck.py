"""A command at work, struck by signals at random moments, and what it says and leaves behind.

Half of the blows are SIGKILL and half SIGTERM; most go to the process alone, whose children must then end
by themselves, the others to its whole group.
"""

import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from harness.sandboxes.docker import LABEL, connected, reap
from tests.tally import Ending

ROOT = Path(__file__).parents[2]
HARNESS = (sys.executable, "-m", "harness.cli")
MARK = "HARNESS_STRUCK"
PATIENCE = 300.0
"""Seconds that a command has to end, once it was struck or left alone."""
LAST_BREATH = 30.0
"""Seconds after which nothing may be left of a command that was struck."""
INTERRUPTED = "interrupted: run the same command again to continue"
INTERRUPTED_CODE = 130
TO_THE_GROUP = 0.3


class Running(Protocol):
    """A command at work: a subprocess.Popen, or a fork of this process."""

    @property
    def pid(self) -> int: ...

    def poll(self) -> int | None: ...

    def wait(self, timeout: float | None = None) -> int: ...


Start = Callable[[Sequence[str], Path], Running]
"""Starts a command that says what it says in a file."""


class Trouble(Exception):
    """What is wrong with what a fault left behind."""

    def __init__(self, ending: Ending, note: str) -> None:
        super().__init__(note)
        self.ending: Ending = ending


@dataclass(frozen=True, kw_only=True)
class Blow:
    """One signal, so many seconds after the command was started."""

    after: float
    signal: signal.Signals
    group: bool = False

    def __str__(self) -> str:
        return f"{self.signal.name} to {'the group' if self.group else 'the process'} at {self.after:.2f} s"


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a command ended. `blow` is None where it ended before it was struck; `caught` says whether it
    had told the system what to do on SIGTERM when it was struck."""

    code: int
    said: str
    seconds: float
    blow: Blow | None = None
    caught: bool = True


@dataclass(kw_only=True)
class Scene:
    """Where commands are struck: a folder, a mark that all their processes inherit, a scratch folder."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    processes: set[int] = field(default_factory=set)

    @property
    def scratch(self) -> Path:
        return self.folder / "tmp"

    def start(self, words: Sequence[str], log: Path) -> "subprocess.Popen[bytes]":
        """The command in a session and group of its own."""
        self.scratch.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as said:
            process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                cwd=ROOT,
                env={
                    **os.environ, **self.environment, MARK: str(self.folder), "TMPDIR": str(self.scratch),
                },
                start_new_session=True,
            )  # fmt: skip
        self.processes.add(process.pid)
        return process

    def run(self, words: Sequence[str], start: Start | None = None) -> Ended:
        """The command left alone. Raises Trouble where it does not come to a good end."""
        ended = self.strike(words, None, start)
        if ended.code != 0 or "Traceback" in ended.said:
            raise Trouble("lost", f"exit code {ended.code} when run again: {ended.said[-600:]}")
        return ended

    def strike(self, words: Sequence[str], blow: Blow | None, start: Start | None = None) -> Ended:
        """The command, struck unless it ends before. Raises Trouble where it does not end then."""
        log = self.folder / "said.txt"
        started = time.monotonic()
        process = (start or self.start)(words, log)
        caught = True
        try:
            if blow is not None and ended_within(process, blow.after):
                blow = None
            if blow is not None:
                caught = catches(process.pid, signal.SIGTERM)
                hit(process.pid, blow)
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise Trouble("lost", f"still there {PATIENCE:.0f} s after {blow}: {said_in(log)}") from None
        finally:
            if process.poll() is None:
                hit(process.pid, Blow(after=0, signal=signal.SIGKILL, group=True))
                process.wait()
        seconds, code = time.monotonic() - started, process.wait()
        return Ended(code=code, said=said_in(log), seconds=seconds, blow=blow, caught=caught)

    def left(self) -> list[str]:
        """Processes and containers that outlive the commands for too long."""
        deadline = time.monotonic() + LAST_BREATH
        while (found := self.alive()) and time.monotonic() < deadline:
            time.sleep(0.1)
        return found

    def alive(self) -> list[str]:
        """What is alive of all that the commands of this scene started.

        vLLM's engine and workers name themselves over their environment: they are known by their working
        folder, which is the server's own, within the scratch folder.
        """
        marks, found = set(marked(MARK, str(self.folder))), []
        for entry in Path("/proc").glob("[0-9]*"):
            with suppress(OSError, IndexError):
                state, _, _, session = (entry / "stat").read_text().rpartition(")")[2].split()[:4]
                ours = int(entry.name) in marks or int(session) in self.processes
                within = (entry / "cwd").readlink().is_relative_to(self.scratch)
                if state not in "ZX" and (ours or within):
                    told = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                    found.append(f"process {entry.name}: {told[:120]}")
        return found

    def containers(self) -> list[str]:
        """Sandbox containers of the commands of this scene, all of which have ended.

        One that was made and never started has no process and no end: the next harness that opens the sandbox
        removes it, which is done here.
        """
        client = connected()
        deadline = time.monotonic() + LAST_BREATH
        try:
            while True:
                every = client.containers.list(all=True, filters={"label": LABEL}, ignore_removed=True)
                ours = [one for one in every if self.started(one.labels[LABEL])]
                if not ours or time.monotonic() > deadline:
                    return [f"container {one.short_id}, {one.status}" for one in ours]
                if all(one.status == "created" for one in ours):
                    reap(client)
                time.sleep(0.2)
        finally:
            client.close()

    def started(self, label: str) -> bool:
        """Whether a container with this label, `computer/boot/process/start`, is of a command of ours."""
        return int(label.split("/")[-2] or 0) in self.processes


def marked(variable: str, value: str) -> list[int]:
    """The processes that were started with this in their environment, and their forks. No zombies."""
    mark, found = f"{variable}={value}".encode(), list[int]()
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if mark in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
    return found


def ended_within(process: Running, seconds: float) -> bool:
    with suppress(subprocess.TimeoutExpired):
        process.wait(seconds)
    return process.poll() is not None


def hit(process: int, blow: Blow) -> None:
    """Sends the signal. One that is gone is not meant any more."""
    with suppress(ProcessLookupError):
        (os.killpg if blow.group else os.kill)(process, blow.signal)


def catches(process: int, which: signal.Signals) -> bool:
    """Whether a process handles this signal itself at the moment."""
    with suppress(OSError):
        found = re.search(r"^SigCgt:\s*(\w+)", Path(f"/proc/{process}/status").read_text(), re.MULTILINE)
        return bool(found and int(found.group(1), 16) >> (which - 1) & 1)
    return False


def said_in(log: Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace")


def complaint(ended: Ended) -> str:
    """What is wrong with how a command that was struck ended: its exit code, and what it said."""
    if "Traceback" in ended.said or "Exception ignored" in ended.said:
        return f"it traced back on {ended.blow}: {ended.said[-1500:]}"
    if ended.blow is None or ended.code == 0:  # it was done before the signal took effect
        return "" if ended.code == 0 else f"it ended by itself with {ended.code}: {ended.said[-600:]}"
    if ended.code == -ended.blow.signal and (ended.blow.signal == signal.SIGKILL or not ended.caught):
        return ""
    if ended.blow.signal == signal.SIGTERM and ended.code == INTERRUPTED_CODE:
        return (
            "" if INTERRUPTED in ended.said else f"it ended with 130 and did not say so: {ended.said[-600:]}"
        )
    return f"{ended.blow} ended it with {ended.code}: {ended.said[-600:]}"


def blow_of(rng: random.Random, number: int, seconds: float) -> Blow:
    """A blow at any moment of a run that takes so long undisturbed; SIGKILL and SIGTERM take turns."""
    which = signal.SIGTERM if number % 2 else signal.SIGKILL
    return Blow(after=rng.uniform(0, seconds), signal=which, group=rng.random() < TO_THE_GROUP)
