"""harness sentences: one response sentence by sentence, found again from a run's folder."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.errors import DataError, UsageError
from harness.files import write_json, write_rows
from harness.integrity import MANIFEST
from harness.stage import Stage
from harness.store import RunStore
from harness.tokens import NAME, TokenFile, tokens
from pipeline.select import Candidate, Select, split_sentences
from pipeline.sentences import find_candidate, find_response, find_selection, tell
from tests.pipeline.rows import row
from tests.pipeline.stages import Given, run

HOSTILE = "Say <script>alert(1)</script>. Then \x1b[31mred\x1b[0m.\nThe end"
TEXTS = ["One. Two.", HOSTILE, "Only this one here."]


def given(store: RunStore, name: str) -> Stage:
    stage = Given(name=name)
    store.path(stage).mkdir(parents=True)
    write_json(store.path(stage) / MANIFEST, {"key": stage.key})
    return stage


def selected(root: Path, name: str = "tiny") -> RunStore:
    """A run with a finished selection: draws 0, 1, 2 of one question, of which 1 is kept.

    The teacher finds the first sentence of draw 1 likelier, the student its last.
    """
    store = RunStore(root)
    responses, teacher, student = (given(store, each) for each in ("responses", "teacher", "student"))
    rows = [row(text, question="q:1", draw=draw) for draw, text in enumerate(TEXTS)]
    write_rows(store.path(responses) / "generations.jsonl", rows)
    for stage in (teacher, student):
        with TokenFile(store.path(stage) / NAME) as file:
            for draw, text in enumerate(TEXTS):
                sizes = [len(sentence.encode()) for sentence in split_sentences(text)]
                levels = [-1.0] * len(sizes)
                if draw == 1:
                    levels[0 if stage is student else -1] = -3.0
                file.append(("q:1", draw), tokens((), levels, sizes))
    select = Select(responses=responses, teacher=teacher, student=student, minimum_differing=0.0)
    run(select, store.stages)
    store.view(name, {"05-selected-low": select})
    return store


def sentences(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "harness.cli", "sentences", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "COLUMNS": "120"}
    )


@pytest.mark.parametrize("label", ["05-selected-low", "selected-low"])
def test_a_label_is_found_with_its_number_and_without(tmp_path: Path, label: str) -> None:
    assert find_selection(selected(tmp_path), f"tiny/{label}").label == "05-selected-low"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("tinny/selected-low", "no run 'tinny' with a finished selection"),
        ("tiny/selected-lo", "Did you mean 'selected-low'"),
        ("tiny", "has no finished selection ''"),
        ("stages/x", "no run 'stages'"),
    ],
)
def test_unknown_runs_and_labels_are_told_with_the_nearest(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        find_selection(selected(tmp_path), text)


def test_a_runs_folder_that_is_not_there_is_no_traceback(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no run 'tiny'"):
        find_selection(RunStore(tmp_path / "nowhere"), "tiny/selected-low")


def test_without_a_question_the_kept_one_richest_in_teacher_sentences_is_shown(tmp_path: Path) -> None:
    told = tell(find_selection(selected(tmp_path), "tiny/selected-low"))
    assert (told.candidate.draw, told.candidate.kept) == (1, True)
    assert [sentence.kind for sentence in told.sentences] == ["teacher", "shared", "student"]
    assert "".join(sentence.text for sentence in told.sentences) == HOSTILE


def test_a_question_with_a_colon_of_its_own_is_not_taken_for_a_draw(tmp_path: Path) -> None:
    selection = find_selection(selected(tmp_path), "tiny/selected-low")
    assert tell(selection, "q:1").candidate.draw == 1
    assert tell(selection, "q:1:2").candidate.draw == 2


def test_unknown_questions_and_draws_are_told_apart() -> None:
    found = [Candidate(question="sum-1", draw=draw, domain="math") for draw in (0, 2)]
    with pytest.raises(UsageError, match="Did you mean 'sum-1'"):
        find_candidate(found, "sum-2")
    with pytest.raises(UsageError, match="has the draws 0, 2"):
        find_candidate(found, "sum-1:1")
    with pytest.raises(UsageError, match="kept nothing"):
        find_candidate(found, "")


def test_a_response_that_was_removed_since_is_named(tmp_path: Path) -> None:
    write_rows(tmp_path / "generations.jsonl", [row("One.", question="q")])
    with pytest.raises(DataError, match="has no response"):
        find_response(tmp_path / "generations.jsonl", ("q", 1))


def test_the_classes_shown_are_those_that_were_counted(tmp_path: Path) -> None:
    told = tell(find_selection(selected(tmp_path), "tiny/selected-low"), "q:1:1")
    kinds = [sentence.kind for sentence in told.sentences]
    counted = (told.candidate.teacher_sentences, told.candidate.student_sentences, told.candidate.sentences)
    assert counted == (kinds.count("teacher"), kinds.count("student"), len(kinds))


def test_the_command_prints_a_table_and_writes_an_escaped_page(tmp_path: Path) -> None:
    selected(tmp_path)
    done = sentences("tiny/selected-low", "--runs", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "● teacher" in done.stdout
    assert "\x1b" not in done.stdout
    (page,) = (tmp_path / "tiny" / "sentences").glob("*.html")
    text = page.read_text(encoding="utf-8")
    assert "<script" not in text
    assert "\x1b" not in text
    assert text.count("&lt;script&gt;") >= 2
    assert text.count("<svg") == 1


def test_the_same_response_gives_the_same_file(tmp_path: Path) -> None:
    selected(tmp_path)
    pages = [tmp_path / name for name in ("a.svg", "b.svg")]
    for page in pages:
        done = sentences("tiny/selected-low", "q:1:0", "--runs", str(tmp_path), "--out", str(page))
        assert done.returncode == 0, done.stderr
    assert pages[0].read_bytes() == pages[1].read_bytes()
    assert pages[0].read_text().startswith("<svg ")


def test_bad_usage_exits_64_with_one_line(tmp_path: Path) -> None:
    done = sentences("tiny/selected-low", "--runs", str(tmp_path))
    assert done.returncode == 64
    assert "Traceback" not in done.stderr
