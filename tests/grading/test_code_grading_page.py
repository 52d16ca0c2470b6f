"""Every row of the tested tables of docs/code-grading.md, put to the sandbox."""

import ast
from pathlib import Path

import pytest

from harness.grading.code import CodeTest, CodeVerdict, grade_program, judge_stdin
from harness.sandboxes import Limits, Sandbox
from tests.grading import programs

PAGE = Path(__file__).parents[2] / "docs" / "code-grading.md"
IMPORTS = """
import numpy as np
from collections import Counter, OrderedDict
from decimal import Decimal
from fractions import Fraction
"""


def table(heading: str) -> list[tuple[str, ...]]:
    """The rows of a section's table, without the marks of code."""
    section = PAGE.read_text(encoding="utf-8").partition(f"## {heading}\n")[2].partition("\n## ")[0]
    assert "*Tested" in section
    lines = section.partition("*Tested")[2].split("\n\n")[1].splitlines()
    return [tuple(cell.strip().strip("`") for cell in line.split("|")[1:-1]) for line in lines[2:]]


def code(verdict: CodeVerdict) -> str:
    return "passes" if verdict.passed else str(verdict.error_code)


@pytest.mark.parametrize("row", table("Error codes"), ids=lambda row: row[0])
def test_error_codes(sandbox: Sandbox, row: tuple[str, ...]) -> None:
    program, expected, results, meaning = row
    tests = [CodeTest(input="1\n", output="1"), CodeTest(input="2\n", output="2")]
    verdict = grade_program(program, tests, None, sandbox, Limits(seconds=1))
    assert code(verdict).replace("passes", "none") == expected
    assert ", ".join(map(str, verdict.results)) == results
    assert verdict.out_of_memory == ("out of memory" in meaning)
    assert verdict.timed_out == ("time limit" in meaning)


@pytest.mark.parametrize("row", table("Two ways to read standard input"), ids=lambda row: row[0])
def test_stdin_semantics(sandbox: Sandbox, row: tuple[str, ...]) -> None:
    program, *expected = row
    tests = [CodeTest(input="2\n3\n4\n", output="9")]
    verdicts = [
        grade_program(f"import sys\n{program}", tests, None, sandbox, Limits(), stdin=stdin)
        for stdin in programs.STDIN_MODES
    ]
    assert [code(verdict) for verdict in verdicts] == expected


@pytest.mark.parametrize("row", table("What a program prints"))
def test_printed_text(row: tuple[str, ...]) -> None:
    printed, expected, equal = row
    ours, theirs = (ast.literal_eval(f'"{text}"') for text in (printed, expected))
    assert judge_stdin(ours, theirs) == (equal == "yes")


@pytest.mark.parametrize("row", table("What a function returns"), ids=lambda row: row[0])
def test_returned_values(sandbox: Sandbox, row: tuple[str, ...]) -> None:
    returned, expected, equal = row
    program = f"{IMPORTS}\ndef f(x):\n    return {returned}\n"
    verdict = grade_program(program, [CodeTest(input="0", output=expected)], "f", sandbox, Limits())
    assert code(verdict) == {"yes": "passes", "no": "-2", "error, -4": "-4"}[equal]
