"""The traps of grading an integer in a box."""

import json
import os
import time
from pathlib import Path

import pytest

from harness.grading.answers import (
    Verifier,
    grade_answer,
    integer_in,
    last_box,
    lenient_verdict,
    strict_verdict,
)
from harness.types import FinishReason, Generation, Question
from tests.benchmarks.responses import response

needs_data = pytest.mark.skipif("HARNESS_DATA" not in os.environ, reason="HARNESS_DATA is not set")


def asked(gold: str) -> Question:
    return Question(id="q", domain="math", prompt="?", gold=gold)


def answered(text: str, finish: FinishReason = "stop") -> Generation:
    _, closed, answer = text.rpartition("</think>")
    return response("q", answer if closed else text, text=text, finish=finish)


@pytest.fixture(scope="module")
def verifier():
    pool = Verifier()
    yield pool
    pool.close()


def test_last_box_wins_over_earlier_ones():
    assert last_box(r"First \boxed{12}. Wait, that is wrong. Actually \boxed{33}.") == "33"


def test_unbalanced_last_box_falls_back_to_the_last_balanced_one():
    assert last_box(r"\boxed{12} and then \boxed{33") == "12"
    assert last_box(r"\boxed{33") is None


def test_box_with_inner_braces_is_read_to_its_own_brace():
    assert last_box(r"so $\boxed{\frac{66}{2}}$ done}") == r"\frac{66}{2}"
    assert last_box(r"\boxed{\{1,2\}}") == r"\{1,2\}"


def test_fbox_framebox_and_space_before_the_brace_are_boxes():
    assert last_box(r"\fbox{33}") == "33"
    assert last_box(r"\framebox[2cm]{33}") == "33"
    assert last_box(r"\boxed {33}") == "33"


@pytest.mark.parametrize(
    "box",
    [
        "33", "033", " 33 ", "33.", "33.0", "33°", r"33^\circ", r"33^{\circ}", r"\text{33}", r"\textbf{33}",
        r"$33$", r"\$33", r"33\ ", "33~", "33;", "`33`", r"33\\", r"\color{red}{33}", r"\underline{33}",
        r"33 \pmod{1000}", "３３", "x = 33", "m+n=33", r"\boxed{33}", r"33\%", "+33",
    ],
)  # fmt: skip
def test_dressed_integers_are_read_by_the_rule(box: str):
    assert integer_in(box) == 33


@pytest.mark.parametrize("box", ["1,000", "1{,}000", r"1\,000", "1 000", "1000"])
def test_thousands_are_one_number(box: str):
    assert integer_in(box) == 1000


@pytest.mark.parametrize(
    "box", [r"\frac{66}{2}", "3.5", "33, 33", "33_{10}", r"\{33\}", "[33]", "", "3x-1y+13=0"]
)
def test_rule_does_not_decide_what_is_no_plain_integer(box: str):
    assert integer_in(box) is None


@pytest.mark.parametrize(
    ("gold", "box"),
    [("0", "3x-1y+13=0"), ("33", "33, 34"), ("33", "33_{10}"), ("33", "[33]"), ("33", r"\{33\}")],
)
def test_math_verify_false_positives_are_refused_before_it_is_asked(gold: str, box: str):
    assert strict_verdict(gold, box, Verifier(seconds=0)).correct is False


def test_fraction_that_is_an_integer_is_decided_by_math_verify(verifier: Verifier):
    assert strict_verdict("33", r"\dfrac{66}{2}", verifier).correct is True
    assert strict_verdict("34", r"\dfrac{66}{2}", verifier).correct is False


def test_no_box_is_wrong_with_no_answer(verifier: Verifier):
    grade = grade_answer(asked("33"), answered("<think>x</think>The answer is 33."), verifier)
    assert (grade.correct, grade.extracted, grade.reason) == (False, None, "no answer")


def test_box_in_the_thinking_part_does_not_count_but_the_lenient_verdict_sees_it(verifier: Verifier):
    grade = grade_answer(asked("33"), answered(r"<think>so \boxed{33}</think>I am not sure."), verifier)
    assert grade.correct is False
    assert grade.lenient is True


def test_truncated_never_scores_even_with_the_right_box(verifier: Verifier):
    grade = grade_answer(asked("33"), answered(r"<think>x</think>\boxed{33} and", finish="length"), verifier)
    assert (grade.correct, grade.extracted, grade.reason, grade.truncated) == (False, None, "truncated", True)
    assert grade.lenient is True


def test_killed_worker_counts_as_wrong_and_the_pool_survives():
    pool = Verifier(seconds=2)
    tower = r"\dfrac{5^{5^{5^{5^5}}-4}-5}{16}"
    assert strict_verdict("33", tower, pool).correct is False
    assert strict_verdict("33", r"\dfrac{66}{2}", pool).correct is True
    pool.close()


@pytest.mark.parametrize("loop", ["1 ", r"\boxed{", r"\[", r"\(", r"\boxed{5}", "\\", "{"])
def test_hostile_loops_of_400_kilobytes_are_extracted_at_once(loop: str):
    text = loop * (400_000 // len(loop))
    started = time.perf_counter()
    box = last_box(text)
    assert box in (None, "5")
    assert time.perf_counter() - started < 5, "linear, not quadratic"


def test_ten_megabyte_line_without_a_box_is_no_answer():
    assert last_box("x" * 10_000_000) is None


def test_integer_of_many_digits_is_no_crash(verifier: Verifier):
    assert strict_verdict("33", "9" * 100_000, verifier).correct is False


def test_lenient_shortcut_agrees_with_math_verify(verifier: Verifier):
    for text in (r"so \boxed{33}", r"12 and 14, then \boxed{7} rest 9"):
        assert lenient_verdict("33", text, verifier) == verifier.verify("33", text).correct


@needs_data
def test_boxed_integers_agree_with_their_labels_on_997_of_1000(verifier: Verifier):
    file = Path(os.environ["HARNESS_DATA"]) / "answers" / "boxed_integers.jsonl"
    with file.open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    rows = [row for row in rows if not row.get("label_suspect")]
    right = 0
    for row in rows:
        box = last_box(row["response"])
        right += (box is not None and strict_verdict(row["gold"], box, verifier).correct) == row["correct"]
    assert right / len(rows) >= 0.997, f"{right} of {len(rows)}"
