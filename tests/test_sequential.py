"""The sequential test against published boundaries, and the traps of looking more than once."""

from collections.abc import Sequence

import numpy as np
import pytest
from scipy.special import ndtr, ndtri
from scipy.stats import binom

from harness.sequential import (
    METHOD,
    Paths,
    boundaries,
    critical_values,
    decided,
    judge_registered,
    judge_round,
    level_at,
    rounds_of,
    spent,
    times,
)
from harness.statistics import LEVEL, VERDICTS, Claim, Score, judge
from tests.grading.stopping_rates import (
    DOCUMENT,
    RUNS,
    always_right_or_wrong,
    draw_until_resolved,
    few_table,
    one_line,
    table,
    with_an_error_in_points,
)
from tests.grading.verdict_rates import SETTINGS, chances, generator, highest_by_chance

FIFTHS = (0.2, 0.4, 0.6, 0.8, 1.0)
AIME = Claim(value=88.5, margin=2.0, draws=64)


def measured(average: float, draws: int, se: float = 0.4, **counts: int) -> Score:
    """A score of 30 questions whose error after 64 draws would be `se`."""
    return Score(
        questions=30,
        draws=draws,
        average=average,
        lowest=average,
        highest=average,
        se_rerun=se * (64 / draws) ** 0.5 if draws > 1 else None,
        se_questions=5.0,
        lenient=None,
        truncated=0,
        no_answer=0,
        ungraded=counts.get("ungraded", 0),
        short=counts.get("short", 0),
        degrees=10.0 * (draws - 1) if draws > 1 else None,
    )


def test_boundaries_are_those_published_for_obrien_and_flemings_spending_function() -> None:
    """Five looks at a one-sided 2.5 %, as the programs of Reboussin, DeMets, Kim and Lan print them."""
    spending = tuple(2 * ndtr(ndtri(0.0125) / np.sqrt(FIFTHS)))
    assert boundaries(FIFTHS, spending) == pytest.approx((4.8769, 3.3569, 2.6803, 2.2898, 2.0310), abs=1.5e-4)


@pytest.mark.parametrize(
    "critical",
    [pytest.param([2.413] * 5, id="Pocock 1977"), pytest.param(2.040 / np.sqrt(FIFTHS), id="O'Brien 1979")],
)
def test_the_classical_boundaries_of_five_looks_err_in_two_and_a_half_per_cent(
    critical: Sequence[float],
) -> None:
    paths, crossed = Paths(places=np.zeros(1), weights=np.ones(1), time=0.0), 0.0
    for z, time in zip(critical, FIFTHS, strict=True):
        crossed += paths.crossing(z, time)
        paths = paths.carried(z, time)
    assert crossed == pytest.approx(0.025, abs=1e-4)


def test_a_simulated_random_walk_crosses_as_often_as_is_spent() -> None:
    shares = times(rounds_of(64), AIME)
    critical = critical_values(rounds_of(64), AIME)
    steps = np.sqrt(np.diff((0.0, *shares)))
    walks = np.cumsum(np.random.default_rng(0).standard_normal((200_000, len(steps))) * steps, axis=1)
    crossed = np.logical_or.accumulate(walks / np.sqrt(shares) > critical, axis=1).mean(axis=0)
    assert crossed == pytest.approx([spent(share) for share in shares], abs=0.0015)


def test_one_round_is_the_ordinary_test() -> None:
    assert rounds_of(4) == (4,)
    assert rounds_of(1) == (1,)
    assert level_at((4,), AIME, 4) == pytest.approx(LEVEL)
    ordinary, only = judge(measured(88.0, 4), AIME), judge_round(measured(88.0, 4), AIME, (4,))
    assert only.name == ordinary.name
    assert only.interval == pytest.approx(ordinary.interval)


def test_rounds_begin_with_four_draws_and_end_with_all() -> None:
    assert rounds_of(64) == (4, 8, 16, 24, 32, 48, 64)
    assert rounds_of(8) == (4, 6, 8)
    assert rounds_of(10) == (4, 5, 8, 10)


def test_the_claims_own_error_makes_looks_alike_and_is_not_counted_where_it_is_in_points() -> None:
    assert times((32, 64), AIME) == pytest.approx((2 / 3, 1.0))
    assert times((32, 64), Claim(value=1, margin=1, draws=None)) == pytest.approx((2 / 3, 1.0))
    assert times((32, 64), Claim(value=1, margin=1, se=0.5)) == pytest.approx((1 / 2, 1.0))


def test_an_early_round_needs_more_than_the_last() -> None:
    rounds = rounds_of(64)
    levels = [level_at(rounds, AIME, looked) for looked in rounds]
    assert levels == sorted(levels)
    assert levels[0] < 0.001
    assert 0.03 < levels[-1] < LEVEL


def test_what_the_ordinary_test_calls_at_64_draws_may_be_open_in_rounds() -> None:
    """Whoever has looked six times needs more at the end: the page says which of the two it shows."""
    borderline = measured(89.5, 64)
    assert judge(borderline, AIME).name == "reproduced"
    found = judge_round(borderline, AIME, rounds_of(64))
    assert found.name == "inconclusive"
    assert found.reason == "undecided after all 64 draws"
    assert found.draws_needed is None


def test_undecided_says_how_far_the_run_is() -> None:
    assert judge_round(measured(88.0, 8), AIME, rounds_of(64)).reason == "undecided after 8 of 64 draws"


def test_a_broken_model_is_decided_in_the_first_round_though_it_never_varies() -> None:
    found = judge_round(measured(0.0, 4, se=0.0), AIME, rounds_of(64))
    assert found.name == "not reproduced"
    assert decided(found)


def test_a_round_with_anything_ungraded_or_missing_decides_nothing() -> None:
    for trouble in ({"ungraded": 1}, {"short": 2}):
        assert not decided(judge_round(measured(0.0, 4, **trouble), AIME, rounds_of(64)))
    assert not decided(judge_round(None, AIME, rounds_of(64)))


def test_draws_at_which_no_round_ends_have_no_level() -> None:
    with pytest.raises(ValueError, match=r"not in tuple"):
        judge_round(measured(88.0, 10), AIME, rounds_of(64))


def test_draws_beyond_those_registered_get_no_ordinary_test() -> None:
    """Every test after the last registered one would be a fresh 5 %."""
    beyond = measured(88.5, 72)
    assert judge(beyond, AIME).name == "reproduced"
    found = judge_registered(beyond, AIME, (4, 6, 8))
    assert (found.name, found.delta, found.interval, found.draws_needed) == ("inconclusive", 0.0, None, None)
    assert found.reason == "registered for 8 draws, looked at after 4, 6 and 8: after 72 there is no verdict"
    assert judge_registered(measured(88.5, 72), AIME, (4,)).reason.startswith("registered for 4 draws: ")


def test_registered_draws_are_judged_in_their_round_and_what_is_missing_is_said_first() -> None:
    rounds = rounds_of(64)
    assert judge_registered(measured(89.5, 64), AIME, rounds) == judge_round(measured(89.5, 64), AIME, rounds)
    assert judge_registered(measured(89.5, 72, ungraded=1), AIME, rounds).name == "not measured"


def test_questions_that_are_always_right_or_wrong_do_not_end_a_run_in_its_first_round() -> None:
    """Their error is zero, whatever the true one: that of one differing draw stands in for it."""
    found = always_right_or_wrong(4)
    assert set(found.draws) == {8}
    assert {VERDICTS[code] for code in found.code} == {"reproduced"}


def test_error_rates_hold_over_all_rounds_together_in_a_sample() -> None:
    runs = 1_000
    found = [one_line(setting, setting.spreads[1], runs) for setting in (SETTINGS[0], SETTINGS[2])]
    errors = [rate for one in found for rate in one.errors()]
    errors += [with_an_error_in_points(side, runs).share(name) for side in (-1, 1) for name in VERDICTS[1:]]
    assert max(errors) <= highest_by_chance(runs, len(errors))
    assert min(one.runs[4.0].saved for one in found) > 0.8
    assert min(one.runs[0.0].share("reproduced") for one in found) > 0.8


def test_the_documented_table_is_what_the_simulation_gives() -> None:
    documented = DOCUMENT.read_text(encoding="utf-8").splitlines()
    heading, rule, line = table([one_line(SETTINGS[0], SETTINGS[0].spreads[0], RUNS)])
    start = documented.index(heading)
    assert documented[start : start + 3] == [heading, rule, line]
    lines = documented[start + 2 : start + 2 + sum(len(one.spreads) for one in SETTINGS)]
    assert all(line.startswith("| ") for line in lines)


def test_few_uncertain_questions_are_documented_to_err_more_often() -> None:
    documented, lines = DOCUMENT.read_text(encoding="utf-8"), few_table(SETTINGS[:1])
    assert "\n".join(lines) in documented
    least, *_, most = ([float(cell) for cell in one.split(" | ")[2:6]] for one in lines[2:])
    assert max(most) <= 100 * highest_by_chance(RUNS, len(most))
    assert f"ρ = 0.05 on AIME24 `reproduced` is said in {least[0]:.0f} % of the runs at the margin" in METHOD


def test_looking_seven_times_with_the_ordinary_test_would_err_more_often() -> None:
    """What the levels are for: the simulation can fail."""
    setting, runs = SETTINGS[2], 1_000
    chance = chances(setting.questions, (setting.published + setting.margin) / 100, 0.4)
    published = np.full(runs, setting.published)
    claim = Claim(value=setting.published, margin=setting.margin, se=0.0)
    naive = draw_until_resolved(chance, published, claim, generator("naive"), level=LEVEL)
    assert naive.share("reproduced") > binom.ppf(0.999, runs, LEVEL) / runs
    kept = draw_until_resolved(chance, published, claim, generator("naive"))
    assert kept.share("reproduced") <= highest_by_chance(runs, 1)
