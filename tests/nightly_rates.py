"""How often the nightly gate turns red, by simulation of nights, with the gate's own code.

Questions have chances of being answered right as in `tests.grading.verdict_rates`: published scores, and
the spread of difficulty that public models show. A night draws each question so many times. A server's
noise moves a whole night: one normal number a night is added to the score (on the logits), with a standard
deviation given as a share of the one that the draws themselves cause. A change of the model shifts all
logits alike, or breaks the easiest questions for good, as few as the drop takes.

A night is that of the gate: its red nights leave the history, the level is shared by its benchmarks.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
from scipy.special import expit, logit
from scipy.stats import binom

from harness.nightly.gate import Baseline, Judged, Rule, judge, level_of, settled
from harness.statistics import Array
from tests.grading.verdict_rates import chances, generator, shifted

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "nightly.md"
NIGHTS = 1_000
ALPHA = 0.01
DROP = 3.0
PATIENCE = 10  # nights after a drop


@dataclass(frozen=True, kw_only=True)
class Test:
    """A benchmark as it is asked each night: points, draws a question, spread of difficulty."""

    name: str
    questions: int
    score: float
    draws: int
    spread: float

    @cached_property
    def chances(self) -> Array:
        return chances(self.questions, self.score / 100, self.spread)

    @property
    def error(self) -> float:
        """The standard deviation of a night's score from the draws alone, in points."""
        own = self.chances
        return 100 * math.sqrt(float((own * (1 - own)).sum()) / self.draws) / self.questions


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a nightly.toml asks."""

    name: str
    tests: tuple[Test, ...]

    @property
    def rule(self) -> Rule:
        return Rule(level=level_of(ALPHA, len(self.tests)), drop=DROP, minimum=2)


def plan(name: str, aime: int, gpqa: int, lcb: int) -> Plan:
    return Plan(
        name=name,
        tests=(
            Test(name="aime24", questions=30, score=88.5, draws=aime, spread=0.34),
            Test(name="gpqa_diamond", questions=198, score=68.4, draws=gpqa, spread=0.40),
            Test(name="lcb_v6", questions=131, score=67.5, draws=lcb, spread=0.40),
        ),
    )


SMALL = plan("small", 8, 4, 4)
USUAL = plan("usual", 64, 16, 32)
LENGTHS = (5, 10, 20)
NOISES = (0.0, 1.0)


# Nights -------------------------------------------------------------------------------------


def asked(test: Test, drop: float, noise: float, nights: int, rng: np.random.Generator) -> Array:
    """Right responses: nights × questions, of a model whose score is `drop` points lower."""
    own = lowered(test, drop)
    by_score = 100 * float((own * (1 - own)).mean())  # points a unit of all logits is worth
    moved = rng.normal(0.0, noise * test.error / by_score, size=(nights, 1))
    rows = expit(logit(own) + moved)
    counts: Array = rng.binomial(test.draws, rows).astype(np.float64)
    return counts


@lru_cache
def lowered(test: Test, drop: float) -> Array:
    return shifted(test.chances, (test.score - drop) / 100)


def broken(test: Test, drop: float, nights: int, rng: np.random.Generator) -> Array:
    """As `asked`, but the drop falls on the easiest questions alone, as few as can bear it."""
    own, left = test.chances.copy(), drop / 100 * test.questions
    for place in np.argsort(own)[::-1]:
        lost = min(left, float(own[place]))
        own[place] -= lost
        left -= lost
    counts: Array = rng.binomial(test.draws, own, size=(nights, len(own))).astype(np.float64)
    return counts


def against(history: Sequence[Array], tonight: Array, test: Test, rule: Rule) -> Judged:
    history = settled(history)
    right = np.sum(history, axis=0)
    scores = np.array([100 * float(one.mean()) / test.draws for one in history])
    return judge(Baseline(right=right, scores=scores), tonight, test.draws, rule)


def red(history: Sequence[Sequence[Array]], tonight: Sequence[Array], made: Plan) -> bool:
    """Whether a night is a regression: whether any of its benchmarks is."""
    pairs = zip(history, tonight, made.tests, strict=True)
    return any(against(own, now, test, made.rule).outcome == "regression" for own, now, test in pairs)


# False alarms -------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Alarms:
    """Red nights among `nights` in which nothing changed; 0 `length` is one history that grows."""

    plan: Plan
    length: int
    noise: float
    nights: int
    red: int

    @property
    def rate(self) -> float:
        return self.red / self.nights


def false_alarms(made: Plan, length: int, noise: float, nights: int) -> Alarms:
    """So many nights, each with a history of its own."""
    count = 0
    for night in range(nights):
        rng = generator("alarms", made.name, length, noise, night)
        drawn = [asked(test, 0.0, noise, length + 1, rng) for test in made.tests]
        count += red([list(own[:-1]) for own in drawn], [own[-1] for own in drawn], made)
    return Alarms(plan=made, length=length, noise=noise, nights=nights, red=count)


def running_alarms(made: Plan, noise: float, nights: int) -> Alarms:
    """So many nights in a row of one history, which keeps what was not red."""
    rng = generator("running", made.name, noise)
    drawn = [asked(test, 0.0, noise, nights + 5, rng) for test in made.tests]
    histories = [list(own[:5]) for own in drawn]
    count = 0
    for night in range(5, nights + 5):
        outcomes = [
            against(own, all_nights[night], test, made.rule).outcome
            for own, all_nights, test in zip(histories, drawn, made.tests, strict=True)
        ]
        count += "regression" in outcomes
        for own, all_nights, outcome in zip(histories, drawn, outcomes, strict=True):
            if outcome != "regression":
                own.append(all_nights[night])
    return Alarms(plan=made, length=0, noise=noise, nights=nights, red=count)


def most_by_chance(nights: int, compared: int) -> int:
    """The largest of so many counts that a true rate of ALPHA would show in 95 of 100 simulations."""
    return int(binom.ppf(1 - 0.05 / compared, nights, ALPHA))


def all_alarms(nights: int) -> Iterator[Alarms]:
    for noise in NOISES:
        for length in LENGTHS:
            yield false_alarms(SMALL, length, noise, nights)
        yield running_alarms(SMALL, noise, nights)


# Drops --------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Caught:
    """When a drop on one benchmark was seen. `after` counts, for 1, 2, … nights, the histories in which it
    was red by then; `sees` is what the gate says of itself on the night before, in points (mean)."""

    test: Test
    length: int
    kind: str
    histories: int
    after: tuple[int, ...]
    sees: float

    def within(self, nights: int) -> float:
        return self.after[nights - 1] / self.histories


def drops(test: Test, tests: int, length: int, kind: str, histories: int) -> Caught:
    """A benchmark among so many drops by DROP points and stays there; nights that pass join the history."""
    rule = Rule(level=level_of(ALPHA, tests), drop=DROP, minimum=2)
    first = np.zeros(PATIENCE + 1)
    seen = []
    for number in range(histories):
        rng = generator("drops", test.name, test.draws, length, kind, number)
        quiet = asked(test, 0.0, 0.0, length + 1, rng)
        low = (
            broken(test, DROP, PATIENCE, rng)
            if kind == "few questions"
            else asked(test, DROP, 0.0, PATIENCE, rng)
        )
        seen.append(against(list(quiet[:-1]), quiet[-1], test, rule).sees or 0.0)
        history = list(quiet[:-1])
        for night, now in enumerate(low):
            if against(history, now, test, rule).outcome == "regression":
                first[night] += 1
                break
            history.append(now)
    after = tuple(int(count) for count in np.cumsum(first)[:PATIENCE])
    return Caught(
        test=test, length=length, kind=kind, histories=histories, after=after, sees=float(np.mean(seen))
    )


def all_drops(histories: int) -> Iterator[Caught]:
    for made in (USUAL, SMALL):
        for test in made.tests:
            for length in LENGTHS:
                yield drops(test, len(made.tests), length, "all questions", histories)
    for test in USUAL.tests:
        yield drops(test, len(USUAL.tests), LENGTHS[-1], "few questions", histories)


# Tables -------------------------------------------------------------------------------------


def alarm_table(found: Sequence[Alarms]) -> list[str]:
    lines = ["| nights of history | noise of the server, × that of the draws | quiet nights | red | % |"]
    lines.append("|---|---|---|---|---|")
    for one in found:
        length = f"{one.length}, another for each" if one.length else "5 and growing, one for all"
        lines.append(f"| {length} | {one.noise:g} | {one.nights:,} | {one.red} | {100 * one.rate:.1f} |")
    return lines


def drop_table(found: Sequence[Caught]) -> list[str]:
    lines = [
        "| benchmark | nights of history | the drop is on | it says it sees | red on the first night % "
        "| within 2 | within 3 | within 10 |"
    ]
    lines.append("|---|---|---|---|---|---|---|---|")
    for one in found:
        rates = " | ".join(f"{100 * one.within(nights):.1f}" for nights in (1, 2, 3, 10))
        lines.append(
            f"| {one.test.name}:{one.test.draws} | {one.length} | {one.kind} | {one.sees:.1f} | {rates} |"
        )
    return lines
