"""A pool of warm guests and the host's side of the protocol in guest.py."""

import json
import queue
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Protocol

import msgspec

from harness.errors import SandboxError
from harness.sandboxes import Accept, Execution, Limits, Outcome, Program, Say, Status, accept_all, seccomp

START_SECONDS = 60.0
GRACE_SECONDS = 60.0
HEAD_LIMIT = 2**16
MESSAGE_LIMIT = 4000
OUTPUT_LIMIT = 2**26
"""Bytes of what an outcome says of itself, of its message, and of its output (the guest's own limit). So
much of one program's the host holds at most, twice while it is decoded, whatever the program claims."""


class Channel(Protocol):
    """A byte stream to one guest. Raises OSError or EOFError where it is broken, and OutOfMemory where
    that is because the guest was killed for the memory that its program took."""

    def send(self, data: bytes) -> None: ...

    def receive(self, size: int, seconds: float) -> bytes:
        """Exactly `size` bytes, or TimeoutError."""
        ...

    def close(self) -> None:
        """Ends the guest and everything in its sandbox."""
        ...


class BrokenGuest(Exception):
    """The guest is gone, hangs, or does not speak the protocol: nothing is known of the program."""


class OutOfMemory(Exception):
    """The kernel killed the guest itself because its sandbox was over its memory limit."""


class Reported(msgspec.Struct, frozen=True):
    """What an outcome says before its output."""

    status: Status
    message: str
    seconds: float
    alarmed: bool


class End(msgspec.Struct, frozen=True):
    """How the program's process ended, told by the guest."""

    exit: int
    reason: str
    out_of_memory: bool
    dirty: str


class Pool:
    """At most `size` guests, each started when first needed and kept while it stays clean."""

    def __init__(self, start: Callable[[], Channel], size: int, remedy: str, say: Say) -> None:
        self.start = start
        self.say = say
        self.remedy = remedy
        self.idle: queue.LifoQueue[Channel | None] = queue.LifoQueue()
        self.lock = threading.Lock()
        self.open: set[Channel] = set()
        self.closed = False
        for _ in range(max(1, size)):
            self.idle.put(None)

    def run(
        self, program: Program, inputs: list[str], limits: Limits, accept: Accept = accept_all
    ) -> Execution:
        """Runs one program; where the guest breaks, once more in a fresh one.

        Raises SandboxError where that breaks too.
        """
        if not inputs:
            return Execution(outcomes=())
        channel = self.idle.get()
        try:
            try:
                channel, execution = self.attempt(channel, program, inputs, limits, accept)
            except BrokenGuest as error:
                self.say(f"a sandbox broke and is replaced ({error}); its program runs again")
                channel, execution = self.attempt(None, program, inputs, limits, accept)
        except BrokenGuest as error:
            channel = None
            raise SandboxError(f"the sandbox broke twice on one program: {error}", self.remedy) from error
        except BaseException:
            channel = None
            raise
        finally:
            self.idle.put(channel)
        return execution

    def attempt(
        self,
        channel: Channel | None,
        program: Program,
        inputs: list[str],
        limits: Limits,
        accept: Accept,
    ) -> tuple[Channel | None, Execution]:
        """The execution, and the guest where it may be used again. A guest that broke is closed."""
        guest = channel or self.started()
        clean = False
        try:
            conversation = Conversation(channel=guest, program=program, inputs=inputs, limits=limits)
            execution = conversation.run(accept)
            clean = not conversation.dirty
        except OutOfMemory:
            execution = conversation.ended(killed_for_memory())
        except (OSError, EOFError, struct.error, msgspec.DecodeError) as error:
            raise BrokenGuest(f"{type(error).__name__}: {error}") from error
        finally:
            if not clean:
                self.discard(guest)
        return (guest if clean else None), execution

    def started(self) -> Channel:
        if self.closed:
            raise SandboxError("the sandbox is closed", "open another")
        channel = self.start()
        with self.lock:
            self.open.add(channel)
        try:
            kind, _ = read_frame(channel, START_SECONDS)
            if kind != b"H":
                raise BrokenGuest(f"it greeted with {kind!r}")
        except (OSError, EOFError, BrokenGuest) as error:
            self.discard(channel)
            raise SandboxError(f"the sandbox's guest did not start: {error}", self.remedy) from error
        return channel

    def discard(self, channel: Channel) -> None:
        with self.lock:
            self.open.discard(channel)
        channel.close()

    def close(self) -> None:
        self.closed = True
        for channel in list(self.open):
            self.discard(channel)


@dataclass(kw_only=True)
class Conversation:
    """One request and everything that comes back for it."""

    channel: Channel
    program: Program
    inputs: list[str]
    limits: Limits
    dirty: str = ""
    outcomes: list[Outcome] = field(default_factory=list)
    stopped: bool = False
    pending: bytearray = field(default_factory=bytearray)

    def run(self, accept: Accept) -> Execution:
        self.channel.send(frame(b"R", self.request()))
        patience = self.limits.wall(len(self.inputs)) + GRACE_SECONDS
        while True:
            kind, payload = read_frame(self.channel, patience)
            if kind == b"O":
                self.take(payload, accept)
            elif kind == b"E":
                end = msgspec.json.decode(payload, type=End)
                break
            else:
                raise BrokenGuest(f"unknown frame {kind!r}")
        self.dirty = end.dirty
        return self.ended(unreported(end))

    def ended(self, last: Outcome) -> Execution:
        """The execution, where `last` is what befell the program if it did not live to report."""
        if not self.complete:
            self.outcomes.append(last)
        return Execution(outcomes=tuple(self.outcomes))

    def request(self) -> bytes:
        record = {
            "code": self.program.code,
            "function": self.program.function,
            "stdin": self.program.stdin,
            "inputs": self.inputs,
            "seconds": self.limits.seconds,
        }
        return struct.pack(">d", self.limits.wall(len(self.inputs))) + json.dumps(record).encode()

    @property
    def complete(self) -> bool:
        """Whether nothing more counts: all tests done, one not ok, or one refused."""
        failed = bool(self.outcomes) and self.outcomes[-1].status != "ok"
        return self.stopped or failed or len(self.outcomes) == len(self.inputs)

    def take(self, chunk: bytes, accept: Accept) -> None:
        """Outcomes in what the program's process wrote. A forged one can at most claim an output."""
        self.pending += chunk
        while not self.complete and len(self.pending) >= 8:
            head, output = struct.unpack_from(">II", self.pending)
            if head > HEAD_LIMIT or output > OUTPUT_LIMIT:
                self.stop(Outcome(status="crash", message="the program wrote to the result pipe"))
                return
            if len(self.pending) < 8 + head + output:
                return
            outcome = decoded_outcome(self.pending, head, output)
            del self.pending[: 8 + head + output]
            index = len(self.outcomes)
            self.outcomes.append(outcome)
            if outcome.status == "ok" and not accept(index, outcome):
                self.stop(None)
        if self.complete:
            self.pending.clear()

    def stop(self, outcome: Outcome | None) -> None:
        if outcome is not None:
            self.outcomes.append(outcome)
        self.stopped = True
        self.channel.send(frame(b"S", b""))


def decoded_outcome(data: bytearray, head: int, output: int) -> Outcome:
    """One outcome; anything that is not one was written by the program itself and is a crash.

    Its message can be written as UTF-8, whatever the program raised.
    """
    try:
        reported = msgspec.convert(json.loads(data[8 : 8 + head]), Reported)
        with memoryview(data) as view:
            text = str(view[8 + head : 8 + head + output], "utf-8", "surrogatepass")
    except (ValueError, RecursionError, msgspec.ValidationError):
        return Outcome(status="crash", message="the program wrote to the result pipe")
    return Outcome(
        status=reported.status,
        output=text,
        message=reported.message[:MESSAGE_LIMIT].encode("utf-8", "backslashreplace").decode(),
        seconds=reported.seconds,
        alarmed=reported.alarmed,
    )


def unreported(end: End) -> Outcome:
    """The outcome of a test that the program's process did not live to report."""
    if end.out_of_memory:
        return killed_for_memory()
    if end.reason == "wall":
        return Outcome(status="crash", message="ran past the limit of the whole program", alarmed=True)
    if end.reason == "files":
        return Outcome(status="crash", message="killed: too many files in /tmp")
    how = f"signal {-end.exit}" if end.exit < 0 else f"exit code {end.exit}"
    return Outcome(status="crash", message=f"the program's process ended with {how}")


def killed_for_memory() -> Outcome:
    return Outcome(status="out_of_memory", message="killed: over the memory limit of the sandbox")


def read_frame(channel: Channel, seconds: float) -> tuple[bytes, bytes]:
    header = channel.receive(5, seconds)
    (size,) = struct.unpack(">I", header[1:])
    return header[:1], channel.receive(size, seconds)


def frame(kind: bytes, payload: bytes) -> bytes:
    return kind + struct.pack(">I", len(payload)) + payload


def guest_source() -> str:
    """guest.py as text: it travels on the command line, so host and guest always match."""
    return files("harness.sandboxes").joinpath("guest.py").read_text(encoding="utf-8")


def guest_settings(*, uid: int = 0, memory: int = 0, processes: int = 0) -> str:
    """The guest's only argument. Zero leaves a limit, in bytes or processes, to the container."""
    return json.dumps(
        {"uid": uid, "memory": memory, "processes": processes, "filter": seccomp.program().hex()}
    )
