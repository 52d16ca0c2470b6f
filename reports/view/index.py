"""What the list of samples asks of each row, in columns: where it stands, its verdict, its error.

Forty thousand rows are two megabytes here. They come from the places of the rows (`harness.places`) and one
pass over the verdicts; token counts stand at the end of each row and are read when somebody sorts by them.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from harness.rows import decode, lines_from, spans_of
from harness.types import Generation
from reports.view.found import Evaluation

Whole = npt.NDArray[np.int64]
Verdict = Literal["correct", "wrong", "truncated", "no answer", "ungraded", "not graded yet"]
VERDICTS: tuple[Verdict, ...] = ("correct", "wrong", "truncated", "no answer", "ungraded", "not graded yet")
PENDING = VERDICTS.index("not graded yet")
FLIPS = ("", "gained", "lost", "same")
NOWHERE = -1
TAIL = 2_048
UNKNOWN = -1

CODES = {
    -2: "−2 wrong answer",
    -3: "−3 time limit",
    -4: "−4 runtime error",
    -5: "−5 crash",
}
"""LiveCodeBench's error codes, which code grades carry."""


class Detail(msgspec.Struct):
    error_code: int | None = None
    out_of_memory: bool = False


class Graded(msgspec.Struct):
    """What the list asks of a verdict; all else of it is passed over."""

    question: str
    draw: int
    correct: bool | None
    truncated: bool
    reason: str = ""
    lenient: bool | None = None
    detail: Detail = msgspec.field(default_factory=Detail)


def verdict_of(grade: Graded) -> int:
    """Every verdict is one of VERDICTS, so that their counts add up."""
    if grade.correct is None:
        return 4
    if grade.correct:
        return 0
    return 2 if grade.truncated else 3 if grade.reason == "no answer" else 1


def lenient_of(grade: Graded) -> int:
    return UNKNOWN if grade.lenient is None else int(grade.lenient)


def error_of(grade: Graded) -> str:
    """The official code of a program that failed, or why there is no verdict; empty for neither."""
    if grade.detail.out_of_memory:
        return "−4 out of memory"
    if grade.detail.error_code is not None:
        return CODES.get(grade.detail.error_code, str(grade.detail.error_code))
    return "" if grade.reason in ("truncated", "no answer") else grade.reason.partition(":")[0][:60]


@dataclass(frozen=True, kw_only=True, eq=False)
class Columns:
    """One evaluation's rows, in no particular order. `start` is NOWHERE where a verdict has no row (yet),
    `grade_start` where a row has no verdict (yet). `question` counts in `questions`, `error` in `errors`.
    """

    evaluation: Evaluation
    questions: list[str]
    errors: list[str]
    question: Whole
    draw: Whole
    verdict: Whole
    lenient: Whole
    error: Whole
    start: Whole
    end: Whole
    grade_start: Whole
    grade_end: Whole

    def __len__(self) -> int:
        return len(self.draw)

    @cached_property
    def tokens(self) -> Whole:
        """Sampled tokens of each row, UNKNOWN without a row. Reads the end of every row once."""
        if not len(self) or not self.evaluation.rows.exists():
            return np.full(len(self), UNKNOWN, dtype=np.int64)
        with self.evaluation.rows.open("rb", buffering=0) as file:
            told = [
                length_of(file, start, end).tokens if start != NOWHERE else UNKNOWN
                for start, end in zip(self.start.tolist(), self.end.tolist(), strict=True)
            ]
        return np.array(told, dtype=np.int64)

    @cached_property
    def by_key(self) -> dict[tuple[str, int], int]:
        names = [self.questions[number] for number in self.question.tolist()]
        return {key: place for place, key in enumerate(zip(names, self.draw.tolist(), strict=True))}


class Length(NamedTuple):
    tokens: int
    finish: str


LENGTH = re.compile(rb'"finish_reason":"(\w+)","prompt_tokens":\d+,"completion_tokens":(\d+)')


def length_of(file: BinaryIO, start: int, end: int) -> Length:
    """Tokens and finish reason of the row from `start` to `end`, from its last bytes where they stand there.

    In a JSON string each quotation mark has a backslash before it: no text can pass for the field.
    """
    file.seek(max(start, end - TAIL))
    if found := LENGTH.search(file.read(min(TAIL, end - start))):
        return Length(int(found[2]), found[1].decode())
    file.seek(start)
    row = msgspec.json.decode(file.read(end - start), type=Generation)
    return Length(row.completion_tokens, row.finish_reason)


def read_columns(evaluation: Evaluation) -> Columns:
    """What is there now: rows and verdicts come from two files, in any order, and either may be alone.

    Raises DataError where a line is no row.
    """
    places: dict[tuple[str, int], int] = {}
    spans = list(spans_of(evaluation.rows)) if evaluation.rows.exists() else []
    for span in spans:
        places[span[:2]] = len(places)
    errors: dict[str, int] = {}
    verdicts = [
        (places.setdefault((grade.question, grade.draw), len(places)), verdict_of(grade), lenient_of(grade),
         errors.setdefault(error_of(grade), len(errors)), start, end)
        for grade, start, end in grades_of(evaluation.grades)
    ]  # fmt: skip
    questions: dict[str, int] = {}
    question = [questions.setdefault(name, len(questions)) for name, _ in places]
    no_error = errors.setdefault("", len(errors))
    columns = {name: np.full(len(places), empty) for name, empty in (
        ("verdict", PENDING), ("lenient", UNKNOWN), ("error", no_error), ("start", NOWHERE), ("end", NOWHERE),
        ("grade_start", NOWHERE), ("grade_end", NOWHERE),
    )}  # fmt: skip
    fill(columns, ("start", "end"), [(places[span[:2]], span.start, span.end) for span in spans])
    fill(columns, ("verdict", "lenient", "error", "grade_start", "grade_end"), verdicts)
    return Columns(
        evaluation=evaluation,
        questions=list(questions),
        errors=list(errors),
        question=np.array(question, dtype=np.int64),
        draw=np.array([draw for _, draw in places], dtype=np.int64),
        **columns,
    )


def grades_of(file: Path) -> Iterator[tuple[Graded, int, int]]:
    """Each verdict of a file, with where its line begins and ends; none where there is no file yet."""
    start, decoder = 0, msgspec.json.Decoder(Graded)
    for number, line in enumerate(lines_from(file) if file.exists() else (), start=1):
        yield decode(decoder, line, file, number), start, start + len(line)
        start += len(line)


def fill(columns: Mapping[str, Whole], names: Sequence[str], told: Sequence[tuple[int, ...]]) -> None:
    """Writes what is told of some places, each a tuple of the place and one number a column."""
    table = np.array(told, dtype=np.int64).reshape(-1, 1 + len(names))
    for number, name in enumerate(names, start=1):
        columns[name][table[:, 0]] = table[:, number]


def signature(path: Path) -> tuple[int, int, int]:
    """Changes whenever the file does: it is appended to, or replaced."""
    try:
        told = path.stat()
    except FileNotFoundError:
        return (0, 0, 0)
    return told.st_ino, told.st_size, told.st_mtime_ns


NUMBER = re.compile(r"(\d+)")


def natural(name: str) -> list[tuple[int, str]]:
    """Sorts `2024-I-10` after `2024-I-9`."""
    return [(int(part[:18]), part) if part.isdecimal() else (-1, part) for part in NUMBER.split(name)]


@dataclass(frozen=True, kw_only=True, eq=False)
class Samples:
    """All rows of a run, and for each that row of another run which answers the same draw.

    `first[i]` is where evaluation i begins. `other` is NOWHERE without such a row. `rank` sorts by
    question id. A change of verdict is a flip only where both have one.
    """

    parts: Sequence[Columns]
    first: list[int]
    questions: list[str]
    errors: list[str]
    evaluation: Whole
    question: Whole
    rank: Whole
    draw: Whole
    verdict: Whole
    lenient: Whole
    error: Whole
    other: Whole
    flip: Whole

    def __len__(self) -> int:
        return len(self.draw)

    @cached_property
    def tokens(self) -> Whole:
        return joined(part.tokens for part in self.parts)

    @cached_property
    def order(self) -> Whole:
        """By evaluation, question and draw."""
        return np.lexsort((self.draw, self.rank, self.evaluation))

    def part_of(self, place: int) -> tuple[Columns, int]:
        """The columns of the evaluation of a row, and its place there."""
        number = int(self.evaluation[place])
        return self.parts[number], place - self.first[number]

    def find(self, row: str, benchmark: str, question: str, draw: int) -> int | None:
        """The place of a sample; None where there is no such one."""
        for number, part in enumerate(self.parts):
            if (part.evaluation.row, part.evaluation.benchmark) == (row, benchmark):
                place = part.by_key.get((question, draw))
                return None if place is None else self.first[number] + place
        return None


def joined(columns: Iterable[Whole]) -> Whole:
    return np.concatenate([np.zeros(0, dtype=np.int64), *columns])


def numbered(own: Iterator[tuple[list[str], Whole]]) -> tuple[list[str], Whole]:
    """Names of all parts in one list, and each part's numbers as places in it."""
    names: dict[str, int] = {}
    columns = []
    for known, column in own:
        renumber = np.array([names.setdefault(name, len(names)) for name in known], dtype=np.int64)
        columns.append(renumber[column] if len(column) else column)
    return list(names), joined(columns)


def together(
    parts: Sequence[Columns],
    others: "Samples | None" = None,
    pairs: Iterable[tuple[int, int]] = (),
) -> Samples:
    """The evaluations of a run as one table; `pairs` says which of them `others` has too."""
    questions, question = numbered((part.questions, part.question) for part in parts)
    unsorted, error = numbered((part.errors, part.error) for part in parts)
    errors, error = sorted(unsorted), np.argsort(np.argsort(unsorted))[error]
    ranks = np.empty(len(questions), dtype=np.int64)
    ranks[sorted(range(len(questions)), key=lambda number: natural(questions[number]))] = np.arange(
        len(questions)
    )
    verdict = joined(part.verdict for part in parts)
    first = [0, *np.cumsum([len(part) for part in parts]).tolist()]
    other = np.full(len(verdict), NOWHERE, dtype=np.int64)
    for ours, theirs in pairs:
        assert others is not None
        there = others.parts[theirs].by_key
        other[first[ours] : first[ours + 1]] = [
            others.first[theirs] + place if (place := there.get(key)) is not None else NOWHERE
            for key in parts[ours].by_key
        ]
    return Samples(
        parts=parts,
        first=first[:-1],
        questions=questions,
        errors=errors,
        evaluation=np.repeat(np.arange(len(parts)), [end - start for start, end in pairwise(first)]),
        question=question,
        rank=ranks[question] if len(question) else question,
        draw=joined(part.draw for part in parts),
        verdict=verdict,
        lenient=joined(part.lenient for part in parts),
        error=error,
        other=other,
        flip=flips(verdict, other, others),
    )


def flips(verdict: Whole, other: Whole, others: "Samples | None") -> Whole:
    """Which of FLIPS each row is: gained is right in the other run only, lost in this one only."""
    found = np.zeros(len(verdict), dtype=np.int64)
    if others is None or not len(others):
        return found
    decided = len(VERDICTS) - 2
    theirs = np.where(other == NOWHERE, PENDING, others.verdict[other])
    both = (verdict < decided) & (theirs < decided)
    found[both] = FLIPS.index("same")
    found[both & (verdict != 0) & (theirs == 0)] = FLIPS.index("gained")
    found[both & (verdict == 0) & (theirs != 0)] = FLIPS.index("lost")
    return found


def at(file: Path, start: int, end: int) -> bytes:
    """The bytes of one line."""
    with file.open("rb") as opened:
        opened.seek(start)
        return opened.read(end - start)


def as_told(line: bytes) -> dict[str, Any]:
    """A grade's line as it stands there, whatever version wrote it."""
    told: dict[str, Any] = msgspec.json.decode(line)
    return told
