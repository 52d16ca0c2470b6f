"""Kills of generation, grading and reports: a few strikes each. Many: tests/acceptance/faults with FULL=1."""

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from tests.faults.fault import Fault, Outcome
from tests.faults.kills import generate, grade, report
from tests.faults.one import every

STRUCK = (generate.streamed, grade.bubblewrapped, report.report, report.export)


@pytest.mark.parametrize("fault", STRUCK, ids=lambda fault: fault.name)
def test_what_is_killed_again_and_again_is_finished_by_running_it_again(fault: Fault, tmp_path: Path) -> None:
    if why := fault.needs():
        pytest.skip(why)
    command = [sys.executable, "-m", "tests.faults.one", fault.name, "1", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=590)
    outcome = msgspec.json.decode(done.stdout.splitlines()[-1], type=Outcome)
    assert outcome.ending == "survived", outcome.note
    assert outcome.strikes == 4


def test_each_fault_has_a_name_of_its_own() -> None:
    names = [fault.name for fault in every()]
    assert len(names) == len(set(names))
