"""The traps of grading an integer in a box."""

import os
import signal
from pathlib import Path

import pytest

from harness.errors import SandboxError
from harness.grading.answers import (
    Verification,
    Verifier,
    grade_answer,
    joined_boxes,
    last_box,
    lenient_verdict,
    strict_verdict,
)
from harness.grading.integers import integer_in
from harness.scratch import scratch
from harness.types import FinishReason, Generation, Question
from tests.benchmarks.responses import response
from tests.grading import agreement
from tests.grading.hostile import BOXES, hostile

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
        r"33 \pmod{1000}", "３３", "٣٣", "x = 33", "m+n=33", r"\boxed{33}", r"33\%", "+33", "33.0\\%",
        "**33**", r"33\text{ (mod }1000)", r"\text{The answer is } 33", r"\textbf{(B) } 33", "33 cm",
        r"33\text{ minutes}", r"33^{\text{th}}", r"33^{\mathrm{rd}}", "m+n=16+17=33", "x_1+x_2=33",
        "a = 3, b = 30, a+b = 33", "2a+b=33", r"0.55\text{ hours}=33\text{ minutes}", r"|S| = 33",
        r"\angle ABC = 33^\circ", "f(3)=33",
    ],
)  # fmt: skip
def test_dressed_integers_are_read_by_the_rule(box: str):
    assert integer_in(box) == 33


@pytest.mark.parametrize("box", ["1,000", "1{,}000", r"1\,000", "1 000", "1000"])
def test_thousands_are_one_number(box: str):
    assert integer_in(box) == 1000


@pytest.mark.parametrize(
    "box",
    [
        r"\frac{66}{2}", "3.5", "33, 33", "33_{10}", r"\{33\}", "[33]", "", "3x-1y+13=0", "x-y+3=0", "33!",
        "x = 3, y = 33", r"x=33\text{ or }x=34", r"33\text{ or }34", r"33 \text{ and } 340", "33x", r"33\pi",
        r"33\mathrm{i}", "y>=33", r"\pm 33", "30+3", r"33\text{ thousand}", "33 dozen", r"\mathrm{lcm}33",
        r"\text{not } 33", r"5\text{ squared}", "33 cubed", r"101\text{ in binary}", "12 choose two",
    ],
)  # fmt: skip
def test_rule_does_not_decide_what_is_no_plain_integer(box: str):
    assert integer_in(box) is None


@pytest.mark.parametrize(
    ("gold", "box"),
    [("0", "3x-1y+13=0"), ("33", "33, 34"), ("33", "33_{10}"), ("33", "[33]"), ("33", r"\{33\}")],
)
def test_math_verify_false_positives_are_refused_before_it_is_asked(gold: str, box: str):
    assert strict_verdict(gold, box, Verifier(workers=0)).correct is False


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


def test_boxes_are_joined_only_where_the_gold_answer_is_no_integer(verifier: Verifier):
    text = r"so \boxed{1}, \boxed{2} and \boxed{3}"
    assert joined_boxes(text) == "1, 2, 3"
    assert grade_answer(asked(r"\{1,2,3\}"), answered(text), verifier).correct is True
    assert grade_answer(asked("3"), answered(text), verifier).extracted == "3"


def test_a_box_that_was_taken_back_is_not_joined_to_the_next():
    assert joined_boxes(r"First \boxed{12}. Wait, that is wrong. Actually \boxed{33}") == "33"
    assert joined_boxes(r"\boxed{\boxed{33}}") == "33"
    assert joined_boxes("none") is None


def test_symbolic_gold_is_read_with_or_without_its_dollars(verifier: Verifier):
    for gold in (r"\dfrac{9}{7}", r"$\dfrac{9}{7}$", r"\[\dfrac{9}{7}\]"):
        assert strict_verdict(gold, r"\frac{18}{14}", verifier).correct is True


def test_box_that_computes_for_ever_ends_with_a_killed_worker_and_the_pool_survives():
    pool = Verifier(workers=1, cpu_seconds=1.0)
    tower = r"\dfrac{5^{5^{5^{5^5}}-4}-5}{16}"
    assert strict_verdict("33", tower, pool) == Verification(False, "time limit")
    assert strict_verdict("33", r"\dfrac{66}{2}", pool).correct is True
    pool.close()


def tell_fork_server(file: str) -> bool:
    Path(file).write_text(str(os.getppid()))
    return True


def test_a_fork_server_that_is_killed_leaves_no_socket_for_as_long_as_this_process_lives(
    tmp_path: Path,
) -> None:
    pool, told = Verifier(workers=1), tmp_path / "fork-server"
    try:
        for _ in range(4):
            assert pool.outcome(tell_fork_server, (str(told),)) == Verification(True)
            server = int(told.read_text())
            assert pool.outcome(tell_process, (str(told),)) == Verification(True)
            os.kill(server, signal.SIGKILL)
            os.kill(int(told.read_text()), signal.SIGKILL)
            assert pool.verify("3", "\\boxed{3}") == Verification(True)
        assert len(list(scratch().glob("listener-*"))) <= 2
    finally:
        pool.close()


def die(number: int) -> None:
    os.kill(os.getpid(), number)


def tell_process(file: str) -> bool:
    Path(file).write_text(str(os.getpid()))
    return True


def test_a_worker_that_dies_with_nothing_to_do_takes_no_verdict_along(tmp_path: Path) -> None:
    """pebble gives up the whole pool then."""
    pool, told = Verifier(workers=1), tmp_path / "worker"
    try:
        for _ in range(3):
            assert pool.outcome(tell_process, (str(told),)) == Verification(True)
            os.kill(int(told.read_text()), signal.SIGKILL)
            assert pool.verify("3", "\\boxed{3}") == Verification(True)
    finally:
        pool.close()


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (signal.SIGSEGV, Verification(False, "math-verify crashed")),
        (signal.SIGKILL, Verification(None, "the grading process died")),
        (signal.SIGPROF, Verification(False, "time limit")),
    ],
)
def test_only_a_process_that_somebody_else_killed_leaves_no_verdict(
    number: signal.Signals, expected: Verification
):
    pool = Verifier(workers=1)
    assert pool.outcome(die, (int(number),)) == expected
    assert pool.verify("33", r"$\boxed{33}$").correct is True
    pool.close()


def test_no_verdict_is_an_error_of_the_sandbox_and_no_wrong_answer():
    pool = Verifier(workers=1, wall_seconds=0.01)
    with pytest.raises(SandboxError, match="no verdict"):
        grade_answer(asked("33"), answered(r"\boxed{10!!!}"), pool)
    pool.close()


def test_hostile_loops_and_lines_hold_no_box_or_the_last_one():
    for one in hostile(40_000, 1_000_000):
        box = last_box(one.text)
        assert box in (None, "", "5", "33") or box in BOXES, one.name


@pytest.mark.parametrize(
    "text", [r"\boxed{" * 60 + "33}", r"\boxed{33} " + "x" * 10_000 + r"\boxed{" + "{}" * 3_000]
)
def test_unbalanced_boxes_are_passed_over_up_to_a_bound(text: str):
    assert last_box(text) == "33"


def test_integer_of_many_digits_is_no_crash(verifier: Verifier):
    assert strict_verdict("33", "9" * 100_000, verifier).correct is False
    assert integer_in("9" * 5_000) is None


def test_lenient_shortcut_agrees_with_math_verify(verifier: Verifier):
    for text in (r"so \boxed{33}", r"12 and 14, then \boxed{7} rest 9", "no number at all", "thirty-three"):
        assert lenient_verdict("33", text, verifier) == verifier.verify("33", text)


def test_lenient_verdict_asks_math_verify_where_the_text_says_final_answer_elsewhere(verifier: Verifier):
    text = r"\boxed{12} is a step. Final Answer: The final answer is $33$. I hope it is correct."
    assert lenient_verdict("33", text, verifier) == verifier.verify("33", text)


# Real responses, sampled; tests/acceptance reads them all


@needs_data
def test_boxed_integers_agree_with_their_labels(verifier: Verifier):
    rows = agreement.read(Path(os.environ["HARNESS_DATA"]), "boxed_integers", sample=1_000)
    found = agreement.boxed_integers([row for row in rows if not row.get("label_suspect")], verifier)
    assert found.share >= 0.997, list(found.listed())


@needs_data
def test_lenient_verdict_is_math_verifys_on_real_responses(verifier: Verifier):
    rows = agreement.read(Path(os.environ["HARNESS_DATA"]), "boxed_integers", sample=150)
    assert agreement.lenient_shortcuts(rows, verifier).disagreements == ()


@needs_data
def test_symbolic_answers_agree_with_their_labels_as_often_as_math_verify_itself(verifier: Verifier):
    rows = agreement.read(Path(os.environ["HARNESS_DATA"]), "math_symbolic", sample=150)
    found = agreement.math_symbolic(rows, verifier)
    assert found["boxed"].agreed >= found["boxed, math-verify"].agreed
    assert found["lenient"].agreed >= found["all, math-verify"].agreed
