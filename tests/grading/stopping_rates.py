"""Error rates of verdicts that stop a run, and the draws they save, by simulation.

The publications and models of `verdict_rates`: a paper draws 64 responses a question, prints the mean,
and a run of ours is drawn in rounds until its verdict is reached. The whole of `harness.sequential`
takes part: rounds, levels and tests.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.sequential import in_rounds, level_at, rounds_of
from harness.statistics import VERDICTS, Array, Claim, VerdictName, tested
from tests.grading.verdict_rates import (
    PUBLISHED_DRAWS,
    SETTINGS,
    Setting,
    chances,
    generator,
    measurements,
    publications,
    shifted,
)
from tests.grading.verdict_rates import rates as ordinary_rates

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "statistics.md"
RUNS = 10_000
DRAWS = 64
DIFFERENCES = (0.0, 0.5, -1.0, 1.0, -2.0, 2.0, 4.0)
"""True ones, in margins: none, inside, at the margin on either side, outside, far outside."""


@dataclass(frozen=True)
class Stopped:
    """The runs of one simulation: index of each verdict in VERDICTS, and draws made."""

    code: NDArray[np.intp]
    draws: NDArray[np.intp]

    def share(self, name: VerdictName) -> float:
        return float(np.mean(self.code == VERDICTS.index(name)))

    @property
    def saved(self) -> float:
        """The mean share of the draws that were not needed."""
        return 1 - float(self.draws.mean()) / DRAWS


def draw_until_resolved(
    chance: Array, published: Array, claim: Claim, rng: np.random.Generator, level: float | None = None
) -> Stopped:
    """A run for each published value, of a model that answers with these chances.

    With `level` every look is made at that one, as nobody should.
    """
    rounds, runs = rounds_of(DRAWS), len(published)
    code = np.zeros(runs, dtype=np.intp)
    draws = np.full(runs, DRAWS, dtype=np.intp)
    going, right, before = np.arange(runs), np.zeros((runs, len(chance))), 0
    for looked in rounds:
        right += rng.binomial(looked - before, chance, size=right.shape)
        own = level or level_at(rounds, claim, looked)
        ours = measurements(right, looked)
        code[going] = tested(ours, published[going], in_rounds(claim, DRAWS), own).code
        still = code[going] == 0
        draws[going[~still]] = looked
        going, right, before = going[still], right[still], looked
    return Stopped(code=code, draws=draws)


def simulated(
    setting: Setting, spread: float, margins: float, runs: int, level: float | None = None
) -> Stopped:
    """Runs of a model whose true score differs by so many margins from the published one's."""
    claim = Claim(value=setting.published, margin=setting.margin, draws=PUBLISHED_DRAWS)
    chance = chances(setting.questions, setting.published / 100, spread)
    mean = min((setting.published + margins * setting.margin) / 100, 1 - 1e-3)
    rng = generator(setting.name, spread, "in rounds", margins)
    published = publications(setting, spread, runs)
    return draw_until_resolved(shifted(chance, mean), published, claim, rng, level)


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of the table: runs by the true difference, in margins."""

    setting: Setting
    spread: float
    runs: dict[float, Stopped]

    def errors(self) -> list[float]:
        """The rates that the test promises to keep at 5 % or less, over all rounds together."""
        at_margin = [self.runs[side].share(name) for name in VERDICTS[1:] for side in (-1.0, 1.0)]
        inside = [self.runs[difference].share("not reproduced") for difference in (0.0, 0.5)]
        outside = [self.runs[difference].share("reproduced") for difference in (-2.0, 2.0, 4.0)]
        return [*at_margin, *inside, *outside]


def one_line(setting: Setting, spread: float, runs: int) -> Line:
    found = {difference: simulated(setting, spread, difference, runs) for difference in DIFFERENCES}
    return Line(setting=setting, spread=spread, runs=found)


def all_lines(runs: int, settings: Sequence[Setting] = SETTINGS) -> Iterator[Line]:
    for setting in settings:
        for spread in setting.spreads:
            yield one_line(setting, spread, runs)


# Few uncertain questions ----------------------------------------------------------------------

FEW_SPREADS = (0.05, 0.10, 0.15)
FEW_HEADING = (
    "| benchmark | ρ | reproduced at −margin | at +margin | not reproduced at −margin | at +margin "
    "| the ordinary test: reproduced at −margin | at +margin |"
)


def few_line(setting: Setting, spread: float) -> str:
    """Errors at the margin where hardly any question is uncertain: not all of them nominal."""
    runs = [simulated(setting, spread, side, RUNS) for side in (-1.0, 1.0)]
    ordinary = ordinary_rates(setting, spread, DRAWS, RUNS).reproduced
    shares = [*(one.share(name) for name in VERDICTS[1:] for one in runs), ordinary[-1], ordinary[1]]
    cells = " | ".join(f"{100 * share:.1f}" for share in shares)
    return f"| {setting.name} | {spread:.2f} | {cells} |"


def few_table(settings: Sequence[Setting] = SETTINGS) -> list[str]:
    """The lines of the second Markdown table of docs/statistics.md."""
    lines = [few_line(setting, spread) for setting in settings for spread in FEW_SPREADS]
    return [FEW_HEADING, "|---" * (FEW_HEADING.count("|") - 1) + "|", *lines]


# Claims that are known otherwise --------------------------------------------------------------


def with_an_error_in_points(margins: float, runs: int) -> Stopped:
    """A reference value with a standard error of its own, as dasd-micro's are, against 40 questions."""
    setting = Setting(name="reference", questions=40, published=56.4, margin=5.0, spreads=(0.6,))
    claim = Claim(value=setting.published, margin=setting.margin, se=1.0)
    rng = generator(setting.name, margins)
    published = np.round(rng.normal(setting.published, 1.0, runs), 1)
    chance = chances(setting.questions, setting.published / 100, 0.6)
    mean = (setting.published + margins * setting.margin) / 100
    return draw_until_resolved(shifted(chance, mean), published, claim, rng)


def always_right_or_wrong(runs: int) -> Stopped:
    """A model whose every question is certain, 20 of 30 right, against a publication of exactly that."""
    setting = replace(SETTINGS[0], published=100 * 20 / 30)
    chance = np.concatenate([np.ones(20), np.zeros(10)])
    claim = Claim(value=66.7, margin=setting.margin, draws=PUBLISHED_DRAWS)
    return draw_until_resolved(chance, np.full(runs, 66.7), claim, generator("certain"))


# The table ----------------------------------------------------------------------------------

HEADING = (
    "| benchmark | margin | ρ | reproduced at −margin | at +margin | not reproduced at −margin | at +margin "
    "| reproduced at 0 | at ½ margin | not reproduced at −2 margins | at 2 "
    "| draws made at 0 | at ½ | at ±1 | at ±2 | at 4 |"
)


def line(found: Line) -> str:
    """One row of the Markdown table: per cent, then mean draws of 64."""
    runs = found.runs
    rates = (
        *(runs[side].share(name) for name in VERDICTS[1:] for side in (-1.0, 1.0)),
        *(runs[difference].share("reproduced") for difference in (0.0, 0.5)),
        *(runs[difference].share("not reproduced") for difference in (-2.0, 2.0)),
    )
    draws = [made(runs[0.0]), made(runs[0.5]), *(made(runs[-side], runs[side]) for side in (1.0, 2.0))]
    cells = [*(f"{100 * rate:.1f}" for rate in rates), *(f"{one:.0f}" for one in (*draws, made(runs[4.0])))]
    start = f"| {found.setting.name} | {found.setting.margin} | {found.spread:.2f} |"
    return f"{start} {' | '.join(cells)} |"


def made(*runs: Stopped) -> float:
    return float(np.mean([one.draws.mean() for one in runs]))


def table(found: Sequence[Line]) -> list[str]:
    """The lines of the Markdown table that docs/statistics.md holds."""
    return [HEADING, "|---" * (HEADING.count("|") - 1) + "|", *map(line, found)]
