"""The right answer to a question grades as correct; tests/acceptance/gold_through_grader reads them all."""

import os
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path

import pytest

from harness.sandboxes import Sandbox, docker, in_ci
from tests.grading import golds, programs

pytestmark = pytest.mark.skipif("HARNESS_DATA" not in os.environ, reason="HARNESS_DATA is not set")


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    if (trouble := docker.trouble()) and not in_ci():
        pytest.skip(f"docker cannot run here: {trouble}")
    with closing(programs.docker_sandbox()) as opened:
        yield opened


@pytest.mark.parametrize("name", golds.all_benchmarks())
def test_right_answer_grades_correct_and_truncated_never_scores(name: str, sandbox: Sandbox, tmp_path: Path):
    folder = programs.data_folder()
    assert folder is not None
    known = [
        *programs.read_programs(folder / "complete_tests_programs.jsonl"),
        *programs.sampled(programs.read_programs(folder / "real_programs.jsonl"), 400),
    ]
    benchmark = golds.all_benchmarks()[name]
    found = list(islice(golds.cases(benchmark, folder.parent, tmp_path, known), 5))
    assert found
    for case in found:
        assert case.graded(sandbox).correct is True, case.question.id
        cut = case.cut_off(sandbox)
        assert (cut.correct, cut.reason, cut.truncated) == (False, "truncated", True)
