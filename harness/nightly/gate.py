"""Whether tonight's score lies below our own history, question by question.

Two tests, and a regression is what both of them say. Neither alone would keep its promise.

The draws' test is exact. If nothing changed, the right responses of a question are spread over tonight
and the J nights of history as chance has it: given their total, tonight's share is hypergeometric, and
the benchmark's count is the sum over independent questions (a stratified permutation test, after Mantel
and Haenszel 1959). No variance is estimated, so it holds for one draw and for scores near 100.

The nights' test asks whether tonight is low for a night. Servers add noise of their own: another batch
size, another kernel. (tonight − mean)/(s·√(1 + 1/J)) against Student's t with J − 1 degrees of freedom,
s being the standard deviation of the history's scores. It needs several nights, and trusts no model of
where the noise comes from.

The line below which a score is a regression is `mean − k·sigma`, with k as large as the two tests make
it. docs/nightly.md has the false alarms and the power by simulation.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, TypeVar

import numpy as np

from harness.statistics import POINTS, Array

Outcome = Literal["pass", "regression", "inconclusive"]
EXIT_CODES: dict[Outcome, int] = {"pass": 0, "regression": 1, "inconclusive": 2}
Night = TypeVar("Night")

POWER = 0.8
"""Of nights with a drop of `sees` points that the gate turns red."""

ALWAYS = 5  # nights of history that count at once: of so few none can be spared
WAITING = 5
MOST_DRAWS = 10_000
ROWS = 64  # questions that are transformed at once: memory
CERTAIN = 1e-12  # the least chance that a sum of so many rounded terms can tell from none


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What one test is held to: its level, the smallest drop that it must be able to see (points), and
    the nights of history that it needs."""

    level: float
    drop: float
    minimum: int


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """The nights that tonight is compared with: right responses by question, summed over the nights, and
    each night's score in points. All nights have the same questions and draws as tonight."""

    right: Array
    scores: Array

    @property
    def nights(self) -> int:
        return len(self.scores)


@dataclass(frozen=True, kw_only=True)
class Judged:
    """The outcome of one benchmark of one checkpoint, and why. Points.

    `threshold` is `mean − k·sigma`; a score at or below it is a regression. `sees` is the drop that would
    turn four nights of five red. `draws_needed` would make that the drop asked for, with the history at
    hand; None where no number would, or none is needed. `better`: above the history by the same test.
    All but the first three are None while the history is too short to say.
    """

    outcome: Outcome
    reason: str
    nights: int
    mean: float | None = None
    difference: float | None = None
    sigma: float | None = None
    k: float | None = None
    threshold: float | None = None
    p: float | None = None
    sees: float | None = None
    draws_needed: int | None = None
    better: bool = False


def settled(nights: Sequence[Night]) -> Sequence[Night]:
    """The nights of a history, oldest first, that tonight is compared with: of more than five not the last.

    A drop that is not seen at once must not become the level by which it is judged. So the last nights
    wait, each one beyond five and at most five of them, and for so long each new night is compared with
    what was before.
    """
    waiting = min(max(len(nights) - ALWAYS, 0), WAITING)
    return nights[: len(nights) - waiting]


def level_of(alpha: float, tests: int, k: float | None = None) -> float:
    """The level of each test. `alpha` is that of a whole night and shared out evenly (Bonferroni), so
    that more benchmarks do not mean more false alarms; `k` sets each test's own, as a normal deviate."""
    if k is not None:
        return math.erfc(k / math.sqrt(2)) / 2
    return alpha / tests


def judge(baseline: Baseline, right: Array, draws: int, rule: Rule) -> Judged:
    """Tonight's right responses by question, of `draws` each, against the baseline's same questions."""
    nights = baseline.nights
    if nights < max(rule.minimum, 2):
        return Judged(outcome="inconclusive", reason=too_short(nights, rule.minimum), nights=nights)
    found = measured(baseline, right, draws, rule)
    outcome, reason = decided(found, rule)
    return Judged(
        outcome=outcome,
        reason=reason,
        nights=nights,
        mean=found.mean,
        difference=found.difference,
        sigma=found.sigma,
        k=found.reach / found.sigma,
        threshold=found.mean - found.reach,
        p=found.p,
        sees=found.sees,
        draws_needed=draws_needed(found, draws, rule) if found.sees > rule.drop else None,
        better=found.better <= rule.level,
    )


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Both tests at once, in points. `own` is the difference's standard error from the draws alone, `sigma`
    the larger of it and that from night to night; `reach` how far below the mean the line is."""

    nights: int
    mean: float
    difference: float
    own: float
    sigma: float
    reach: float
    p: float
    better: float

    @property
    def sees(self) -> float:
        from scipy.special import ndtri

        return self.reach + float(ndtri(POWER)) * self.sigma


def measured(baseline: Baseline, right: Array, draws: int, rule: Rule) -> Measured:
    """What the two tests say. The p-value is the larger of theirs."""
    nights = baseline.nights
    mean = float(baseline.scores.mean())
    score = POINTS * float(right.sum()) / (len(right) * draws)
    by_draws = draws_test(baseline.right + right, int(right.sum()), draws, nights, rule.level)
    by_nights = nights_test(baseline.scores, score - mean, rule.level)
    return Measured(
        nights=nights,
        mean=mean,
        difference=score - mean,
        own=by_draws.error,
        sigma=max(by_draws.error, by_nights.error),
        reach=max(by_draws.reach, by_nights.reach),
        p=max(by_draws.lower, by_nights.lower),
        better=max(by_draws.upper, by_nights.upper),
    )


@dataclass(frozen=True, kw_only=True)
class Tested:
    """One test: p-values of being lower and of being higher, the difference's standard error, and how many
    points below the mean a score becomes significant."""

    lower: float
    upper: float
    error: float
    reach: float


# By draws -----------------------------------------------------------------------------------


def draws_test(total: Array, tonight: int, draws: int, nights: int, level: float) -> Tested:
    """Tonight's count given each question's total over history and tonight.

    `reach` is exact: at a score that far below the mean, and no sooner, the chance is `level` or less.
    Where no question ever had two outcomes, it is what tonight would have to lose on as many questions, and
    `error` that of a single draw.
    """
    chances = count_chances(total, draws, nights + 1)
    lower, upper = np.cumsum(chances), np.cumsum(chances[::-1])[::-1]
    share = total / (draws * (nights + 1))
    of_all = POINTS / (len(total) * draws)
    apart = (nights + 1) / nights  # from the mean with tonight in it to the mean of the history
    if not (variance := count_variance(share, draws, nights + 1)):
        error = of_all * math.sqrt(apart)
        return Tested(lower=1.0, upper=1.0, error=error, reach=of_all * least_lost(nights, level))
    critical = int(np.searchsorted(lower, level, side="right")) - 1
    return Tested(
        lower=rounded_up(float(lower[tonight])),
        upper=rounded_up(float(upper[tonight])),
        error=of_all * math.sqrt(variance) * apart,
        reach=of_all * (draws * float(share.sum()) - critical) * apart,
    )


def count_variance(share: Array, draws: int, nights: int) -> float:
    """The variance of tonight's count, given each question's share of right responses in all `nights`.

    By formula, and so exactly 0 where every share is 0 or 1; from the chances it would be what rounding
    leaves, which is not.
    """
    all_draws = draws * nights
    return draws * float((share * (1 - share)).sum()) * (all_draws - draws) / (all_draws - 1)


def least_lost(nights: int, level: float) -> int:
    """Responses on as many questions that tonight alone would have to lose, after so many nights in which
    none was lost: each is tonight's with a chance of 1 in `nights` + 1."""
    return math.ceil(math.log(level) / -math.log(nights + 1) - 1e-9)


def count_chances(total: Array, draws: int, nights: int) -> Array:
    """The chance of each count of right responses in one of `nights` nights of `draws` draws a question,
    given how many of each question are right in all of them.

    A sum of independent hypergeometric counts: the product of their Fourier transforms.
    """
    from scipy.fft import irfft, next_fast_len, rfft

    size = len(total) * draws + 1
    fast = next_fast_len(size, real=True)
    product = np.ones(fast // 2 + 1, dtype=np.complex128)
    values, copies = np.unique(total, return_counts=True)
    for start in range(0, len(values), ROWS):
        rows = np.stack([one_question(int(right), draws, nights) for right in values[start : start + ROWS]])
        transformed = rfft(rows, fast, axis=1)
        product *= np.prod(transformed ** copies[start : start + ROWS, None], axis=0)
    chances = np.clip(irfft(product, fast)[:size], 0.0, None)
    return np.asarray(chances / chances.sum())


@lru_cache(maxsize=20_000)
def one_question(right: int, draws: int, nights: int) -> Array:
    """The chances of 0 to `draws` right responses tonight, of `right` among `draws · nights` in all."""
    from scipy.special import gammaln

    def choose(n: int, k: Array) -> Array:
        with np.errstate(invalid="ignore"):
            ways = gammaln(n + 1.0) - gammaln(k + 1.0) - gammaln(n - k + 1.0)
        return np.where((k < 0) | (k > n), -np.inf, ways)

    counts, all_draws = np.arange(draws + 1.0), draws * nights
    logarithm = choose(right, counts) + choose(all_draws - right, draws - counts)
    chances = np.exp(logarithm - choose(all_draws, np.array(float(draws))))
    return np.asarray(chances / chances.sum())


def rounded_up(chance: float) -> float:
    return min(max(chance, CERTAIN), 1.0)


# By nights ----------------------------------------------------------------------------------


def nights_test(scores: Array, difference: float, level: float) -> Tested:
    """Tonight as one more night of those."""
    from scipy.special import stdtr, stdtrit

    degrees = len(scores) - 1
    error = float(scores.std(ddof=1)) / whole(level) * math.sqrt(1 + 1 / len(scores))
    if error < 1e-9:
        return Tested(lower=float(difference >= 0), upper=float(difference <= 0), error=0.0, reach=0.0)
    return Tested(
        lower=float(stdtr(degrees, difference / error)),
        upper=float(stdtr(degrees, -difference / error)),
        error=error,
        reach=-float(stdtrit(degrees, level)) * error,
    )


@lru_cache
def whole(level: float) -> float:
    """The standard deviation that is left of a normal distribution's 1 without its lowest `level`.

    False alarms are not in the history either: of 1,000 quiet nights it lacks the lowest, which would
    make the spread look smaller, and the alarms more, with every night.
    """
    z = quantile(level)
    tail = math.exp(-z * z / 2) / math.sqrt(2 * math.pi) / (1 - level)
    return math.sqrt(1 - z * tail - tail * tail)


def quantile(level: float) -> float:
    """The normal deviate that is exceeded with this chance."""
    from scipy.special import ndtri

    return -float(ndtri(level))


# What it means ------------------------------------------------------------------------------


def decided(found: Measured, rule: Rule) -> tuple[Outcome, str]:
    if found.p <= rule.level:
        return "regression", f"{-found.difference:.1f} points below {found.nights} nights (p = {found.p:.2g})"
    if found.sees > rule.drop:
        return "inconclusive", (
            f"not lower, but a drop of {rule.drop:g} points could pass unseen: with these draws and "
            f"{found.nights} nights the gate sees {found.sees:.1f} (in {POWER:.0%} of nights)"
        )
    return "pass", ""


def too_short(nights: int, minimum: int) -> str:
    return f"{nights} of the {max(minimum, 2)} nights of history that are needed"


def draws_needed(found: Measured, draws: int, rule: Rule) -> int | None:
    """Draws a question at which the drop asked for would be seen, the rest as it is.

    What the nights differ by beyond their draws stays, where it is more than chance (5 %).
    """
    from scipy.special import chdtri

    degrees = found.nights - 1
    noisy = degrees * (found.sigma / found.own) ** 2 > float(chdtri(degrees, 0.05))
    stays = found.sigma**2 - found.own**2 if noisy else 0.0
    wanted = (rule.drop * found.sigma / found.sees) ** 2
    if wanted <= stays:
        return None
    needed = math.ceil(draws * (found.sigma**2 - stays) / (wanted - stays))
    return needed if needed <= MOST_DRAWS else None
