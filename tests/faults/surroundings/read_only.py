"""A runs folder that cannot be written: from the start, or from some moment of the run on."""

import random
import subprocess
import tempfile
from pathlib import Path

from tests.faults.disks import disk, no_mounts, remount
from tests.faults.fault import Fault, Outcome
from tests.faults.filed import Holding, check_said, check_whole, evaluate, finished, serving, until_rows
from tests.faults.struck import PATIENCE, Ended, Scene, Trouble, said_in

SLOW = ("--delay", "0.05")
READ_ONLY = ("cannot write", "Read-only file system", "Make it writable")
NOT_PERMITTED = ("Operation not permitted", "ake it writable")
"""Whoever tells it says what is to be made writable."""


def refused(folder: Path, url: str, expected: Holding) -> Outcome:
    """The run on a disk that is read-only while it is asked for, and then is not."""
    runs, scene = folder / "disk" / "runs", Scene(folder=folder)
    assert remount(folder / "disk", "ro")
    said = check_said(scene.strike(evaluate(url, runs), None), *READ_ONLY)
    assert remount(folder / "disk", "rw")
    scene.run(evaluate(url, runs))
    check_whole(runs, expected)
    return Outcome(ending="survived", note=said)


def from_the_start(folder: Path, seed: int) -> Outcome:
    with serving() as url, disk(folder / "disk", "64m"):
        _, expected = finished(folder, url)
        return refused(folder, url, expected)


def a_finished_run(folder: Path, seed: int) -> Outcome:
    """Nothing has to be written into its stages; its report and links have."""
    with serving() as url, disk(folder / "disk", "64m"):
        _, expected = finished(folder / "disk", url)
        return refused(folder, url, expected)


def midway(folder: Path, seed: int) -> Outcome:
    """New files cannot be made any more; those that are open can still be written, as after `chattr +i`."""
    rng = random.Random(f"{seed}:read-only")
    with serving(*SLOW) as url:
        _, expected = finished(folder / "undisturbed", url)
        runs, scene, log = folder / "runs", Scene(folder=folder), folder / "said.txt"
        words, wanted = evaluate(url, runs), rng.randrange(1, 20)
        process = scene.start(words, log)
        until_rows(runs, wanted, [process])
        locked = [path for path in runs.rglob("*") if path.is_dir() and not path.is_symlink()]
        change("+i", locked)
        try:
            code = process.wait(PATIENCE)
        finally:
            change("-i", locked)
        if code == 0:
            raise Trouble("lost", f"not struck: it was done before its folders became read-only, {locked}")
        said = check_said(Ended(code=code, said=said_in(log), seconds=0.0), *NOT_PERMITTED)
        scene.run(words)
        check_whole(runs, expected)
    return Outcome(ending="survived", note=f"after {wanted} rows: {said}")


def change(attribute: str, folders: list[Path]) -> None:
    if folders:
        subprocess.run(["chattr", attribute, *map(str, folders)], check=True)


def no_attributes() -> str:
    """Why folders cannot be made immutable here; empty where they can."""
    if why := no_mounts():
        return why
    with tempfile.TemporaryDirectory() as place:
        try:
            done = subprocess.run(["chattr", "+i", place], capture_output=True, text=True, check=False)
            subprocess.run(["chattr", "-i", place], capture_output=True, check=False)
        except FileNotFoundError:
            return "there is no chattr"
    return done.stderr.strip()


read_only = Fault(name="files: a read-only folder", kind="files", run=from_the_start, needs=no_mounts)
read_only_finished = Fault(
    name="files: a finished run becomes read-only",
    kind="files",
    run=a_finished_run,
    slow=True,
    needs=no_mounts,
)
read_only_midway = Fault(
    name="files: a folder becomes read-only midway", kind="files", run=midway, slow=True, needs=no_attributes
)
