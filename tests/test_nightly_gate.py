"""The gate's statistics: exact where they claim to be, and never sooner than they should be."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import hypergeom, ttest_ind

from harness.nightly.gate import (
    Baseline,
    Judged,
    Rule,
    count_chances,
    judge,
    level_of,
    nights_test,
    settled,
)
from harness.statistics import Array
from tests.nightly_rates import (
    ALPHA,
    SMALL,
    USUAL,
    asked,
    drops,
    false_alarms,
    most_by_chance,
    running_alarms,
)

RULE = Rule(level=0.01, drop=3.0, minimum=5)


def against(history: Array, tonight: Array, draws: int, rule: Rule = RULE) -> Judged:
    scores = 100 * history.mean(axis=1) / draws
    return judge(Baseline(right=history.sum(axis=0), scores=scores), tonight, draws, rule)


def test_one_question_is_hypergeometric() -> None:
    assert count_chances(np.array([7.0]), 4, 6) == pytest.approx(hypergeom(24, 7, 4).pmf(np.arange(5)))


def test_the_count_of_several_questions_is_what_all_deals_of_their_responses_give() -> None:
    """Two questions, three nights of two draws: every way to deal five and two right responses."""
    dealt: Counter[int] = Counter()
    for first in itertools.combinations(range(6), 5):
        for second in itertools.combinations(range(6), 2):
            dealt[sum(place < 2 for place in first) + sum(place < 2 for place in second)] += 1
    exact = [dealt[count] / dealt.total() for count in range(5)]
    assert count_chances(np.array([5.0, 2.0]), 2, 3) == pytest.approx(exact, abs=1e-12)


def test_many_equal_questions_are_as_many_questions() -> None:
    """Those with one total are transformed once: 300 of them must still be 300."""
    chances = count_chances(np.full(300, 20.0), 4, 10)
    counts = np.arange(len(chances))
    mean = float(counts @ chances)
    one = hypergeom(40, 20, 4)
    assert mean == pytest.approx(300 * one.mean())
    assert float(((counts - mean) ** 2) @ chances) == pytest.approx(300 * one.var())


def test_the_test_by_nights_is_students() -> None:
    scores, tonight = np.array([70.0, 71.0, 69.5, 70.2, 71.3]), 67.0
    expected = ttest_ind([tonight], scores, alternative="less").pvalue
    own = nights_test(scores, tonight - scores.mean(), 1e-9)  # at this level hardly anything is trimmed
    assert own.lower == pytest.approx(expected, rel=1e-6)


@settings(deadline=None, max_examples=150)
@given(st.integers(0, 10**6), st.integers(5, 12), st.integers(1, 6), st.floats(-12, 4), st.floats(0.05, 0.99))
def test_a_score_is_a_regression_exactly_at_or_below_the_line_that_is_shown(
    seed: int, nights: int, draws: int, shift: float, mean: float
) -> None:
    rng = np.random.default_rng(seed)
    chance = np.clip(rng.beta(mean, 1 - mean, size=25), 0, 1)
    history = rng.binomial(draws, chance, size=(nights, 25)).astype(np.float64)
    tonight = rng.binomial(draws, np.clip(chance + shift / 100, 0, 1)).astype(np.float64)
    told = against(history, tonight, draws)
    assert told.threshold is not None
    assert told.k is not None
    assert told.sigma is not None
    score = 100 * float(tonight.mean()) / draws
    assert (told.outcome == "regression") == (score <= told.threshold + 1e-9)
    assert told.mean is not None
    assert told.threshold == pytest.approx(told.mean - told.k * told.sigma)


def test_one_wrong_response_after_a_history_without_any_is_no_regression_and_many_are() -> None:
    perfect = np.full((8, 40), 4.0)
    once = perfect[0].copy()
    once[3] = 3
    assert against(perfect, once, 4).outcome == "pass"
    often = perfect[0].copy()
    often[:4] = 3
    assert against(perfect, often, 4).outcome == "regression"
    assert against(perfect, perfect[0], 4).outcome == "pass"


@pytest.mark.parametrize(("questions", "draws", "nights"), [(40, 4, 5), (198, 4, 10), (30, 64, 5)])
def test_the_line_of_a_history_without_any_wrong_response_is_the_first_score_that_is_red(
    questions: int, draws: int, nights: int
) -> None:
    perfect = np.full((nights, questions), float(draws))
    told = against(perfect, perfect[0], draws)
    for lost in range(1, questions):
        tonight = perfect[0].copy()
        tonight[:lost] -= 1
        if against(perfect, tonight, draws).outcome == "regression":
            break
    assert told.threshold == pytest.approx(100 - 100 * lost / (questions * draws))
    assert told.k is not None
    assert told.k < 5
    assert told.sees is not None
    assert told.sees > 100 * lost / (questions * draws)


def test_a_history_without_any_right_response_passes_as_it_is_and_says_what_it_is_compared_by() -> None:
    none = np.zeros((8, 40))
    told = against(none, none[0], 4)
    assert told.outcome == "pass"
    assert told.k is not None
    assert told.k < 5
    assert against(none, np.ones(40), 4).better


def test_a_server_whose_nights_differ_more_than_draws_do_is_given_its_noise() -> None:
    """By the draws alone the low night would be a regression (p < 0.001); for such a server it is usual."""
    rng = np.random.default_rng(4)
    levels = 0.7 + np.array([0.06, -0.05, 0.04, -0.06, 0.05, -0.04, 0.06])
    history = np.stack([rng.binomial(64, np.full(40, level)) for level in levels]).astype(np.float64)
    tonight = rng.binomial(64, np.full(40, 0.64)).astype(np.float64)
    told = against(history, tonight, 64)
    quiet = np.stack([rng.binomial(64, np.full(40, 0.7)) for _ in levels]).astype(np.float64)
    assert against(quiet, tonight, 64).outcome == "regression"
    assert told.outcome != "regression"
    assert told.sigma is not None
    assert told.sigma > 4


def test_questions_are_paired_with_themselves_so_hard_and_easy_ones_add_no_noise() -> None:
    certain = np.array([0.0] * 20 + [8.0] * 20)
    history = np.tile(certain, (6, 1))
    history[:, 20] = [7, 8, 7, 8, 7, 8]
    told = against(history, history[0], 8)
    assert told.sigma is not None
    assert told.sigma < 0.5, "between questions the standard error would be 8 points"


def test_more_benchmarks_share_the_level_and_k_is_each_ones_own() -> None:
    assert level_of(0.01, 4) == 0.0025
    assert level_of(0.01, 4, k=3.0) == pytest.approx(0.00134990, rel=1e-5)


def test_too_few_nights_say_so_whatever_the_score() -> None:
    told = against(np.full((4, 10), 4.0), np.zeros(10), 4)
    assert (told.outcome, told.reason) == ("inconclusive", "4 of the 5 nights of history that are needed")


def test_a_gate_that_could_not_see_the_drop_is_inconclusive_and_names_the_draws_that_would() -> None:
    rng = np.random.default_rng(2)
    chance = rng.beta(2, 1, size=50)
    history = rng.binomial(8, chance, size=(30, 50)).astype(np.float64)
    told = against(history, history[0], 8)
    assert told.outcome == "inconclusive"
    assert told.sees is not None
    assert told.sees > RULE.drop
    assert told.draws_needed is not None
    enough = rng.binomial(told.draws_needed, chance, size=(30, 50)).astype(np.float64)
    again = against(enough, enough[0], told.draws_needed)
    assert again.sees == pytest.approx(RULE.drop, rel=0.3), "the spread of 29 nights is itself an estimate"
    assert against(history, history[0], 8, Rule(level=0.01, drop=20.0, minimum=5)).outcome == "pass"


def test_a_better_night_is_no_outcome_but_is_said() -> None:
    history = np.stack([np.full(40, 8.0 + night % 3) for night in range(12)])
    told = against(history, np.full(40, 14.0), 16)
    assert told.better
    assert told.outcome != "regression"


def test_the_last_nights_wait_before_they_count_but_not_the_first_five() -> None:
    """A drop that is missed once, after five nights, is not at once a sixth of what it is compared with."""
    assert [len(settled(range(nights))) for nights in (0, 5, 6, 10, 11, 20, 100)] == [0, 5, 5, 5, 6, 15, 95]
    lengths = [len(settled(range(nights))) for nights in range(60)]
    assert lengths == sorted(lengths), "a longer history never counts for less"


@pytest.mark.parametrize("noise", [0.0, 1.0])
def test_quiet_nights_turn_red_at_the_nominal_rate_at_most(noise: float) -> None:
    """A sample; all of it, with the drops, is the acceptance program nightly_simulation."""
    nights = 100
    found = [false_alarms(SMALL, 5, noise, nights), running_alarms(SMALL, noise, nights)]
    assert max(one.red for one in found) <= most_by_chance(nights, 4)
    assert most_by_chance(nights, 4) <= 4 * ALPHA * nights


def test_a_drop_of_three_points_is_caught_at_the_usual_draws() -> None:
    (aime, *_), three = USUAL.tests, len(USUAL.tests)
    found = drops(aime, three, 20, "all questions", 40)
    assert found.within(1) >= 0.9
    assert found.within(3) == 1
    assert found.sees < 3


def test_the_server_noise_of_the_simulation_is_as_large_as_it_says() -> None:
    test = SMALL.tests[1]
    drawn = asked(test, 0.0, 1.0, 4_000, np.random.default_rng(1))
    spread = float((100 * drawn.mean(axis=1) / test.draws).std(ddof=1))
    assert spread == pytest.approx(math.sqrt(2) * test.error, rel=0.05)
