"""How long responses are: written down by whoever grades, read again where that does not fit."""

from dataclasses import replace
from pathlib import Path

import pytest

from harness.adopt import About, about_file, digest
from harness.cost import MEASURED
from harness.evaluate import Mark
from harness.files import write_rows
from harness.lengths import Length, file_of, keep, length_of, lengths
from harness.rows import read_rows
from harness.store import Context, RunStore
from harness.types import Generation
from tests.pipeline.rows import row
from tests.test_runs import answered, place

ASKED = "ask-00000000"
__all__ = ["place"]


def stored(stages: Path, tokens: list[int]) -> list[Generation]:
    rows = [
        replace(row("x", f"q{number}"), completion_tokens=count, prompt_tokens=count + 1)
        for number, count in enumerate(tokens)
    ]
    (stages / ASKED).mkdir(parents=True, exist_ok=True)
    write_rows(stages / ASKED / "generations.jsonl", rows)
    return rows


def test_lengths_are_those_of_the_rows_and_are_kept(tmp_path: Path) -> None:
    rows = stored(tmp_path, [7, 9])
    found = lengths(tmp_path, ASKED)
    assert found == [length_of(one) for one in rows]
    assert found[1] == Length("q1", 0, 10, 9, "stop")
    assert file_of(tmp_path, ASKED).parent.name == MEASURED


def test_kept_lengths_are_what_is_told_without_reading_a_row(tmp_path: Path) -> None:
    stored(tmp_path, [7, 9])
    keep(tmp_path, ASKED, [Length("kept", 0, 1, 2, "length")])
    assert [one.question for one in lengths(tmp_path, ASKED)] == ["kept"]


def test_lengths_of_other_rows_are_not_believed(tmp_path: Path) -> None:
    stored(tmp_path, [7, 9])
    lengths(tmp_path, ASKED)
    stored(tmp_path, [7, 9, 11])
    assert [one.completion for one in lengths(tmp_path, ASKED)] == [7, 9, 11]


@pytest.mark.parametrize("content", [b"", b"{", b'{"bytes": "x"}', b"\xff\xfe"])
def test_a_damaged_file_of_lengths_counts_for_nothing(tmp_path: Path, content: bytes) -> None:
    stored(tmp_path, [7])
    lengths(tmp_path, ASKED)
    file_of(tmp_path, ASKED).write_bytes(content)
    assert [one.completion for one in lengths(tmp_path, ASKED)] == [7]


def test_lengths_are_told_where_none_may_be_kept(tmp_path: Path) -> None:
    stored(tmp_path, [7])
    (tmp_path / MEASURED).write_text("a file where the folder would stand")
    assert [one.completion for one in lengths(tmp_path, ASKED)] == [7]


def test_removed_responses_have_no_lengths(tmp_path: Path) -> None:
    stored(tmp_path, [7])
    (tmp_path / ASKED / "generations.jsonl").unlink()
    assert lengths(tmp_path, ASKED) == []


def test_whoever_grades_writes_the_lengths_of_all_rows_down(place: tuple[RunStore, Context]) -> None:
    store, context = place
    mark = answered(store, "sft-1", right=4)
    store.build(mark, context)
    kept = file_of(store.stages, mark.asked.key).read_bytes()
    rows = read_rows(store.path(mark.asked) / "generations.jsonl", Generation)
    assert lengths(store.stages, mark.asked.key) == [length_of(one) for one in rows]
    file_of(store.stages, mark.asked.key).unlink()
    lengths(store.stages, mark.asked.key)
    assert file_of(store.stages, mark.asked.key).read_bytes() == kept


def test_grading_that_goes_on_leaves_no_lengths_of_its_part_alone(place: tuple[RunStore, Context]) -> None:
    store, context = place
    mark = answered(store, "sft-1", right=4)
    store.build(mark, context)
    file_of(store.stages, mark.asked.key).unlink()
    (store.path(mark) / "stage.json").unlink()
    abouts = [
        About(one.question, one.draw, digest(one)) for one in read_rows(rows_of(store, mark), Generation)
    ]
    write_rows(about_file(store.path(mark) / "grades.jsonl"), abouts)
    store.build(mark, context)
    assert not file_of(store.stages, mark.asked.key).exists()
    assert len(lengths(store.stages, mark.asked.key)) == 20


def rows_of(store: RunStore, mark: Mark) -> Path:
    return store.path(mark.asked) / "generations.jsonl"
