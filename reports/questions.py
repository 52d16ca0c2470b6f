"""What a row's draws on a benchmark are made of: accuracy by question, lengths, outcomes, strict and lenient.

Only questions' ids are told, never their texts: of some benchmarks (GPQA) those must not be spread.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist, median

import numpy as np
from numpy.typing import NDArray

from harness.types import Grade
from reports.page import Cell, Section
from reports.plots import Picture, clean, identifier
from reports.question_plots import KINDS, Kind, Share, accuracy_by_question, tokens_by_kind
from reports.table import Entry, cell, lenient_cell

Z = NormalDist().inv_cdf(0.975)
LISTED = 8  # questions at either end
ALL_LISTED = 20  # so many are listed whole

RIGHT = "right"
CODES = (
    "Codes are LiveCodeBench's, of the first test that fails: −2 wrong answer, −3 time limit, −4 runtime "
    "error (of a program that does not load, too), −5 its process ended."
)
NO_CODE = {"right": 0, "wrong answer": 1, "no answer": 30, "truncated": 31}


@dataclass(frozen=True, kw_only=True)
class Answered:
    """One row's graded draws on one benchmark.

    `tokens` are those of each response, by question and draw, `limit` how many it could have.
    """

    entry: Entry
    grades: Sequence[Grade]
    tokens: Mapping[tuple[str, int], int]
    limit: int

    @cached_property
    def shares(self) -> list[Share]:
        """Of the questions with a graded draw, the hardest first."""
        graded: dict[str, list[bool]] = defaultdict(list)
        for grade in self.grades:
            if grade.correct is not None:
                graded[grade.question].append(grade.correct)
        found = [share_of(question, sum(own), len(own)) for question, own in graded.items()]
        return sorted(found, key=lambda one: (one.value, one.question))

    @cached_property
    def lengths(self) -> dict[Kind, NDArray[np.int64]]:
        """Tokens of the responses of each kind."""
        found: dict[Kind, list[int]] = {kind: [] for kind in KINDS}
        for grade in self.grades:
            if (tokens := self.tokens.get((grade.question, grade.draw))) is not None:
                found[kind_of(grade)].append(tokens)
        return {kind: np.array(own, np.int64) for kind, own in found.items()}

    @property
    def not_right(self) -> NDArray[np.int64]:
        return np.concatenate([self.lengths[kind] for kind in KINDS if kind not in (RIGHT, "not graded")])

    @cached_property
    def outcomes(self) -> Counter[tuple[str, int | None]]:
        return Counter(map(outcome, self.grades))


def share_of(question: str, right: int, graded: int) -> Share:
    low, high = wilson(right, graded)
    return Share(question=question, right=right, graded=graded, low=low, high=high)


def wilson(right: int, draws: int) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson 1927, no continuity correction): never empty, not even where no
    draw or every draw is right, and on average as often right as it says."""
    share, weight = right / draws, Z * Z / draws
    middle = (share + weight / 2) / (1 + weight)
    half = Z * math.sqrt(share * (1 - share) / draws + weight / (4 * draws)) / (1 + weight)
    return max(0.0, middle - half), min(1.0, middle + half)


def kind_of(grade: Grade) -> Kind:
    if grade.correct is None:
        return "not graded"
    if grade.correct:
        return "right"
    if grade.truncated:
        return "truncated"
    return "no answer" if grade.extracted is None else "wrong"


def outcome(grade: Grade) -> tuple[str, int | None]:
    """What became of a draw, and LiveCodeBench's code for it where a program failed."""
    kind = kind_of(grade)
    if kind == "not graded":
        return f"not graded: {clean(grade.reason).partition(':')[0][:40] or 'no reason told'}", None
    if kind != "wrong":
        return kind, None
    code = grade.detail.get("error_code")
    if not isinstance(code, int):
        return "wrong answer", None
    return clean(str(grade.detail.get("message", ""))).partition(":")[0][:40] or "failed", code


# Sections -----------------------------------------------------------------------------------


def benchmark_sections(answered: Sequence[Answered], main: str) -> Iterator[Section]:
    """For each benchmark all rows side by side, then each row by itself; folded but for the row `main`."""
    for benchmark in dict.fromkeys(one.entry.benchmark for one in answered):
        own = [one for one in answered if one.entry.benchmark == benchmark]
        yield rules_section(benchmark, own)
        yield outcomes_section(benchmark, own)
        for one in own:
            if one.shares:
                yield questions_section(one, folded=one.entry.row != main)


def rules_section(benchmark: str, own: Sequence[Answered]) -> Section:
    """Strict against lenient, what was lost, and lengths, one line a row."""
    return Section(
        title=f"{benchmark}: strict against lenient, and lengths",
        columns=(
            "row", "strict", "lenient", "Δ", "only lenient", "only strict",
            "truncated", "no answer", "ungraded", "missing",
            "tokens, right", "tokens, not right", "longest",
        ),
        rows=[rules_row(one) for one in own],
        note="Strict: the answer after the reasoning, a truncated response is wrong; verdicts use this one. "
        "Lenient: the usual lax rule on the whole text. Δ is lenient less strict, in points; only lenient "
        "and only strict count the draws that are right by one rule alone. Tokens are medians.",
        group="benchmark",
    )  # fmt: skip


def rules_row(one: Answered) -> list[Cell]:
    entry, compared = one.entry, [grade for grade in one.grades if grade.lenient is not None]
    difference = (
        None if entry.measured is None or entry.lenient is None else f"{entry.lenient - entry.measured:+.1f}"
    )
    return [
        entry.row,
        cell(entry),
        lenient_cell(entry),
        difference,
        sum(grade.lenient is True and grade.correct is False for grade in compared) if compared else None,
        sum(grade.lenient is False and grade.correct is True for grade in compared) if compared else None,
        entry.truncated,
        entry.no_answer,
        entry.ungraded,
        entry.short,
        rounded(one.lengths["right"]),
        rounded(one.not_right),
        max((int(own.max()) for own in one.lengths.values() if len(own)), default=None),
    ]


def rounded(tokens: NDArray[np.int64]) -> int | None:
    return round(float(np.median(tokens))) if len(tokens) else None


def outcomes_section(benchmark: str, own: Sequence[Answered]) -> Section:
    """What became of every draw, by row; each column adds up to all draws that there are."""
    every: Counter[tuple[str, int | None]] = sum((one.outcomes for one in own), Counter())
    names = sorted(every, key=lambda what: (place_of(what), -every[what], what[0]))
    coded = any(code is not None for _, code in names)
    totals = [sum(one.outcomes.values()) for one in own]
    return Section(
        title=f"{benchmark}: what became of the draws",
        columns=("outcome", *(("code",) if coded else ()), *(one.entry.row for one in own)),
        rows=[
            [name, *((code,) if coded else ()), *(counted(one.outcomes[name, code], all_) for one, all_ in
             zip(own, totals, strict=True))]
            for name, code in names
        ] + [["all draws", *((None,) if coded else ()), *totals]],
        note=CODES if coded else "",
        group="benchmark",
        totals=1,
    )  # fmt: skip


def place_of(what: tuple[str, int | None]) -> int:
    """Right ones first, then failed programs by code, then what had nothing to be judged."""
    name, code = what
    if code is not None:
        return 10 - code
    return NO_CODE.get(name, 40)


def counted(count: int, of: int) -> str:
    return f"{count:,} ({count / of:.1%})" if count else "0"


def questions_section(one: Answered, folded: bool) -> Section:
    """One row's pictures, and its hardest and easiest questions by id."""
    row, benchmark = one.entry.row, one.entry.benchmark
    listed, said = ends(one.shares)
    by_question: dict[str, list[int]] = defaultdict(list)
    for (question, _), tokens in one.tokens.items():
        by_question[question].append(tokens)
    never, always = (sum(share.value == end for share in one.shares) for end in (0.0, 1.0))
    return Section(
        title=f"{benchmark}, {row}: question by question",
        columns=("question", "right", "accuracy", "95 % interval", "tokens (median)"),
        rows=[question_row(share, by_question.get(share.question, ())) for share in listed],
        note=f"{said} {always} of {len(one.shares)} questions were always right, {never} never. The "
        "intervals are Wilson's, over draws of the same question.",
        pictures=tuple(pictures(one)),
        group="benchmark",
        folded=folded,
    )


def ends(shares: Sequence[Share]) -> tuple[Sequence[Share], str]:
    """All questions where they are few, else the hardest and the easiest, and what they are."""
    if len(shares) <= ALL_LISTED:
        return shares, "All questions, the hardest first."
    listed = [*shares[:LISTED], *shares[-LISTED:]]
    return listed, f"The {LISTED} hardest questions, then the {LISTED} easiest."


def question_row(share: Share, tokens: Iterable[int]) -> list[Cell]:
    own = list(tokens)
    return [
        clean(share.question),
        f"{share.right} of {share.graded}",
        f"{share.value:.1%}",
        f"{share.low:.1%} to {share.high:.1%}",
        round(median(own)) if own else None,
    ]


def pictures(one: Answered) -> Iterator[Picture]:
    row, benchmark = one.entry.row, one.entry.benchmark
    name = identifier(f"{benchmark}-{row}")
    title = f"{benchmark}, {row}"
    yield accuracy_by_question(f"{name}-accuracy", f"Accuracy by question: {title}", one.shares)
    if any(len(own) for own in one.lengths.values()):
        yield tokens_by_kind(f"{name}-tokens", f"Tokens against correctness: {title}", one.lengths, one.limit)
