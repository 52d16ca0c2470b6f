"""How tools end under faults: what is counted, how it is judged, and that the page says what was measured."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.performance.client.answers import is_right, read_questions
from tests.performance.client.served import ROOT
from tests.performance.client.work import write_questions
from tests.performance.peer_faults.faults import FAULTS
from tests.performance.peer_faults.server import victims
from tests.performance.peer_faults.told import FILE, read_results, table, versions
from tests.performance.peer_faults.tools import TOOLS
from tests.performance.peer_faults.trial import Ending, Run, counted, judged, tried

UNDISTURBED = Run(status=0, seconds=9.0, score=56.67, graded=30, asked=30, again=0, answered=30)
STOPPED = replace(UNDISTURBED, status=1, score=None, graded=0, asked=12, answered=8)
WRONG = replace(UNDISTURBED, score=46.67)


@pytest.mark.parametrize(
    ("runs", "ending"),
    [
        ([UNDISTURBED], "right"),
        ([WRONG], "wrong, untold"),
        ([replace(WRONG, graded=27)], "wrong, told"),
        ([replace(WRONG, complaints=["ERROR: returning empty response"])], "wrong, told"),
        ([replace(WRONG, complaints=["WARNING: Attempt 1 failed: Connection error"])], "wrong, untold"),
        ([replace(UNDISTURBED, graded=27)], "wrong, told"),
        ([STOPPED, replace(UNDISTURBED, again=3)], "goes on"),
        ([STOPPED, replace(UNDISTURBED, again=8)], "begins anew"),
        ([STOPPED, WRONG], "wrong, untold"),
        ([STOPPED, STOPPED], "stops for good"),
        ([replace(UNDISTURBED, score=None), UNDISTURBED], "goes on"),
        ([replace(STOPPED, status=None), UNDISTURBED], "hangs"),
    ],
)
def test_an_ending_is_judged_by_the_score_and_by_what_was_asked_again(
    runs: list[Run], ending: Ending
) -> None:
    assert judged(runs, UNDISTURBED) == ending


def test_only_what_was_answered_whole_counts_as_asked_twice() -> None:
    first = [event("asked", "a"), event("asked", "b"), event("answered", "a")]
    second = [event("asked", "b"), event("asked", "a"), event("answered", "b")]
    assert counted(first, first + second) == {"asked": 2, "again": 1, "answered": 2}


def event(name: str, question: str) -> dict[str, str]:
    return {"event": name, "question": question}


def test_a_spoilt_answer_would_change_the_score(tmp_path: Path) -> None:
    questions = read_questions(write_questions(tmp_path / "questions.jsonl"))
    assert len(victims(questions)) == 3
    assert all(is_right(name, 0) for name in victims(questions))


@pytest.mark.parametrize(
    ("fault", "endings"), [("malformed", {"right", "goes on"}), ("tool-killed", {"goes on"})]
)
def test_the_harness_under_a_fault_comes_to_the_known_score(
    tmp_path: Path, fault: str, endings: set[Ending]
) -> None:
    outcome = tried(TOOLS["harness"], FAULTS[fault], tmp_path / "trial", UNDISTURBED)
    assert outcome.ending in endings, outcome
    assert outcome.runs[-1].again == 0


def test_the_page_says_what_was_measured() -> None:
    results = read_results(FILE)
    page = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    assert table(results) in page
    assert versions(results) in page
    assert list(results["tools"]) == list(TOOLS)
