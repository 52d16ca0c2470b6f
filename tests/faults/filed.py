"""A small evaluation by the fake server, what is done to its files, and the end that it must come to.

The answers are a function of prompt and seed, so that rows are compared word for word.
"""

import contextlib
import functools
import json
import os
import random
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

from harness.store import RunStore
from harness.verify import damages, stages_of
from tests.fakes.engine import running
from tests.faults.fault import Outcome
from tests.faults.struck import HARNESS, PATIENCE, Ended, Scene, Trouble

RUN = "tiny"
QUESTIONS, DRAWS = 10, 2
CHANGING = ("latency", "request_id", "honoured")
"""What differs between two undisturbed runs."""

Rows = dict[str, dict[tuple[str, int], dict[str, Any]]]
How = Literal["flipped", "cut"]


@contextlib.contextmanager
def serving(*switches: str) -> Iterator[str]:
    """The base URL of a server that is right in half of its answers."""
    with running("--sums", "0.5", *switches) as endpoint:
        yield endpoint.base_url


def evaluate(url: str, runs: Path, *more: str) -> list[str]:
    asked = ["-b", f"micro_math:{DRAWS}", "--limit", str(QUESTIONS), "--max-tokens", "40", "--name", RUN]
    return [*HARNESS, "evaluate", RUN, *asked, "--base-url", url, "--runs", str(runs), *more]


def mend(runs: Path) -> list[str]:
    return [*HARNESS, "verify", "--mend", "--runs", str(runs)]


def finished(folder: Path, url: str) -> tuple[Path, Rows]:
    """The runs folder of an undisturbed evaluation, and its rows."""
    runs = folder / "runs"
    Scene(folder=folder).run(evaluate(url, runs))
    return runs, rows(runs)


def rows(runs: Path) -> Rows:
    """All rows by file. Raises Trouble where one is there twice."""
    found: Rows = {}
    for name in ("generations", "grades"):
        (file,) = runs.glob(f"stages/*/{name}.jsonl")
        own = [json.loads(line) for line in file.read_bytes().splitlines()]
        found[name] = {(one["question"], one["draw"]): fixed(one) for one in own}
        if len(found[name]) != len(own):
            raise Trouble("lost", f"{len(own) - len(found[name])} rows of {file.name} are there twice")
    return found


def fixed(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in CHANGING}


def check_said(ended: Ended) -> str:
    """What a user reads of a command that did not come to a good end.

    Raises Trouble where it is a traceback, or no message with a way out.
    """
    said = " ".join(ended.said.split())
    if "Traceback" in said:
        raise Trouble("lost", f"a traceback: {said[-800:]}")
    if (start := said.rfind("error: ")) < 0 or not re.search(
        r"harness verify|run |[Ff]ree|re-run|go on", said[start:]
    ):
        raise Trouble("lost", f"exit code {ended.code} without a message: {said[-400:]}")
    return said[start:]


def check_whole(runs: Path, expected: Rows) -> None:
    """Raises Trouble unless all rows are there once, as undisturbed, and nothing is damaged."""
    check_rows(rows(runs), expected)
    store = RunStore(runs)
    if left := [one.what for key in stages_of(store, None) for one in damages(store.stages / key)]:
        raise Trouble("lost", f"still damaged: {left}")
    check_report(runs, expected)


def check_rows(found: Rows, expected: Rows) -> None:
    for name, wanted in expected.items():
        if missing := wanted.keys() - found[name].keys():
            raise Trouble("lost", f"{len(missing)} rows of {name} are missing")
        for key, row in found[name].items():
            if row != wanted.get(key):
                raise Trouble("wrongly graded", f"{name} {key} is {row}, was {wanted.get(key)}")


def check_report(runs: Path, expected: Rows) -> None:
    """Raises Trouble unless the report tells the score of the undisturbed run."""
    (entry,) = json.loads((runs / RUN / "report.json").read_bytes())["entries"]
    verdicts = [one["correct"] for one in expected["grades"].values()]
    if abs(entry["measured"] - 100 * sum(verdicts) / len(verdicts)) > 1e-6:
        raise Trouble("wrongly graded", f"the report says {entry['measured']}")


def damage(file: Path, how: How, rng: random.Random) -> str:
    """Flips a bit of a file or cuts its end off; says where."""
    content = bytearray(file.read_bytes())
    at = rng.randrange(1, len(content) - 1)
    if how == "flipped":
        content[at] ^= 1 << rng.randrange(8)
    else:
        del content[at:]
    file.write_bytes(content)
    return f"{file.name} {how} at {at}"


def until_rows(runs: Path, wanted: int, processes: "Iterable[subprocess.Popen[bytes]]") -> None:
    """Waits until so many responses are there, or one of the commands has ended."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and all(one.poll() is None for one in processes):
        files = runs.glob("stages/ask-*/generations.jsonl")
        if sum(file.read_bytes().count(b"\n") for file in files) >= wanted:
            return
        time.sleep(0.01)


def interrupt(runs: Path, kept: int) -> None:
    """Leaves the evaluation as a kill does after so many rows, before any of them was graded."""
    (asked,), (marked,) = runs.glob("stages/ask-*"), runs.glob("stages/mark-*")
    for name in ("generations.jsonl", "generations.jsonl.places"):
        lines = (asked / name).read_bytes().splitlines(keepends=True)
        (asked / name).write_bytes(b"".join(lines[:kept]) + lines[kept][:30])
    for name in ("stage.json", "asked.json"):
        (asked / name).unlink()
    shutil.rmtree(marked)
    shutil.rmtree(runs / RUN)


def ends_whole(scene: Scene, words: list[str], runs: Path, expected: Rows, what: str) -> Outcome:
    """Runs the command again: at once, or after its message and `harness verify --mend`."""
    first = scene.strike(words, None)
    said = "went on" if first.code == 0 else check_said(first)
    if first.code == 0:
        check_rows(rows(runs), expected)
        check_report(runs, expected)
    scene.run(mend(runs))
    scene.run(words)
    check_whole(runs, expected)
    return Outcome(ending="survived", note=f"{what}: {said}")


# A small disk ---------------------------------------------------------------------------------


@functools.cache
def no_mounts() -> str:
    """Why no file system can be mounted here; empty where one can."""
    if os.geteuid():
        return "mounting a file system takes root"
    with tempfile.TemporaryDirectory() as place:
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "none", place], capture_output=True, text=True, check=False
        )
        if done.returncode == 0:
            subprocess.run(["umount", place], check=True)
        return done.stderr.strip()


@contextlib.contextmanager
def disk(place: Path, size: str) -> Iterator[None]:
    """A file system of its own at a folder, in memory."""
    place.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", place], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


def remount(place: Path, options: str) -> bool:
    """Whether the file system could be changed: it cannot be read-only while a file is being written."""
    done = subprocess.run(["mount", "-o", f"remount,{options}", place], capture_output=True, check=False)
    return done.returncode == 0
