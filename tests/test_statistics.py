"""Scores, errors and verdicts, and where each is undefined."""

import math
import random
import statistics
from itertools import combinations

import pytest

from harness.statistics import (
    Claim,
    Score,
    compare,
    counts_rounding_to,
    judge,
    majority,
    pass_at_k,
    score,
)
from harness.types import Grade


def grade(question: str, draw: int, correct: bool | None, **fields) -> Grade:
    given = {"extracted": None if correct is None else "1", "truncated": False, "lenient": correct, **fields}
    return Grade(question=question, draw=draw, correct=correct, **given)


def grades(*results: str) -> list[Grade]:
    """One string a question, one letter a draw: + right, - wrong, ? ungraded."""
    verdicts = {"+": True, "-": False, "?": None}
    return [
        grade(f"q{number}", draw, verdicts[letter])
        for number, letters in enumerate(results)
        for draw, letter in enumerate(letters)
    ]


def scored(average: float, se: float | None, draws: int = 64, ungraded: int = 0) -> Score:
    return Score(
        questions=30, draws=draws, average=average, lowest=average, highest=average, se_rerun=se,
        se_questions=5.0, lenient=None, truncated=0, no_answer=0, ungraded=ungraded, short=0,
    )  # fmt: skip


# Scores


def test_average_is_the_mean_of_the_questions_shares():
    found = score(grades("++++", "+---", "--++"), 3, 4)
    assert found.average == pytest.approx(100 * (1 + 0.25 + 0.5) / 3)
    assert found.short == 0


def test_one_draw_has_no_error_over_re_runs_but_one_over_questions():
    found = score(grades("+", "-", "+"), 3, 1)
    assert found.se_rerun is None
    assert found.se_questions == pytest.approx(100 * statistics.stdev([1, 0, 1]) / math.sqrt(3))


def test_one_question_has_no_error_over_questions():
    assert score(grades("+-+-"), 1, 4).se_questions is None


def test_error_over_re_runs_is_what_re_runs_show():
    rng = random.Random(3)
    chances = [rng.random() for _ in range(30)]

    def run() -> Score:
        rows = ["".join("+" if rng.random() < p else "-" for _ in range(16)) for p in chances]
        return score(grades(*rows), 30, 16)

    runs = [run() for _ in range(400)]
    seen = statistics.stdev(one.average for one in runs)
    told = statistics.mean(one.se_rerun for one in runs)
    assert told == pytest.approx(seen, rel=0.12)
    assert statistics.mean(one.se_questions for one in runs) > 2 * told, "the two errors are not the same"


def test_counts_tell_truncated_no_answer_ungraded_and_missing_apart():
    rows = [
        grade("a", 0, True),
        grade("a", 1, False, extracted=None, truncated=True),
        grade("b", 0, False, extracted=None),
        grade("b", 1, None),
    ]
    found = score(rows, 3, 2)
    assert (found.truncated, found.no_answer, found.ungraded, found.short) == (1, 1, 1, 2)


def test_ungraded_draws_bound_the_score_and_are_not_wrong():
    found = score(grades("+?", "--"), 2, 2)
    assert found.average == pytest.approx(50.0)
    assert (found.lowest, found.highest) == (pytest.approx(25.0), pytest.approx(50.0))


def test_nothing_graded_is_no_zero():
    found = score(grades("??"), 1, 2)
    assert found.average is None
    assert score([], 1, 2).average is None


def test_draw_graded_twice_is_refused():
    with pytest.raises(ValueError, match="twice"):
        score([grade("a", 0, True), grade("a", 0, True)], 1, 2)


def test_more_draws_than_asked_for_are_refused():
    with pytest.raises(ValueError, match="more grades"):
        score(grades("+++"), 1, 2)


@pytest.mark.parametrize("k", range(1, 6))
def test_pass_at_k_is_the_share_of_subsets_with_a_right_one(k: int):
    draws = [True, True, False, False, False]
    subsets = list(combinations(draws, k))
    assert pass_at_k(2, 5, k) == pytest.approx(sum(any(one) for one in subsets) / len(subsets))


def test_pass_at_more_than_drawn_is_undefined():
    assert pass_at_k(1, 4, 5) is None


def test_majority_breaks_ties_evenly_and_ignores_no_answer():
    assert majority(["1", "1", "2", None, None, None], "1") == 1.0
    assert majority(["1", "2", "3"], "3") == pytest.approx(1 / 3)
    assert majority([None, None], "1") == 0.0


@pytest.mark.parametrize(
    ("value", "responses", "counts"),
    [(88.5, 1920, (1699, 1700)), (83.3, 1920, (1599, 1600)), (68.4, 12672, (8662, 8673)), (33.4, 3, ())],
)
def test_counts_that_round_to_a_published_value(value: float, responses: int, counts: tuple[int, ...]):
    found = counts_rounding_to(value, responses)
    assert (found[0], found[-1]) == counts if counts else len(found) == 0


# Verdicts

AIME24 = Claim(value=88.5, margin=2.0, draws=64)


@pytest.mark.parametrize(
    ("average", "se", "name"),
    [
        (88.5, 0.42, "reproduced"),
        (87.6, 0.42, "reproduced"),
        (86.9, 0.42, "inconclusive"),
        (86.5, 0.42, "inconclusive"),
        (84.0, 0.42, "not reproduced"),
        (93.0, 0.42, "not reproduced"),
        (88.5, 1.2, "inconclusive"),
        (70.0, 1.2, "not reproduced"),
    ],
)
def test_verdict_follows_the_ninety_per_cent_interval(average: float, se: float, name: str):
    found = judge(scored(average, se), AIME24)
    assert found.name == name
    assert found.interval[0] < found.delta < found.interval[1]


def test_error_of_the_difference_adds_ours_theirs_and_rounding():
    found = judge(scored(88.5, 0.42), AIME24)
    assert found.se_delta == pytest.approx(math.sqrt(2 * 0.42**2 + (0.05 / math.sqrt(3)) ** 2))


def test_known_error_of_the_reference_is_used():
    found = judge(scored(50.0, 3.0, draws=4), Claim(value=50.0, margin=8.0, se=4.0))
    assert found.se_delta == pytest.approx(math.hypot(3.0, 4.0, 0.05 / math.sqrt(3)))


def test_unknown_error_is_ours_at_the_papers_number_of_draws():
    few = judge(scored(88.5, 1.2, draws=8), AIME24)
    assert few.se_delta == pytest.approx(math.sqrt(1.2**2 * (1 + 8 / 64) + (0.05 / math.sqrt(3)) ** 2))
    unknown = judge(scored(88.5, 1.2, draws=8), Claim(value=88.5, margin=2.0))
    assert unknown.se_delta == pytest.approx(math.sqrt(2 * 1.2**2 + (0.05 / math.sqrt(3)) ** 2))


def test_one_draw_is_inconclusive_and_says_why():
    found = judge(scored(88.5, None, draws=1), AIME24)
    assert (found.name, found.reason) == ("inconclusive", "one draw: no error over re-runs")


def test_nothing_measured_and_ungraded_get_no_verdict():
    assert judge(None, AIME24).name == "not measured"
    assert judge(scored(88.5, 0.4, ungraded=3), AIME24).reason == "3 ungraded"


@pytest.mark.parametrize(
    "claim", [AIME24, Claim(value=88.5, margin=2.0), Claim(value=88.5, margin=2.0, se=0.5)]
)
@pytest.mark.parametrize("average", [88.0, 85.0])
def test_the_number_of_draws_needed_is_the_first_that_decides(claim: Claim, average: float):
    measured = scored(average, 1.6, draws=4)
    needed = judge(measured, claim).draws_needed
    assert needed is not None

    def name(draws: int) -> str:
        return judge(scored(average, 1.6 * math.sqrt(4 / draws), draws=draws), claim).name

    assert name(needed) != "inconclusive"
    assert name(needed - 1) == "inconclusive"


def test_difference_at_the_margin_is_resolved_by_no_number_of_draws():
    found = judge(scored(86.5, 1.2, draws=8), AIME24)
    assert (found.name, found.draws_needed) == ("inconclusive", None)


# Two runs


def test_comparison_is_paired_and_lists_the_flips():
    found = compare(grades("++", "+-", "--"), grades("++", "--", "-+"))
    assert found.difference == pytest.approx(0.0)
    assert found.flips == (("q1", 0.5, 0.0), ("q2", 0.0, 0.5))
    assert found.se == pytest.approx(100 * 0.5 / math.sqrt(3))


def test_runs_without_a_common_question_are_not_compared():
    with pytest.raises(ValueError, match="no graded question in common"):
        compare(grades("+"), [grade("other", 0, True)])
