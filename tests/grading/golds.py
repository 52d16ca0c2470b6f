"""The right response to every question of every benchmark, and the same response cut off.

AIME and LiveCodeBench are read from a folder of real data, GPQA from made-up rows in its schema, the
micro benchmarks from themselves. LiveCodeBench publishes tests and no programs: the right response to
a problem is a recorded program that the official grader passed.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import benchmarks
from benchmarks import livecodebench, micro
from benchmarks.aime import Aime
from benchmarks.gpqa import Gpqa, ordered_options
from benchmarks.livecodebench import LiveCodeBench
from benchmarks.micro_questions import Program
from benchmarks.micro_questions import programs as micro_programs
from harness.benchmark import Benchmark
from harness.discover import discover
from harness.errors import DataError
from harness.grading.choices import LETTERS
from harness.sandboxes import Sandbox
from harness.types import Generation, Grade, Question
from tests.benchmarks.gpqa_rows import made_up_rows, write
from tests.benchmarks.responses import response
from tests.grading.programs import Recorded

OPTION_ORDERS = 4

WRONG_TESTS = {
    "3607": "the recovered test [7, 25] → 1 is wrong: an array in order needs 0 operations. The input was "
    "noted after a program had changed it in place; it is [25, 7]",
}
"""Problems of the folder of real data with a wrong test, which is not LiveCodeBench's; the recorded
program is graded on its own tests instead."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """A question and an answer that must grade as correct."""

    benchmark: Benchmark
    question: Question
    answer: str
    kept: dict[str, Any]

    def generation(self) -> Generation:
        text = f"<think>Some thought.</think>{self.answer}"
        return response(self.question.id, self.answer, text=text, kept=self.kept)

    def graded(self, sandbox: Sandbox) -> Grade:
        """The verdict on the answer; a second one, alone, where the first met a time limit."""
        grade = self.benchmark.grade(self.question, self.generation(), sandbox)
        if self.benchmark.timed_out(grade):
            return self.benchmark.grade(self.question, self.generation(), sandbox)
        return grade

    def cut_off(self, sandbox: Sandbox) -> Grade:
        """The verdict on the same answer where the response ended at its token limit."""
        return self.benchmark.grade(
            self.question, replace(self.generation(), finish_reason="length"), sandbox
        )


def all_benchmarks() -> dict[str, Benchmark]:
    return discover(benchmarks, Benchmark)


def cases(benchmark: Benchmark, data: Path, temporary: Path, known: Sequence[Recorded]) -> Iterator[Case]:
    """The right answers to a benchmark's questions. Raises NotImplementedError for an unknown kind."""
    match benchmark:
        case Aime():
            yield from boxed(benchmark, benchmark.load(data))
        case micro.MicroMath():
            yield from boxed(benchmark, benchmark.load(None))
        case Gpqa():
            yield from lettered(benchmark, benchmark.load(write(temporary, made_up_rows())))
        case micro.MicroScience():
            yield from lettered(benchmark, benchmark.load(None))
        case micro.MicroCode():
            yield from micro_code(benchmark)
        case LiveCodeBench():
            yield from recorded(benchmark, data, known)
        case _:
            raise NotImplementedError(f"no right answers are known for {benchmark.name}")


def boxed(benchmark: Benchmark, questions: Sequence[Question]) -> Iterator[Case]:
    """The integer, plain and padded as some copies have it."""
    for one in questions:
        for written in dict.fromkeys((one.gold, f"{int(one.gold):03}")):
            yield Case(benchmark=benchmark, question=one, answer=f"So it is $\\boxed{{{written}}}$.", kept={})


def lettered(benchmark: Benchmark, questions: Sequence[Question]) -> Iterator[Case]:
    """The letter beside the right option in several orders, in each of the strict forms."""
    forms = ("Answer: {}", "\\boxed{{{}}}", '{{"answer": "{}"}}', "**Answer:** ({})")
    for one in questions:
        for draw in range(OPTION_ORDERS):
            _, kept = benchmark.render(one, draw)
            letter = LETTERS[ordered_options(one, kept["order"]).index(one.gold)]
            yield Case(benchmark=benchmark, question=one, answer=forms[draw].format(letter), kept=kept)


def micro_code(benchmark: micro.MicroCode) -> Iterator[Case]:
    drawn = islice(micro_programs("test", benchmark.seed), benchmark.count)
    for one, program in zip(benchmark.load(None), drawn, strict=True):
        yield Case(benchmark=benchmark, question=one, answer=fenced(reference(program)), kept={})


def reference(program: Program) -> str:
    """A program that does what a micro question asks."""
    kept = f"b = [{program.change.python} for x in a if {program.keep.python}]"
    return f"a = [int(x) for x in input().split()]\n{kept}\nprint({program.result.python})"


def fenced(code: str) -> str:
    return f"```python\n{code}\n```"


def right_programs(rows: Sequence[Recorded]) -> dict[str, Recorded]:
    """For each problem the first program that the official grader passed."""
    found: dict[str, Recorded] = {}
    for row in rows:
        if row.official.passed and not row.racy:
            found.setdefault(problem_of(row), row)
    return found


def problem_of(row: Recorded) -> str:
    """Row ids are `MODEL|PROBLEM|NUMBER`."""
    return row.id.split("|")[1]


def recorded(benchmark: LiveCodeBench, data: Path, known: Sequence[Recorded]) -> Iterator[Case]:
    """Right programs for the problems of a window; problems as loaded, or with the program's own tests."""
    loaded: dict[str, Question] = {}
    with suppress(DataError):
        loaded = {one.id: one for one in benchmark.load(data)}
    dates = {row["question_id"]: row for row in problem_rows(data)}
    for name, program in right_programs(known).items():
        row = dates.get(name)
        if row is not None and benchmark.window.holds(name, row["contest_date"]):
            tested = loaded.get(name) if name not in WRONG_TESTS else None
            one = tested or livecodebench.question(with_tests(row, program), "?", partial=True)
            yield Case(benchmark=benchmark, question=one, answer=fenced(program.code), kept={})


def problem_rows(data: Path) -> list[dict[str, str]]:
    index: list[dict[str, str]] = json.loads((data / "lcb" / "problem_index.json").read_bytes())
    return index


def with_tests(row: dict[str, str], program: Recorded) -> dict[str, str]:
    """A row of LiveCodeBench's schema whose tests are those of a recorded program."""
    kind = "functional" if program.fn_name else "stdin"
    tests = [
        {"input": given, "output": expected, "testtype": kind}
        for given, expected in zip(program.inputs, program.outputs, strict=True)
    ]
    return {
        "question_id": row["question_id"],
        "question_content": "",
        "contest_date": row["contest_date"],
        "starter_code": "",
        "difficulty": row["difficulty"],
        "platform": row["platform"],
        "public_test_cases": json.dumps(tests),
        "private_test_cases": "[]",
        "metadata": json.dumps({"func_name": program.fn_name} if program.fn_name else {}),
    }
