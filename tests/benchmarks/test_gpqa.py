"""GPQA: made-up rows in its schema. Its text never stands here."""

import random
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.gpqa import gpqa_diamond, gpqa_prompt, option_order, question
from harness.errors import DataError
from tests.benchmarks.gpqa_rows import made_up_rows, write
from tests.benchmarks.offline import complaint
from tests.benchmarks.responses import response


def test_fields_are_stripped_and_line_breaks_inside_survive(tmp_path: Path):
    questions = gpqa_diamond.load(write(tmp_path, made_up_rows()))
    assert len(questions) == 198
    assert questions[0].prompt == "Made-up question 0?\nSecond line."
    assert questions[0].gold == "right 0"


def test_every_gold_letter_grades_correct_and_every_other_wrong(tmp_path: Path):
    questions = gpqa_diamond.load(write(tmp_path, made_up_rows()))
    for one in questions:
        prompt, kept = gpqa_diamond.render(one, 3)
        right = next(line[0] for line in prompt.splitlines() if line[1:] == f") {one.gold}")
        for letter in "ABCD":
            grade = gpqa_diamond.grade(one, response(one.id, f"Answer: {letter}", kept=kept), None)
            assert grade.correct is (letter == right)


def test_order_depends_on_seed_record_and_draw_alone():
    random.seed(1)
    first = [option_order(0, f"rec{number}", draw) for number in range(50) for draw in range(4)]
    random.seed(2)
    assert first == [option_order(0, f"rec{number}", draw) for number in range(50) for draw in range(4)]
    assert first[0] == random.Random("0:rec0:0").sample(range(4), 4)
    golds = [order.index(0) for order in first]
    assert all(25 < golds.count(place) < 75 for place in range(4)), "every letter is right about as often"


def test_order_stays_the_same_from_release_to_release():
    assert [option_order(0, "rec0", draw) for draw in range(3)] == [[0, 2, 1, 3], [1, 0, 2, 3], [1, 3, 0, 2]]


def test_prompt_is_simple_evals_to_the_byte():
    assert gpqa_prompt("Why?", ["a", "b", "c", "d"]) == (
        "Answer the following multiple choice question. The last line of your response should be of the "
        "following format: 'Answer: $LETTER' (without quotes) where LETTER is one of ABCD. Think step by "
        "step before answering.\n\nWhy?\n\nA) a\nB) b\nC) c\nD) d"
    )


def test_missing_file_tells_the_terms(tmp_path: Path):
    assert "accept its terms" in complaint("gpqa", "gpqa_diamond", "0" * 40, tmp_path)


def test_file_without_canary_names_the_row(tmp_path: Path):
    rows = made_up_rows()
    rows[11]["Canary String"] = ""
    with pytest.raises(DataError, match="rec11"):
        gpqa_diamond.load(write(tmp_path, rows))


def test_another_gpqa_subset_is_refused(tmp_path: Path):
    with pytest.raises(DataError, match="not GPQA-Diamond"):
        gpqa_diamond.load(write(tmp_path, made_up_rows()[:-1]))


def test_row_without_an_option_is_named():
    row = made_up_rows()[4] | {"Incorrect Answer 2": " "}
    with pytest.raises(DataError, match="rec4"):
        question(row)


def test_order_is_kept_with_the_generation_so_that_another_seed_grades_the_same(tmp_path: Path):
    one = gpqa_diamond.load(write(tmp_path, made_up_rows()))[7]
    _, kept = gpqa_diamond.render(one, 2)
    reseeded = replace(gpqa_diamond, sampling=replace(gpqa_diamond.sampling, seed=99))
    assert reseeded.render(one, 2)[1] != kept
    answered = response(one.id, f"Answer: {'ABCD'[kept['order'].index(0)]}", kept=kept)
    assert reseeded.grade(one, answered, None) == gpqa_diamond.grade(one, answered, None)
    assert reseeded.grade(one, answered, None).correct is True


def test_two_identical_wrong_options_are_allowed_and_a_wrong_one_like_the_right_one_is_not():
    row = made_up_rows()[5]
    assert question(row).data["options"][1:3] == ["wrong", "wrong"]
    with pytest.raises(DataError, match="rec5"):
        question(row | {"Incorrect Answer 3": " right 5"})


def test_record_id_that_occurs_twice_is_refused(tmp_path: Path):
    rows = made_up_rows()
    rows[3]["Record ID"] = rows[2]["Record ID"]
    with pytest.raises(DataError, match="'rec2' occurs twice"):
        gpqa_diamond.load(write(tmp_path, rows))
