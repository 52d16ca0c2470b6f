"""The nightly gate: it knows no order, a better night is no worse for it, and settled nights stay settled."""

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.nightly.gate import Baseline, Judged, Rule, count_chances, judge, level_of, settled
from harness.statistics import Array
from tests.properties.profile import examples

DRAWS, NIGHTS = 4, 6
QUESTIONS = st.integers(3, 12)
SEED = st.integers(0, 10_000)
RULE = Rule(level=0.01, drop=3.0, minimum=5)


def history(questions: int, seed: int) -> Array:
    """Right responses of some nights, one row a night; each question has a chance of its own."""
    chance = np.random.default_rng(seed)
    return chance.binomial(DRAWS, chance.random(questions), (NIGHTS, questions)).astype(np.float64)


def judged(nights: Array, tonight: Array) -> Judged:
    scores = 100 * nights.mean(axis=1) / DRAWS
    return judge(Baseline(right=nights.sum(axis=0), scores=scores), tonight, DRAWS, RULE)


@examples(80)
@given(QUESTIONS, SEED, st.randoms(use_true_random=False))
def test_the_gate_knows_no_order_of_questions_or_nights(
    questions: int, seed: int, chance: random.Random
) -> None:
    nights = history(questions, seed)
    tonight = nights[chance.randrange(NIGHTS)]
    order, rows = chance.sample(range(questions), questions), chance.sample(range(NIGHTS), NIGHTS)
    before, after = judged(nights, tonight), judged(nights[rows][:, order], tonight[order])
    assert after.outcome == before.outcome
    assert after.p == pytest.approx(before.p)
    assert after.threshold == pytest.approx(before.threshold)


@examples(80)
@given(QUESTIONS, SEED)
def test_more_right_responses_never_lower_a_night_and_red_is_what_its_p_value_says(
    questions: int, seed: int
) -> None:
    nights, chance = history(questions, seed), random.Random(seed)
    tonight = nights.min(axis=0)
    before = judged(nights, tonight)
    better = tonight.copy()
    better[chance.randrange(questions)] += 1
    better = np.minimum(better, DRAWS)
    after = judged(nights, better)
    assert before.p is not None
    assert after.p is not None
    assert 0 < before.p <= 1
    assert after.difference is not None
    assert before.difference is not None
    assert after.difference >= before.difference - 1e-9
    assert (before.outcome == "regression") == (before.p <= RULE.level)


@examples(60)
@given(QUESTIONS, SEED)
def test_a_night_at_the_mean_of_equal_nights_is_never_a_regression(questions: int, seed: int) -> None:
    nights = np.tile(history(questions, seed)[:1], (NIGHTS, 1))
    assert judged(nights, nights[0]).outcome != "regression"


@examples(60)
@given(st.lists(st.integers(0, 12), min_size=1, max_size=6))
def test_the_chances_of_tonights_count_add_up_to_one_with_the_mean_that_was_dealt(totals: list[int]) -> None:
    chances = count_chances(np.array(totals, dtype=np.float64), 4, 3)
    assert chances.sum() == pytest.approx(1)
    assert (chances >= 0).all()
    assert float(np.arange(len(chances)) @ chances) == pytest.approx(sum(totals) / 3)


@examples(60)
@given(st.integers(0, 60))
def test_what_was_settled_stays_so_when_nights_come(nights: int) -> None:
    now, later = settled(range(nights)), settled(range(nights + 1))
    assert list(later)[: len(now)] == list(now)
    assert 0 <= nights - len(now) <= 5


@examples(60)
@given(st.floats(0.001, 0.2), st.integers(1, 50))
def test_tests_of_one_night_share_its_level(alpha: float, tests: int) -> None:
    assert level_of(alpha, tests) * tests == pytest.approx(alpha)
    assert level_of(alpha, tests, 3.0) == pytest.approx(0.00135, abs=1e-5)
