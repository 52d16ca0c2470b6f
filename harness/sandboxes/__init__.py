"""Sandbox: runs a program that nobody trusts against inputs. The judge stays outside.

Expected outputs never enter the sandbox: it returns what the program printed or returned, and
`harness.grading.code` compares.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from harness.errors import SandboxError
from harness.machine import Machine

Status = Literal["ok", "time_limit", "runtime_error", "load_error", "crash", "out_of_memory", "output_limit"]
StdinMode = Literal["official", "before-2025-05-23"]
Say = Callable[[str], None]
Accept = Callable[[int, "Outcome"], bool]


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits of one program: wall-clock seconds a test; memory and processes come from the machine.

    A whole program gets (seconds + 1) × tests + 5 seconds (LiveCodeBench 28fef95,
    compute_code_generation_metrics.py), which ends those that swallow the alarm.
    """

    seconds: float = 6.0

    def wall(self, tests: int) -> float:
        return (self.seconds + 1) * tests + 5


@dataclass(frozen=True, kw_only=True)
class Program:
    """Python source. `function` names the method or function to call; None means stdin to stdout.

    `stdin` chooses how sys.stdin is mocked: as LiveCodeBench's HEAD does, or as it did before.
    """

    code: str
    function: str | None = None
    stdin: StdinMode = "official"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one test did. `output` is the captured stdout, or the returned value as typed JSON text.

    `load_error`: the program never got to its tests. `crash`: its process ended, or ran past the
    limit of the whole program. `out_of_memory`: MemoryError, or killed by the kernel for memory.
    `alarmed`: a time limit was met, whatever the program made of it.
    """

    status: Status
    output: str = ""
    message: str = ""
    seconds: float = 0.0
    alarmed: bool = False


@dataclass(frozen=True, kw_only=True)
class Execution:
    """Outcomes in test order, up to the first that is not ok or that `accept` refused."""

    outcomes: tuple[Outcome, ...]


def accept_all(_index: int, _outcome: Outcome) -> bool:
    return True


class Sandbox(Protocol):
    """Runs programs, several at a time from several threads. Close it to leave nothing behind."""

    name: str

    def run(
        self, program: Program, inputs: list[str], limits: Limits, accept: Accept = accept_all
    ) -> Execution:
        """Runs the program on each input in order, in one process of its own.

        `accept(index, outcome)` is called here, on the host, for each ok outcome; False stops the
        program. Where a container had to be replaced it is called again from index 0. Raises
        SandboxError where the sandbox failed.
        """
        ...

    def close(self) -> None: ...


@dataclass(frozen=True, kw_only=True)
class SandboxKind:
    """What each file of this package ends with: a name for machine.toml, and how to open it.

    `open` raises SandboxError where the sandbox cannot run; `trouble` says why it could not, or nothing.
    """

    name: str
    open: Callable[[Machine, Say], Sandbox]
    trouble: Callable[[], str]


def sandboxes() -> dict[str, SandboxKind]:
    """The sandboxes by name; one file each in this package."""
    import harness.sandboxes
    from harness.discover import discover

    return discover(harness.sandboxes, SandboxKind)


def open_sandbox(machine: Machine, say: Say) -> Sandbox:
    """The sandbox that the machine asks for, ready to run; `say` gets notes that a user must see.

    `auto` takes Docker where an engine answers, else bubblewrap with a note (an error where CI is
    set). Raises SandboxError where it cannot run, since a program never runs without a sandbox, and
    UsageError for an unknown name.
    """
    from harness.discover import pick
    from harness.sandboxes import bubblewrap, docker

    if machine.sandbox.name != "auto":
        return pick("sandbox", machine.sandbox.name, sandboxes()).open(machine, say)
    trouble = docker.trouble()
    if not trouble:
        return docker.DockerSandbox(machine, say)
    if in_ci():
        raise SandboxError(f"no Docker engine answers: {trouble}", docker.REMEDY)
    say(f"Docker does not answer ({trouble}): programs run under bubblewrap, a weaker sandbox")
    missing = bubblewrap.trouble()
    if missing:
        raise SandboxError(f"no sandbox can run here: {missing}", f"{docker.REMEDY}; {bubblewrap.REMEDY}")
    return bubblewrap.BubblewrapSandbox(machine, say)


def sandbox_trouble(machine: Machine) -> str:
    """Why the sandbox that the machine asks for would not open, or nothing. Raises UsageError for an
    unknown name."""
    from harness.discover import pick

    known = sandboxes()
    if machine.sandbox.name != "auto":
        return pick("sandbox", machine.sandbox.name, known).trouble()
    return known["docker"].trouble() and known["bubblewrap"].trouble()


def in_ci() -> bool:
    return os.environ.get("CI", "").lower() in ("true", "1")
