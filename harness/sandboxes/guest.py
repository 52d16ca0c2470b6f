"""What runs inside the sandbox: a warm Python that forks one child for each program.

Standard library only and self-contained: the host sends this file as the text of `python3.11 -c`.
It is process 1 of its namespace, so a program can neither kill nor (it is not dumpable) trace it,
and its own `kill(-1)` ends whatever a program left behind.

Frames are one byte of kind, four of length, then the payload. From the host: `R` a request (eight
bytes of wall-clock limit as a double, then JSON), `S` stop. To the host: `H` ready, `O` bytes that
the program's process wrote (never trusted), `E` how it ended, as JSON.

The program's process follows LiveCodeBench at 28fef95, lcb_runner/evaluation/testing_util.py: the
header, the wrapping, the mocked stdin, the alarm and the kinds of errors. The judge is outside.
"""

import ast
import builtins
import contextlib
import ctypes
import gc
import importlib
import io
import json
import os
import resource
import select
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any, NoReturn

STAR: tuple[str, ...] = (
    *("string", "re", "datetime", "collections", "heapq", "bisect", "copy", "math", "random"),
    *("statistics", "itertools", "functools", "operator", "io", "sys", "json", "builtins", "typing"),
)
HEADER = (
    "\n".join(f"from {name} import *" for name in STAR)
    + "\n"
    + "\n".join(f"import {name}" for name in STAR if name not in ("builtins", "typing"))
    + "\nsys.setrecursionlimit(50000)\n"
)
WARM: tuple[str, ...] = (
    *("array", "cmath", "contextlib", "dataclasses", "decimal", "enum", "fractions", "numbers"),
    *("queue", "threading", "types"),
)
USES_NUMPY = (b"numpy", b"scipy", b"pandas", b"numba")
FORBIDDEN_OS: tuple[str, ...] = (
    *("kill", "system", "putenv", "remove", "removedirs", "rmdir", "fchdir", "setuid", "fork", "forkpty"),
    *("killpg", "rename", "renames", "truncate", "replace", "unlink", "fchmod", "fchown", "chmod"),
    *("chown", "chroot", "lchflags", "lchmod", "lchown", "getcwd", "chdir"),
)
FORBIDDEN_MODULES = ("ipdb", "joblib", "resource", "psutil", "tkinter")
FORBIDDEN: tuple[tuple[Any, tuple[str, ...]], ...] = (
    (builtins, ("quit", "help")),
    (os, FORBIDDEN_OS),
    (shutil, ("rmtree", "move", "chown")),
    (subprocess, ("Popen",)),
)

OUTPUT_LIMIT = 64 * 2**20
MESSAGE_LIMIT = 2000
CHUNK = 1 << 18
FINISHED = os.WEXITED | os.WNOHANG | os.WNOWAIT


class TimeoutException(Exception):
    """The alarm of one test. Its name is part of the protocol: official code looks for it in repr."""


# ---- the program's process


class Program:
    """Loads one program and runs its tests, writing one length-prefixed JSON outcome for each."""

    def __init__(self, request: dict[str, Any], pipe: int) -> None:
        self.code = request["code"]
        self.function = request["function"]
        self.inputs = request["inputs"]
        self.seconds = request["seconds"]
        self.old_stdin = request["stdin"] == "before-2025-05-23"
        self.pipe = pipe
        self.process = os.getpid()

    def run(self) -> None:
        try:
            self.alarm()
            if self.function is None:
                self.run_stdin()
            else:
                self.run_function()
        except Exception as error:  # noqa: BLE001 - the program's own error is a verdict
            signal.setitimer(signal.ITIMER_REAL, 0)
            status = "out_of_memory" if isinstance(error, MemoryError) else "load_error"
            self.report(status, message=described(error))

    def alarm(self) -> None:
        signal.setitimer(signal.ITIMER_REAL, self.seconds)

    def load(self, code: str, name: str) -> Any:
        """The function `name` of the program. Code that names a class Solution must define it."""
        self.alarm()
        try:
            module = ModuleType("tmp_sol", "")
            exec(code, module.__dict__)  # noqa: S102 - this is what the sandbox is for
            owner = module.Solution() if "class Solution" in code else module
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        return getattr(owner, name)

    def run_stdin(self) -> None:
        method = self.load(wrapped(unguarded(self.code)), "wrapped_function")
        for text in self.inputs:
            capture = Capture()
            status, message, seconds, _ = self.attempt(capture, partial(self.feed, method, text))
            output = capture.getvalue() if status == "ok" else ""
            if len(output) > OUTPUT_LIMIT:
                status, output = "output_limit", ""
                message = f"printed more than {OUTPUT_LIMIT} characters"
            self.report(status, output, message, seconds)
            if status != "ok":
                return

    def run_function(self) -> None:
        method = self.load(HEADER + "\n\n" + self.code, self.function)
        arguments = [[json.loads(line) for line in text.split("\n")] for text in self.inputs]
        for given in arguments:
            status, message, seconds, value = self.attempt(None, partial(method, *given))
            output = ""
            if status == "ok":
                output = json.dumps(typed(list(value) if isinstance(value, tuple) else value))
                if len(output) > OUTPUT_LIMIT:
                    status, output, message = "output_limit", "", "returned a value too large to judge"
            self.report(status, output, message, seconds)
            if status != "ok":
                return

    def attempt(self, capture: io.StringIO | None, call: Callable[[], Any]) -> tuple[str, str, float, Any]:
        """One test under the alarm: status, message, seconds, returned value."""
        stdout = sys.stdout
        self.alarm()
        start = time.perf_counter()
        try:
            if capture is not None:
                sys.stdout = capture
            value = call()
            signal.setitimer(signal.ITIMER_REAL, 0)
            return "ok", "", time.perf_counter() - start, value
        except Exception as error:  # noqa: BLE001 - the program's own error is a verdict
            signal.setitimer(signal.ITIMER_REAL, 0)
            return kind_of(error), described(error), time.perf_counter() - start, None
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            sys.stdout = stdout

    def feed(self, method: Callable[[], Any], text: str) -> Any:
        """Calls the program with `text` as its stdin.

        The official decorators patch read, readline and readlines of the stdin that they find and
        only then replace it: so programs that said `from sys import stdin` get the patched methods.
        """
        original: Any = sys.stdin
        opened = builtins.open
        lines = iter(text.split("\n"))
        original.read = lambda *_: text
        original.readline = lambda *_: next(lines)
        original.readlines = lambda *_: text.split("\n")
        sys.stdin = io.StringIO(text) if self.old_stdin else Stdin(text)
        builtins.open = lambda *given, **named: mock_open(text)(*given, **named)
        try:
            return method()
        except SystemExit:
            return None
        finally:
            builtins.open, sys.stdin = opened, original
            del original.read, original.readline, original.readlines

    def report(self, status: str, output: str = "", message: str = "", seconds: float = 0.0) -> None:
        if os.getpid() != self.process:
            os._exit(0)
        record = {"status": status, "output": output, "message": message, "seconds": seconds}
        payload = json.dumps(record).encode()
        write_all(self.pipe, struct.pack(">I", len(payload)) + payload)


class Capture(io.StringIO):
    """The program's stdout. Closing it is an error, as officially."""

    def __init__(self) -> None:
        super().__init__()
        self.close = self.unclosable  # type: ignore[method-assign, assignment]

    def unclosable(self, _: object) -> int:
        return 1


class Stdin:
    """The official MockStdinWithBuffer: `read` and `readlines` always see the whole input."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.stream = io.StringIO(text)
        self.buffer = Buffer(text)

    def read(self, *_: object) -> str:
        return self.text

    def readline(self, *given: int) -> str:
        return self.stream.readline(*given)

    def readlines(self, *_: object) -> list[str]:
        return self.text.split("\n")

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


class Buffer:
    """The official MockBuffer: `readline` gives the first line for ever."""

    def __init__(self, text: str) -> None:
        self.data = text.encode()

    def read(self, *_: object) -> bytes:
        return self.data

    def readline(self, *_: object) -> bytes:
        return self.data.split(b"\n")[0] + b"\n"


def mock_open(text: str) -> Any:
    """What `builtins.open` is during a test; imported only by the few programs that get there."""
    return importlib.import_module("unittest.mock").mock_open(read_data=text)


def unguarded(code: str) -> str:
    """The code with a last `if __name__ == '__main__':` replaced by its body."""
    try:
        body = ast.parse(code).body
        last = body[-1]
        if isinstance(last, ast.If) and ast.unparse(last.test).strip() == "__name__ == '__main__'":
            return unparsed(body[:-1]) + "\n" + unparsed(last.body)
    except BaseException:  # noqa: BLE001, S110 - official: whatever goes wrong, the code stays as it is
        pass
    return code


def unparsed(nodes: Any) -> str:
    """Statements as text; official code hands the list itself to ast.unparse."""
    return ast.unparse(nodes)


def wrapped(code: str) -> str:
    """The header, the imports, and everything else as the body of wrapped_function."""
    try:
        body = ast.parse(code).body
        imports = [node for node in body if isinstance(node, ast.Import | ast.ImportFrom)]
        others = [node for node in body if not isinstance(node, ast.Import | ast.ImportFrom)]
        empty = ast.arguments(posonlyargs=[], args=[], kwonlyargs=[], kw_defaults=[], defaults=[])
        function = ast.FunctionDef(
            name="wrapped_function", args=empty, body=others, decorator_list=[], lineno=-1
        )
        return f"{HEADER}\n{unparsed(imports)}\n{ast.unparse(function)}"
    except Exception:  # noqa: BLE001 - official: what cannot be parsed is run as it is, and fails there
        return code


def kind_of(error: Exception) -> str:
    """The status of an exception; official code tells a time-out by its repr."""
    if isinstance(error, MemoryError):
        return "out_of_memory"
    return "time_limit" if "timeoutexception" in repr(error).lower() else "runtime_error"


def described(error: Exception) -> str:
    try:
        return repr(error)[:MESSAGE_LIMIT]
    except Exception:  # noqa: BLE001 - a program's own __repr__
        return type(error).__name__


def typed(value: Any, depth: int = 0) -> Any:
    """A value as JSON that keeps what `==` with a JSON value can tell apart.

    null, booleans, strings, lists and ordinary numbers are themselves; everything else is an object
    with one key that names its kind. `harness.grading.code.decoded` reads it back.
    """
    if value is None or value is True or value is False or type(value) is str:
        return value
    if depth > 500:
        return {"other": "too deep"}
    if isinstance(value, int):
        return int(value) if -(2**63) <= value < 2**63 else {"int": hex(value)}
    if isinstance(value, float):
        return float(value) if value - value == 0 else {"float": repr(float(value))}
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, list):
        return [typed(item, depth + 1) for item in list.__iter__(value)]
    if isinstance(value, dict):
        return {"dict": [[typed(k, depth + 1), typed(v, depth + 1)] for k, v in dict.items(value)]}
    return typed_number(value)


def typed_number(value: Any) -> Any:
    """Numbers of other types, and numpy's values, which may equal a JSON value too."""
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.generic | numpy.ndarray) and value.dtype.kind in "biuf":
        if isinstance(value, numpy.ndarray) or value.dtype.kind == "f":
            return {"numpy": [value.dtype.str, list(value.shape), typed(value.ravel().tolist())]}
        return value.item()
    match type(value).__name__:
        case "Decimal":
            return {"decimal": str(value)}
        case "Fraction":
            return {"fraction": [hex(value.numerator), hex(value.denominator)]}
        case "complex":
            return {"complex": [repr(value.real), repr(value.imag)]}
    return {"other": type(value).__name__[:100]}


def on_alarm(_signal: int, _frame: object) -> None:
    """The official handler: what it prints lands in the captured output."""
    print("timeout occured: alarm went off")
    raise TimeoutException


def forbid() -> None:
    """The official reliability_guard: names that programs find to be None."""
    for owner, names in FORBIDDEN:
        for name in names:
            setattr(owner, name, None)
    sys.modules.update(dict.fromkeys(FORBIDDEN_MODULES))  # type: ignore[arg-type]


def become_program(settings: dict[str, int], pipe: int) -> int:
    """Leaves nothing of the guest in reach: descriptors, limits, session, signals."""
    null = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null, standard)
    os.dup2(pipe, 3)
    os.closerange(4, 256)
    os.setsid()
    set_dumpable(True)
    with open("/proc/self/oom_score_adj", "w") as score:
        score.write("1000")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_STACK, (2**23, 2**23))
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
    if settings["address_space"]:
        resource.setrlimit(resource.RLIMIT_AS, (settings["address_space"],) * 2)
    if settings["processes"]:
        resource.setrlimit(resource.RLIMIT_NPROC, (settings["processes"],) * 2)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGALRM, on_alarm)
    sys.argv = ["lcb_runner", "--model", "model"]  # official programs see the runner's arguments
    return 3


def program_process(settings: dict[str, int], pipe: int, request: bytes) -> NoReturn:
    """Never returns. Any exit without all outcomes counts as a crash."""
    try:
        pipe = become_program(settings, pipe)
        program = Program(json.loads(request), pipe)
        forbid()
        program.run()
    except BaseException:  # noqa: BLE001 - SystemExit and the like end the process, as officially
        os._exit(1)
    os._exit(0)


# ---- the guest


def serve(settings: dict[str, int]) -> NoReturn:
    """Answers requests until stdin closes."""
    requests, responses = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.close(null)
    drop_privileges(settings["uid"])
    set_dumpable(False)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    for name in [*STAR, *WARM]:
        importlib.import_module(name)
    sys.set_int_max_str_digits(50000)
    sys.path.append("/opt/packages")
    os.chdir("/tmp")  # noqa: S108 - the sandbox's own
    clean()
    gc.collect()
    gc.freeze()
    write_frame(responses, b"H", b"")
    while True:
        kind, payload = read_frame(requests)
        if kind == b"R":
            answer(settings, requests, responses, payload)


def answer(settings: dict[str, int], requests: int, responses: int, payload: bytes) -> None:
    """Runs one program in a child and tells how it ended."""
    (wall,) = struct.unpack(">d", payload[:8])
    preload(payload)
    killed_before = memory_kills()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        program_process(settings, writing, payload[8:])
    os.close(writing)
    del payload
    reason = forward(requests, responses, reading, child, time.monotonic() + wall)
    status = end_everything(child)
    drain(responses, reading)
    end = {
        "exit": os.waitstatus_to_exitcode(status),
        "reason": reason,
        "out_of_memory": memory_kills() > killed_before,
        "dirty": clean(),
    }
    write_frame(responses, b"E", json.dumps(end).encode())


def preload(payload: bytes) -> None:
    """Imports numpy once a program may want it: the official runner holds it too when it forks.

    Numpy cannot be imported after `forbid`, since setting os.environ needs putenv.
    """
    if "numpy" not in sys.modules and any(name in payload for name in USES_NUMPY):
        importlib.import_module("numpy")
        gc.freeze()


def forward(requests: int, responses: int, reading: int, child: int, deadline: float) -> str:
    """Passes the child's bytes on. Returns why it ended: end, stop or wall."""
    poll = select.poll()
    poll.register(requests, select.POLLIN)
    poll.register(reading, select.POLLIN)
    while True:
        left = deadline - time.monotonic()
        if left <= 0:
            return "wall"
        ready = dict(poll.poll(min(left, 0.1) * 1000 + 1))
        if reading in ready:
            chunk = os.read(reading, CHUNK)
            if not chunk:
                return "end"
            write_frame(responses, b"O", chunk)
        elif requests not in ready and os.waitid(os.P_PID, child, FINISHED) is not None:
            return "end"
        if requests in ready and read_frame(requests)[0] == b"S":
            return "stop"


def end_everything(child: int) -> int:
    """Kills and reaps every other process of the namespace; returns the child's wait status."""
    result = int(signal.SIGKILL)
    while True:
        with contextlib.suppress(ProcessLookupError):
            os.kill(-1, signal.SIGKILL)
        try:
            process, status = os.waitpid(-1, 0)
        except ChildProcessError:
            return result
        if process == child:
            result = status


def drain(responses: int, reading: int) -> None:
    """What was still in the pipe; all writers are dead, so it ends."""
    while chunk := os.read(reading, CHUNK):
        write_frame(responses, b"O", chunk)
    os.close(reading)


def clean() -> str:
    """Empties /tmp. Returns what a program left that cannot be undone, or an empty string."""
    for entry in os.scandir("/tmp"):  # noqa: S108 - the sandbox's own
        remove(entry)
    if os.listdir("/tmp"):  # noqa: S108
        return "files in /tmp"
    if os.path.isdir("/dev/mqueue") and os.listdir("/dev/mqueue"):
        return "a message queue"
    for kind in ("shm", "sem", "msg"):
        with open(f"/proc/sysvipc/{kind}") as table:
            if len(table.readlines()) > 1:
                return f"System V {kind}"
    if os.getpriority(os.PRIO_PROCESS, 0) != 0 or os.sched_getscheduler(0) != os.SCHED_OTHER:
        return "another priority"
    return "another processor mask" if os.sched_getaffinity(0) != PROCESSORS else ""


def remove(entry: "os.DirEntry[str]") -> None:
    if not entry.is_dir(follow_symlinks=False):
        os.unlink(entry.path)
        return
    os.chmod(entry.path, 0o700)
    for inner in os.scandir(entry.path):
        remove(inner)
    os.rmdir(entry.path)


def memory_kills() -> int:
    """How often the kernel killed in this container for memory; 0 where that cannot be told."""
    for path in ("/sys/fs/cgroup/memory/memory.oom_control", "/sys/fs/cgroup/memory.events"):
        try:
            with open(path) as counters:
                for line in counters:
                    name, _, value = line.partition(" ")
                    if name == "oom_kill":
                        return int(value)
        except OSError:
            continue
    return 0


def drop_privileges(uid: int) -> None:
    """Where the guest starts as root (bubblewrap run by root), it becomes `uid` for good."""
    if uid:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)


def set_dumpable(allowed: bool) -> None:
    """A process that is not dumpable cannot be traced or have its memory or descriptors read."""
    if ctypes.CDLL(None).prctl(4, int(allowed), 0, 0, 0) != 0:
        os._exit(71)


def read_frame(descriptor: int) -> tuple[bytes, bytes]:
    """Kind and payload; leaves when the host has gone."""
    header = read_exactly(descriptor, 5)
    return header[:1], read_exactly(descriptor, struct.unpack(">I", header[1:])[0])


def read_exactly(descriptor: int, size: int) -> bytes:
    parts = []
    while size:
        part = os.read(descriptor, min(size, 1 << 20))
        if not part:
            os._exit(0)
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def write_frame(descriptor: int, kind: bytes, payload: bytes) -> None:
    write_all(descriptor, kind + struct.pack(">I", len(payload)) + payload)


def write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


PROCESSORS = os.sched_getaffinity(0)

if __name__ == "__main__":
    serve(json.loads(sys.argv[1]))
