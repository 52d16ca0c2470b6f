"""Scores, two different standard errors, and the verdict on a published number.

Notation: Q questions, K_i draws of question i, p_i the share of them that is right, A their mean
(avg@K, which DeepSeek-R1 and DASD call pass@1). Everything a reader sees is in points, 0 to 100.

`se_rerun` is the error over re-runs of the same questions: sqrt(Σ p_i(1−p_i)/(K_i−1)) / Q. It says
whether two runs differ. `se_questions` is the error over other questions of the kind: sd(p_i)/√Q
(Miller, arXiv 2411.00640). It ranks models, and is four to six points on AIME: useless here.

A verdict is an equivalence test (TOST: Schuirmann 1987; Lakens 2017): not finding a difference is no
evidence of equality, so `reproduced` needs the 90 % interval of the difference inside ±margin. Its
error rates at the registered margins are simulated in docs/statistics.md.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from harness.grading.integers import integer_in
from harness.types import Grade

Array = NDArray[np.float64]
VerdictName = Literal["reproduced", "not reproduced", "inconclusive", "not measured"]

LEVEL = 0.05
"""Of each of the two one-sided tests: a 90 % interval."""

POINTS = 100.0


# Scores -------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Score:
    """One benchmark's result. Points, 0 to 100; counts of responses.

    `average` is over graded draws and None where there is none. `lowest` and `highest` count every
    ungraded draw as wrong and as right. `se_rerun` is None unless every question has two graded
    draws, and `degrees` are its degrees of freedom; `se_questions` is None for fewer than two questions.
    `short` counts missing responses. `no_answer` does not count truncated ones. `majority` and
    `any_right` are maj@K and pass@K at K = `draws`; None while a draw is missing or ungraded.
    """

    questions: int
    draws: int
    average: float | None
    lowest: float | None
    highest: float | None
    se_rerun: float | None
    se_questions: float | None
    lenient: float | None
    truncated: int
    no_answer: int
    ungraded: int
    short: int
    degrees: float | None = None
    majority: float | None = None
    any_right: float | None = None

    @property
    def complete(self) -> bool:
        return self.average is not None and not self.ungraded and not self.short


def score(grades: Iterable[Grade], questions: int, draws: int) -> Score:
    """The score of `questions` questions with `draws` draws each.

    Raises ValueError where a (question, draw) occurs twice or there is more than was asked for.
    """
    rows = list(grades)
    by_question = grouped(rows, questions, draws)
    shares = [share(own) for own in by_question.values() if any(grade.correct is not None for grade in own)]
    graded = [[grade.correct for grade in own if grade.correct is not None] for own in by_question.values()]
    ungraded = sum(grade.correct is None for grade in rows)
    average = POINTS * sum(shares) / len(shares) if shares else None
    return Score(
        questions=questions,
        draws=draws,
        average=average,
        lowest=bound(by_question, False),
        highest=bound(by_question, True),
        se_rerun=se_rerun(graded),
        se_questions=se_questions(shares),
        lenient=lenient_average(by_question),
        truncated=sum(grade.truncated for grade in rows),
        no_answer=sum(answerless(grade) for grade in rows),
        ungraded=ungraded,
        short=questions * draws - len(rows),
        degrees=degrees_of_freedom(graded),
        majority=majority_at(rows, draws),
        any_right=pass_at(rows, draws),
    )


def grouped(rows: Sequence[Grade], questions: int, draws: int) -> dict[str, list[Grade]]:
    by_question: dict[str, list[Grade]] = defaultdict(list)
    for grade in rows:
        by_question[grade.question].append(grade)
    if len({(grade.question, grade.draw) for grade in rows}) != len(rows):
        raise ValueError("a (question, draw) is graded twice")
    if len(by_question) > questions or any(len(own) > draws for own in by_question.values()):
        raise ValueError(f"more grades than {questions} questions × {draws} draws")
    return dict(by_question)


def answerless(grade: Grade) -> bool:
    return grade.correct is not None and grade.extracted is None and not grade.truncated


def share(grades: Sequence[Grade]) -> float:
    """The share of right ones among the graded."""
    graded = [grade.correct for grade in grades if grade.correct is not None]
    return sum(graded) / len(graded)


def bound(by_question: Mapping[str, Sequence[Grade]], value: bool) -> float | None:
    """The average if every ungraded draw were `value`."""
    shares = [
        sum(value if grade.correct is None else grade.correct for grade in own) / len(own)
        for own in by_question.values()
    ]
    return POINTS * sum(shares) / len(shares) if shares else None


def lenient_average(by_question: Mapping[str, Sequence[Grade]]) -> float | None:
    """The average under the lenient rule; None where any grade lacks that verdict."""
    shares = []
    for own in by_question.values():
        if any(grade.lenient is None for grade in own):
            return None
        shares.append(sum(bool(grade.lenient) for grade in own) / len(own))
    return POINTS * sum(shares) / len(shares) if shares else None


def variances(results: Sequence[Sequence[bool]]) -> list[float]:
    """Estimated variance of each question's share: p(1−p)/(K−1). Two draws a question are needed."""
    shares = [(sum(own) / len(own), len(own)) for own in results]
    return [p * (1 - p) / (draws - 1) for p, draws in shares]


def se_rerun(results: Sequence[Sequence[bool]]) -> float | None:
    """Standard error over re-runs of the same questions, in points; None with fewer than two draws."""
    if not results or any(len(own) < 2 for own in results):
        return None
    return POINTS * math.sqrt(sum(variances(results))) / len(results)


def degrees_of_freedom(results: Sequence[Sequence[bool]]) -> float | None:
    """How much `se_rerun` itself can be trusted: (Σ v)² / Σ v²/(K−1), after Satterthwaite and Welch.

    One question's K−1 where no question's draws differ. None where `se_rerun` is.
    """
    if not results or any(len(own) < 2 for own in results):
        return None
    own = variances(results)
    weights = sum(v**2 / (len(draws) - 1) for v, draws in zip(own, results, strict=True))
    return sum(own) ** 2 / weights if weights else float(min(map(len, results)) - 1)


def se_questions(shares: Sequence[float]) -> float | None:
    """Standard error over other questions of the same kind, in points; None for one question."""
    if len(shares) < 2:
        return None
    mean = sum(shares) / len(shares)
    variance = sum((p - mean) ** 2 for p in shares) / (len(shares) - 1)
    return POINTS * math.sqrt(variance / len(shares))


# Several draws at once ----------------------------------------------------------------------


def pass_at_k(right: int, draws: int, k: int) -> float | None:
    """Unbiased chance that one of k draws is right, 1 − C(n−c, k)/C(n, k); None where n < k.

    Chen et al., arXiv 2107.03374; Python's integers do not overflow.
    """
    if draws < k:
        return None
    return 1.0 - math.comb(draws - right, k) / math.comb(draws, k)


@dataclass(frozen=True)
class Votes:
    """One question's draws: how many are right, how many give each wrong answer, how many none."""

    right: int
    wrong: tuple[int, ...]
    silent: int

    @property
    def draws(self) -> int:
        return self.right + sum(self.wrong) + self.silent


def votes(grades: Iterable[Grade]) -> Votes:
    """Right draws are one vote, however the answer was written; `033` and `33` are one wrong answer.

    A grade whose `detail` names its vote (a GPQA letter means another option in each draw) casts that.
    """
    graded = [grade for grade in grades if grade.correct is not None]
    answers = [grade.detail.get("vote", grade.extracted) for grade in graded if not grade.correct]
    wrong = Counter(canonical(str(answer)) for answer in answers if answer is not None)
    return Votes(sum(bool(grade.correct) for grade in graded), tuple(wrong.values()), answers.count(None))


def canonical(answer: str) -> str:
    """An answer as it votes: an integer without its dress, anything else without white space around it."""
    number = integer_in(answer)
    return answer.strip() if number is None else str(number)


def majority_at_k(cast: Votes, k: int) -> float | None:
    """Chance that a majority vote of k of the draws is right, ties broken evenly; None where n < k.

    Exact: over all C(n, k) subsets, by counting those in which the right answer has j votes, none of
    the others more, and t of them as many; each of these counts 1/(t+1). No answer has no vote.
    """
    if not 1 <= k <= cast.draws:
        return None
    if k == cast.draws:
        return majority_of_all(cast)
    least = max(1, k - sum(cast.wrong) - cast.silent)
    won = Fraction(0)
    for own in range(least, min(cast.right, k) + 1):
        won += math.comb(cast.right, own) * unbeaten(own, cast, k - own)
    return float(won / math.comb(cast.draws, k))


def majority_of_all(cast: Votes) -> float:
    """One vote of all draws: what a report tells, and of a thousand draws too many subsets to count."""
    if not cast.right or cast.right < max(cast.wrong, default=0):
        return 0.0
    return 1 / (1 + cast.wrong.count(cast.right))


def unbeaten(own: int, cast: Votes, others: int) -> Fraction:
    """Ways to draw `others` draws that are not right, no answer more than `own` times, ties shared."""
    ways: dict[tuple[int, int], int] = {
        (drawn, 0): math.comb(cast.silent, drawn) for drawn in range(others + 1)
    }
    for size in cast.wrong:
        more: dict[tuple[int, int], int] = defaultdict(int)
        for (drawn, ties), count in ways.items():
            for taken in range(min(own, size, others - drawn) + 1):
                more[drawn + taken, ties + (taken == own)] += count * math.comb(size, taken)
        ways = more
    return sum(
        (Fraction(count, ties + 1) for (drawn, ties), count in ways.items() if drawn == others), Fraction(0)
    )


def pass_at(grades: Iterable[Grade], k: int) -> float | None:
    """pass@k of a benchmark, in points; None where a question has fewer than k graded draws."""
    chances = [pass_at_k(cast.right, cast.draws, k) for cast in by_votes(grades)]
    return in_points(chances)


def majority_at(grades: Iterable[Grade], k: int) -> float | None:
    """maj@k (cons@k) of a benchmark, in points; None where a question has fewer than k graded draws."""
    return in_points([majority_at_k(cast, k) for cast in by_votes(grades)])


def by_votes(grades: Iterable[Grade]) -> list[Votes]:
    by_question: dict[str, list[Grade]] = defaultdict(list)
    for grade in grades:
        by_question[grade.question].append(grade)
    return [votes(own) for own in by_question.values()]


def in_points(chances: Sequence[float | None]) -> float | None:
    known = [chance for chance in chances if chance is not None]
    return POINTS * sum(known) / len(known) if known and len(known) == len(chances) else None


def counts_rounding_to(value: float, responses: int, decimals: int = 1) -> range:
    """How many right responses round to a published value in points (GRIM; Brown and Heathers 2017).

    88.5 over 30 × 64 responses: 1699 or 1700. Empty where no count does.
    """
    half = 0.5 * 10.0**-decimals
    lowest = math.ceil((value - half) * responses / POINTS - 1e-9)
    highest = math.floor((value + half) * responses / POINTS + 1e-9)
    return range(max(0, lowest), min(responses, highest) + 1)


# Verdicts -----------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A published or reference value, in points.

    `se` is its standard error where it is known; `draws` how many it was measured with; `rounding`
    the unit of its last digit, 0.1 for one decimal.
    """

    value: float
    margin: float
    se: float | None = None
    draws: int | None = None
    rounding: float = 0.1


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The verdict, with the 90 % interval of the difference and why.

    `draws_needed` is how many draws a question would resolve an inconclusive one if the difference
    stayed as it is; None where no number would, or none is needed.
    """

    name: VerdictName
    delta: float | None = None
    se_delta: float | None = None
    interval: tuple[float, float] | None = None
    draws_needed: int | None = None
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Measurements:
    """Scores of the same questions, each with its error, degrees of freedom and number of draws."""

    questions: int
    draws: Array
    average: Array
    se_rerun: Array
    degrees: Array


@dataclass(frozen=True)
class Tested:
    """The equivalence test on each of some measurements. `code` is an index into VERDICTS."""

    delta: Array
    se: Array
    half: Array
    code: NDArray[np.intp]


VERDICTS: tuple[VerdictName, ...] = ("inconclusive", "reproduced", "not reproduced")


def tested(ours: Measurements, published: Array, claim: Claim, level: float) -> Tested:
    """Two one-sided tests at `level` on measurements of a claim whose value is `published`.

    A claim without a known error gets ours, brought to its number of draws. Four things keep the
    promised level (docs/statistics.md): Student's t with the degrees of freedom that our error has; an
    error never below that of one single draw that differs; the larger of the two scores' binomial
    variances, for a model that differs by the margin has another variance than ours; and the rounding
    of the published digit.
    """
    from scipy.special import stdtrit

    least = POINTS / (ours.questions * ours.draws)
    variance = np.maximum(ours.se_rerun, least) ** 2 * widened(ours.average, published, least)
    fixed = rounding_error(claim) ** 2
    if claim.se is not None:
        fixed += claim.se**2
    else:
        variance = variance * (1 + (ours.draws / claim.draws if claim.draws else 1))
    total = variance + fixed
    half = stdtrit(ours.degrees * (total / variance) ** 2, 1 - level) * np.sqrt(total)
    delta = ours.average - published
    inside = np.abs(delta) + half < claim.margin
    outside = np.abs(delta) - half > claim.margin
    return Tested(delta, np.sqrt(total), half, np.where(inside, 1, np.where(outside, 2, 0)))


def widened(average: Array, published: Array, least: Array) -> Array:
    """A(1−A) at the published score over that at ours, or 1 where that is less.

    Σp(1−p) is a share of QA(1−A) that changes little from a model to one like it.
    """
    ours = np.clip(average, least / 2, POINTS - least / 2)
    return np.maximum(1.0, published * (POINTS - published) / (ours * (POINTS - ours)))


def rounding_error(claim: Claim) -> float:
    """Standard deviation of a value rounded to the claim's last digit: half a unit over √3."""
    return claim.rounding / 2 / math.sqrt(3)


def judge(measured: Score | None, claim: Claim, level: float = LEVEL) -> Verdict:
    """The verdict on one claim by two one-sided tests at `level`."""
    if measured is None or measured.average is None:
        return Verdict(name="not measured", reason="no grades")
    if measured.ungraded:
        return Verdict(name="not measured", reason=f"{measured.ungraded} ungraded")
    if measured.short:
        return Verdict(name="not measured", reason=f"{measured.short} responses are missing")
    delta = measured.average - claim.value
    if measured.se_rerun is None:
        return Verdict(name="inconclusive", delta=delta, reason=one_draw(measured.draws))
    found = at_draws(measured, claim, np.array([float(measured.draws)]), level)
    half, name = float(found.half[0]), VERDICTS[found.code[0]]
    return Verdict(
        name=name,
        delta=delta,
        se_delta=float(found.se[0]),
        interval=(delta - half, delta + half),
        draws_needed=draws_needed(measured, claim) if name == "inconclusive" else None,
    )


def one_draw(draws: int) -> str:
    if draws == 1:
        return "one draw: no error over re-runs, which takes two"
    return "a question has fewer than two graded draws: no error over re-runs"


def at_draws(measured: Score, claim: Claim, draws: Array, level: float = LEVEL) -> Tested:
    """The test as it would be with other numbers of draws, our score and our variance a draw held fixed."""
    assert measured.average is not None
    assert measured.se_rerun is not None
    degrees = math.inf if measured.degrees is None else measured.degrees
    ours = Measurements(
        questions=measured.questions,
        draws=draws,
        average=np.full_like(draws, measured.average),
        se_rerun=measured.se_rerun * np.sqrt(measured.draws / draws),
        degrees=degrees * (draws - 1) / (measured.draws - 1),
    )
    return tested(ours, np.full_like(draws, claim.value), claim, level)


MOST_DRAWS = 10_000


def draws_needed(measured: Score, claim: Claim) -> int | None:
    """Draws a question at which this difference would be decided; None where not even 10,000 suffice.

    The claim's own error is held fixed, or falls with ours where its draws are unknown.
    """
    numbers = np.arange(measured.draws + 1, MOST_DRAWS + 1, dtype=np.float64)
    decided = np.flatnonzero(at_draws(measured, claim, numbers).code)
    return int(numbers[decided[0]]) if decided.size else None


# Two runs -----------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Run B against run A on the questions of both, in points; `flips` are (question, share A, share B).

    `se` is over questions of the paired differences (Miller §4) and `interval` its 95 % interval, for
    what other questions would show; None for one question. `se_rerun` is over re-runs of these same
    questions; None unless each has two graded draws in both runs. Of one set of responses graded twice
    neither is an error: the flips are exact.
    """

    difference: float
    se: float | None
    flips: tuple[tuple[str, float, float], ...]
    interval: tuple[float, float] | None = None
    se_rerun: float | None = None


def compare(a: Iterable[Grade], b: Iterable[Grade]) -> Comparison:
    """Question by question. Raises ValueError where no question is graded in both."""
    first, second = results_by_question(a), results_by_question(b)
    common = [question for question in first if question in second]
    if not common:
        raise ValueError("the two runs have no graded question in common")
    flips = [(question, mean(first[question]), mean(second[question])) for question in common]
    differences = [after - before for _, before, after in flips]
    errors = [se_rerun([own[question] for question in common]) for own in (first, second)]
    difference, se = POINTS * mean(differences), se_questions(differences)
    return Comparison(
        difference=difference,
        se=se,
        flips=tuple(flip for flip in flips if flip[1] != flip[2]),
        interval=None if se is None else around(difference, se, len(common) - 1),
        se_rerun=None if errors[0] is None or errors[1] is None else math.hypot(errors[0], errors[1]),
    )


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def around(value: float, se: float, degrees: int) -> tuple[float, float]:
    """The 95 % interval, by Student's t."""
    from scipy.special import stdtrit

    half = float(stdtrit(degrees, 0.975)) * se
    return value - half, value + half


def results_by_question(grades: Iterable[Grade]) -> dict[str, list[bool]]:
    by_question: dict[str, list[bool]] = defaultdict(list)
    for grade in grades:
        if grade.correct is not None:
            by_question[grade.question].append(grade.correct)
    return dict(by_question)
