"""The test that a program failed: which one the grade says, what it was from the data set."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.benchmark import Benchmark
from harness.errors import DataError
from harness.types import Question
from reports.view.text import Shown, whole_or_ends

LONGEST_TEST = 20_000


@dataclass(frozen=True, kw_only=True)
class Failing:
    """`number` counts from 1; None where the whole program failed. `passed` counts the tests before it.

    What the program printed is not kept with its verdict.
    """

    number: int | None
    passed: int
    message: str


@dataclass(frozen=True, kw_only=True)
class Test:
    """One test of `of`, its texts cut to what a page shows. `function`: what is called; None for stdin."""

    input: Shown
    expected: Shown
    function: str | None
    of: int


def failing_of(detail: Mapping[str, Any]) -> Failing | None:
    """What a grade's detail says of the first failure; None for a program that passed, or for no program.

    After a crash, or where a program never got to its tests, one result stands for all of them.
    """
    results, message = detail.get("results"), str(detail.get("message", ""))
    if not results or results[-1] is True:
        return None
    whole = message.startswith(("crash", "load error"))
    return Failing(
        number=None if whole else len(results), passed=0 if whole else len(results) - 1, message=message
    )


def test_of(benchmark: Benchmark, question: Question, number: int) -> Test | None:
    """The test with a number; None where the data set has fewer, or none that can be read."""
    try:
        tests, function = benchmark.tests(question)
    except (DataError, NotImplementedError):
        return None
    if number > len(tests):
        return None
    found = tests[number - 1]
    return Test(
        input=whole_or_ends(found.input, LONGEST_TEST),
        expected=whole_or_ends(found.output, LONGEST_TEST),
        function=function,
        of=len(tests),
    )
