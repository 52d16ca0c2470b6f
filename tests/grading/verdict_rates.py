"""How often each verdict is given, by simulation of publications and re-runs.

A question i has a chance p_i of being answered right. A paper draws 64 responses a question from its
model and prints the mean, rounded; we draw ours from a model whose mean chance differs by a known
amount, and test. Chances come from a beta distribution with the published mean and the spread of
difficulty that real models show: ρ = E[p(1−p)] / (m(1−m)), from 63 and 60 models on AIME24 and
AIME25, assumed for the others. The other model's chances are the same, shifted on the logit scale.
"""

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.special import betaincinv, expit, logit
from scipy.stats import binom

from harness.statistics import LEVEL, VERDICTS, Array, Claim, Measurements, Tested, tested

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "statistics.md"
RUNS = 20_000
PUBLISHED_DRAWS = 64


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A benchmark as published: questions, score and margin in points, spreads of difficulty."""

    name: str
    questions: int
    published: float
    margin: float
    spreads: tuple[float, ...]


SETTINGS = (
    Setting(name="aime24", questions=30, published=88.5, margin=2.0, spreads=(0.23, 0.34, 0.48)),
    Setting(name="aime25", questions=30, published=83.3, margin=2.5, spreads=(0.28, 0.42, 0.55)),
    Setting(name="gpqa_diamond", questions=198, published=68.4, margin=1.5, spreads=(0.25, 0.40, 0.55)),
    Setting(name="lcb_v5", questions=166, published=69.3, margin=1.5, spreads=(0.25, 0.40, 0.55)),
    Setting(name="lcb_v6", questions=131, published=67.5, margin=1.5, spreads=(0.25, 0.40, 0.55)),
)
DRAWS = (64, 8)


@dataclass(frozen=True, kw_only=True)
class Rates:
    """One line of the table: shares of each verdict, by the true difference in margins."""

    setting: Setting
    spread: float
    draws: int
    reproduced: dict[int, float]
    refuted: dict[int, float]

    def errors(self) -> list[float]:
        """The rates that the test promises to keep at 5 % or less."""
        at_margin = [rates[side] for rates in (self.reproduced, self.refuted) for side in (-1, 1)]
        return [*at_margin, self.refuted[0]]


def chances(questions: int, mean: float, spread: float) -> Array:
    """Evenly spaced quantiles of the beta distribution with this mean and ρ, brought to the mean."""
    total = spread / (1 - spread)
    places = (np.arange(questions) + 0.5) / questions
    drawn = betaincinv(mean * total, (1 - mean) * total, places)
    return shifted(np.clip(drawn, 1e-9, 1 - 1e-9), mean)


def shifted(chance: Array, mean: float) -> Array:
    """The same questions for a model with another mean: one constant added to every logit."""
    low, high = -60.0, 60.0
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if expit(logit(chance) + middle).mean() < mean else (low, middle)
    return np.asarray(expit(logit(chance) + low))


def generator(*key: object) -> np.random.Generator:
    """Randomness keyed by what is simulated: every line of the table can be computed alone."""
    return np.random.default_rng(zlib.crc32(":".join(map(str, key)).encode()))


def counts(chance: Array, draws: int, runs: int, rng: np.random.Generator) -> Array:
    """Right responses of each question in each run: an array of runs × questions."""
    right: Array = rng.binomial(draws, chance, size=(runs, len(chance))).astype(np.float64)
    return right


def measurements(right: Array, draws: int) -> Measurements:
    """What `harness.statistics.score` says of each run, from counts of right responses."""
    share = right / draws
    variance = share * (1 - share) / (draws - 1)
    total, weights = variance.sum(axis=1), (variance**2).sum(axis=1) / (draws - 1)
    questions = right.shape[1]
    return Measurements(
        questions=questions,
        draws=np.full(len(right), float(draws)),
        average=100 * share.mean(axis=1),
        se_rerun=100 * np.sqrt(total) / questions,
        degrees=np.divide(total**2, weights, out=np.full(len(right), draws - 1.0), where=weights > 0),
    )


def publications(setting: Setting, spread: float, runs: int) -> Array:
    """Published values: means over 64 draws, rounded to one decimal."""
    rng = generator(setting.name, spread, "published")
    right = counts(chances(setting.questions, setting.published / 100, spread), PUBLISHED_DRAWS, runs, rng)
    return np.round(100 * right.mean(axis=1) / PUBLISHED_DRAWS, 1)


def reruns(setting: Setting, spread: float, draws: int, margins: int, runs: int) -> Array:
    """Counts of right responses of a model whose true score differs by so many margins."""
    rng = generator(setting.name, spread, draws, margins)
    chance = chances(setting.questions, setting.published / 100, spread)
    mean = (setting.published + margins * setting.margin) / 100
    return counts(shifted(chance, mean), draws, runs, rng)


def claim(setting: Setting, value: float) -> Claim:
    return Claim(value=value, margin=setting.margin, draws=PUBLISHED_DRAWS)


def simulated(setting: Setting, spread: float, draws: int, margins: int, runs: int) -> Tested:
    """The test on simulated publications and re-runs."""
    ours = measurements(reruns(setting, spread, draws, margins, runs), draws)
    return tested(ours, publications(setting, spread, runs), claim(setting, setting.published), LEVEL)


def rates(setting: Setting, spread: float, draws: int, runs: int) -> Rates:
    codes = {margins: simulated(setting, spread, draws, margins, runs).code for margins in (-1, 0, 1, 2)}
    shares = {
        name: {margins: float(np.mean(code == VERDICTS.index(name))) for margins, code in codes.items()}
        for name in VERDICTS
    }
    return Rates(
        setting=setting,
        spread=spread,
        draws=draws,
        reproduced=shares["reproduced"],
        refuted=shares["not reproduced"],
    )


def all_rates(runs: int, settings: Sequence[Setting] = SETTINGS) -> Iterator[Rates]:
    for setting in settings:
        for spread in setting.spreads:
            for draws in DRAWS:
                yield rates(setting, spread, draws, runs)


def highest_by_chance(runs: int, compared: int) -> float:
    """The largest of so many rates that a true 5 % would show in 95 of 100 simulations (Bonferroni)."""
    return float(binom.ppf(1 - 0.05 / compared, runs, LEVEL)) / runs


# The table ----------------------------------------------------------------------------------

HEADING = (
    "| benchmark | margin | ρ | draws | reproduced at −margin | at +margin | not reproduced at −margin "
    "| at +margin | not reproduced at 0 | reproduced at 0 | not reproduced at 2 margins |"
)


def line(found: Rates) -> str:
    """One row of the Markdown table, in per cent."""
    told = (
        *(found.reproduced[side] for side in (-1, 1)),
        *(found.refuted[side] for side in (-1, 1)),
        found.refuted[0],
        found.reproduced[0],
        found.refuted[2],
    )
    start = f"| {found.setting.name} | {found.setting.margin} | {found.spread:.2f} | {found.draws} |"
    return " ".join([start, *(f"{100 * share:.1f} |" for share in told)])


def table(found: Sequence[Rates]) -> list[str]:
    """The lines of the Markdown table that docs/statistics.md holds."""
    return [HEADING, "|---" * (HEADING.count("|") - 1) + "|", *map(line, found)]
