"""Scores, errors and verdicts, and where each is undefined."""

import math
import random
import statistics
from collections import Counter
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from harness.statistics import (
    VERDICTS,
    Claim,
    Score,
    Votes,
    compare,
    counts_rounding_to,
    judge,
    majority_at,
    majority_at_k,
    pass_at,
    pass_at_k,
    score,
    votes,
)
from harness.types import Grade
from tests.grading import verdict_rates


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


def test_pass_at_k_of_a_benchmark_is_undefined_where_a_question_is_short_of_draws():
    assert pass_at(grades("++--", "---+"), 2) == pytest.approx(100 * (5 / 6 + 3 / 6) / 2)
    assert pass_at(grades("++--", "---"), 4) is None
    assert pass_at(grades("++--", "---?"), 4) is None


def brute_force(cast: Votes, k: int) -> float:
    """The majority vote over every subset of k draws, one after the other."""
    draws = ["right"] * cast.right + [None] * cast.silent
    draws += [f"wrong {place}" for place, size in enumerate(cast.wrong) for _ in range(size)]
    subsets = list(combinations(draws, k))
    won = 0.0
    for subset in subsets:
        counts = Counter(answer for answer in subset if answer is not None)
        top = [answer for answer, count in counts.items() if count == max(counts.values())]
        won += 1 / len(top) if "right" in top else 0.0
    return won / len(subsets)


@pytest.mark.parametrize(
    "cast",
    [Votes(3, (2, 2), 1), Votes(1, (1, 1, 1, 1), 0), Votes(0, (3,), 2), Votes(4, (), 4), Votes(2, (5,), 1)],
)
@pytest.mark.parametrize("k", [1, 2, 3, 5, 8])
def test_majority_is_exact_over_all_subsets_with_ties_shared(cast: Votes, k: int):
    expected = None if k > cast.draws else pytest.approx(brute_force(cast, k))
    assert majority_at_k(cast, k) == expected


def test_no_answer_has_no_vote_and_nobody_answering_wins_nothing():
    assert majority_at_k(Votes(1, (), 3), 4) == 1.0
    assert majority_at_k(Votes(0, (), 4), 4) == 0.0


def test_a_vote_of_all_of_a_thousand_draws_counts_no_subsets() -> None:
    assert majority_at_k(Votes(300, (1,) * 400, 300), 1000) == 1.0
    assert majority_at_k(Votes(300, (300, 300, 100), 0), 1000) == 1 / 3
    assert majority_at_k(Votes(300, (301, 399), 0), 1000) == 0.0


def test_answers_vote_by_the_integer_they_mean():
    rows = [
        grade("a", 0, False, extracted="033"),
        grade("a", 1, False, extracted="33"),
        grade("a", 2, True, extracted="204"),
        grade("a", 3, True, extracted=r"\frac{408}{2}"),
        grade("a", 4, False, extracted=None),
        grade("a", 5, None),
    ]
    assert votes(rows) == Votes(2, (2,), 1)
    assert majority_at(rows, 5) == pytest.approx(50.0)


def test_letters_vote_by_the_option_they_stand_for_and_not_by_the_letter():
    rows = [
        grade("a", 0, False, extracted="A", detail={"vote": 1}),
        grade("a", 1, False, extracted="B", detail={"vote": 1}),
        grade("a", 2, False, extracted="A", detail={"vote": 2}),
    ]
    assert votes(rows) == Votes(0, (2, 1), 0)


def test_score_holds_majority_and_any_right_of_all_draws():
    found = score(grades("++-", "--+", "---"), 3, 3)
    assert (found.majority, found.any_right) == (pytest.approx(100 / 3), pytest.approx(200 / 3))
    assert score(grades("++?"), 1, 3).majority is None


def test_majority_of_half_the_draws_is_what_drawing_them_again_and_again_gives():
    cast = Votes(8, (1,) * 40 + (4, 4, 4), 4)
    classes = np.array([cast.right, *cast.wrong, cast.silent])
    drawn = np.random.default_rng(0).multivariate_hypergeometric(classes, 32, size=20_000)[:, :-1]
    most = drawn.max(axis=1)
    won = (drawn[:, 0] == most) / (drawn == most[:, None]).sum(axis=1)
    assert majority_at_k(cast, 32) == pytest.approx(won.mean(), abs=0.01)


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


def test_error_known_from_few_draws_reaches_further_than_the_normal_one():
    few = replace(scored(88.5, 0.42), degrees=4.0)
    wide, normal = judge(few, AIME24), judge(scored(88.5, 0.42), AIME24)
    assert wide.se_delta == normal.se_delta
    assert wide.interval[1] > 1.2 * normal.interval[1]


def test_degrees_of_freedom_count_only_questions_whose_draws_differ():
    assert score(grades("+-+-", "++++", "----"), 3, 4).degrees == pytest.approx(3.0)
    assert score(grades("+-+-", "+--+", "----"), 3, 4).degrees == pytest.approx(6.0)
    assert score(grades("++++", "----"), 2, 4).degrees == pytest.approx(3.0)
    assert score(grades("+", "-"), 2, 1).degrees is None


def test_draws_that_never_differ_do_not_prove_an_error_of_zero():
    rows = grades(*["++"] * 27, *["--"] * 3)
    found = judge(score(rows, 30, 2), Claim(value=90.0, margin=2.0, draws=64))
    assert score(rows, 30, 2).se_rerun == 0.0
    assert found.name == "inconclusive"


def test_missing_responses_get_no_verdict():
    assert judge(replace(scored(88.5, 0.4), short=5), AIME24).reason == "5 responses are missing"


def test_a_score_above_the_published_one_takes_the_larger_binomial_variance():
    above, level = judge(scored(90.5, 0.42), AIME24), judge(scored(88.5, 0.42), AIME24)
    ratio = (88.5 * 11.5) / (90.5 * 9.5)
    own = (above.se_delta**2 - 0.05**2 / 3) / (level.se_delta**2 - 0.05**2 / 3)
    assert own == pytest.approx(ratio)
    assert judge(scored(86.5, 0.42), AIME24).se_delta == pytest.approx(level.se_delta)


def test_one_draw_is_inconclusive_and_says_why():
    found = judge(scored(88.5, None, draws=1), AIME24)
    assert (found.name, found.reason) == ("inconclusive", "one draw: no error over re-runs, which takes two")
    assert found.draws_needed is None, "two draws give an error, not a decision"


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


def test_comparison_has_an_error_over_questions_and_one_over_re_runs():
    found = compare(grades("++", "+-", "--"), grades("++", "--", "-+"))
    assert found.se_rerun == pytest.approx(100 * math.sqrt(2 * 0.25) / 3)
    assert found.interval[1] == pytest.approx(4.302653 * found.se, rel=1e-6)
    single = compare(grades("+", "-"), grades("-", "-"))
    assert single.se_rerun is None
    assert compare(grades("+-"), grades("++")).interval is None


def test_runs_without_a_common_question_are_not_compared():
    with pytest.raises(ValueError, match="no graded question in common"):
        compare(grades("+"), [grade("other", 0, True)])


# Error rates of the verdicts; tests/acceptance/verdict_simulation computes the whole table


def graded(right: np.ndarray, draws: int) -> list[Grade]:
    """One run's grades from its counts of right responses."""
    return grades(*["+" * int(count) + "-" * (draws - int(count)) for count in right])


@pytest.mark.parametrize("draws", [8, 64])
def test_simulated_verdicts_are_those_of_judge(draws: int):
    setting, spread = verdict_rates.SETTINGS[0], 0.34
    for margins in (-1, 0, 2):
        right = verdict_rates.reruns(setting, spread, draws, margins, 20)
        published = verdict_rates.publications(setting, spread, 20)
        found = verdict_rates.simulated(setting, spread, draws, margins, 20)
        for run in range(20):
            claim = verdict_rates.claim(setting, float(published[run]))
            judged = judge(score(graded(right[run], draws), setting.questions, draws), claim)
            assert judged.name == VERDICTS[found.code[run]]
            assert judged.delta == pytest.approx(found.delta[run])
            assert judged.interval[1] - judged.delta == pytest.approx(found.half[run])


def test_simulated_questions_have_the_mean_and_the_spread_of_the_setting():
    for setting in verdict_rates.SETTINGS:
        for spread in setting.spreads:
            mean = setting.published / 100
            chances = verdict_rates.chances(setting.questions, mean, spread)
            assert chances.mean() == pytest.approx(mean)
            assert (chances * (1 - chances)).mean() / (mean * (1 - mean)) == pytest.approx(spread, abs=0.06)


def test_documented_error_rates_are_what_the_simulation_gives():
    documented = verdict_rates.DOCUMENT.read_text(encoding="utf-8").splitlines()
    setting = verdict_rates.SETTINGS[0]
    found = list(verdict_rates.all_rates(verdict_rates.RUNS, [setting]))
    lines = verdict_rates.table(found)
    start = documented.index(lines[0])
    assert documented[start : start + len(lines)] == lines
    count = sum(len(one.spreads) for one in verdict_rates.SETTINGS) * len(verdict_rates.DRAWS)
    assert len([line for line in documented[start + 2 :] if line.startswith("| ")]) == count
    limit = verdict_rates.highest_by_chance(verdict_rates.RUNS, sum(len(one.errors()) for one in found))
    assert max(rate for one in found for rate in one.errors()) <= limit
