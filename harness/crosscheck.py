"""Our verdicts beside those of lighteval's own metrics, sample by sample, on stored generations.

Integers go to the metric of lighteval's `aime24`, letters to that of `gpqa:diamond`, programs to that
of `lcb:codegeneration`; harness/lighteval_judge.py has them as another process.

A verdict that lighteval gives and we do not is no proof of a fault on either side: it knows no token
limit (a truncated response may score), and takes a number from anywhere where no box is. So each
disagreement carries a kind.
"""

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import msgspec

from harness.errors import UsageError
from harness.evaluate import Mark, in_order
from harness.files import write_rows
from harness.grading.answers import boxes, last_box
from harness.grading.choices import LETTERS, strict_form
from harness.grading.code import TIME_LIMIT
from harness.lighteval_judge import Judge, Metric, Theirs, judge_for
from harness.rows import drop_torn_line, key_of, read_rows
from harness.setup import LIGHTEVAL
from harness.stage import Stage
from harness.store import Context
from harness.types import Generation, Grade, Question

METRICS: dict[str, Metric] = {"math": "integers", "science": "letters", "code": "code"}

Kind = Literal[
    "",
    "truncated",
    "box only in the reasoning",
    "number without box",
    "several boxes",
    "box read differently",
    "letter without its form",
    "several letters",
    "letter read differently",
    "code only in the reasoning",
    "other code extracted",
    "time limit",
    "passes in lighteval's process only",
    "passes in our sandbox only",
    "ungraded here",
    "no verdict from lighteval",
]

ROWS = "crosscheck.jsonl"
LONGEST_SHOWN = 300


@dataclass(frozen=True, kw_only=True)
class Compared:
    """Both verdicts on one response, and what each grader extracted. A line of crosscheck.jsonl.

    Of a program the extractions are the first line that differs, and empty where it is the same
    program; `detail` then holds both graders' results.
    """

    question: str
    draw: int
    ours: bool | None
    theirs: bool | None
    our_extraction: str | None
    their_extraction: str | None
    kind: Kind
    detail: dict[str, Any]

    @property
    def agrees(self) -> bool:
        return not self.kind


@dataclass(frozen=True, kw_only=True)
class Crosscheck(Stage):
    """lighteval's verdict on every answer of a Mark beside ours, in the order of question and draw.

    `lighteval` is the version whose metrics judge.
    """

    marked: Mark
    lighteval: str = LIGHTEVAL

    def run(self, out: Path, context: Context) -> None:
        benchmark = self.marked.asked.benchmark
        questions = {question.id: question for question in self.marked.asked.questions(context)}
        grades = {
            key_of(grade): grade for grade in read_rows(context.path(self.marked) / "grades.jsonl", Grade)
        }
        generations = context.path(self.marked.asked) / "generations.jsonl"
        metric = metric_of(questions)
        file = out / ROWS
        file.touch()
        drop_torn_line(file)
        done = {key_of(row) for row in read_rows(file, Compared)}
        todo = (
            (questions[row.question], row, grades[key_of(row)])
            for row in read_rows(generations, Generation)
            if key_of(row) not in done
        )
        with (
            judge_for(metric, context.machine, benchmark.tests) as judge,
            context.progress.counter("cross-checking", len(grades), done=len(done)) as counter,
            file.open("ab", buffering=0) as lines,
            closing(in_order(partial(judged, metric, judge), todo, judge.workers)) as rows,
        ):
            for row in rows:
                lines.write(msgspec.json.encode(row) + b"\n")
                counter.advance(failures=int(row.theirs is None))
        kept: list[Compared] = sorted(read_rows(file, Compared), key=key_of)
        write_rows(file, kept)


def metric_of(questions: dict[str, Question]) -> Metric:
    """Which of lighteval's metrics fits. Raises UsageError where none does."""
    domains = {question.domain for question in questions.values()}
    if len(domains) != 1 or not domains <= set(METRICS):
        raise UsageError(f"no metric of lighteval fits questions of the domains {sorted(domains)}")
    return METRICS[domains.pop()]


def judged(metric: Metric, judge: Judge, sample: tuple[Question, Generation, Grade]) -> Compared:
    """Both verdicts on a sample; where lighteval's process died or hung, that of another one."""
    question, generation, grade = sample
    theirs = judge.judge(question, generation)
    if theirs.correct is None:
        theirs = judge.judge(question, generation)
    return compared(metric, question, generation, grade, theirs)


# Comparing ----------------------------------------------------------------------------------


def compared(
    metric: Metric, question: Question, generation: Generation, grade: Grade, theirs: Theirs
) -> Compared:
    """Both verdicts on one response, side by side."""
    ours, extracted = grade.extracted, " | ".join(theirs.extracted) or None
    detail: dict[str, Any] = {"gold": question.gold} if metric == "integers" else {}
    if metric == "letters":
        detail["gold"] = grade.detail.get("gold")
    if metric == "code":
        ours, extracted = first_difference(ours or "", "".join(theirs.extracted))
        detail |= {"ours": grade.detail.get("results"), "theirs": list(theirs.results)}
    if theirs.reason:
        detail["lighteval"] = theirs.reason
    return Compared(
        question=question.id,
        draw=generation.draw,
        ours=grade.correct,
        theirs=theirs.correct,
        our_extraction=shortened(ours),
        their_extraction=shortened(extracted),
        kind=kind_of(metric, generation, grade, theirs),
        detail=detail,
    )


def kind_of(metric: Metric, generation: Generation, grade: Grade, theirs: Theirs) -> Kind:
    """Why two verdicts differ, as far as the response shows it; empty where they are equal."""
    if theirs.correct is None:
        return "no verdict from lighteval"
    if grade.correct is None:
        return "ungraded here"
    if grade.correct == theirs.correct:
        return ""
    if generation.truncated:
        return "truncated"
    match metric:
        case "integers":
            return kind_of_integer(generation, grade)
        case "letters":
            return kind_of_letter(generation, grade)
        case "code":
            return kind_of_program(grade, theirs)


def kind_of_integer(generation: Generation, grade: Grade) -> Kind:
    if grade.extracted is None:
        return "number without box" if last_box(generation.text) is None else "box only in the reasoning"
    return "several boxes" if len(list(islice(boxes(generation.answer), 2))) > 1 else "box read differently"


def kind_of_letter(generation: Generation, grade: Grade) -> Kind:
    if grade.extracted is None:
        return "letter without its form"
    given = {line or box for line, box in strict_form(LETTERS).findall(generation.answer)}
    return "several letters" if len(given) > 1 else "letter read differently"


def kind_of_program(grade: Grade, theirs: Theirs) -> Kind:
    program = "".join(theirs.extracted)
    if (grade.extracted or "") != program:
        return "other code extracted" if grade.extracted else "code only in the reasoning"
    if TIME_LIMIT in (*theirs.results, *grade.detail.get("results", [])):
        return "time limit"
    return "passes in lighteval's process only" if theirs.correct else "passes in our sandbox only"


def first_difference(ours: str, theirs: str) -> tuple[str, str]:
    """The first line that differs in two programs, with its number; empty where none does."""
    lines = itertools.zip_longest(ours.split("\n"), theirs.split("\n"), fillvalue="(no line)")
    for number, (left, right) in enumerate(lines, 1):
        if left != right:
            return f"{number}: {left}", f"{number}: {right}"
    return "", ""


def shortened(text: str | None) -> str | None:
    return text if text is None or len(text) <= LONGEST_SHOWN else f"{text[: LONGEST_SHOWN - 1]}…"


# Telling ------------------------------------------------------------------------------------


def listed(rows: Iterable[Compared]) -> Iterator[str]:
    """One line for each disagreement, with both extractions."""
    for row in rows:
        if not row.agrees:
            ours, theirs = shown(row.ours, row.our_extraction), shown(row.theirs, row.their_extraction)
            results = f" {row.detail['ours']} / {row.detail['theirs']}" if "theirs" in row.detail else ""
            yield f"  {row.question} draw {row.draw}: {row.kind}. Ours {ours}; lighteval {theirs}{results}"


def shown(correct: bool | None, extraction: str | None) -> str:
    verdict = {True: "right", False: "wrong", None: "no verdict"}[correct]
    return verdict if not extraction else f"{verdict} ({extraction!r})"


def counted(rows: Iterable[Compared]) -> dict[str, Any]:
    """For machines: the counts of `summary`, and every response on which the two disagree."""
    samples = list(rows)
    different = [each for each in samples if not each.agrees]
    return {
        "responses": len(samples),
        "agree": len(samples) - len(different),
        "right_here": sum(each.ours is True for each in samples),
        "right_in_lighteval": sum(each.theirs is True for each in samples),
        "kinds": dict(Counter(each.kind for each in different)),
        "disagreements": different,
    }


def summary(rows: Iterable[Compared]) -> Iterator[str]:
    """Agreement, both counts of right answers, and the disagreements by kind."""
    samples = list(rows)
    kinds = Counter(each.kind for each in samples if not each.agrees)
    yield (
        f"agree on {len(samples) - kinds.total()} of {len(samples)}; right here "
        f"{sum(each.ours is True for each in samples)}, in lighteval "
        f"{sum(each.theirs is True for each in samples)}"
    )
    yield from (f"  {count:6} {kind}" for kind, count in kinds.most_common())
