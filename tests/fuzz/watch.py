"""What a fuzzing process does with one input: it says so first, has it read, and weighs what that took.

The record is a file in memory that the process shares with whoever started it. So the input that killed it
is known, and so are the slowest and the hungriest one.
"""

import hashlib
import mmap
import os
import resource
import signal
import struct
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

LARGEST = 65_536
"""Bytes of the longest input."""

SECONDS = 2.0
"""Of processor time, so that a busy machine makes no hang. The kernel ends whoever takes longer."""

MEMORY = 200 << 20
"""Bytes that one input may add to the process at its peak."""

CEILING = 4 << 30
"""Bytes of addresses: an input that wants more gets a MemoryError, and the machine keeps its memory."""

HEAD = struct.Struct("<8Q")
PAGE = os.sysconf("SC_PAGE_SIZE")
Reader = Callable[[bytes], object]


@dataclass(frozen=True, kw_only=True)
class Told:
    """What a record says. Nanoseconds of processor time, bytes at the peak; `current` was not finished."""

    inputs: int
    finished: int
    slowest: int
    slowest_size: int
    hungriest: int
    hungriest_size: int
    current: bytes


def read_record(path: Path) -> Told:
    data = path.read_bytes()
    *numbers, _, size = HEAD.unpack_from(data)
    names = ("inputs", "finished", "slowest", "slowest_size", "hungriest", "hungriest_size")
    return Told(**dict(zip(names, numbers, strict=True)), current=data[HEAD.size : HEAD.size + size])


class Watch:
    """Reads inputs by `read`. Errors of the kinds in `refusals` are what it may say of them; every other is
    kept once for each place where it is raised, with the input, in `folder`."""

    def __init__(self, read: Reader, refusals: tuple[type[Exception], ...], folder: Path) -> None:
        self.read, self.refusals, self.folder = read, refusals, folder
        path = folder / "record"
        if not path.exists():
            path.write_bytes(bytes(HEAD.size + LARGEST))
        with path.open("r+b") as file:
            self.record = mmap.mmap(file.fileno(), 0)
        self.numbers = list(HEAD.unpack_from(self.record))
        self.status = os.open("/proc/self/statm", os.O_RDONLY)

    def __call__(self, data: bytes) -> None:
        data = data[:LARGEST]
        self.begin(data)
        forget_peak()
        before, started = self.resident(), time.process_time_ns()
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        try:
            self.read(data)
        except self.refusals:
            pass
        except Exception as error:  # noqa: BLE001 whatever it is, it is the finding
            self.keep(error, data)
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
        self.end(data, time.process_time_ns() - started, peak() - before)

    def next_bomb(self) -> int:
        """Which bomb comes next: the one after that which killed the process before this one."""
        self.numbers[6] += 1
        return self.numbers[6] - 1

    def begin(self, data: bytes) -> None:
        self.numbers[0] += 1
        self.numbers[7] = len(data)
        self.record[HEAD.size : HEAD.size + len(data)] = data
        self.write()

    def end(self, data: bytes, spent: int, grown: int) -> None:
        self.numbers[1] += 1
        if spent > self.numbers[2]:
            self.numbers[2:4] = spent, len(data)
        if grown > self.numbers[4]:
            self.numbers[4:6] = grown, len(data)
        if grown > MEMORY:
            self.file(f"memory-{digest(data)}", f"{grown >> 20} MB at its peak", data)
        self.write()

    def warm_up(self, inputs: Iterable[bytes]) -> None:
        """Has the first inputs read: they take what importing takes, which is no slowness of theirs."""
        before = self.numbers[2:6]
        for data in inputs:
            self(data)
        self.numbers[2:6] = before
        self.write()

    def write(self) -> None:
        HEAD.pack_into(self.record, 0, *self.numbers)

    def resident(self) -> int:
        return int(os.pread(self.status, 200, 0).split()[1]) * PAGE

    def keep(self, error: Exception, data: bytes) -> None:
        frames = traceback.extract_tb(error.__traceback__)
        ours = [frame for frame in frames if "site-packages" not in frame.filename]
        where = f"{type(error).__name__} {ours[-1].filename}:{ours[-1].lineno}"
        text = "".join(traceback.format_exception(error, limit=-8))
        self.file(f"error-{digest(where.encode())}", text, data)

    def file(self, name: str, text: str, data: bytes) -> None:
        target = self.folder / name
        if not target.exists():
            target.with_suffix(".txt").write_text(text, encoding="utf-8", errors="backslashreplace")
            target.write_bytes(data)


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:12]


def forget_peak() -> None:
    """The kernel begins anew to remember the most memory that this process had."""
    with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
        file.write("5")


def peak() -> int:
    """Bytes of memory that this process had at the most."""
    with open("/proc/self/status", "rb") as file:
        told = file.read()
    return int(told.partition(b"VmHWM:")[2].split(maxsplit=1)[0]) << 10


def confine() -> None:
    """A process that only the kernel can end, and that cannot take the machine's memory."""
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_AS, (CEILING, CEILING))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
