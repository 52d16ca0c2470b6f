"""Scores and verdicts: bounds, order, symmetry, and what happens when one response changes."""

import math
import random
from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from harness.sequential import decided, judge_registered, level_at, rounds_of
from harness.statistics import (
    LEVEL,
    Claim,
    Score,
    Votes,
    compare,
    counts_rounding_to,
    judge,
    majority_at_k,
    pass_at_k,
    score,
)
from harness.types import Grade
from tests.properties.profile import examples

Table = list[list[bool | None]]
CORRECT = st.sampled_from([True, False, None])
FIELDS = ("average", "lowest", "highest", "se_rerun", "se_questions", "majority", "any_right", "degrees")


def graded(results: Table) -> list[Grade]:
    return [
        Grade(
            question=f"q{number}",
            draw=draw,
            correct=correct,
            extracted=None if correct is None else str(int(correct)),
            truncated=False,
            lenient=bool(correct),
        )
        for number, own in enumerate(results)
        for draw, correct in enumerate(own)
    ]


def tables(values: st.SearchStrategy[bool | None], least: int = 1) -> st.SearchStrategy[Table]:
    """Questions with equally many draws each."""
    return st.integers(least, 5).flatmap(
        lambda draws: st.lists(st.lists(values, min_size=draws, max_size=draws), min_size=1, max_size=8)
    )


def scored(results: Table) -> Score:
    return score(graded(results), len(results), len(results[0]))


@examples(150)
@given(tables(CORRECT))
def test_a_score_lies_between_its_bounds_and_all_of_it_within_the_scale(results: Table) -> None:
    found = scored(results)
    assert found.lowest is not None
    assert found.highest is not None
    assert 0 <= found.lowest <= found.highest <= 100
    ungraded = sum(one is None for own in results for one in own)
    assert (found.ungraded, found.short) == (ungraded, 0)
    assert (found.lowest == pytest.approx(found.highest)) == (ungraded == 0)
    if not ungraded:
        assert found.average == pytest.approx(found.lowest)
    assert found.se_rerun is None or 0 <= found.se_rerun <= 50


@examples(100)
@given(tables(CORRECT), st.randoms(use_true_random=False))
def test_a_score_knows_no_order(results: Table, chance: random.Random) -> None:
    rows = graded(results)
    shuffled = chance.sample(rows, len(rows))
    before, after = (score(each, len(results), len(results[0])) for each in (rows, shuffled))
    for field in FIELDS:
        assert getattr(after, field) == pytest.approx(getattr(before, field)), field


@examples(100)
@given(tables(st.booleans()), st.data())
def test_one_more_right_response_never_lowers_a_score(results: Table, data: st.DataObject) -> None:
    wrong = [(i, j) for i, own in enumerate(results) for j, one in enumerate(own) if not one]
    assume(wrong)
    question, draw = data.draw(st.sampled_from(wrong))
    better = [list(own) for own in results]
    better[question][draw] = True
    before, after = scored(results), scored(better)
    for field in ("average", "lowest", "highest", "majority", "any_right"):
        assert getattr(after, field) >= getattr(before, field) - 1e-9, field
    assert after.average > before.average


@examples(100)
@given(st.integers(0, 30), st.integers(0, 30), st.integers(1, 30))
def test_pass_at_k_rises_with_k_and_with_every_right_draw(right: int, wrong: int, k: int) -> None:
    draws = right + wrong
    assume(1 <= k <= draws)
    chance = pass_at_k(right, draws, k)
    assert chance is not None
    assert 0 <= chance <= 1
    assert chance >= right / draws - 1e-12
    if right < draws:
        more = pass_at_k(right + 1, draws, k)
        assert more is not None
        assert more >= chance
    if k < draws:
        wider = pass_at_k(right, draws, k + 1)
        assert wider is not None
        assert wider >= chance


@examples(80)
@given(st.integers(0, 6), st.lists(st.integers(1, 4), max_size=3), st.integers(0, 2), st.integers(1, 8))
def test_a_majority_of_one_is_the_share(right: int, wrong: list[int], silent: int, k: int) -> None:
    cast = Votes(right, tuple(wrong), silent)
    assume(1 <= k <= cast.draws)
    chance, one = majority_at_k(cast, k), majority_at_k(cast, 1)
    assert chance is not None
    assert 0 <= chance <= 1
    assert one == pytest.approx(right / cast.draws)
    assert majority_at_k(replace(cast, wrong=tuple(reversed(wrong))), k) == pytest.approx(chance)
    assert (chance > 0) <= (right > 0)


@examples(100)
@given(st.integers(1, 2000), st.data())
def test_a_score_rounds_to_what_it_was_rounded_from(responses: int, data: st.DataObject) -> None:
    right = data.draw(st.integers(0, responses))
    assert right in counts_rounding_to(round(100 * right / responses, 1), responses)


AVERAGE = st.floats(1, 99)
ERROR = st.floats(0.01, 5)


def measured(average: float, se: float, draws: int = 8, questions: int = 30) -> Score:
    return Score(
        questions=questions,
        draws=draws,
        average=average,
        lowest=average,
        highest=average,
        se_rerun=se,
        se_questions=5.0,
        lenient=None,
        truncated=0,
        no_answer=0,
        ungraded=0,
        short=0,
        degrees=10.0 * (draws - 1),
    )


@examples(200)
@given(AVERAGE, ERROR, AVERAGE, st.floats(0.5, 10), st.integers(1, 64))
def test_a_verdict_is_what_its_interval_says(
    average: float, se: float, value: float, margin: float, draws: int
) -> None:
    found = judge(measured(average, se), Claim(value=value, margin=margin, draws=draws))
    assert found.interval is not None
    low, high = found.interval
    assert low <= average - value <= high
    inside, outside = -margin < low and high < margin, high < -margin or low > margin
    assert found.name == ("reproduced" if inside else "not reproduced" if outside else "inconclusive")


@examples(200)
@given(AVERAGE, ERROR, AVERAGE, st.floats(0.5, 10))
def test_a_verdict_is_the_same_from_below(average: float, se: float, value: float, margin: float) -> None:
    """Right and wrong exchanged: 100 − score against 100 − claim."""
    claim = Claim(value=value, margin=margin, draws=8)
    up = judge(measured(average, se), claim)
    down = judge(measured(100 - average, se), replace(claim, value=100 - value))
    assert up.interval is not None
    assert down.interval is not None
    assert up.interval[0] == pytest.approx(-down.interval[1], abs=1e-6)
    near = min(abs(abs(end) - margin) for end in up.interval) < 1e-6
    assert near or up.name == down.name


@examples(100)
@given(AVERAGE, ERROR, AVERAGE, st.floats(0.5, 10), st.floats(0.001, 0.05))
def test_a_stricter_level_never_decides_what_a_laxer_one_leaves_open(
    average: float, se: float, value: float, margin: float, level: float
) -> None:
    claim = Claim(value=value, margin=margin, draws=8)
    strict, lax = judge(measured(average, se), claim, level), judge(measured(average, se), claim, LEVEL)
    assert not decided(strict) or strict.name == lax.name


@examples(100)
@given(AVERAGE, ERROR, AVERAGE, st.floats(0.5, 10), st.floats(0.1, 5))
def test_a_wider_margin_never_turns_reproduced_into_anything_else(
    average: float, se: float, value: float, margin: float, wider: float
) -> None:
    claim = Claim(value=value, margin=margin, draws=8)
    ours, wider_claim = measured(average, se), replace(claim, margin=margin + wider)
    narrow, wide = judge(ours, claim).name, judge(ours, wider_claim).name
    assert narrow != "reproduced" or wide == "reproduced"
    assert wide != "not reproduced" or narrow == "not reproduced"


@examples(60)
@given(st.integers(1, 300), st.integers(1, 64))
def test_the_rounds_of_a_run_spend_no_more_than_one_look_may(draws: int, theirs: int) -> None:
    rounds = rounds_of(draws)
    assert rounds[-1] == draws
    assert list(rounds) == sorted(set(rounds))
    levels = [level_at(rounds, Claim(value=50, margin=2, draws=theirs), each) for each in rounds]
    assert all(0 < level <= LEVEL + 1e-4 for level in levels)
    assert sum(levels) >= LEVEL - 1e-4
    assert len(rounds) > 1 or levels[0] == pytest.approx(LEVEL, abs=1e-4)


@examples(60)
@given(AVERAGE, ERROR, AVERAGE, st.integers(2, 70))
def test_draws_that_were_not_registered_have_no_verdict_and_registered_ones_err_on_the_careful_side(
    average: float, se: float, value: float, draws: int
) -> None:
    rounds, claim = rounds_of(64), Claim(value=value, margin=2.0, draws=64)
    found = judge_registered(measured(average, se, draws), claim, rounds)
    if draws not in rounds:
        assert found.name == "inconclusive"
    elif decided(found):
        assert found.name == judge(measured(average, se, draws), claim).name


@examples(100)
@given(tables(st.booleans()), st.randoms(use_true_random=False))
def test_a_comparison_changes_its_sign_with_its_sides(results: Table, chance: random.Random) -> None:
    other = [[chance.random() < 0.5 for _ in own] for own in results]
    there, back = compare(graded(results), graded(other)), compare(graded(other), graded(results))
    assert there.difference == pytest.approx(-back.difference)
    assert there.se == (None if back.se is None else pytest.approx(back.se))
    assert there.se_rerun == (None if back.se_rerun is None else pytest.approx(back.se_rerun))
    assert [(question, after, before) for question, before, after in there.flips] == list(back.flips)
    same = compare(graded(results), graded(results))
    assert same.difference == 0
    assert not same.flips


@pytest.mark.parametrize("right", [0.1, 0.5, 0.9])
def test_the_interval_of_a_score_holds_the_truth_about_as_often_as_it_says(right: float) -> None:
    """90 % intervals of 400 simulated runs; three standard errors of the simulation are allowed for."""
    chance, runs, held = random.Random(f"cover {right}"), 400, 0
    for _ in range(runs):
        results: Table = [[chance.random() < right for _ in range(8)] for _ in range(20)]
        claim = Claim(value=100 * right, margin=60.0, se=0.0, rounding=0.0)
        found = judge(scored(results), claim)
        assert found.interval is not None
        held += found.interval[0] <= 0 <= found.interval[1]
    assert held / runs >= 0.9 - 3 * math.sqrt(0.09 / runs)
