"""Data that is a trap: private tests of a LiveCodeBench row that explode, run code, or never end.

Each is read by the real reader in a process of its own, whose memory is measured. A bomb must end as a
DataError that names the row, within MEMORY and SECONDS.
"""

import base64
import json
import pickle
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

from benchmarks.livecodebench import LARGEST_TESTS

MEMORY = 1024 * 2**20
SECONDS = 60

READ = """
import json, resource, sys
from benchmarks.livecodebench import tests_of
from harness.errors import DataError
from harness.types import Question
resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
private = sys.stdin.read()
data = {"public": "[]", "private": private, "function": None}
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    tests_of(Question(id="bomb", domain="code", prompt="", data=data))
    said = "read"
except DataError as error:
    said = "refused" if "'bomb'" in str(error) else f"unnamed: {error}"
except BaseException as error:
    said = f"{type(error).__name__}: {error}"
print(json.dumps([said, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024]))
"""


class Runs:
    """A pickle that touches a file when it is loaded."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[..., None], tuple[Path]]:
        return Path.touch, (self.marker,)


def packed(pickled: bytes) -> str:
    return base64.b64encode(zlib.compress(pickled)).decode()


def zeros(before: bytes, size: int, byte: bytes = b"\0") -> str:
    """`size` equal bytes after `before`, made without holding them."""
    stream = zlib.compressobj(1)
    parts = [stream.compress(before)]
    parts += [stream.compress(byte * 2**20) for _ in range(size >> 20)]
    return base64.b64encode(b"".join([*parts, stream.flush()])).decode()


def laughs() -> bytes:
    """A pickle whose memo doubles a list thirty times."""
    return b"\x80\x04]\x94" + b"".join(b"]\x94(h%ch%ce" % (level, level) for level in range(30)) + b"."


def bomb(name: str, marker: Path) -> str:
    return bombs(marker)[name]()


def bombs(marker: Path) -> dict[str, Callable[[], str]]:
    """How to make the private tests of a row, by what is wrong with them. Code that runs makes `marker`."""
    text = b"\x80\x04X"
    touch = f"cos\nsystem\n(S'touch {marker}'\ntR".encode()
    return {
        "1 GB of zeros": lambda: zeros(b"", LARGEST_TESTS),
        "a string of 1 GB and more": lambda: zeros(text + struct.pack("<I", LARGEST_TESTS + 1), 2**30),
        "a string of 256 MB": lambda: zeros(text + struct.pack("<I", 2**28), 2**28),
        "a string that claims 2^62 bytes": lambda: zeros(b"\x80\x04\x8d" + struct.pack("<Q", 2**62), 2**24),
        "256 MB after a short string": lambda: zeros(text + struct.pack("<I", 2) + b"[]\x94.", 2**28),
        "a bomb in a bomb": lambda: packed(zlib.compress(bytes(2**24))),
        "code that runs when it is loaded": lambda: packed(pickle.dumps(Runs(marker))),
        "code of an old pickle": lambda: packed(touch + b"."),
        "code after a string": lambda: packed(pickle.dumps("[]")[:-1] + b"0" + touch + b"."),
        "a memo that doubles": lambda: packed(laughs()),
        "nested lists": lambda: packed(b"\x80\x04" + b"(" * 10**6 + b"l." * 10),
        "JSON nested a million deep": lambda: packed(pickle.dumps("[" * 10**6)),
        "JSON nested in a test": lambda: packed(pickle.dumps('[{"input": ' + "[" * 10**6)),
        "200 MB of empty objects": lambda: packed(pickle.dumps("[" + "{}," * (70 * 2**20) + "{}]")),
        "a number of ten million digits": lambda: packed(pickle.dumps("[" + "9" * 10**7 + "]")),
        "plain JSON nested a million deep": lambda: "[" * 10**6,
        "plain JSON of numbers": lambda: "[" + "1," * 10**7 + "1]",
        "not UTF-8": lambda: packed(text + struct.pack("<I", 4) + b"\xff\xfe\xfd\xfc\x94."),
        "cut off": lambda: packed(pickle.dumps("[]"))[:-8],
        "not base64": lambda: "é" * 10**6,
    }  # fmt: skip


def read(private: str) -> tuple[str, int]:
    """What the reader made of it, and by how many bytes it grew."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", READ], input=private, capture_output=True, text=True, check=False,
            timeout=SECONDS, cwd=Path(__file__).parents[2],
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"not done after {SECONDS} s", 0
    if done.returncode != 0:
        return f"exit code {done.returncode}: {done.stderr[-200:]}", 0
    said, grew = json.loads(done.stdout)
    return said, grew


def held(name: str, private: str, marker: Path) -> list[str]:
    """Why the reader does not hold against one bomb; empty where it does."""
    said, grew = read(private)
    found = [] if said == "refused" else [f"{name}: {said}"]
    if grew > MEMORY:
        found.append(f"{name}: the reader grew by {grew / 2**20:.0f} MB")
    if marker.exists():
        marker.unlink()
        found.append(f"{name}: its code ran")
    return found
