"""Extracts, runs and judges code as LiveCodeBench does (28fef95, lcb_runner).

The sandbox says what a program printed or returned; the comparison with what was expected happens
here, outside. So nothing that a program does to its own process can make it right.
"""

import json
import math
import re
from dataclasses import dataclass
from decimal import Decimal, DecimalException
from fractions import Fraction
from itertools import zip_longest
from typing import Any

import numpy as np

from harness.errors import DataError
from harness.sandboxes import Execution, Limits, Outcome, Program, Sandbox, Status, StdinMode

LONGEST_NUMBER = 50_000
"""Characters of a number that is judged: Python's limit on digits in the sandbox, as officially."""

MOST_PARTS = 1_000_000
"""A returned value of more parts than this, and than the expected one can have, is not read: 60 MB of
empty lists take gigabytes. What takes one character there takes at most four parts as typed JSON."""

MALFORMED = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError, SyntaxError)
"""What reading a value raises that no guest wrote, but the program itself."""

WRONG_ANSWER = -2
TIME_LIMIT = -3
RUNTIME_ERROR = -4
RUNNER_ERROR = -5

CODES: dict[Status, int] = {
    "time_limit": TIME_LIMIT,
    "runtime_error": RUNTIME_ERROR,
    "load_error": RUNTIME_ERROR,
    "out_of_memory": RUNTIME_ERROR,
    "output_limit": WRONG_ANSWER,
    "crash": RUNNER_ERROR,
}


@dataclass(frozen=True, kw_only=True)
class CodeTest:
    """One test: stdin and stdout, or one JSON value a line for each argument and the JSON result."""

    input: str
    output: str


@dataclass(frozen=True, kw_only=True)
class CodeVerdict:
    """The verdict on one program.

    `results` holds True for each test passed, then the official code of the first that failed (False
    for a wrong return value); a crash leaves only [-2], as officially. `error_code` is None where
    the program passed. `out_of_memory` names what has no official code and counts as −4. `timed_out`:
    it failed and met a time limit on the way, whatever code came of that; on a busy machine such a
    verdict counts only once it was reached again with nothing else running.
    """

    passed: bool
    results: list[bool | int]
    error_code: int | None = None
    message: str = ""
    out_of_memory: bool = False
    timed_out: bool = False


class Unjudgeable(Exception):
    """Comparing the value raises an error; officially that is a runtime error (−4)."""


def extract_code(text: str) -> str:
    """The lines between the last two lines that hold ```; empty where there are fewer than two.

    Source: LiveCodeBench 28fef95, lcb_runner/utils/extraction_utils.py.
    """
    lines = text.split("\n")
    fences = [number for number, line in enumerate(lines) if "```" in line]
    return "\n".join(lines[fences[-2] + 1 : fences[-1]]) if len(fences) >= 2 else ""


def judge_stdin(output: str, expected: str) -> bool:
    """Whether the output equals what was expected, line by line.

    Both are stripped and must have as many lines; a line is equal as stripped text, or where all
    its tokens are decimals of equal value. No tolerance. Source: LiveCodeBench 28fef95,
    lcb_runner/evaluation/testing_util.py, grade_stdio.
    """
    ours, theirs = output.strip(), expected.strip()
    if ours.count("\n") != theirs.count("\n"):
        return False
    return all(map(same_line, ours.split("\n"), theirs.split("\n")))


TOKEN = re.compile(r"\S+")


def same_line(ours: str, theirs: str) -> bool:
    """Token by token, so that a line of 64 MB is never held as decimals."""
    ours, theirs = ours.strip(), theirs.strip()
    if ours == theirs:
        return True
    try:
        return all(
            a is not None and b is not None and Decimal(a[0]) == Decimal(b[0])
            for a, b in zip_longest(TOKEN.finditer(ours), TOKEN.finditer(theirs))
        )
    except (DecimalException, ValueError):
        return False


def judge_value(output: str, expected: str) -> bool:
    """Whether a returned value, as the guest's typed JSON, `==` the expected JSON value.

    Raises Unjudgeable where that comparison raises (numpy arrays of several elements), DataError
    where `expected` is not JSON.
    """
    try:
        wanted = json.loads(expected, parse_int=exact_int)
    except ValueError as error:
        raise DataError(
            f"an expected output is not JSON: {expected[:80]!r}", "check the benchmark's rows"
        ) from error
    if parts(output) > max(MOST_PARTS, 4 * len(expected)):
        return False
    try:
        value = decoded(json.loads(output, parse_int=exact_int))
    except MALFORMED:
        return False
    try:
        return bool(value == wanted)
    except (ValueError, TypeError, ArithmeticError, RecursionError) as error:
        raise Unjudgeable(str(error)) from error


def parts(output: str) -> int:
    """How many values JSON text holds, or more: enough to know what it takes to read it."""
    return output.count("[") + output.count("{") + output.count(",")


def exact_int(digits: str) -> object:
    """An integer; one of more digits than Python writes in the sandbox is none, and equals nothing.

    int() itself refuses more than 4,300 digits, and takes time by their square.
    """
    if len(digits) > LONGEST_NUMBER:
        return object()
    return int(digits) if len(digits) < 4000 else int(Decimal(digits))


def decoded(value: Any) -> Any:
    """The value that guest.typed wrote. What can equal no JSON value becomes an object of its own."""
    if isinstance(value, list):
        return [decoded(item) for item in value]
    if not isinstance(value, dict):
        return value
    ((kind, held),) = value.items()
    if any(isinstance(part, str) and len(part) > LONGEST_NUMBER for part in (held, *held)):
        return object()
    match kind:
        case "dict":
            return {decoded(key): decoded(item) for key, item in held}
        case "int":
            return int(held, 16)
        case "float":
            return float(held)
        case "decimal":
            return Decimal(held)
        case "fraction":
            return Fraction(int(held[0], 16), int(held[1], 16))
        case "complex":
            return complex(float(held[0]), float(held[1]))
        case "numpy":
            return numpy_value(*held)
    return object()


def numpy_value(kind: str, shape: list[int], items: list[Any]) -> Any:
    """A numpy scalar (no shape) or array of numbers."""
    if np.dtype(kind).kind not in "biuf" or math.prod(shape) != len(items):
        return object()
    array = np.array(decoded(items), dtype=kind).reshape(shape)
    return array if shape else array[()]


def grade_program(
    code: str,
    tests: list[CodeTest],
    function: str | None,
    sandbox: Sandbox,
    limits: Limits,
    *,
    stdin: StdinMode = "official",
) -> CodeVerdict:
    """The official verdict on a program, tests in order up to the first that fails.

    Raises SandboxError where the sandbox failed, DataError where a test is broken.
    """
    if not tests:
        raise DataError("a program cannot be graded without tests", "check the benchmark's rows")
    program = Program(code=code, function=function, stdin=stdin)
    last: list[bool | int] = [True]

    def accept(index: int, outcome: Outcome) -> bool:
        last[0] = judged(program, outcome, tests[index])
        return last[0] is True

    execution = sandbox.run(program, [test.input for test in tests], limits, accept)
    return verdict_of(execution, last[0])


def judged(program: Program, outcome: Outcome, test: CodeTest) -> bool | int:
    """True, or the official code of an answer that is wrong."""
    if program.function is None:
        return judge_stdin(outcome.output, test.output) or WRONG_ANSWER
    try:
        return judge_value(outcome.output, test.output)
    except Unjudgeable:
        return RUNTIME_ERROR


def verdict_of(execution: Execution, judgement: bool | int) -> CodeVerdict:
    """The verdict, where `judgement` is that of the last ok outcome."""
    last = execution.outcomes[-1]
    before: list[bool | int] = [True] * (len(execution.outcomes) - 1)
    timed_out = any(outcome.alarmed for outcome in execution.outcomes)
    if last.status != "ok":
        code = CODES[last.status]
        whole = last.status in ("crash", "load_error")
        return CodeVerdict(
            passed=False,
            results=[WRONG_ANSWER if code == RUNNER_ERROR else code] if whole else [*before, code],
            error_code=code,
            message=f"{last.status.replace('_', ' ')}: {last.message}",
            out_of_memory=last.status == "out_of_memory",
            timed_out=timed_out,
        )
    if judgement is True:
        return CodeVerdict(passed=True, results=[*before, True])
    code = WRONG_ANSWER if judgement is False else int(judgement)
    return CodeVerdict(
        passed=False,
        results=[*before, judgement],
        error_code=code,
        message="wrong answer" if code == WRONG_ANSWER else "comparing the value failed",
        timed_out=timed_out,
    )
