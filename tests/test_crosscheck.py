"""lighteval's verdicts beside ours: kinds of disagreement, the real metrics, our tasks' worker."""

import json
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gpqa import gpqa_diamond
from benchmarks.lighteval_tasks.worker import Desk
from benchmarks.micro import micro_code, micro_math, micro_science
from harness.crosscheck import Compared, compared, listed, summary
from harness.errors import UsageError
from harness.grading.choices import gold_letter
from harness.lighteval_judge import LinedProcess, Metric, Theirs, judge_for, verdict
from harness.machine import Machine, load_machine
from harness.sandboxes import in_ci
from harness.setup import environment_python
from harness.types import FinishReason, Generation, Grade, Question
from tests.benchmarks.responses import response

SUM = Question(id="q", domain="math", prompt="?", gold="33")


def beside(
    metric: Metric,
    ours: Grade,
    theirs: Theirs,
    answer: str,
    *,
    text: str | None = None,
    finish: FinishReason = "stop",
) -> Compared:
    return compared(metric, SUM, response("q", answer, text=text or answer, finish=finish), ours, theirs)


def graded(correct: bool | None, extracted: str | None, **detail: Any) -> Grade:
    return Grade(
        question="q", draw=0, correct=correct, extracted=extracted, truncated=False, detail={**detail}
    )


RIGHT, WRONG = Theirs(correct=True, extracted=("33",)), Theirs(correct=False)


@pytest.mark.parametrize(
    ("ours", "theirs", "answer", "kind"),
    [
        (graded(True, "33"), RIGHT, r"\boxed{33}", ""),
        (graded(False, None), RIGHT, "It is 33.", "number without box"),
        (graded(True, "33"), WRONG, r"\boxed{1} no, \boxed{33}", "several boxes"),
        (graded(True, "33."), WRONG, r"\boxed{33.}", "box read differently"),
        (graded(None, None), RIGHT, r"\boxed{33}", "ungraded here"),
        (graded(True, "33"), Theirs(correct=None, reason="died"), "33", "no verdict from lighteval"),
    ],
)
def test_integers_that_differ_carry_why(ours: Grade, theirs: Theirs, answer: str, kind: str) -> None:
    assert beside("integers", ours, theirs, answer).kind == kind


def test_box_that_only_the_reasoning_holds_is_named() -> None:
    found = beside("integers", graded(False, None), RIGHT, "Done.", text=r"<think>\boxed{33}</think>Done.")
    assert found.kind == "box only in the reasoning"


def test_truncated_answer_is_the_reason_whatever_else_differs() -> None:
    found = beside("integers", graded(False, None), RIGHT, "It is 33", finish="length")
    assert found.kind == "truncated"


def test_programs_tell_extraction_time_and_process_apart() -> None:
    same = Theirs(correct=False, extracted=("print(1)",), results=(-2,))
    late = Theirs(correct=False, extracted=("print(1)",), results=(-3,))
    other = Theirs(correct=False, extracted=("print(2)",), results=(-2,))
    ours = graded(True, "print(1)", results=[True])
    kinds = [beside("code", ours, theirs, "").kind for theirs in (same, late, other)]
    assert kinds == ["passes in our sandbox only", "time limit", "other code extracted"]
    assert beside("code", ours, other, "").their_extraction == "1: print(2)"


def test_list_holds_every_disagreement_with_both_extractions_and_nothing_else() -> None:
    rows = [
        beside("integers", graded(True, "33"), RIGHT, r"\boxed{33}"),
        beside("integers", graded(False, None), RIGHT, "It is 33."),
    ]
    (line,) = listed(rows)
    assert line == "  q draw 0: number without box. Ours wrong; lighteval right ('33')"
    assert list(summary(rows)) == [
        "agree on 1 of 2; right here 1, in lighteval 2",
        "       1 number without box",
    ]


@pytest.mark.parametrize(
    "line",
    [
        b'{"correct": true, "extracted": [], "results": ' + b"[" * 100_000 + b"]" * 100_000 + b"}\n",
        b'{"correct": true, "extracted": ["\xff"]}\n',
        b'{"correct": "yes", "extracted": []}\n',
        b"\n",
    ],
    ids=["nested", "not UTF-8", "other type", "empty"],
)
def test_reply_that_a_program_forged_is_no_verdict(line: bytes) -> None:
    with closing(LinedProcess(["true"])) as process:
        assert verdict(line, process).correct is None


# lighteval itself ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def machine() -> Machine:
    """A machine with lighteval's environment. Without one: a skip, in CI a failure."""
    found = load_machine(None)
    try:
        environment_python("lighteval", found)
    except UsageError as error:
        if in_ci():
            raise
        pytest.skip(str(error))
    return found


def theirs(
    metric: Metric, machine: Machine, question: Question, *generations: Generation, code: Any = None
) -> list[Theirs]:
    with judge_for(metric, machine, code or micro_code.tests) as judge:
        return [judge.judge(question, generation) for generation in generations]


def test_real_metric_of_aime_takes_a_number_without_a_box(machine: Machine) -> None:
    answers = (r"So \boxed{33}.", "So the answer is $33$.", r"So \boxed{34}.")
    found = theirs("integers", machine, SUM, *(response("q", answer) for answer in answers))
    assert [one.correct for one in found] == [True, True, False]
    assert "33" in found[0].extracted


def test_real_metric_of_gpqa_follows_the_kept_order(machine: Machine) -> None:
    question = micro_science.load(None)[0]
    order = [2, 0, 3, 1]
    answers = [f"Answer: {letter}" for letter in "ABCD"]
    found = theirs(
        "letters", machine, question, *(response("q", answer, kept={"order": order}) for answer in answers)
    )
    assert [one.correct for one in found] == [letter == gold_letter(order) for letter in "ABCD"]


def test_real_metric_of_programs_runs_confined_and_survives_a_hostile_one(
    machine: Machine, tmp_path: Path
) -> None:
    question = replace(
        micro_code.load(None)[0],
        data={
            "function": None,
            "public": json.dumps([{"input": "1\n", "output": "2", "testtype": "stdin"}]),
            "private": "[]",
        },
    )
    mark = tmp_path / "mark"
    tmp_path.chmod(0o777)
    programs = (
        "print(int(input()) + 1)",
        "print(int(input()))",
        f"import io\nio.open({str(mark)!r}, 'w').write('x')\nprint(2)",
        "import os, signal\nos.posix_kill = None\nimport posix\nposix.kill(posix.getppid(), 9)",
    )
    answers = [response("q", f"```python\n{program}\n```") for program in programs]
    found = theirs("code", machine, question, *answers)
    assert [one.correct for one in found[:3]] == [True, False, False]
    assert found[3].correct in (False, None)
    assert not mark.exists()


# Our tasks for lighteval --------------------------------------------------------------------


def test_desk_hands_out_draws_and_grades_as_we_do() -> None:
    desk = Desk(Machine())
    count = len(micro_science.load(None))
    first, again = (
        desk.answer({"do": "row", "benchmark": "micro_science", "draws": 2, "number": number})
        for number in (0, count)
    )
    assert (first["question"], first["draw"], again["draw"]) == (again["question"], 0, 1)
    assert desk.answer({"do": "row", "benchmark": "micro_science", "draws": 2, "number": 2 * count}) is None
    letter = gold_letter(again["kept"]["order"])
    request = {"do": "grade", "benchmark": "micro_science", **again, "text": f"Answer: {letter}"}
    assert desk.answer({**request, "finish_reason": "stop"})["correct"] is True
    assert desk.answer({**request, "finish_reason": "length"})["correct"] is False


def test_desk_answers_with_the_error_that_a_user_can_mend() -> None:
    told = Desk(Machine()).answer({"do": "row", "benchmark": "micro_maths", "draws": 1, "number": 0})
    assert "micro_math" in told["error"]


def test_desk_answers_any_error_for_lighteval_waits() -> None:
    assert "KeyError" in Desk(Machine()).answer({"do": "row"})["error"]


def test_time_out_in_lighteval_counts_only_once_seen_again_alone() -> None:
    desk, seen = Desk(Machine()), []

    class Slow(type(micro_math)):  # type: ignore[misc]
        def grade(self, question: Question, generation: Generation, sandbox: Any) -> Grade:
            seen.append(desk.permits._value)
            return graded(len(seen) > 1, "33", timed_out=len(seen) == 1)

        def timed_out(self, grade: Grade) -> bool:
            return bool(grade.detail["timed_out"])

    desk.benchmarks["slow"] = Slow(name="slow")
    name = next(iter(desk.questions("slow")))
    request = {"benchmark": "slow", "question": name, "draw": 0, "prompt": "?", "text": "x", "kept": {}}
    assert desk.grade({**request, "finish_reason": "stop"}).correct is True
    assert seen == [desk.workers - 1, 0]


def test_worker_speaks_lines_in_the_order_of_the_requests() -> None:
    prompts = [micro_math.render(question, 0)[0] for question in micro_math.load(None)[:5]]
    asked = [{"do": "row", "benchmark": "micro_math", "draws": 1, "number": number} for number in range(5)]
    lines = "".join(json.dumps(request) + "\n" for request in [*asked, {"do": "list"}])
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.lighteval_tasks.worker"],
        input=lines,
        capture_output=True,
        text=True,
        check=True,
    )
    *rows, told = map(json.loads, done.stdout.splitlines())
    assert [row["prompt"] for row in rows] == prompts
    assert gpqa_diamond.name in {one["name"] for one in told["benchmarks"]}
