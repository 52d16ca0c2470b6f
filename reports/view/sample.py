"""One sample: what was asked, what came, what was taken as the answer, and why it counts as it does."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from harness.errors import DataError
from harness.evaluate import conversation
from harness.rows import decode, key_of
from harness.types import Generation, Message
from reports.view.difference import Difference, difference
from reports.view.failing import Failing, Test, failing_of, test_of
from reports.view.found import Evaluation
from reports.view.index import FLIPS, NOWHERE, VERDICTS, Samples, at
from reports.view.listing import grade_at, sample_path
from reports.view.questions import Loaded
from reports.view.text import MOST_LINES, Shown, lines_of, whole_or_ends


@dataclass(frozen=True, kw_only=True)
class Response:
    """The stored row as a page shows it."""

    messages: Sequence[Message]
    thinking: Shown
    answer: Shown
    facts: Sequence[tuple[str, str]]


@dataclass(frozen=True, kw_only=True)
class Judged:
    """The verdict by both rules, what was extracted, and what was expected.

    `lines` is the program where the answer is one. `expected` is empty where nobody knows it here.
    """

    verdict: str
    lenient: str
    reason: str
    error: str
    extracted: str | None
    lines: Sequence[str]
    lines_left_out: int
    expected: str
    failing: Failing | None
    test: Test | None
    trouble: str
    detail: str


@dataclass(frozen=True, kw_only=True)
class Side:
    """A sample of one run. `response` is None where its row is not there yet, or no longer."""

    evaluation: Evaluation
    question: str
    draw: int
    response: Response | None
    judged: Judged
    row: Generation | None

    @property
    def path(self) -> str:
        return sample_path(self.evaluation, self.question, self.draw)


@dataclass(frozen=True, kw_only=True)
class Draw:
    """Another draw of the same question, in the strip to jump along."""

    path: str
    draw: int
    verdict: str
    other: str
    flip: str
    here: bool


def row_at(samples: Samples, place: int) -> Generation | None:
    """The stored row. Raises DataError where another one stands there now."""
    part, own = samples.part_of(place)
    start, end = int(part.start[own]), int(part.end[own])
    if start == NOWHERE:
        return None
    rows = part.evaluation.rows
    row = decode(msgspec.json.Decoder(Generation), at(rows, start, end), rows, own + 1)
    if key_of(row) != (samples.questions[samples.question[place]], int(samples.draw[place])):
        raise DataError(f"{rows} has changed while it was read", "Load the page again.")
    return row


def grade_of(samples: Samples, place: int) -> Mapping[str, Any]:
    part, own = samples.part_of(place)
    return grade_at(part.evaluation, int(part.grade_start[own]), int(part.grade_end[own]))


def side_of(samples: Samples, place: int, loaded: Loaded | None) -> Side:
    """One run's side of the page. `loaded` is None while the data set is still being read."""
    part, _ = samples.part_of(place)
    row, grade = row_at(samples, place), grade_of(samples, place)
    return Side(
        evaluation=part.evaluation,
        question=samples.questions[samples.question[place]],
        draw=int(samples.draw[place]),
        response=None if row is None else response_of(row, part.evaluation),
        judged=judged_of(samples, place, grade, loaded),
        row=row,
    )


def response_of(row: Generation, evaluation: Evaluation) -> Response:
    return Response(
        messages=conversation(row.prompt, evaluation.asked.get("system")),
        thinking=whole_or_ends(row.reasoning),
        answer=whole_or_ends(row.answer),
        facts=list(facts(row, evaluation)),
    )


def facts(row: Generation, evaluation: Evaluation) -> Iterator[tuple[str, str]]:
    yield "finish reason", row.finish_reason
    yield "tokens", f"{row.completion_tokens:,} sampled, {row.prompt_tokens:,} of prompt"
    sampling = msgspec.to_builtins(row.sampling)
    yield "sampling", ", ".join(f"{name} {value:g}" for name, value in sampling.items() if name != "draws")
    yield "request seed", str(row.seed)
    yield "settings shown to be honoured", ", ".join(row.honoured) or "none was tested"
    yield "latency", f"{row.latency:g} s"
    yield "model", row.model
    yield "engine", row.engine
    if row.request_id:
        yield "request id", row.request_id
    for name, value in row.kept.items():
        yield f"kept: {name}", json.dumps(value, ensure_ascii=False)
    for name, value in session(evaluation).items():
        yield f"server: {name}", str(value)


def session(evaluation: Evaluation) -> Mapping[str, Any]:
    """What the engine that wrote the rows said of itself; empty where it left nothing."""
    try:
        told: Mapping[str, Any] = json.loads(evaluation.engine_file.read_bytes())
    except (OSError, ValueError):
        return {}
    return told


def judged_of(samples: Samples, place: int, grade: Mapping[str, Any], loaded: Loaded | None) -> Judged:
    name, detail = samples.questions[samples.question[place]], grade.get("detail") or {}
    extracted, failing = grade.get("extracted"), failing_of(detail)
    asked = loaded.questions.get(name) if loaded is not None else None
    test = None
    if failing is not None and failing.number and asked is not None and loaded and loaded.benchmark:
        test = test_of(loaded.benchmark, asked, failing.number)
    program = extracted or "" if samples.part_of(place)[0].evaluation.runs_programs else ""
    return Judged(
        verdict=VERDICTS[samples.verdict[place]],
        lenient={1: "correct", 0: "wrong"}.get(int(samples.lenient[place]), "not known"),
        reason=str(grade.get("reason", "")),
        error=samples.errors[samples.error[place]],
        extracted=extracted,
        lines=lines_of(program) if program else (),
        lines_left_out=max(0, program.count("\n") + 1 - MOST_LINES),
        expected=str(detail["gold"]) if "gold" in detail else asked.gold if asked is not None else "",
        failing=failing,
        test=test,
        trouble=trouble_with(loaded, name),
        detail=json.dumps(detail, ensure_ascii=False, indent=1) if detail else "",
    )


def trouble_with(loaded: Loaded | None, question: str) -> str:
    """Why the question is not known here; empty where it is."""
    if loaded is None:
        return "still being read"
    if loaded.trouble:
        return loaded.trouble
    return "" if question in loaded.questions else "this version's data set has no such question"


def strip(samples: Samples, others: Samples | None, place: int) -> list[Draw]:
    """All draws of the question, by number."""
    same = (samples.evaluation == samples.evaluation[place]) & (samples.question == samples.question[place])
    places = np.flatnonzero(same)
    part, _ = samples.part_of(place)
    name = samples.questions[samples.question[place]]
    return [
        Draw(
            path=sample_path(part.evaluation, name, int(samples.draw[one])),
            draw=int(samples.draw[one]),
            verdict=VERDICTS[samples.verdict[one]],
            other=other_verdict(samples, others, one),
            flip=FLIPS[samples.flip[one]],
            here=one == place,
        )
        for one in places[np.argsort(samples.draw[places])].tolist()
    ]


def other_verdict(samples: Samples, others: Samples | None, place: int) -> str:
    theirs = int(samples.other[place])
    return VERDICTS[others.verdict[theirs]] if others is not None and theirs != NOWHERE else ""


def differences(left: Side, right: Side) -> list[tuple[str, Difference]]:
    """Thinking and answer of two samples, line by line; none where a row is missing."""
    if left.row is None or right.row is None:
        return []
    return [
        ("thinking", difference(left.row.reasoning, right.row.reasoning)),
        ("answer", difference(left.row.answer, right.row.answer)),
    ]
