"""Recorded programs against the official grader's verdicts; the acceptance programs take all of them."""

import pytest

from harness.sandboxes import Sandbox, StdinMode
from tests.grading import programs
from tests.grading.programs import Recorded


def recorded(name: str) -> list[Recorded]:
    folder = programs.data_folder()
    if folder is None:
        pytest.skip("HARNESS_DATA is unset: the real programs are not part of the repository")
    return programs.read_programs(folder / name)


@pytest.mark.parametrize("stdin", programs.STDIN_MODES)
def test_edge_programs_equal_official_and_cheats_fail(sandbox: Sandbox, stdin: StdinMode) -> None:
    rows = [row for row in recorded("edge_programs.jsonl") if not row.id.startswith(programs.SLOW_EDGES)]
    compared = programs.compare(rows, sandbox, stdin)
    differing = programs.differing(compared, "verdict", "error code", "time limit")
    assert {row.program.id for row in differing} == set(programs.EDGE_REASONS), differing
    cheats = [row for row in compared if row.program.id.startswith(programs.CHEAT)]
    assert len(cheats) == 5
    assert not [row for row in cheats if row.ours.passed]


def test_real_programs_equal_official(sandbox: Sandbox) -> None:
    rows = [row for row in recorded("real_programs.jsonl") if not row.racy]
    compared = programs.compare(programs.sampled(rows, 150), sandbox)
    assert [str(row) for row in programs.differing(compared, "verdict", "error code", "results")] == []


def test_programs_on_complete_tests_equal_official(sandbox: Sandbox) -> None:
    compared = programs.compare(recorded("complete_tests_programs.jsonl"), sandbox)
    assert [str(row) for row in compared if row.difference] == []


def test_speed_programs_equal_official(sandbox: Sandbox) -> None:
    rows = programs.sampled(recorded("speed_programs.jsonl"), 50)
    compared = programs.compare(rows, sandbox)
    assert [str(row) for row in programs.differing(compared, "verdict", "error code", "results")] == []
