"""Files that are damaged, disks that are full, folders that two share: some of each, with one seed."""

from pathlib import Path

import pytest

from tests.faults.fault import Fault
from tests.faults.surroundings.damaged_rows import grades_flipped, killed_rows_flipped, rows_cut
from tests.faults.surroundings.full_disk import asking
from tests.faults.surroundings.read_only import read_only
from tests.faults.surroundings.two_harnesses import holder_killed

FEW = (rows_cut, killed_rows_flipped, grades_flipped, asking, read_only, holder_killed)
SEED = 1


@pytest.mark.parametrize("fault", FEW, ids=lambda fault: fault.name)
def test_the_same_command_comes_to_the_same_end_after(fault: Fault, tmp_path: Path) -> None:
    if why := fault.needs():
        pytest.skip(why)
    outcome = fault.run(tmp_path, SEED)
    assert outcome.ending == "survived", outcome.note
