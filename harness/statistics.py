"""Scores, two different standard errors, and the verdict on a published number.

Notation: Q questions, K_i draws of question i, p_i the share of them that is right, A their mean
(avg@K, which DeepSeek-R1 and DASD call pass@1). Everything a reader sees is in points, 0 to 100.

`se_rerun` is the error over re-runs of the same questions: sqrt(Σ p_i(1−p_i)/(K_i−1)) / Q. It says
whether two runs differ. `se_questions` is the error over other questions of the kind: sd(p_i)/√Q
(Miller, arXiv 2411.00640). It ranks models, and is four to six points on AIME: useless here.

A verdict is an equivalence test (TOST: Schuirmann 1987; Lakens 2017): not finding a difference is no
evidence of equality, so `reproduced` needs the 90 % interval of the difference inside ±margin.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from harness.types import Grade

VerdictName = Literal["reproduced", "not reproduced", "inconclusive", "not measured"]

Z90 = 1.6448536269514722
"""Two-sided 90 %: the 95 % quantile of the normal distribution."""

POINTS = 100.0


# Scores -------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Score:
    """One benchmark's result. Points, 0 to 100; counts of responses.

    `average` is over graded draws and None where there is none. `lowest` and `highest` count every
    ungraded draw as wrong and as right. `se_rerun` is None unless every question has two graded
    draws; `se_questions` is None for fewer than two questions. `short` counts missing responses.
    `no_answer` does not count truncated ones.
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


def se_rerun(results: Sequence[Sequence[bool]]) -> float | None:
    """Standard error over re-runs of the same questions, in points; None with fewer than two draws."""
    if not results or any(len(own) < 2 for own in results):
        return None
    shares = [(sum(own) / len(own), len(own)) for own in results]
    variance = sum(p * (1 - p) / (draws - 1) for p, draws in shares)
    return POINTS * math.sqrt(variance) / len(results)


def se_questions(shares: Sequence[float]) -> float | None:
    """Standard error over other questions of the same kind, in points; None for one question."""
    if len(shares) < 2:
        return None
    mean = sum(shares) / len(shares)
    variance = sum((p - mean) ** 2 for p in shares) / (len(shares) - 1)
    return POINTS * math.sqrt(variance / len(shares))


def pass_at_k(right: int, draws: int, k: int) -> float | None:
    """Unbiased chance that one of k draws is right, 1 − C(n−c, k)/C(n, k); None where n < k.

    Chen et al., arXiv 2107.03374, as a product that cannot overflow.
    """
    if draws < k:
        return None
    if draws - right < k:
        return 1.0
    return 1.0 - math.prod(1.0 - k / j for j in range(draws - right + 1, draws + 1))


def majority(answers: Sequence[str | None], right: str) -> float:
    """Chance that a majority vote gives the right answer, ties broken evenly; no answer has no vote."""
    votes = Counter(answer for answer in answers if answer is not None)
    top = [answer for answer, count in votes.items() if count == max(votes.values())]
    return 1 / len(top) if right in top else 0.0


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


def published_se(claim: Claim, se: float, draws: int) -> float:
    """The claim's standard error; where unknown, ours, brought to its number of draws.

    The same model on the same questions has the same variance a draw, so the error goes as 1/√draws.
    """
    if claim.se is not None:
        return claim.se
    return se * math.sqrt(draws / claim.draws) if claim.draws else se


def rounding_error(claim: Claim) -> float:
    """Standard deviation of a value rounded to the claim's last digit: half a unit over √3."""
    return claim.rounding / 2 / math.sqrt(3)


def judge(measured: Score | None, claim: Claim) -> Verdict:
    """The verdict on one claim by two one-sided tests at 5 %."""
    if measured is None or measured.average is None:
        return Verdict(name="not measured", reason="no grades")
    if measured.ungraded:
        return Verdict(name="not measured", reason=f"{measured.ungraded} ungraded")
    delta = measured.average - claim.value
    if measured.se_rerun is None:
        return Verdict(name="inconclusive", delta=delta, draws_needed=2, reason=one_draw(measured.draws))
    own = measured.se_rerun
    se = math.hypot(own, published_se(claim, own, measured.draws), rounding_error(claim))
    interval = (delta - Z90 * se, delta + Z90 * se)
    name = placed(interval, claim.margin)
    needed = draws_needed(delta, measured, claim) if name == "inconclusive" else None
    return Verdict(name=name, delta=delta, se_delta=se, interval=interval, draws_needed=needed)


def one_draw(draws: int) -> str:
    if draws == 1:
        return "one draw: no error over re-runs"
    return "a question has fewer than two graded draws: no error over re-runs"


def placed(interval: tuple[float, float], margin: float) -> VerdictName:
    """Where an interval lies: inside ±margin, wholly outside, or across a border."""
    low, high = interval
    if -margin < low and high < margin:
        return "reproduced"
    if low > margin or high < -margin:
        return "not reproduced"
    return "inconclusive"


def draws_needed(delta: float, measured: Score, claim: Claim) -> int | None:
    """Draws a question at which this difference would be decided; None where none suffices.

    Solves Z90 · SE(n) = |margin − |delta|| for n, with our variance a draw, the claim's error and its
    rounding held fixed (or growing with ours where the claim's draws are unknown).
    """
    assert measured.se_rerun is not None
    a_draw = measured.se_rerun**2 * measured.draws
    room = (abs(claim.margin - abs(delta)) / Z90) ** 2 - rounding_error(claim) ** 2
    if claim.se is None and claim.draws is None:
        a_draw *= 2
    else:
        room -= published_se(claim, measured.se_rerun, measured.draws) ** 2
    if room <= 0:
        return None
    return max(2, measured.draws + 1, math.floor(a_draw / room) + 1)


# Two runs -----------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Run B against run A on the questions of both, in points; `flips` are (question, share A, share B).

    `se` is over questions of the paired differences (Miller §4); None for one question.
    """

    difference: float
    se: float | None
    flips: tuple[tuple[str, float, float], ...]


def compare(a: Iterable[Grade], b: Iterable[Grade]) -> Comparison:
    """Question by question. Raises ValueError where no question is graded in both."""
    first, second = shares_by_question(a), shares_by_question(b)
    common = [question for question in first if question in second]
    if not common:
        raise ValueError("the two runs have no graded question in common")
    differences = [second[question] - first[question] for question in common]
    flips = [(question, first[question], second[question]) for question in common]
    return Comparison(
        difference=POINTS * sum(differences) / len(differences),
        se=se_questions(differences),
        flips=tuple(flip for flip in flips if flip[1] != flip[2]),
    )


def shares_by_question(grades: Iterable[Grade]) -> dict[str, float]:
    by_question: dict[str, list[Grade]] = defaultdict(list)
    for grade in grades:
        if grade.correct is not None:
            by_question[grade.question].append(grade)
    return {question: share(own) for question, own in by_question.items()}
