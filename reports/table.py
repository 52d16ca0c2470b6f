"""The report's entries: each measured row beside its claim, with a verdict.

A number never stands bare: each cell has its error over re-runs or says why there is none, and while
a response is ungraded there is no number, only the bounds that it leaves.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from harness.adaptive import Saving, in_words
from harness.errors import DataError
from harness.sequential import judge_registered, level_at
from harness.statistics import Claim, Score, Verdict, VerdictName, counts_rounding_to, judge, score
from harness.types import Grade
from reports.published import Published, PublishedClaim, claims

LIMITED = "only the first questions were asked (--limit)"


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One row's grades on one benchmark. `questions` and `draws` are what was asked for.

    `protocol` is how it was asked (sampling, prompt, engine …), for the reader. `limited` says that
    only some questions were asked, `voted` that a majority of the draws means something. `notes` is what
    else differs from the claim's protocol. `rounds` are the numbers of draws at which a run that is drawn
    until resolved is looked at, and `saved` what it spared.
    """

    row: str
    benchmark: str
    grades: Sequence[Grade]
    questions: int
    draws: int
    protocol: dict[str, str] = field(default_factory=dict)
    limited: bool = False
    voted: bool = True
    notes: tuple[str, ...] = ()
    rounds: tuple[int, ...] = ()
    saved: Saving | None = None

    def score(self) -> Score:
        return score(self.grades, self.questions, self.draws)

    def not_a_score(self) -> tuple[str, ...]:
        """Why this is no score of the benchmark, from `--limit` and from the grades."""
        told = {str(grade.detail["not_a_score"]) for grade in self.grades if "not_a_score" in grade.detail}
        return ((LIMITED,) if self.limited else ()) + tuple(sorted(told))

    def remarks(self) -> tuple[str, ...]:
        """The notes, and what the grades say about questions with errata."""
        errata = {grade.question for grade in self.grades if grade.detail.get("erratum")}
        flagged = f"questions with known errata, kept: {', '.join(sorted(errata))}"
        return self.notes + ((flagged,) if errata else ())


@dataclass(frozen=True, kw_only=True)
class InRounds:
    """How far a run was drawn that ends when it is decided. `level` is that of each one-sided test at this
    round; all rounds together spend 5 % on a side."""

    rounds: tuple[int, ...]
    draws: int
    level: float
    saved: Saving


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One line of report.json. Points for values and errors; None where undefined.

    `measured` is None while a response is ungraded (`lowest` and `highest` bound it). `verdict` is
    None where nothing is claimed. `counts` are the right responses that round to the published value.
    `spread` is the lowest and the highest score over alternative readings of the same answers.
    `majority` and `any_right` are maj@K and pass@K of all K draws, None where there is but one;
    `majority` also where answers cannot vote (programs). With `in_rounds` the verdict and its interval
    are those of the sequential test.
    """

    recipe: str
    row: str
    benchmark: str
    published: float | None = None
    published_se: float | None = None
    measured: float | None = None
    lowest: float | None = None
    highest: float | None = None
    lenient: float | None = None
    spread: tuple[float, float] | None = None
    draws: int = 0
    questions: int = 0
    se_rerun: float | None = None
    se_questions: float | None = None
    majority: float | None = None
    any_right: float | None = None
    delta: float | None = None
    interval: tuple[float, float] | None = None
    margin: float | None = None
    verdict: VerdictName | None = None
    draws_needed: int | None = None
    reason: str = ""
    truncated: int = 0
    no_answer: int = 0
    ungraded: int = 0
    short: int = 0
    counts: tuple[int, ...] = ()
    model: str = ""
    source: str = ""
    claim_sampling: str = ""
    protocol: dict[str, str] = field(default_factory=dict)
    not_a_score: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    in_rounds: InRounds | None = None


def build_entries(
    recipe: str, published: Published | None, measurements: Iterable[Measurement]
) -> list[Entry]:
    """All claims on a recipe's rows, measured or not, then what was measured without a claim.

    Of `RECIPE/ROW` only what was measured: that run was made for it, not to reproduce the recipe.

    Raises DataError where a paper's file says nothing about this recipe: a run is never set beside
    numbers that are not about it.
    """
    measured = {(one.row, one.benchmark): one for one in measurements}
    claimed = claims(published, recipe) if published else []
    if published is not None and not claimed:
        raise DataError(
            f"{published.title} claims nothing about the recipe {recipe!r}",
            "Give the recipe its own reports/<name>/published.toml, or none.",
        )
    name, _, chosen = recipe.partition("/")
    if chosen:
        claimed = [one for one in claimed if (one.row, one.benchmark) in measured]
    entries = [entry(name, one, measured.get((one.row, one.benchmark))) for one in claimed]
    about = {(one.row, one.benchmark) for one in claimed}
    entries += [entry(name, None, one) for key, one in measured.items() if key not in about]
    rows = list(dict.fromkeys(one.row for one in entries))
    return sorted(entries, key=lambda one: rows.index(one.row))


def entry(recipe: str, claimed: PublishedClaim | None, measurement: Measurement | None) -> Entry:
    """One line from a claim, a measurement, or both."""
    named = claimed or measurement
    assert named is not None
    line = Entry(recipe=recipe, row=named.row, benchmark=named.benchmark)
    line = with_measurement(line, measurement) if measurement else line
    return with_claim(line, claimed, measurement) if claimed else line


def with_measurement(line: Entry, measurement: Measurement) -> Entry:
    """The line with our score; without a number while anything is ungraded."""
    own = measurement.score()
    return replace(
        line,
        measured=None if own.ungraded else own.average,
        lowest=own.lowest,
        highest=own.highest,
        lenient=own.lenient,
        draws=own.draws,
        questions=own.questions,
        se_rerun=own.se_rerun,
        se_questions=own.se_questions,
        majority=own.majority if own.draws > 1 and measurement.voted else None,
        any_right=own.any_right if own.draws > 1 else None,
        truncated=own.truncated,
        no_answer=own.no_answer,
        ungraded=own.ungraded,
        short=own.short,
        protocol=measurement.protocol,
        not_a_score=measurement.not_a_score(),
        notes=measurement.remarks(),
    )


def with_claim(line: Entry, claimed: PublishedClaim, measurement: Measurement | None) -> Entry:
    """The line with the published value and the verdict on it."""
    found = verdict(claimed.claim, measurement)
    return replace(
        line,
        published=claimed.claim.value,
        published_se=claimed.claim.se,
        margin=claimed.claim.margin,
        model=claimed.model,
        source=claimed.source,
        claim_sampling=claimed.sampling,
        counts=attainable(claimed.claim, line),
        notes=line.notes + other_sampling(claimed),
        verdict=found.name,
        delta=found.delta,
        interval=found.interval,
        draws_needed=found.draws_needed,
        reason=found.reason,
        in_rounds=in_rounds(claimed.claim, measurement) if found.interval is not None else None,
    )


def other_sampling(claimed: PublishedClaim) -> tuple[str, ...]:
    """A note where the value was published under settings that are not the paper's protocol."""
    return (f"published under {claimed.sampling}",) if claimed.own_sampling else ()


def verdict(claim: Claim, measurement: Measurement | None) -> Verdict:
    """The verdict; `not measured` where the measurement is no score of the benchmark."""
    if measurement is None:
        return judge(None, claim)
    if reasons := measurement.not_a_score():
        return Verdict(name="not measured", reason="; ".join(reasons))
    if measurement.rounds:
        return judge_registered(measurement.score(), claim, measurement.rounds)
    return judge(measurement.score(), claim)


def in_rounds(claim: Claim, measurement: Measurement | None) -> InRounds | None:
    """How far the rounds went; None for a run that was not drawn in rounds."""
    if measurement is None or measurement.saved is None or measurement.draws not in measurement.rounds:
        return None
    rounds, draws = measurement.rounds, measurement.draws
    level = level_at(rounds, claim, draws)
    return InRounds(rounds=rounds, draws=draws, level=level, saved=measurement.saved)


def attainable(claim: Claim, line: Entry) -> tuple[int, ...]:
    """The counts of right responses that round to a published value, at its own number of draws."""
    if claim.se is not None or not claim.draws or not line.questions:
        return ()
    return tuple(counts_rounding_to(claim.value, line.questions * claim.draws))


# Words --------------------------------------------------------------------------------------


def cell(line: Entry) -> str:
    """Our number as it may be shown: with its error, or as bounds, or not at all."""
    remark = score_remark(line)
    return f"{score_text(line)} ({remark})" if remark else score_text(line)


def score_text(line: Entry) -> str:
    """The number with its error, `± ?` where one draw gives none; bounds while anything is ungraded."""
    if line.ungraded and line.lowest is not None:
        return f"{line.lowest:.1f} to {line.highest:.1f}"
    if line.measured is None:
        return "–"
    return f"{line.measured:.1f} ± {'?' if line.se_rerun is None else format(line.se_rerun, '.1f')}"


def score_remark(line: Entry) -> str:
    """What must be said beside the number; empty where it speaks for itself."""
    said = ["not a score"] if line.not_a_score else []
    if line.ungraded and line.lowest is not None:
        said.append(f"{line.ungraded} ungraded")
    elif line.measured is not None and line.se_rerun is None:
        said.append(f"no error over re-runs from {line.draws} draw{plural(line.draws)}")
    return "; ".join(said)


def lenient_cell(line: Entry) -> str:
    """The score under the lenient rule on the whole text: how much the extraction matters."""
    return "–" if line.lenient is None else f"{line.lenient:.1f}"


def voted_cell(line: Entry) -> str:
    """maj@K and pass@K of all draws; programs have no majority."""
    if line.any_right is None:
        return "–"
    majority = "–" if line.majority is None else f"{line.majority:.1f}"
    return f"{majority} / {line.any_right:.1f}"


def spread_cell(line: Entry) -> str:
    """From the least to the most favourable reading of the same answers."""
    return "–" if line.spread is None else f"{line.spread[0]:.1f} to {line.spread[1]:.1f}"


def published_cell(line: Entry) -> str:
    if line.published is None:
        return "–"
    error = f" ± {line.published_se:.1f}" if line.published_se is not None else ""
    return f"{line.published:.1f}{error}"


def delta_cell(line: Entry) -> str:
    """The difference and its 90 % interval."""
    if line.delta is None:
        return "–"
    if line.interval is None:
        return signed(line.delta)
    return f"{signed(line.delta)} [{signed(line.interval[0])}, {signed(line.interval[1])}]"


def signed(points: float) -> str:
    """With its sign to one place; nothing is `-0.0`."""
    return f"{round(points, 1) + 0.0:+.1f}"


def verdict_name(line: Entry) -> str:
    """The verdict in a word or two, or that there is none."""
    return line.verdict or ("not a score" if line.not_a_score else "no claim")


def verdict_reason(line: Entry) -> str:
    """What would resolve the verdict, or why there is none; empty where there is no more to say."""
    if line.verdict is None:
        return ""
    if line.draws_needed:
        return f"{line.reason}; " * bool(line.reason) + f"needs {line.draws_needed} draws to resolve"
    if line.verdict == "inconclusive":
        return line.reason or "more draws would not resolve it"
    return stopped_early(line) or line.reason


def verdict_cell(line: Entry) -> str:
    """The verdict with its reason."""
    told = verdict_reason(line)
    return f"{verdict_name(line)} ({told})" if told else verdict_name(line)


def stopped_early(line: Entry) -> str:
    """`stopped after 8 of 64 draws: decided; 1,680 generations … saved`; nothing where all were made."""
    own = line.in_rounds
    if own is None or own.draws == own.rounds[-1] or line.verdict == "inconclusive":
        return ""
    return f"stopped after {own.draws} of {own.rounds[-1]} draws: decided; {in_words(own.saved)} saved"


def plural(count: int) -> str:
    return "" if count == 1 else "s"
