"""How often our graders agree with the labels of real responses, and where they do not.

Shared by the acceptance scripts, which read every row, and by tests, which read a seeded sample.
"""

import json
import logging
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.grading.answers import Verifier, answer_in, last_box, lenient_verdict, marked, strict_verdict
from harness.grading.choices import lenient_letter
from harness.grading.integers import integer_in

TEN_OPTIONS = "ABCDEFGHIJ"

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Disagreement:
    """One row that a grader judges otherwise than its label."""

    row: str
    kind: str
    gold: str
    found: str
    label: bool


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """One grader on one set of rows."""

    name: str
    rows: int
    disagreements: tuple[Disagreement, ...]

    @property
    def agreed(self) -> int:
        return self.rows - len(self.disagreements)

    @property
    def share(self) -> float:
        return self.agreed / self.rows

    def __str__(self) -> str:
        return f"{self.name}: {self.agreed} of {self.rows} agree with the label ({100 * self.share:.2f} %)"

    def kinds(self) -> Iterator[str]:
        """A line for each kind of disagreement, the commonest first."""
        for kind, count in Counter(one.kind for one in self.disagreements).most_common():
            yield f"  {count:4}  {kind}"

    def listed(self) -> Iterator[str]:
        """A line for each row in disagreement, by kind."""
        for one in sorted(self.disagreements, key=lambda one: (one.kind, one.row)):
            label = "right" if one.label else "wrong"
            yield f"  {one.row}: label {label}, gold {one.gold[:60]!r}, found {one.found[:60]!r} ({one.kind})"


def read(folder: Path, name: str, sample: int | None = None) -> list[Row]:
    """The rows of `answers/<name>.jsonl`, or a seeded sample of them in the file's order."""
    with (folder / "answers" / f"{name}.jsonl").open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    if sample is None or sample >= len(rows):
        return rows
    return [rows[place] for place in sorted(random.Random(f"{name}:0").sample(range(len(rows)), sample))]


def compared(
    name: str, rows: Sequence[Row], judge: Callable[[Row], tuple[bool | None, str, str]]
) -> Agreement:
    """`judge` gives the verdict on a row, what was found in it, and the kind a disagreement would be."""
    judged = [(row, *judge(row)) for row in rows]
    return Agreement(
        name=name,
        rows=len(judged),
        disagreements=tuple(
            Disagreement(row=row["id"], kind=kind, gold=row["gold"], found=found, label=row["correct"])
            for row, verdict, found, kind in judged
            if verdict is not row["correct"]
        ),
    )


# Integers in boxes --------------------------------------------------------------------------


def boxed_integers(rows: Sequence[Row], verifier: Verifier) -> Agreement:
    """The strict verdict on responses with an integer gold answer."""

    def judge(row: Row) -> tuple[bool | None, str, str]:
        box = last_box(row["response"])
        if box is None:
            return False, "", "no balanced box"
        verdict = strict_verdict(row["gold"], box, verifier)
        how = "integer rule" if integer_in(box) is not None else "math-verify on the box"
        return verdict.correct, box, verdict.reason or f"{how}: {'equal' if verdict.correct else 'another'}"

    return compared("strict verdict", rows, judge)


def lenient_shortcuts(rows: Sequence[Row], verifier: Verifier) -> Agreement:
    """The lenient verdict, with its shortcuts, against math-verify on the whole text without them."""
    asked = [row | {"correct": verifier.verify(row["gold"], row["response"]).correct} for row in rows]

    def judge(row: Row) -> tuple[bool | None, str, str]:
        verdict = lenient_verdict(row["gold"], row["response"], verifier).correct
        return verdict, last_box(row["response"]) or "", "shortcut differs from math-verify"

    return compared("lenient verdict against math-verify asked each time", asked, judge)


# Symbolic answers ---------------------------------------------------------------------------


def math_verify_itself(rows: Iterable[Row]) -> list[bool]:
    """What math-verify 0.9 says of whole responses, called as its own documentation does, here."""
    from math_verify import parse, verify

    logging.getLogger("math_verify").setLevel(logging.CRITICAL)
    return [bool(verify(parse(marked(row["gold"])), parse(row["response"]))) for row in rows]


def math_symbolic(rows: Sequence[Row], verifier: Verifier) -> dict[str, Agreement]:
    """Ours and math-verify's own agreement: on rows with a box (strict) and on all of them (lenient).

    `graded` is the verdict where a box is, and the lenient one where none is: without a box the strict
    rule says "no answer" by design, and a label that reads the text cannot agree with that.
    """
    itself = dict(zip((row["id"] for row in rows), math_verify_itself(rows), strict=True))
    boxed = [row for row in rows if last_box(row["response"]) is not None]

    def by_math_verify(row: Row) -> tuple[bool | None, str, str]:
        return itself[row["id"]], "", "math-verify"

    def strict(row: Row) -> tuple[bool | None, str, str]:
        box = answer_in(row["gold"], row["response"])
        assert box is not None
        verdict = strict_verdict(row["gold"], box, verifier)
        return verdict.correct, box, kind(row, verdict.correct, verdict.reason)

    def lenient(row: Row) -> tuple[bool | None, str, str]:
        verdict = lenient_verdict(row["gold"], row["response"], verifier)
        return verdict.correct, last_box(row["response"]) or "", kind(row, verdict.correct, verdict.reason)

    def graded(row: Row) -> tuple[bool | None, str, str]:
        return strict(row) if last_box(row["response"]) is not None else lenient(row)

    def kind(row: Row, verdict: bool | None, reason: str) -> str:
        same = "as math-verify itself" if verdict is itself[row["id"]] else "math-verify itself agrees"
        side = "accepted though labelled wrong" if verdict else "refused though labelled right"
        return f"{reason or side}, {same}, {row['source'].split(':')[0]}"

    return {
        "boxed, math-verify": compared("math-verify itself, rows with a box", boxed, by_math_verify),
        "boxed": compared("strict verdict, rows with a box", boxed, strict),
        "all, math-verify": compared("math-verify itself, all rows", rows, by_math_verify),
        "lenient": compared("lenient verdict, all rows", rows, lenient),
        "graded": compared("strict verdict where a box is, else lenient, all rows", rows, graded),
    }


# Letters ------------------------------------------------------------------------------------


def multiple_choice(rows: Sequence[Row]) -> Agreement:
    """The lenient extractor on responses with up to ten options."""

    def judge(row: Row) -> tuple[bool | None, str, str]:
        letter = lenient_letter(row["response"], TEN_OPTIONS)
        if letter is None:
            return False, "", "no letter stands in the text: the label's own extractor guessed"
        if letter == row["gold"]:
            return True, letter, "the right letter stands there, but the response ends before an answer"
        return False, letter, "another letter than the label's extractor found"

    return compared("lenient extractor", rows, judge)
