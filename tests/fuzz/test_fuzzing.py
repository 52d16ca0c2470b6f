"""A short run of every target, the same each time; tests/acceptance/fuzz is the long one."""

import os
from collections import Counter
from pathlib import Path

import pytest

from tests.fuzz.campaign import SEEDS, Effort, fuzz, fuzzed, table, targets

pytest.importorskip("atheris", reason="no wheel for this Python")
SHORT = Effort(inputs=150, bombs=12)


def test_every_target_has_seeds_and_every_seed_a_target() -> None:
    assert sorted(path.name for path in SEEDS.iterdir()) == targets()
    assert all(any((SEEDS / name).iterdir()) for name in targets())


def test_a_faulty_reader_is_caught_at_each_of_its_faults_and_fuzzed_on(tmp_path: Path) -> None:
    found = fuzz("tests.fuzz.faulty", Effort(inputs=20, bombs=6), tmp_path / "faulty")
    kinds = Counter(one.kind.split()[0] for one in found.findings)
    assert kinds["error"] == 2
    assert kinds["memory"] == kinds["hang"] == kinds["died"] == 1
    assert found.hangs == 1
    assert found.crashes == 4
    assert found.inputs >= 6 + 20
    assert found.hungriest > 250


def test_a_target_that_cannot_start_is_no_success(tmp_path: Path) -> None:
    found = fuzz("tests.fuzz.nothing", Effort(inputs=1), tmp_path / "nothing")
    assert "No module named" in found.trouble
    assert "DID NOT RUN" in "".join(table([found]))


def test_no_parser_of_foreign_bytes_ends_in_an_error_a_hang_or_much_memory(tmp_path: Path) -> None:
    for one in fuzzed(targets(), SHORT, tmp_path, at_once=os.cpu_count() or 1):
        assert not one.trouble, f"{one.target}: {one.trouble}"
        assert not one.findings, f"{one.target}: {one.findings[0].kind}\n{one.findings[0].text}"
        assert one.inputs >= SHORT.inputs
        assert one.edges > 0
