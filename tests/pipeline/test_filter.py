"""Filters: each reason fires on its own defect, and not on its near-miss."""

import pytest

from pipeline.filter import Thresholds, reason_to_drop
from tests.pipeline.rows import row

LIMITS = Thresholds(max_tokens=50)
GOOD = "<think>\n7+5=12 so 12\n</think>\n\nThe answer is \\boxed{12}."


def test_a_plain_response_passes() -> None:
    assert reason_to_drop(row(GOOD), 20, LIMITS) is None


def test_a_truncated_response_goes_even_with_an_answer_in_it() -> None:
    assert reason_to_drop(row(GOOD, finish="length"), 20, LIMITS) == "truncated"


def test_length_counts_student_tokens_and_the_limit_itself_passes() -> None:
    assert reason_to_drop(row(GOOD), 50, LIMITS) is None
    assert reason_to_drop(row(GOOD), 51, LIMITS) == "too long"


@pytest.mark.parametrize("text", ["The answer is \\boxed{12}.", "<think>\n\n</think>\n\n\\boxed{12}"])
def test_an_answer_without_thinking_goes(text: str) -> None:
    assert reason_to_drop(row(text), 20, LIMITS) == "no thinking"


def test_thinking_without_an_answer_goes() -> None:
    assert reason_to_drop(row("<think>\n7+5=12\n</think>\n"), 20, LIMITS) == "no answer"


def test_a_function_call_goes() -> None:
    assert reason_to_drop(row("<think>x</think>\n<tool_call>{}</tool_call>"), 20, LIMITS) == "function call"


def test_a_line_that_loops_goes() -> None:
    loop = "<think>\n" + "wait, check again\n" * 4 + "</think>\n\n\\boxed{1}"
    assert reason_to_drop(row(loop), 40, LIMITS) == "repetition"


def test_a_phrase_that_loops_inside_one_line_goes() -> None:
    loop = "<think>" + "so we try the next case again " * 9 + "</think> \\boxed{1}"
    assert reason_to_drop(row(loop), 40, LIMITS) == "repetition"


def test_similar_lines_of_real_work_pass() -> None:
    work = (
        "<think>\n" + "\n".join(f"case {n}: {n}*{n}={n * n}" for n in range(9)) + "\n</think>\n\n\\boxed{81}"
    )
    assert reason_to_drop(row(work), 40, LIMITS) is None
