"""A small evaluation by the fake server, what is done to its files, and the end that it must come to.

The answers are a function of prompt and seed, so that rows are compared word for word.
"""

import contextlib
import json
import random
import shutil
import subprocess
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from harness.adopt import about_file, about_line, digest
from harness.integrity import IDENTITY, MANIFEST
from harness.rows import key_of, read_rows
from harness.store import RunStore, differences
from harness.types import Generation
from harness.verify import damages, stages_of
from tests.fakes.engine import running
from tests.faults.struck import HARNESS, PATIENCE, Ended, Scene, Trouble

RUN = "tiny"
QUESTIONS, DRAWS = 10, 2
CHANGING = ("latency", "request_id", "honoured")
"""What differs between two undisturbed runs."""

OF_THE_MAKING = ("seconds", "resumed", "finished", "check")
"""What of a stage.json tells how it came about."""

Rows = dict[str, dict[tuple[str, int], dict[str, Any]]]
How = Literal["flipped", "cut"]


@dataclass(frozen=True, kw_only=True)
class Holding:
    """What a runs folder holds: all rows by file, and each identity.json and stage.json by its path."""

    rows: Rows
    told: dict[str, dict[str, Any]]


@contextlib.contextmanager
def serving(*switches: str) -> Iterator[str]:
    """The base URL of a server that is right in half of its answers."""
    with running("--sums", "0.5", *switches) as endpoint:
        yield endpoint.base_url


def evaluate(url: str, runs: Path) -> list[str]:
    return evaluating(RUN, "--base-url", url, "--runs", str(runs))


def evaluating(model: str, *where: str) -> list[str]:
    """The command that evaluates a model somewhere, as the run `tiny`."""
    asked = ["-b", f"micro_math:{DRAWS}", "--limit", str(QUESTIONS), "--max-tokens", "40", "--name", RUN]
    return [*HARNESS, "evaluate", model, *asked, *where]


def mend(runs: Path) -> list[str]:
    return [*HARNESS, "verify", "--mend", "--runs", str(runs)]


def verify(runs: Path) -> list[str]:
    return [*HARNESS, "verify", "--runs", str(runs)]


def finished(folder: Path, url: str) -> tuple[Path, Holding]:
    """The runs folder of an undisturbed evaluation, and what it holds."""
    runs = folder / "runs"
    Scene(folder=folder).run(evaluate(url, runs))
    return runs, holding(runs)


def holding(runs: Path) -> Holding:
    """Raises Trouble where a row is there twice."""
    files = [*runs.glob(f"stages/*/{IDENTITY}"), *runs.glob(f"stages/*/{MANIFEST}")]
    told = {str(file.relative_to(runs)): told_in(file) for file in files}
    return Holding(rows=rows(runs), told=told)


def told_in(file: Path) -> dict[str, Any]:
    """What an identity.json or a stage.json says, but for how it came about: of the files, their names."""
    told = json.loads(file.read_bytes())
    rest = {name: value for name, value in told.items() if name not in OF_THE_MAKING}
    return {**rest, "files": sorted(rest["files"])} if file.name == MANIFEST else rest


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


def check_said(ended: Ended, *wanted: str) -> str:
    """What a user reads of a command that did not come to a good end.

    Raises Trouble where it is a traceback, or no message that says all that is wanted.
    """
    said = " ".join(ended.said.split())
    if "Traceback" in said:
        raise Trouble("lost", f"a traceback: {said[-800:]}")
    if (start := said.rfind("error: ")) < 0:
        raise Trouble("lost", f"exit code {ended.code} without a message: {said[-400:]}")
    if lacking := [words for words in wanted if words not in said[start:]]:
        raise Trouble("lost", f"the message does not say {lacking}: {said[start:]}")
    return said[start:]


def check_whole(runs: Path, expected: Holding) -> None:
    """Raises Trouble unless all rows are there once, all stages tell what they told undisturbed, and nothing
    is damaged."""
    found = holding(runs)
    check_rows(found.rows, expected.rows)
    if found.told != expected.told:
        others = list(differences(expected.told, found.told))
        raise Trouble("lost", f"stages tell otherwise, or are gone: {others}")
    store = RunStore(runs)
    if left := [one.what for key in stages_of(store, None) for one in damages(store.stages / key)]:
        raise Trouble("lost", f"still damaged: {left}")
    check_report(runs, expected.rows)


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
    """Flips a bit of a file, or cuts its end off; of rows within those that are whole. Says where."""
    content = bytearray(file.read_bytes())
    at = rng.randrange(1, content.rfind(b"\n") if file.suffix == ".jsonl" else len(content) - 1)
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


def interrupt_grading(runs: Path, kept: int) -> None:
    """Leaves the evaluation as a kill does after so many verdicts, all responses of which are there."""
    (asked,), (marked,) = runs.glob("stages/ask-*"), runs.glob("stages/mark-*")
    grades = marked / "grades.jsonl"
    lines = grades.read_bytes().splitlines(keepends=True)
    grades.write_bytes(b"".join(lines[:kept]) + lines[kept][:30])
    responses = read_rows(asked / "generations.jsonl", Generation)
    about_file(grades).write_bytes(b"".join(about_line(key_of(row), digest(row)) for row in responses))
    (marked / MANIFEST).unlink()
    shutil.rmtree(runs / RUN)


def ends_whole(
    scene: Scene, words: list[str], runs: Path, expected: Holding, damaged: Path, *, found: bool
) -> str:
    """Runs the command again: at once, or after its message and `harness verify --mend`. Returns the message.

    Where the damage can be `found`, `harness verify` has to name the file, and so has the command, unless
    it comes to the right end. Raises Trouble.
    """
    if found:
        check_found(scene, runs, damaged)
    first = scene.strike(words, None)
    if first.code == 0:
        check_rows(rows(runs), expected.rows)
        check_report(runs, expected.rows)
        said = "went on"
    else:
        said = check_said(first, damaged.name, "harness verify --mend")
    scene.run(mend(runs))
    scene.run(words)
    check_whole(runs, expected)
    return said


def check_found(scene: Scene, runs: Path, damaged: Path) -> None:
    """Raises Trouble where `harness verify` does not find this file."""
    looked = scene.strike(verify(runs), None)
    if looked.code != 1 or str(damaged) not in looked.said.replace("\n", ""):
        raise Trouble("lost", f"{damaged.name} was not found, exit code {looked.code}: {looked.said[-400:]}")
