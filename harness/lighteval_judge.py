"""lighteval's own metrics as another process, one response at a time.

The metrics run in lighteval's environment (`harness setup lighteval`): lighteval_metrics.py is what
runs there. Integers go to the metric of lighteval's `aime24`, letters to that of `gpqa:diamond` with
the gold letter of the kept option order, programs to that of `lcb:codegeneration`.

lighteval's code metric runs a program inside the process that judges it. Here that process lives
under bubblewrap, one for each program: no network, nothing of this computer but the interpreter and
its libraries, read-only; without bubblewrap it is not run at all.
"""

import itertools
import json
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Literal, Protocol

import msgspec

from harness.errors import HarnessError, SandboxError
from harness.grading.choices import gold_letter
from harness.grading.code import CodeTest
from harness.machine import Machine, SandboxSettings
from harness.sandboxes.bubblewrap import SYSTEM_FOLDERS, kept
from harness.secrets import without_secrets
from harness.setup import LIGHTEVAL, environment_python
from harness.types import Generation, Question

Metric = Literal["integers", "letters", "code"]
Tests = Callable[[Question], tuple[list[CodeTest], str | None]]
"""The tests of a code question, and the name of the function that they call (None: stdin)."""

SCRIPT = Path(__file__).with_name("lighteval_metrics.py")
START_SECONDS = 600.0
TEXT_SECONDS = 60.0
TEST_SECONDS = 7.0
PROGRAM_SECONDS = 20.0
LONGEST_REPLY = 1 << 24
FIRST_UID = 65000


@dataclass(frozen=True, kw_only=True)
class Theirs:
    """lighteval's verdict on one response. `correct` is None where it gave none, for `reason`.

    `extracted` is what its metric compared: values, then the text that they were read from; for code
    the program. `results` are the codes of a program's tests up to the first that failed.
    """

    correct: bool | None
    extracted: tuple[str, ...] = ()
    results: tuple[bool | int | str, ...] = ()
    reason: str = ""


class Reply(msgspec.Struct):
    """One line of lighteval_metrics.py."""

    correct: bool
    extracted: list[str]
    results: list[bool | int | str] = []


class Judge(Protocol):
    """Gives lighteval's verdict on a response, from `workers` threads at once."""

    workers: int

    def judge(self, question: Question, generation: Generation) -> Theirs: ...


@contextmanager
def judge_for(metric: Metric, machine: Machine, tests: Tests) -> Iterator[Judge]:
    """The judge of one metric, stopped on every way out.

    Raises UsageError where lighteval's environment is missing, SandboxError where programs cannot be
    confined.
    """
    python = environment_python("lighteval", machine)
    if metric == "code":
        yield CodeJudge(python, machine.sandbox, tests)
        return
    with TextJudge(python, metric) as judge:
        yield judge


class TextJudge(AbstractContextManager["TextJudge"]):
    """The metrics that only read: one process for all responses, replaced where it hangs or dies."""

    workers = 1

    def __init__(self, python: Path, metric: Metric) -> None:
        self.python = python
        self.metric = metric
        self.process: LinedProcess | None = None

    def judge(self, question: Question, generation: Generation) -> Theirs:
        gold = question.gold
        if self.metric == "letters":
            if "order" not in generation.kept:
                return Theirs(correct=None, reason="the option order was not kept with the generation")
            gold = gold_letter(generation.kept["order"])
        process = self.running()
        process.send(
            {"kind": self.metric, "prompt": generation.prompt, "gold": gold, "text": generation.text}
        )
        theirs = verdict(process.read(TEXT_SECONDS), process)
        if theirs.correct is None:
            self.close()
        return theirs

    def running(self) -> "LinedProcess":
        if self.process is None:
            self.process = LinedProcess([str(self.python), "-I", str(SCRIPT), "text"])
            check_greeting(self.process.read(START_SECONDS), self.process)
        return self.process

    def close(self) -> None:
        if self.process is not None:
            self.process.close()
            self.process = None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class CodeJudge:
    """The metric that runs programs: a bubblewrap namespace and a lighteval process for each."""

    def __init__(self, python: Path, settings: SandboxSettings, tests: Tests) -> None:
        if shutil.which("bwrap") is None:
            raise SandboxError(
                "lighteval's code metric runs what the model wrote, and bubblewrap is not installed",
                "Install bubblewrap (Debian: apt-get install bubblewrap).",
            )
        self.workers = settings.workers
        self.command = confined(python)
        self.settings = settings
        self.tests = tests
        self.uids = itertools.count(FIRST_UID)

    def judge(self, question: Question, generation: Generation) -> Theirs:
        tests, function = self.tests(question)
        limits = {
            "uid": next(self.uids),
            "address_space": self.settings.memory_mb * 2**20,
            "processes": self.settings.processes,
        }
        process = LinedProcess([*self.command, json.dumps(limits)])
        try:
            process.send(
                {
                    "text": generation.text,
                    "inputs": [test.input for test in tests],
                    "outputs": [test.output for test in tests],
                    "fn_name": function,
                }
            )
            check_greeting(process.read(START_SECONDS), process)
            return verdict(process.read(TEST_SECONDS * len(tests) + PROGRAM_SECONDS), process)
        finally:
            process.close()


def check_greeting(line: bytes, process: "LinedProcess") -> None:
    """Raises HarnessError unless the first line says that the pinned lighteval is up."""
    if not line:
        raise HarnessError(
            f"lighteval does not start: {process.complaint()}",
            "Run: harness setup lighteval (its environment must be readable by everybody)",
        )
    told = msgspec.json.decode(line, type=dict[str, str]).get("lighteval")
    if told != LIGHTEVAL:
        raise HarnessError(
            f"lighteval {told} is installed; {LIGHTEVAL} is expected", "Run: harness setup lighteval"
        )


def verdict(line: bytes, process: "LinedProcess") -> Theirs:
    """The verdict in a reply; none where the process died, hung or wrote something else."""
    if not line:
        return Theirs(correct=None, reason=f"its process gave no verdict {process.complaint()}".strip())
    try:
        reply = msgspec.json.decode(line, type=Reply)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        return Theirs(correct=None, reason=f"its process wrote no verdict ({error})")
    return Theirs(
        correct=reply.correct,
        extracted=tuple(dict.fromkeys(reply.extracted)),
        results=tuple(str(result)[:20] if isinstance(result, str) else result for result in reply.results),
    )


class LinedProcess:
    """A process that is sent a JSON line and answers with one."""

    def __init__(self, command: list[str]) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="harness-lighteval-")  # litellm leaves a cache there
        self.complaints: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.complaints,
            cwd=self.folder.name,
            env={
                **without_secrets(os.environ),
                "HF_HUB_OFFLINE": "1",
                "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            },
        )

    def send(self, value: dict[str, Any]) -> None:
        """Writes one line. A process that is gone shows when it is read."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(value).encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            return

    def read(self, seconds: float) -> bytes:
        """One line; empty where the process ended, or was killed after `seconds`."""
        assert self.process.stdout is not None
        alarm = threading.Timer(seconds, self.process.kill)
        alarm.start()
        try:
            line = self.process.stdout.readline(LONGEST_REPLY)
        finally:
            alarm.cancel()
        return line if line.endswith(b"\n") else b""

    def complaint(self) -> str:
        """The end of what it wrote to standard error."""
        self.complaints.seek(0, os.SEEK_END)
        self.complaints.seek(max(0, self.complaints.tell() - 500))
        return " ".join(self.complaints.read().decode(errors="replace").split())

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()
        self.complaints.close()
        self.folder.cleanup()


# Confining ----------------------------------------------------------------------------------

PREFIXES = "import sys; print(sys.prefix, sys.base_prefix, sep=chr(10))"


def confined(python: Path) -> list[str]:
    """The bwrap command up to the limits: one read-only root, a small /tmp, no network, no home.

    Run by root there is no user namespace: lighteval_metrics.py itself leaves root before it runs a
    program, as a limit on processes does not bind a uid that root owns outside.
    """
    system = [part for path in SYSTEM_FOLDERS if os.path.exists(path) for part in kept(path)]
    readable = [part for prefix in prefixes(python) for part in shown(prefix)]
    as_root = ("--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID")
    return [
        "bwrap",
        *("--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"),
        *("--die-with-parent", "--new-session", "--clearenv", "--cap-drop", "ALL"),
        *(as_root if os.getuid() == 0 else ("--unshare-user",)),
        *system,
        *readable,
        *("--ro-bind", str(SCRIPT), "/lighteval_metrics.py"),
        *("--proc", "/proc", "--dev", "/dev", "--remount-ro", "/dev"),
        *("--perms", "1777", "--size", str(16 * 2**20), "--tmpfs", "/dev/shm"),  # noqa: S108
        *("--perms", "1777", "--size", str(64 * 2**20), "--tmpfs", "/tmp", "--remount-ro", "/"),  # noqa: S108
        *("--setenv", "HOME", "/tmp", "--setenv", "LANG", "C.UTF-8", "--setenv", "PATH", "/usr/bin:/bin"),  # noqa: S108
        *("--setenv", "OMP_NUM_THREADS", "1", "--setenv", "OPENBLAS_NUM_THREADS", "1"),
        *("--", str(python), "-I", "-B", "/lighteval_metrics.py", "code"),
    ]


def shown(folder: str) -> list[str]:
    """Arguments that show a folder in its own place, by a way that everybody may go."""
    above = [str(parent) for parent in reversed(Path(folder).parents)][1:]
    way = [part for parent in above for part in ("--perms", "0755", "--dir", parent)]
    return [*way, "--ro-bind", folder, folder]


@cache
def prefixes(python: Path) -> tuple[str, ...]:
    """The folders that an interpreter needs: its environment, and the Python that made it."""
    done = subprocess.run(
        [str(python), "-I", "-c", PREFIXES],
        env=without_secrets(os.environ), capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise HarnessError(
            f"{python} does not run: {done.stderr.strip()[-300:]}", "Run: harness setup lighteval"
        )
    return tuple(prefix for prefix in dict.fromkeys(done.stdout.split("\n")) if prefix not in ("", "/usr"))
