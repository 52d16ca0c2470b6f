"""A stage's work in a process of its own: what it held of a GPU, CUDA's context included, goes with it.

The child writes one JSON object a line to its standard output: what it tells of its progress and, where
it fails, a HarnessError, which the parent raises in its own name. All else that it prints goes to a log.
It runs below a supervisor and does not outlive the harness.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NoReturn, TextIO

import msgspec

from harness import errors
from harness.errors import HarnessError, StageError
from harness.progress import Counter, Progress
from harness.secrets import without_secrets
from harness.serve import supervised

ROOT = Path(__file__).parents[1]
LOG = "log.txt"
TAIL = 2_000


class Said(msgspec.Struct, tag=True):
    text: str


class Opened(msgspec.Struct, tag=True):
    """A counter was opened; what is counted next counts for it."""

    label: str
    total: int
    done: int


class Advanced(msgspec.Struct, tag=True):
    rows: int
    tokens: int
    failures: int


class Failed(msgspec.Struct, tag=True):
    """A HarnessError; `kind` is its class."""

    kind: str
    message: str
    remedy: str


Told = Said | Opened | Advanced | Failed


def run(module: str, job: object, out: Path, progress: Progress) -> None:
    """Runs a module of ours whose `__main__` calls `main`, and shows its progress.

    Raises the HarnessError that it raised, and StageError where it ends without one.
    """
    command = [sys.executable, "-m", module, msgspec.json.encode(job).decode()]
    log = out / LOG
    failed: Failed | None = None
    with running(command, log) as process, ExitStack() as counters:
        counter: Counter | None = None
        assert process.stdout is not None
        for line in (line for line in process.stdout if line.endswith(b"\n")):
            match msgspec.json.decode(line, type=Told):
                case Said(text):
                    progress.say(text)
                case Opened(label, total, done):
                    counters.close()
                    counter = counters.enter_context(progress.counter(label, total, done))
                case Advanced(rows, tokens, failures):
                    assert counter is not None
                    counter.advance(rows, tokens, failures)
                case Failed() as failed:
                    pass
    if failed is not None:
        raise understood(failed)
    if process.returncode:
        raise StageError(
            f"{module} ended with exit code {process.returncode}; its log ends:\n{tail(log)}",
            f"The whole log is {log}. What was finished is kept; the same command goes on from there.",
        )
    log.unlink()


@contextmanager
def running(command: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process below a supervisor, which ends it when the `with` ends."""
    paths = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    with log.open("wb") as errors_go_here:
        process = subprocess.Popen(
            supervised(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors_go_here,
            env={**without_secrets(os.environ), "PYTHONPATH": paths},
            start_new_session=True,
        )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield process
    finally:
        process.stdin.close()
        process.wait()
        process.stdout.close()


def understood(failed: Failed) -> HarnessError:
    """The error that the child raised: its own class where it is one of harness.errors."""
    kind = getattr(errors, failed.kind, StageError)
    found: HarnessError = kind(failed.message, failed.remedy)
    return found


def tail(log: Path) -> str:
    return log.read_bytes()[-TAIL:].decode("utf-8", errors="replace")


def main(work: Callable[[bytes, Progress], None]) -> NoReturn:
    """The child's side: does the work that its argument describes, and exits."""
    told = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)  # a library's print is no news of ours
    try:
        work(os.fsencode(sys.argv[1]), Telling(told))
    except HarnessError as error:
        tell(told, Failed(kind=type(error).__name__, message=error.message, remedy=error.remedy))
        sys.exit(error.exit_code)
    sys.exit(0)


def tell(told: TextIO, news: Told) -> None:
    told.write(msgspec.json.encode(news).decode() + "\n")


class Telling:
    """A progress, and its own counter, that tells the parent."""

    def __init__(self, told: TextIO) -> None:
        self.told = told

    def say(self, text: str) -> None:
        tell(self.told, Said(text=text))

    @contextmanager
    def stage(self, label: str) -> Iterator[None]:
        yield

    @contextmanager
    def counter(self, label: str, total: int, done: int = 0) -> Iterator[Counter]:
        tell(self.told, Opened(label=label, total=total, done=done))
        yield self

    def advance(self, rows: int = 1, tokens: int = 0, failures: int = 0) -> None:
        tell(self.told, Advanced(rows=rows, tokens=tokens, failures=failures))
