"""Kills while a finished run is reported and exported: each file is whole, the old one or the new one."""

import random
from collections.abc import Callable
from pathlib import Path

from tests.faults.fault import Fault, Outcome
from tests.faults.finished import RUN, finished
from tests.faults.striking import IN_ONE_GO, Play, strikes
from tests.faults.struck import HARNESS, Scene, Trouble

BENCHMARKS = ("micro_math:2", "micro_science:2")
OLD = b"what an earlier report said\n"
REPORTS = ("report.json", "report.md", "report.html")


def reported(folder: Path, seed: int) -> Outcome:
    made = finished(folder, *BENCHMARKS)

    def prepare(runs: Path) -> None:
        made.copy(runs)
        for name in REPORTS:
            (runs / RUN / name).write_bytes(OLD)

    return struck(folder, f"{seed}:report", ["report", RUN], prepare)


def exported(folder: Path, seed: int) -> Outcome:
    words = ["export", RUN, "csv", "inspect", "lighteval"]
    return struck(folder, f"{seed}:export", words, finished(folder, *BENCHMARKS).copy)


def struck(folder: Path, seed: str, words: list[str], prepare: Callable[[Path], None]) -> Outcome:
    play = Play(
        words=lambda runs: [*HARNESS, *words, "--runs", str(runs)],
        prepare=prepare,
        check=same_bytes,
        glance=none_torn,
    )
    return strikes(Scene(folder=folder), play, random.Random(seed), IN_ONE_GO)


def made_of(runs: Path) -> dict[str, Path]:
    """The files of a run that are made of its rows, by their names."""
    files = [runs / RUN / name for name in REPORTS]
    files += [file for file in (runs / RUN / "exports").rglob("*") if file.is_file()]
    return {file.relative_to(runs / RUN).as_posix(): file for file in files}


def none_torn(calm: Path, runs: Path) -> None:
    """Raises Trouble where a file is neither as it was, nor as it is to be. Hidden ones are not there yet."""
    whole = made_of(calm)
    for name, file in made_of(runs).items():
        hidden = any(part.startswith(".") for part in Path(name).parts)
        if not hidden and file.read_bytes() not in (OLD, whole[name].read_bytes()):
            raise Trouble("lost", f"{name} is torn: {file.stat().st_size} bytes")


def same_bytes(calm: Path, runs: Path) -> None:
    """Raises Trouble where the second folder does not hold the very files of the first."""
    expected, found = made_of(calm), made_of(runs)
    hidden = {file for one in (calm, runs) for file in map(str, (one / RUN).rglob(".*"))}
    if expected.keys() != found.keys():
        raise Trouble("lost", f"other files: {sorted(expected.keys() ^ found.keys())}")
    stray = {Path(file).name for file in hidden if Path(file).parent.name == RUN}
    if stray:
        raise Trouble("lost", f"left over: {sorted(stray)}")
    if differing := [
        name for name, file in found.items() if file.read_bytes() != expected[name].read_bytes()
    ]:
        raise Trouble("wrongly graded", f"not as undisturbed: {differing}")


report = Fault(name="report: the three files of a report", kind="report", run=reported)
export = Fault(name="report: exports", kind="report", run=exported)
