"""The scratch folder: whose it is, and that it goes with its owner."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
GRADED = "from harness.grading.answers import Verifier; Verifier().verify('1/2', '\\\\boxed{0.5}')"


def process(code: str, folder: Path) -> "subprocess.Popen[str]":
    """A process with a scratch folder in `folder`, which tells its path and waits for a line."""
    program = f"from harness.scratch import scratch\nprint(scratch(), flush=True)\n{code}\nprint(input())"
    return subprocess.Popen(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(folder)},
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def told(started: "subprocess.Popen[str]") -> Path:
    assert started.stdout is not None
    return Path(started.stdout.readline().strip())


def test_a_scratch_folder_goes_when_its_process_ends(tmp_path: Path) -> None:
    one = process("(scratch() / 'file').touch()", tmp_path)
    folder = told(one)
    one.communicate("bye\n", timeout=60)
    assert folder.parent == tmp_path
    assert not any(tmp_path.iterdir())


def test_folders_of_the_living_are_kept_and_those_of_the_dead_removed(tmp_path: Path) -> None:
    living, dead = process("", tmp_path), process("", tmp_path)
    kept, left = told(living), told(dead)
    dead.kill()
    dead.communicate(timeout=60)
    assert left.exists()
    foreign = tmp_path / "dasd-harness-other"
    foreign.mkdir()
    third = process("", tmp_path)
    told(third)
    assert (kept.exists(), left.exists(), foreign.exists()) == (True, False, True)
    for one in (living, third):
        one.communicate("bye\n", timeout=60)


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder whose path leaves room for a socket's."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def test_sockets_of_grading_workers_go_with_the_scratch_folder_of_a_killed_harness(short: Path) -> None:
    one = process(f"{GRADED}\nprint('graded', flush=True)", short)
    told(one)
    assert one.stdout is not None
    assert one.stdout.readline() == "graded\n"
    assert len(list(short.iterdir())) == 1
    one.send_signal(signal.SIGKILL)
    one.communicate(timeout=60)
    other = process("", short)
    told(other)
    other.communicate("bye\n", timeout=60)
    assert not any(short.iterdir())
