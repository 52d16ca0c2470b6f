"""The traps of grading a letter."""

import os
from pathlib import Path

import pytest

from harness.grading.choices import gold_letter, grade_choice, lenient_letter, strict_letter
from harness.types import FinishReason, Generation, Question
from tests.benchmarks.responses import response
from tests.grading import agreement
from tests.grading.hostile import hostile

QUESTION = Question(
    id="rec1", domain="science", prompt="?", gold="red", data={"options": ["red", "blue", "blue", "green"]}
)


def answered(answer: str, order: list[int] | None, finish: FinishReason = "stop") -> Generation:
    kept = {} if order is None else {"order": order}
    return response("rec1", answer, text=f"<think>A or B</think>{answer}", finish=finish, kept=kept)


def test_gold_letter_is_where_option_zero_stands():
    assert [gold_letter(order) for order in ([0, 1, 2, 3], [2, 3, 0, 1], [3, 1, 2, 0])] == ["A", "C", "D"]


def test_duplicate_wrong_options_do_not_confuse_the_gold_letter():
    assert grade_choice(QUESTION, answered("Answer: D", [1, 2, 3, 0])).correct is True
    assert grade_choice(QUESTION, answered("Answer: A", [1, 2, 3, 0])).correct is False


def test_draw_votes_for_the_option_and_not_for_the_letter():
    grades = [grade_choice(QUESTION, answered("Answer: A", order)) for order in ([1, 0, 2, 3], [3, 0, 2, 1])]
    assert [grade.detail["vote"] for grade in grades] == [1, 3]
    assert "vote" not in grade_choice(QUESTION, answered("I cannot say", [0, 1, 2, 3])).detail


def test_option_equal_to_the_gold_text_does_not_count_by_its_text():
    question = Question(
        id="rec1", domain="science", prompt="?", gold="x", data={"options": ["x", "x", "y", "z"]}
    )
    assert grade_choice(question, answered("Answer: B", [0, 1, 2, 3])).correct is False


def test_order_not_kept_is_ungraded_and_not_wrong():
    grade = grade_choice(QUESTION, answered("Answer: A", None))
    assert grade.correct is None
    assert "order" in grade.reason


@pytest.mark.parametrize(
    "text",
    [
        "Answer: C", "answer: C", "**Answer: C**", "**Answer:** C", "Answer: **C**", "Answer: $C$",
        "Answer: (C)", "Answer: $C", "Answer: C.", "Answer: C) iron", r"\boxed{C}", r"\boxed{\text{C}}",
        r"$\boxed{\mathrm{(C)}}$",
        '{"answer": "C"}', '"answer": "C"', r"Answer: \boxed{C}", "Answer: A\nNo.\nAnswer: C",
        "Answer: \n\nC", "Answer: C because of this", "Answer: C is right", r"\fbox{(C)}", "ANSWER: C",
        "\\boxed{\\text{(C) iron}}", "Answer: A thing or two\nAnswer: C", '```json\n{"answer": "C"}\n```',
    ],
)  # fmt: skip
def test_strict_forms_give_the_last_letter(text: str):
    assert strict_letter(text) == "C"


@pytest.mark.parametrize(
    "text", ["I choose C", "C", "Answer: Carbon", "Answer: E", "Answer: A good question", ""]
)
def test_other_forms_are_no_answer(text: str):
    assert strict_letter(text) is None


def test_article_is_no_letter_but_a_letter_before_a_verb_is():
    assert strict_letter("Answer: A good question") is None
    assert strict_letter("Answer: A is the only one left") == "A"
    assert strict_letter("Answer: I think so", agreement.TEN_OPTIONS) is None


def test_hostile_loops_have_a_letter_only_where_one_stands():
    for one in hostile(40_000, 1_000_000):
        assert strict_letter(one.text) is None, one.name
        assert lenient_letter(one.text) == ("A" if "'A '" in one.name else None), one.name


def test_truncated_never_scores():
    grade = grade_choice(QUESTION, answered("Answer: A", [0, 1, 2, 3], finish="length"))
    assert (grade.correct, grade.extracted, grade.reason) == (False, None, "truncated")
    assert grade.lenient is True


def test_lenient_rule_finds_spoken_and_lone_letters():
    assert lenient_letter("So the answer is (B). Next question: The answer is (C).") == "B"
    assert lenient_letter("It must be D") == "D"


@pytest.mark.skipif("HARNESS_DATA" not in os.environ, reason="HARNESS_DATA is not set")
def test_lenient_rule_agrees_with_multiple_choice_labels_on_985_of_1000():
    found = agreement.multiple_choice(
        agreement.read(Path(os.environ["HARNESS_DATA"]), "multiple_choice", sample=500)
    )
    assert found.share >= 0.985, list(found.listed())
