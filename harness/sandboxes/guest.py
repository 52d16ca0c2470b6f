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
import mmap
import os
import re
import resource
import select
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from types import ModuleType
from typing import Any, NoReturn

STAR: tuple[str, ...] = (
    *("string", "re", "datetime", "collections", "heapq", "bisect", "copy", "math", "random"),
    *("statistics", "itertools", "functools", "operator", "io", "sys", "json", "builtins", "typing"),
)
HEADER = "\n".join(
    [f"from {name} import *" for name in STAR]
    + [f"import {name}" for name in STAR if name not in ("builtins", "typing")]
)
RECURSION_LIMIT = 50000
LOOKS_AT_NAMES = re.compile(r"globals|locals|vars|\bdir\(|eval|exec|__builtins__|__dict__|_getframe|inspect")
WARM: tuple[str, ...] = (
    *("array", "cmath", "contextlib", "dataclasses", "decimal", "enum", "fractions", "numbers"),
    *("queue", "threading", "types"),
)
USES_NUMPY = (b"numpy", b"scipy", b"pandas", b"numba")
# What `forbid` takes from the os module and the guest goes on using.
chmod, fork, kill, rmdir, unlink = os.chmod, os.fork, os.kill, os.rmdir, os.unlink
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
PRCTL, CAPSET = ctypes.CDLL(None).prctl, ctypes.CDLL(None).capset
TAKEN = [(owner, name, getattr(owner, name, None)) for owner, names in FORBIDDEN for name in names]

OUTPUT_LIMIT = 64 * 2**20
MESSAGE_LIMIT = 2000
CHUNK = 1 << 18
PRIVATE = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
WATCH_SECONDS = 0.05
MOST_FILES = 4096
PIPE_SIZE = 1 << 16
BATCH_MS = 3
FINISHED = os.WEXITED | os.WNOHANG | os.WNOWAIT

REHEARSALS = 20
REHEARSED_STDIN = """
import sys
from collections import defaultdict

def main():
    first, *others = map(int, input().split())
    seen = defaultdict(list)
    for index, value in enumerate(others):
        seen[value % 2].append(f"{index}: {value}")
    print(first, *sorted(seen), sep=" ")
    sys.stdout.write("\\n".join(sys.stdin.readline() for _ in range(2)))

if __name__ == "__main__":
    main()
"""
REHEARSED_FUNCTION = """
class Solution:
    def solve(self, numbers: List[int], limit: int) -> List[List[int]]:
        best = max(numbers) if numbers else 0
        return [[value, min(best, limit)] for value in numbers]
"""


class TimeoutException(Exception):
    """The alarm of one test. Its name is part of the protocol: official code looks for it in repr."""


# ---- the program's process


class Program:
    """Loads one program and runs its tests, writing one length-prefixed JSON outcome for each."""

    def __init__(self, request: dict[str, Any], pipe: int, names: "Names") -> None:
        self.code = request["code"]
        self.function = request["function"]
        self.inputs = request["inputs"]
        self.seconds = request["seconds"]
        self.old_stdin = request["stdin"] == "before-2025-05-23"
        self.pipe = pipe
        self.names = names.header
        self.known = names.known
        self.process = os.getpid()
        self.alarmed = False

    def run(self) -> None:
        signal.signal(signal.SIGALRM, self.on_alarm)
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

    def on_alarm(self, _signal: int, _frame: object) -> None:
        """The official handler: what it prints lands in the captured output."""
        self.alarmed = True
        print("timeout occured: alarm went off")
        raise TimeoutException

    def load(self, code: str, name: str, *, headed: bool) -> Any:
        """The function `name` of the program. Code that names a class Solution must define it.

        Officially `headed` code begins with the header. Here `pass` stands for it, so that a
        `__future__` import comes too late all the same.
        """
        self.alarm()
        try:
            module = ModuleType("tmp_sol", "")
            compiled = compile(f"pass\n{code}" if headed else code, "<string>", "exec")
            if headed:
                self.give_names(module)
                sys.setrecursionlimit(RECURSION_LIMIT)
            exec(compiled, module.__dict__)  # noqa: S102 - this is what the sandbox is for
            owner = module.Solution() if "class Solution" in code else module
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        if headed and owner is module and name not in vars(module):
            return self.names[name]
        return getattr(owner, name)

    def give_names(self, module: ModuleType) -> None:
        """What the header would bind.

        They are copied, as officially, for a program that may look at its globals. For others they
        become the module's builtins, which costs nothing.
        """
        if LOOKS_AT_NAMES.search(self.code):
            vars(module).update(self.names)
        else:
            vars(module)["__builtins__"] = self.known

    def run_stdin(self) -> None:
        code, headed = wrapped(*unguarded(self.code))
        method = self.load(code, "wrapped_function", headed=headed)
        for text in self.inputs:
            capture = Capture()
            status, message, seconds, _ = self.attempt(capture, partial(self.feed, method, text))
            output = encoded(capture.getvalue()) if status == "ok" else b""
            if len(output) > OUTPUT_LIMIT:
                status, output, message = "output_limit", b"", f"printed more than {OUTPUT_LIMIT} bytes"
            self.report(status, output, message, seconds)
            if status != "ok":
                return

    def run_function(self) -> None:
        method = self.load(self.code, self.function, headed=True)
        arguments = [[json.loads(line) for line in text.split("\n")] for text in self.inputs]
        for given in arguments:
            status, message, seconds, value = self.attempt(None, partial(method, *given))
            output = b""
            if status == "ok":
                output = json.dumps(typed(list(value) if isinstance(value, tuple) else value)).encode()
                if len(output) > OUTPUT_LIMIT:
                    status, output, message = "output_limit", b"", "returned a value too large to judge"
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

    def report(self, status: str, output: bytes = b"", message: str = "", seconds: float = 0.0) -> None:
        """Two lengths, what happened as JSON, and the output as it is, so that no reader parses it."""
        if os.getpid() != self.process:
            os._exit(0)
        record = {"status": status, "message": message, "seconds": seconds, "alarmed": self.alarmed}
        head = json.dumps(record).encode()
        write_all(self.pipe, struct.pack(">II", len(head), len(output)) + head + output)


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


def unguarded(code: str) -> tuple[str, ast.Module | None]:
    """The code with a last `if __name__ == '__main__':` replaced by its body; its tree where known."""
    try:
        tree = ast.parse(code)
        last = tree.body[-1]
        if not isinstance(last, ast.If) or ast.unparse(last.test).strip() != "__name__ == '__main__'":
            return code, tree
        return unparsed(tree.body[:-1]) + "\n" + unparsed(last.body), None
    except BaseException:  # noqa: BLE001 - official: whatever goes wrong, the code stays as it is
        return code, None


def unparsed(nodes: Any) -> str:
    """Statements as text; official code hands the list itself to ast.unparse."""
    return ast.unparse(nodes)


def wrapped(code: str, tree: ast.Module | None = None) -> tuple[str, bool]:
    """The imports, and everything else as the body of wrapped_function; whether a header comes first."""
    try:
        body = (tree or ast.parse(code)).body
        imports = [node for node in body if isinstance(node, ast.Import | ast.ImportFrom)]
        others = [node for node in body if not isinstance(node, ast.Import | ast.ImportFrom)]
        empty = ast.arguments(posonlyargs=[], args=[], kwonlyargs=[], kw_defaults=[], defaults=[])
        function = ast.FunctionDef(
            name="wrapped_function", args=empty, body=others, decorator_list=[], lineno=-1
        )
        return f"{unparsed(imports)}\n{ast.unparse(function)}", True
    except Exception:  # noqa: BLE001 - official: what cannot be parsed is run as it is, and fails there
        return code, False


def encoded(text: str) -> bytes:
    """UTF-8, lone surrogates included: Python prints them into a StringIO, as officially."""
    return text.encode("utf-8", "surrogatepass")


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


class Names:
    """What the header binds, and the same together with the builtins."""

    def __init__(self) -> None:
        bound: dict[str, Any] = {}
        exec(HEADER, bound)  # noqa: S102 - our own text
        self.header = {name: value for name, value in bound.items() if not name.startswith("_")}
        self.known = {**vars(builtins), **self.header}


@contextlib.contextmanager
def allowed() -> Iterator[None]:
    """The block has what `forbid` took."""
    for owner, name, value in TAKEN:
        setattr(owner, name, value)
    yield
    forbid()


def forbid() -> None:
    """The official reliability_guard: names that programs find to be None."""
    for owner, name, _ in TAKEN:
        setattr(owner, name, None)
    sys.modules.update(dict.fromkeys(FORBIDDEN_MODULES))  # type: ignore[arg-type]


def become_program(settings: dict[str, Any], pipe: int) -> int:
    """Leaves nothing of the guest in reach: descriptors, limits, session, signals."""
    null = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null, standard)
    os.dup2(pipe, 3)
    os.closerange(4, 256)
    os.setsid()
    set_dumpable(True)
    score = os.open("/proc/self/oom_score_adj", os.O_WRONLY)
    os.write(score, b"1000")
    os.close(score)
    # 1 and not 0: a host whose core_pattern is a pipe is handed every crash but those of limit 1.
    resource.setrlimit(resource.RLIMIT_CORE, (1, 1))
    resource.setrlimit(resource.RLIMIT_STACK, (2**23, 2**23))
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
    if settings["memory"]:
        resource.setrlimit(resource.RLIMIT_AS, (settings["memory"],) * 2)
    if settings["processes"]:
        resource.setrlimit(resource.RLIMIT_NPROC, (settings["processes"],) * 2)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    return 3


def program_process(settings: dict[str, Any], pipe: int, request: mmap.mmap, names: Names) -> NoReturn:
    """Never returns. Any exit without all outcomes counts as a crash."""
    try:
        pipe = become_program(settings, pipe)
        Program(json.loads(request[8:]), pipe, names).run()
    except BaseException:  # noqa: BLE001 - SystemExit and the like end the process, as officially
        os._exit(1)
    os._exit(0)


# ---- the guest


def serve(settings: dict[str, Any]) -> NoReturn:
    """Answers requests until stdin closes."""
    requests, responses = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.close(null)
    drop_privileges(settings["uid"])
    set_dumpable(False)
    refuse_calls(bytes.fromhex(settings["filter"]))
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    for name in [*STAR, *WARM]:
        importlib.import_module(name)
    sys.set_int_max_str_digits(50000)
    sys.path.append("/opt/packages")
    sys.argv = ["lcb_runner", "--model", "model"]  # official programs see the runner's arguments
    os.chdir("/tmp")  # noqa: S108 - the sandbox's own
    forbid()
    names = Names()
    rehearse(names)
    clean()
    gc.collect()
    gc.freeze()
    write_all(responses, frame(b"H", b""))
    relay = Relay(responses)
    while True:
        kind, size = read_header(requests)
        if kind == b"R":
            answer(settings, requests, relay, received(requests, size), names)


def rehearse(names: Names) -> None:
    """Runs small programs in the guest itself.

    Python then holds its own code specialised and its caches filled, in pages that children share
    and need not write.
    """
    null = os.open(os.devnull, os.O_WRONLY)
    limit = sys.getrecursionlimit()
    common = {"stdin": "official", "seconds": 60.0}
    for _ in range(REHEARSALS):
        for rehearsal in (
            {**common, "code": REHEARSED_STDIN, "function": None, "inputs": ["1 2\n3\n"]},
            {**common, "code": REHEARSED_FUNCTION, "function": "solve", "inputs": ["[1, 2]\n3"]},
        ):
            Program(json.loads(json.dumps(rehearsal)), null, names).run()
            sys.setrecursionlimit(limit)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    os.close(null)


class Relay:
    """Carries what programs write to the host, in memory that no later program inherits.

    What went through ordinary objects of the guest would lie in its heap, and so in the memory of the
    next program, which could read another sample's output there.
    """

    def __init__(self, responses: int) -> None:
        self.responses = responses
        self.memory = mmap.mmap(-1, 5 + CHUNK, flags=PRIVATE)
        self.memory.madvise(mmap.MADV_DONTFORK)
        self.view = memoryview(self.memory)

    def carry(self, reading: int) -> int:
        """One read, passed on as one frame. Returns its size; 0 at the end."""
        size = os.readv(reading, [self.view[5:]])
        if size:
            struct.pack_into(">cI", self.memory, 0, b"O", size)
            write_all(self.responses, self.view[: 5 + size])
        return size

    def rest(self, reading: int) -> None:
        """What is still in the pipe. All writers are dead, so it ends."""
        while self.carry(reading):
            pass
        os.close(reading)


def answer(settings: dict[str, Any], requests: int, relay: Relay, request: mmap.mmap, names: Names) -> None:
    """Runs one program in a child and tells how it ended."""
    (wall,) = struct.unpack(">d", request[:8])
    preload(request)
    killed_before = memory_kills()
    reading, writing = os.pipe()
    child = fork()
    if child == 0:
        program_process(settings, writing, request, names)
    os.close(writing)
    request.close()
    reason = forward(settings, requests, relay, reading, child, time.monotonic() + wall)
    status = end_everything(child)
    relay.rest(reading)
    end = {
        "exit": os.waitstatus_to_exitcode(status),
        "reason": reason,
        "out_of_memory": reason == "memory" or memory_kills() > killed_before,
        "dirty": clean(),
    }
    write_all(relay.responses, frame(b"E", json.dumps(end).encode()))


def preload(request: mmap.mmap) -> None:
    """Imports numpy once a program may want it: the official runner holds it too when it forks.

    Numpy cannot be imported after `forbid`, since setting os.environ needs putenv.
    """
    if "numpy" not in sys.modules and any(request.find(name) >= 0 for name in USES_NUMPY):
        with allowed():
            importlib.import_module("numpy")
        gc.freeze()


def forward(
    settings: dict[str, Any], requests: int, relay: Relay, reading: int, child: int, deadline: float
) -> str:
    """Passes the child's bytes on. Returns why it ended: end, stop, wall, memory or files.

    At first, and after every few bytes, only the end of the child or a word from the host wakes it for
    BATCH_MS: so the outcomes of quick tests cross together, and those of slow ones at once.
    """
    poll = select.poll()
    poll.register(requests, select.POLLIN)
    poll.register(reading, 0)
    batching = True
    watch = time.monotonic() + WATCH_SECONDS if settings["memory"] else deadline
    while True:
        now = time.monotonic()
        if now >= deadline:
            return "wall"
        if now >= watch:
            if excess := exceeded(settings["memory"]):
                return excess
            watch = now + WATCH_SECONDS
        ready = dict(poll.poll(BATCH_MS if batching else min(deadline - now, watch - now, 0.1) * 1000 + 1))
        if requests in ready and read_header(requests)[0] == b"S":
            return "stop"
        if batching:
            if reading in ready:
                return "end"
            poll.modify(reading, select.POLLIN)
            batching = False
        elif reading in ready:
            size = relay.carry(reading)
            if not size:
                return "end"
            if size < PIPE_SIZE // 2:
                poll.modify(reading, 0)
                batching = True
        elif os.waitid(os.P_PID, child, FINISHED) is not None:
            return "end"


def exceeded(memory: int) -> str:
    """Whether the programs together hold more than `memory` bytes, or /tmp more than MOST_FILES.

    Where no container counts, under bubblewrap: each process alone has its limit from the kernel.
    """
    files = os.statvfs("/tmp")  # noqa: S108 - the sandbox's own
    if files.f_files - files.f_ffree > MOST_FILES:
        return "files"
    held = (files.f_blocks - files.f_bfree) * files.f_frsize
    for process in os.listdir("/proc"):
        if process.isdigit() and process != "1":
            with contextlib.suppress(OSError):
                _, resident, shared = read_file(f"/proc/{process}/statm").split()[:3]
                held += (int(resident) - int(shared)) * PAGE
    return "memory" if held > memory else ""


def end_everything(child: int) -> int:
    """Kills and reaps every other process of the namespace; returns the child's wait status."""
    result = int(signal.SIGKILL)
    while True:
        with contextlib.suppress(ProcessLookupError):
            kill(-1, signal.SIGKILL)
        try:
            process, status = os.waitpid(-1, 0)
        except ChildProcessError:
            return result
        if process == child:
            result = status


def clean() -> str:
    """Empties /tmp. Returns what a program left that cannot be undone, or an empty string."""
    try:
        for entry in os.scandir("/tmp"):  # noqa: S108 - the sandbox's own
            remove(entry)
    except (OSError, RecursionError):
        return "files in /tmp"
    if os.listdir("/tmp") or state_of_tmp() != TMP:  # noqa: S108
        return "files in /tmp"
    if os.path.isdir("/dev/mqueue") and os.listdir("/dev/mqueue"):
        return "a message queue"
    if os.getpriority(os.PRIO_PROCESS, 0) != 0 or os.sched_getscheduler(0) != os.SCHED_OTHER:
        return "another priority"
    return "another processor mask" if os.sched_getaffinity(0) != PROCESSORS else ""


def state_of_tmp() -> tuple[Any, ...]:
    """What its owner, who is the program where bubblewrap is not run by root, could change of /tmp."""
    about = os.stat("/tmp")  # noqa: S108
    return about.st_mode, about.st_uid, about.st_gid, os.listxattr("/tmp")  # noqa: S108


def remove(entry: "os.DirEntry[str]") -> None:
    if not entry.is_dir(follow_symlinks=False):
        unlink(entry.path)
        return
    chmod(entry.path, 0o700)
    for inner in os.scandir(entry.path):
        remove(inner)
    rmdir(entry.path)


def memory_kills() -> int:
    """How often the kernel killed in this container for memory; 0 where that cannot be told."""
    counters = read_file(MEMORY_EVENTS) if MEMORY_EVENTS else b""
    _, found, count = counters.partition(b"\noom_kill ")
    return int(count.split()[0]) if found else 0


def read_file(path: str) -> bytes:
    """A small file of the kernel's; without the layers of `open`, whose pages a fork would copy."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return os.read(descriptor, CHUNK)
    finally:
        os.close(descriptor)


def drop_privileges(uid: int) -> None:
    """Where the guest starts as root (bubblewrap run by root), it becomes `uid` for good."""
    if uid:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
        # What is effective went with root; what could be inherited would stay, without use.
        header = ctypes.create_string_buffer(struct.pack("=Ii", 0x20080522, 0), 8)
        if CAPSET(header, ctypes.create_string_buffer(24)):
            os._exit(73)


def set_dumpable(allowed: bool) -> None:
    """A process that is not dumpable cannot be traced or have its memory or descriptors read."""
    if PRCTL(4, int(allowed), 0, 0, 0) != 0:
        os._exit(71)


def refuse_calls(program: bytes) -> None:
    """Puts the filter of harness.sandboxes.seccomp on this process and all that it will fork."""
    holder = ctypes.create_string_buffer(program, len(program))
    length, pointer = struct.pack("=H6x", len(program) // 8), struct.pack("=Q", ctypes.addressof(holder))
    header = ctypes.create_string_buffer(length + pointer, 16)
    zero = ctypes.c_ulong(0)
    if PRCTL(38, ctypes.c_ulong(1), zero, zero, zero) or PRCTL(22, ctypes.c_ulong(2), header, zero, zero):
        os._exit(72)


def read_header(descriptor: int) -> tuple[bytes, int]:
    """Kind of a frame and size of its payload; leaves when the host has gone."""
    header = b""
    while len(header) < 5:
        part = os.read(descriptor, 5 - len(header))
        if not part:
            os._exit(0)
        header += part
    return header[:1], int(struct.unpack(">I", header[1:])[0])


def received(descriptor: int, size: int) -> mmap.mmap:
    """A payload in memory of its own, which is given back when it is closed."""
    payload = mmap.mmap(-1, size, flags=PRIVATE)
    with memoryview(payload) as view:
        place = 0
        while place < size:
            part = os.readv(descriptor, [view[place:]])
            if not part:
                os._exit(0)
            place += part
    return payload


def frame(kind: bytes, payload: bytes) -> bytes:
    return kind + struct.pack(">I", len(payload)) + payload


def write_all(descriptor: int, data: bytes | memoryview) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


PROCESSORS = os.sched_getaffinity(0)
PAGE = os.sysconf("SC_PAGE_SIZE")
TMP = state_of_tmp()
MEMORY_EVENTS = next(
    filter(os.path.exists, ("/sys/fs/cgroup/memory/memory.oom_control", "/sys/fs/cgroup/memory.events")),
    None,
)

if __name__ == "__main__":
    serve(json.loads(sys.argv[1]))
