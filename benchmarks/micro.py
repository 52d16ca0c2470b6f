"""The micro benchmarks: procedural questions through the loaders and graders of the real ones.

Sums stand for AIME, the periodic table for GPQA, list programs for LiveCodeBench. Rows have the real
schemas; only prompts differ, short enough for a model of a few hundred thousand parameters. Questions
come from the test split of `benchmarks.micro_questions`; training questions, from the other split,
are worded the same way.
"""

from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, Literal

from benchmarks import aime, gpqa, livecodebench
from benchmarks.micro_questions import (
    Row,
    Split,
    choice_prompt,
    choice_row,
    choices,
    program_prompt,
    program_row,
    programs,
    sum_prompt,
    sum_row,
    sums,
)
from harness.benchmark import Benchmark, Variation, grading_setting
from harness.errors import UsageError
from harness.grading.answers import grade_answer
from harness.grading.choices import grade_choice
from harness.grading.code import CodeTest
from harness.sandboxes import Limits, Sandbox, StdinMode
from harness.types import Generation, Grade, Question, Sampling

Domain = Literal["math", "science", "code"]

SAMPLING = Sampling(temperature=1.0, top_p=1.0, draws=4, max_tokens=160)


def micro_rows(domain: Domain, split: Split, count: int, seed: int) -> list[Row]:
    """The first `count` rows of a domain's split, in the schema of the real benchmark."""
    match domain:
        case "math":
            return [sum_row(drawn) for drawn in islice(sums(split, seed), count)]
        case "science":
            return [choice_row(drawn) for drawn in islice(choices(split, seed), count)]
        case "code":
            return [program_row(drawn) for drawn in islice(programs(split, seed), count)]
    raise UsageError(f"unknown domain {domain!r}", "Known are math, science and code.")


def micro_question(domain: Domain, row: Row) -> Question:
    """A row read by the real loader, then worded for a micro model."""
    match domain:
        case "math":
            return replace(aime.question(row, "sum"), prompt=sum_prompt(row["problem"]))
        case "science":
            return gpqa.question(row)
        case "code":
            return livecodebench.question(row, program_prompt(row["question_content"]))


def science_prompt(question: Question, order: list[int]) -> str:
    return choice_prompt(question.prompt, gpqa.ordered_options(question, order))


def training_questions(domain: Domain, count: int, seed: int) -> list[Question]:
    """Questions of the training split, worded as in the benchmarks.

    A science question has one option order, keyed by its id and kept in `data["order"]`.
    """
    questions = [micro_question(domain, row) for row in micro_rows(domain, "train", count, seed)]
    return [in_one_order(question, seed) for question in questions] if domain == "science" else questions


def in_one_order(question: Question, seed: int) -> Question:
    order = gpqa.option_order(seed, question.id, 0)
    data = {**question.data, "order": order}
    return replace(question, prompt=science_prompt(question, order), data=data)


@dataclass(frozen=True, kw_only=True)
class Micro(Benchmark):
    """`count` questions of one domain's test split, drawn from `seed`."""

    grader: ClassVar[int] = 2

    dataset: str = "benchmarks.micro_questions"
    revision: str = "generated"
    sampling: Sampling = SAMPLING
    domain: Domain
    count: int = 40
    seed: int = 0

    def load(self, data: Path | None) -> list[Question]:
        rows = micro_rows(self.domain, "test", self.count, self.seed)
        return [micro_question(self.domain, row) for row in rows]


@dataclass(frozen=True, kw_only=True)
class MicroMath(Micro):
    """Sums with an integer answer in a box, graded as AIME is."""

    domain: Domain = "math"

    def grade(self, question: Question, generation: Generation, sandbox: Sandbox | None) -> Grade:
        return grade_answer(question, generation)


@dataclass(frozen=True, kw_only=True)
class MicroScience(Micro):
    """Four elements, one right, in an order of its own for each draw, graded as GPQA is."""

    domain: Domain = "science"

    def render(self, question: Question, draw: int) -> tuple[str, dict[str, Any]]:
        order = gpqa.option_order(self.sampling.seed, question.id, draw)
        return science_prompt(question, order), {"order": order}

    def grade(self, question: Question, generation: Generation, sandbox: Sandbox | None) -> Grade:
        return grade_choice(question, generation)


@dataclass(frozen=True, kw_only=True)
class MicroCode(Micro):
    """Small programs from stdin to stdout with hidden tests, graded as LiveCodeBench is."""

    needs_sandbox: ClassVar[bool] = True
    voted: ClassVar[bool] = False

    domain: Domain = "code"
    seconds: float = grading_setting(livecodebench.OFFICIAL_SECONDS)
    stdin: StdinMode = grading_setting("official")

    def grade(self, question: Question, generation: Generation, sandbox: Sandbox | None) -> Grade:
        return livecodebench.grade_code(
            question, generation, sandbox, Limits(seconds=self.seconds), self.stdin
        )

    def variations(self) -> tuple[Variation, ...]:
        return (*super().variations(), *livecodebench.other_graders(self))

    def tests(self, question: Question) -> tuple[list[CodeTest], str | None]:
        return livecodebench.tests_of(question)

    def timed_out(self, grade: Grade) -> bool:
        return livecodebench.ran_out_of_time(grade)


micro_math = MicroMath(name="micro_math")
micro_science = MicroScience(name="micro_science")
micro_code = MicroCode(name="micro_code")
