"""The list of samples: one page of a hundred, read by their places."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from reports.view.choosing import PAGE, Chosen
from reports.view.found import Evaluation
from reports.view.index import FLIPS, NOWHERE, VERDICTS, Samples, as_told, at, length_of
from reports.view.questions import Loaded
from reports.view.text import in_a_cell

STILL = "…"


@dataclass(frozen=True, kw_only=True)
class Item:
    """One line of the list. `other` is the verdict of the run beside it."""

    path: str
    question: str
    draw: int
    row: str
    benchmark: str
    verdict: str
    lenient: str
    other: str
    flip: str
    tokens: int | None
    finish: str
    extracted: str
    expected: str
    error: str


@dataclass(frozen=True, kw_only=True)
class Page:
    """`number` of `last`; the samples from `first` to `end` of all that are wanted, counted from 1."""

    items: Sequence[Item]
    number: int
    last: int
    first: int
    end: int
    total: int


def sample_path(evaluation: Evaluation, question: str, draw: int) -> str:
    parts = (evaluation.row, evaluation.benchmark, str(draw), question)
    return "/".join(quote(part, safe="") for part in parts)


def places_of(chosen: Chosen, number: int) -> tuple[list[int], int, int]:
    """The places on a page, its number, and the last one's. A page past the last is the last."""
    last = max(1, -(-len(chosen.places) // PAGE))
    number = min(number, last)
    return chosen.places[(number - 1) * PAGE : number * PAGE].tolist(), number, last


def golds_needed(samples: Samples, places: Sequence[int]) -> list[Evaluation]:
    """Whose questions a page needs: those whose verdicts do not name the right answer.

    Programs have none that a list could show, and their data sets are large.
    """
    found: dict[Evaluation, None] = {}
    for place in places:
        part, own = samples.part_of(place)
        if part.evaluation in found or part.evaluation.runs_programs:
            continue
        grade = grade_at(part.evaluation, int(part.grade_start[own]), int(part.grade_end[own]))
        if "gold" not in (grade.get("detail") or {}):
            found[part.evaluation] = None
    return list(found)


def grade_at(evaluation: Evaluation, start: int, end: int) -> Mapping[str, Any]:
    """A grade as it stands in its file; empty where there is none yet."""
    return as_told(at(evaluation.grades, start, end)) if start != NOWHERE else {}


def page_of(
    samples: Samples,
    others: Samples | None,
    chosen: Chosen,
    number: int,
    loaded: Mapping[Evaluation, Loaded | None],
) -> Page:
    places, number, last = places_of(chosen, number)
    return Page(
        items=[item_of(samples, others, place, loaded) for place in places],
        number=number,
        last=last,
        first=(number - 1) * PAGE + 1,
        end=(number - 1) * PAGE + len(places),
        total=len(chosen.places),
    )


def item_of(
    samples: Samples, others: Samples | None, place: int, loaded: Mapping[Evaluation, Loaded | None]
) -> Item:
    part, own = samples.part_of(place)
    evaluation, question = part.evaluation, samples.questions[samples.question[place]]
    grade = grade_at(evaluation, int(part.grade_start[own]), int(part.grade_end[own]))
    start, end, theirs = int(part.start[own]), int(part.end[own]), int(samples.other[place])
    tokens, finish = None, ""
    if start != NOWHERE:
        with evaluation.rows.open("rb") as file:
            tokens, finish = length_of(file, start, end)
    return Item(
        path=sample_path(evaluation, question, int(samples.draw[place])),
        question=question,
        draw=int(samples.draw[place]),
        row=evaluation.row,
        benchmark=evaluation.benchmark,
        verdict=VERDICTS[samples.verdict[place]],
        lenient={1: "correct", 0: "wrong"}.get(int(samples.lenient[place]), ""),
        other=VERDICTS[others.verdict[theirs]] if others is not None and theirs != NOWHERE else "",
        flip=FLIPS[samples.flip[place]],
        tokens=tokens,
        finish=finish,
        extracted=in_a_cell(grade.get("extracted")),
        expected=expected(grade, question, loaded, evaluation),
        error=samples.errors[samples.error[place]],
    )


def expected(
    grade: Mapping[str, Any],
    question: str,
    loaded: Mapping[Evaluation, Loaded | None],
    evaluation: Evaluation,
) -> str:
    """The right answer, or how many tests a program passed."""
    detail = grade.get("detail") or {}
    if "gold" in detail:
        return in_a_cell(str(detail["gold"]))
    if results := detail.get("results"):
        passed = sum(one is True for one in results)
        return f"{passed} passed" + ("" if results[-1] is True else ", then failed")
    if evaluation not in loaded:
        return ""
    there = loaded[evaluation]
    if there is None:
        return STILL
    asked = there.questions.get(question)
    return in_a_cell(asked.gold) if asked is not None else ""
