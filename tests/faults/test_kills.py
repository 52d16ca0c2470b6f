"""Kills of generation, grading and reports: a few strikes each. Many: tests/acceptance/faults with FULL=1."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from tests.faults.fault import Fault, Outcome
from tests.faults.kills import generate, grade, report
from tests.faults.one import every
from tests.faults.stored import same_runs
from tests.faults.struck import INTERRUPTED, Blow, Ended, Scene, Trouble, complaint

STRUCK = (generate.streamed, grade.bubblewrapped, report.report)
STRIKES = 12


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("fault", STRUCK, ids=lambda fault: fault.name)
def test_what_is_killed_again_and_again_is_finished_by_running_it_again(fault: Fault, tmp_path: Path) -> None:
    if why := fault.needs():
        pytest.skip(why)
    command = [sys.executable, "-m", "tests.faults.one", fault.name, "1", str(tmp_path)]
    environment = {**os.environ, "IN_ONE_GO": str(STRIKES)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=1700)
    outcome = msgspec.json.decode(done.stdout.splitlines()[-1], type=Outcome)
    assert outcome.ending == "survived", outcome.note
    assert outcome.strikes == STRIKES


def test_each_fault_has_a_name_of_its_own() -> None:
    names = [fault.name for fault in every()]
    assert len(names) == len(set(names))


def stored(runs: Path, *verdicts: tuple[str, bool]) -> Path:
    stage = runs / "stages" / "mark-1"
    stage.mkdir(parents=True)
    rows = [{"question": question, "draw": 0, "correct": correct} for question, correct in verdicts]
    (stage / "grades.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return runs


@pytest.mark.parametrize(
    ("verdicts", "ending"),
    [
        ((("a", True),), "lost"),
        ((("a", True), ("b", True), ("b", True)), "lost"),
        ((("a", True), ("b", False)), "wrongly graded"),
    ],
)
def test_rows_that_are_gone_or_there_twice_or_others_are_seen(
    verdicts: tuple[tuple[str, bool], ...], ending: str, tmp_path: Path
) -> None:
    calm = stored(tmp_path / "calm", ("a", True), ("b", True))
    with pytest.raises(Trouble) as trouble:
        same_runs(calm, stored(tmp_path / "struck", *verdicts))
    assert trouble.value.ending == ending
    same_runs(calm, stored(tmp_path / "again", ("b", True), ("a", True)))


def test_a_file_that_nobody_needs_is_seen(tmp_path: Path) -> None:
    calm, struck = stored(tmp_path / "calm", ("a", True)), stored(tmp_path / "struck", ("a", True))
    (struck / "stages" / "mark-1" / ".grades.jsonl.17").touch()
    with pytest.raises(Trouble, match="should not be there"):
        same_runs(calm, struck)


def test_a_process_that_is_left_without_its_environment_is_seen_by_its_folder(tmp_path: Path) -> None:
    scene = Scene(folder=tmp_path)
    scene.scratch.mkdir()
    with subprocess.Popen(["sleep", "60"], cwd=scene.scratch, env={}) as left:
        found = scene.alive()
        left.kill()
    assert found == [f"process {left.pid}: sleep 60 "]
    assert not scene.alive()


@pytest.mark.parametrize(
    ("code", "said", "caught", "fine"),
    [
        (130, INTERRUPTED, True, True),
        (130, "", True, False),
        (1, "error: the sandbox broke", True, False),
        (-15, "", True, False),
        (-15, "", False, True),
        (0, "Traceback (most recent call last):", True, False),
    ],
)
def test_a_command_ends_on_sigterm_as_is_documented(code: int, said: str, caught: bool, fine: bool) -> None:
    blow = Blow(after=1, signal=signal.SIGTERM)
    assert (complaint(Ended(code=code, said=said, seconds=1, blow=blow, caught=caught)) == "") is fine
