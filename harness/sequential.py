"""The verdict of a benchmark that is drawn in rounds and stopped as soon as it is decided.

A group-sequential equivalence test (Jennison and Turnbull, Biometrics 1993). After each round the two
one-sided tests of `harness.statistics` are made at a level of that round's own, chosen so that all
rounds together err in 5 % on either side. The interval shown is a repeated confidence interval:
those of all rounds hold the true difference together, so it does not matter why a run was stopped.

How much of the 5 % a round may spend is set before the run by its share t of the information, after
Lan and DeMets (Biometrika 1983): 5 % · t², of the power family of Kim and DeMets (Biometrika 1987).
The rounds, and with them all levels, follow from the number of draws alone. docs/statistics.md has
the error rates and the draws saved, by simulation, and says for which models they exceed 5 %.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from harness.statistics import LEVEL, Array, Claim, Score, Verdict, judge

METHOD = (
    "A group-sequential equivalence test (Jennison and Turnbull 1993) after each round, with error spending "
    "5 % · t² on each side (Lan and DeMets 1983): all rounds together spend 5 % on each of the two one-sided "
    "tests. `reproduced` errs by one of them; `not reproduced` within the margin by either, so by the sum. "
    "Simulation finds at most 5 % where uncertainty is spread over many questions, in words of "
    "docs/statistics.md a ρ of at least 0.15 on AIME and 0.1 on GPQA-Diamond and LiveCodeBench. "
    "With very few uncertain questions it is more: at ρ = 0.05 on AIME24 `reproduced` is said in 15 % of the "
    "runs at the margin (by the ordinary test in 14 %). "
    "The intervals are repeated confidence intervals: for such spreads they hold whyever a run was stopped. "
    "The ordinary test, which looks once, does not apply to such a run and is not shown; "
    "after a number of draws that was not registered there is no verdict."
)

SHARES = (1 / 16, 1 / 8, 1 / 4, 3 / 8, 1 / 2, 3 / 4, 1)
"""Of the protocol's draws, at which one looks: 4, 8, 16, 24, 32, 48 and 64. Ours: every eighth of the
draws would save 5 % more at AIME24, and keep the server waiting for a last long response more often."""

LEAST_DRAWS = 4
"""Of the first round. With fewer, `se_rerun` is too poor an estimate for a level below 1 %."""

POWER = 2.0
"""Of the spending function. 1 is close to Pocock's boundaries, 3 to O'Brien and Fleming's. Ours: against
3 it needs a sixth fewer draws for a model far from the claim, and calls a point fewer `reproduced`."""


def rounds_of(draws: int) -> tuple[int, ...]:
    """The numbers of draws a question at which a run of at most `draws` is looked at; the last is all.

    64 gives 4, 8, 16, 24, 32, 48, 64. Up to 4 draws there is one round: the ordinary test.
    """
    wanted = (max(LEAST_DRAWS, math.ceil(share * draws)) for share in SHARES)
    return tuple(sorted({min(draws, looked) for looked in wanted}))


def times(rounds: Sequence[int], claim: Claim) -> tuple[float, ...]:
    """The share of the last round's information that each round has.

    Information is one over the variance of the difference. The claim's own error is the same in all
    rounds: measured with d draws, it leaves 1/k + 1/d of one draw's variance after k. A claim whose
    error is given in points counts as exact here, since its share would depend on our own variance.
    Looks then are more alike than reckoned, and the test keeps its level with something to spare.
    """
    own = 0.0 if claim.se is not None else 1 / (claim.draws or rounds[-1])
    return tuple((1 / rounds[-1] + own) / (1 / looked + own) for looked in rounds)


def spent(time: float) -> float:
    """How much of the 5 % on each side may be spent up to a share of the information."""
    return LEVEL * float(time**POWER)


@lru_cache
def boundaries(times: tuple[float, ...], errors: tuple[float, ...]) -> tuple[float, ...]:
    """Critical values z of a one-sided test at each look, for a total error of `errors` up to it.

    With Z(j) = B(t_j)/√t_j of a Brownian motion B, the chance that no earlier look and this one crosses
    is what this look may spend. The density of the paths that never crossed is carried from look to
    look by numerical integration (Armitage, McPherson and Rowe, JRSS A 1969). Good to four decimals.
    """
    from scipy.optimize import brentq

    found: list[float] = []
    paths = Paths(places=np.zeros(1), weights=np.ones(1), time=0.0)
    for time, own in zip(times, np.diff((0.0, *errors)), strict=True):

        def excess(z: float, paths: Paths = paths, time: float = time, own: float = own) -> float:
            return math.log(max(paths.crossing(z, time), 1e-300) / own)

        found.append(float(brentq(excess, -WIDTH, WIDTH, xtol=1e-10)))
        paths = paths.carried(found[-1], time)
    return tuple(found)


WIDTH = 9.0
NODES = 200


@lru_cache
def nodes() -> tuple[Array, Array]:
    """Gauss and Legendre's places between -1 and 1, with their weights."""
    places, weights = np.polynomial.legendre.leggauss(NODES)
    return places, weights


@dataclass(frozen=True, kw_only=True)
class Paths:
    """Where the paths that have not crossed are at a time: places, and the chance of each."""

    places: Array
    weights: Array
    time: float

    def crossing(self, z: float, time: float) -> float:
        """The chance of being above z√t at a later time."""
        from scipy.special import ndtr

        away = (self.places - z * math.sqrt(time)) / math.sqrt(time - self.time)
        return float(self.weights @ ndtr(away))

    def carried(self, z: float, time: float) -> "Paths":
        """Those that are below z√t at a later time."""
        unit, weights = nodes()
        low, high = -WIDTH * math.sqrt(time), z * math.sqrt(time)
        places = low + (high - low) * (unit + 1) / 2
        step = math.sqrt(time - self.time)
        steps = np.exp(-(((places[:, None] - self.places) / step) ** 2) / 2) / (step * math.sqrt(2 * math.pi))
        return Paths(places=places, weights=weights * (high - low) / 2 * (steps @ self.weights), time=time)


def critical_values(rounds: Sequence[int], claim: Claim) -> tuple[float, ...]:
    """How many standard errors the difference must be inside or outside of the margin, by round."""
    shares = times(rounds, claim)
    return boundaries(shares, tuple(map(spent, shares)))


def level_at(rounds: Sequence[int], claim: Claim, draws: int) -> float:
    """The level of each one-sided test made after `draws` draws. Raises ValueError where no round ends."""
    from scipy.special import ndtr

    return float(ndtr(-critical_values(rounds, claim)[tuple(rounds).index(draws)]))


def in_rounds(claim: Claim, draws: int) -> Claim:
    """The claim as a run of at most `draws` tests it in every round.

    A value measured with nobody knows how many draws is given those of the whole run, as in the
    ordinary test: its error is there from the first round on and does not shrink with ours.
    """
    return replace(claim, draws=draws) if claim.se is None and claim.draws is None else claim


def judge_round(measured: Score | None, claim: Claim, rounds: Sequence[int]) -> Verdict:
    """The verdict after the round that ends with the draws of `measured`.

    `inconclusive` means undecided so far, or to the end after the last round. Raises ValueError where no
    round ends with these draws.
    """
    if measured is None:
        return judge(None, claim)
    level = level_at(rounds, claim, measured.draws)
    found = judge(measured, in_rounds(claim, rounds[-1]), level)
    if found.name != "inconclusive" or found.interval is None:
        return found
    last = measured.draws == rounds[-1]
    told = f"undecided after {'all ' * last}{measured.draws}{f' of {rounds[-1]}' * (not last)} draws"
    return replace(found, draws_needed=None, reason=told)


def judge_registered(measured: Score, claim: Claim, rounds: Sequence[int]) -> Verdict:
    """The verdict of a run that is registered for these rounds, whatever the number of its draws.

    Where no round ends, nothing is tested: a test beyond those registered would have no level left.
    """
    if measured.draws in rounds:
        return judge_round(measured, claim, rounds)
    found = judge(measured, claim)
    if found.name == "not measured":
        return found
    reason = f"{registered_for(rounds)}: after {measured.draws} there is no verdict"
    return Verdict(name="inconclusive", delta=found.delta, reason=reason)


def registered_for(rounds: Sequence[int]) -> str:
    """`registered for 10 draws, looked at after 4, 5, 8 and 10`."""
    *before, last = rounds
    seen = f", looked at after {', '.join(map(str, before))} and {last}" if before else ""
    return f"registered for {last} draws{seen}"


def decided(found: Verdict) -> bool:
    """Whether no further round is needed."""
    return found.name in ("reproduced", "not reproduced")
