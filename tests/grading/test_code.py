"""Extraction, comparison and verdicts, against LiveCodeBench's own rules and recorded verdicts."""

import json
import os
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from harness.errors import DataError
from harness.grading.code import (
    CodeTest,
    CodeVerdict,
    Unjudgeable,
    extract_code,
    grade_program,
    judge_stdin,
    judge_value,
)
from harness.machine import Machine, SandboxSettings
from harness.sandboxes import Limits, Program, Sandbox, StdinMode, docker, in_ci, open_sandbox
from harness.sandboxes import guest as guest_module

WORKERS = 2

EXPLAINED = {
    "cheat_parent_frame": "no expected output in any frame",
    "cheat_patch_grader": "no grader in the process",
    "cheat_eq_object": "values cross as JSON",
    "cheat_parent_frame_func": "no expected output in any frame",
    "cheat_result_list": "no result list in the process",
}


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    trouble = docker.trouble()
    if trouble and not in_ci():
        pytest.skip(f"Docker cannot run here: {trouble}")
    opened = open_sandbox(Machine(sandbox=SandboxSettings(name="docker", workers=WORKERS)), print)
    yield opened
    opened.close()


def data(name: str) -> list[dict[str, Any]]:
    folder = os.environ.get("HARNESS_DATA")
    if not folder:
        pytest.skip("HARNESS_DATA is unset: the real programs are not part of the repository")
    with (Path(folder) / "lcb" / name).open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def graded(rows: list[dict[str, Any]], sandbox: Sandbox, stdin: StdinMode = "official") -> list[CodeVerdict]:
    def grade(row: dict[str, Any]) -> CodeVerdict:
        tests = [CodeTest(input=i, output=o) for i, o in zip(row["inputs"], row["outputs"], strict=True)]
        return grade_program(row["code"], tests, row["fn_name"], sandbox, Limits(), stdin=stdin)

    with ThreadPoolExecutor(WORKERS) as threads:
        return list(threads.map(grade, rows))


def unequal(rows: list[dict[str, Any]], verdicts: list[CodeVerdict], official: str) -> list[str]:
    """What differs from the official verdict, time limits (which depend on the machine) apart."""
    return [
        f"{row['id']}: {verdict}"
        for row, verdict in zip(rows, verdicts, strict=True)
        if (verdict.passed, verdict.error_code) != (row[official]["passed"], row[official]["error_code"])
        and -3 not in (verdict.error_code, row[official]["error_code"])
    ]


# ---- extraction


def test_last_of_several_blocks_is_taken() -> None:
    assert extract_code("```python\nfirst\n```\ntext\n```\nlast\n  line\n```\nend") == "last\n  line"


def test_fewer_than_two_fences_give_no_code() -> None:
    assert extract_code("print(1)") == extract_code("```python\nprint(1)") == extract_code("") == ""


def test_unclosed_last_block_takes_the_prose_before_it() -> None:
    assert extract_code("```\ncode\n```\nprose\n```python\nunfinished") == "prose"


def test_a_line_that_merely_holds_a_fence_counts() -> None:
    assert extract_code("```python\na = 1\n# see ``` here\nb = 2\n```") == "b = 2"


def test_lines_end_only_at_newlines() -> None:
    assert extract_code("```\na\u2028b\x0cc\r\n```") == "a\u2028b\x0cc\r"


def test_extraction_equals_the_recorded_one() -> None:
    rows = data("recorded_outputs.jsonl")
    text = next(name for name in ("output", "text", "raw_output", "response") if name in rows[0])
    assert [row["extracted_code"] for row in rows] == [extract_code(row[text]) for row in rows]


# ---- comparison


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("3", "3\n"),
        ("3.0", "3"),
        ("3e0", "3"),
        ("+3", "3"),
        ("03", "3"),
        ("0_3", "3"),
        ("３", "3"),
        ("-0", "0"),
        ("Infinity", "inf"),
        ("nan", "nan"),
        ("1  2\t3", "1 2 3"),
        ("\n\n 1 \n2  \n\n", "1\n2"),
        ("3\r\n4\r\n", "3\n4"),
        ("", "\n"),
    ],
)
def test_equal_outputs(output: str, expected: str) -> None:
    assert judge_stdin(output, expected)


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("3.0000001", "3"),
        ("Yes  No", "Yes No"),
        ("YES", "Yes"),
        ("NaN", "nan"),
        ("1 2", "1\n2"),
        ("1\n\n2", "1\n2"),
        ("1 2", "1 2 3"),
        ("1 2 a", "1 2 b"),
        ("1\x0c2", "1\n2"),
        ("sNaN 1", "sNaN  1"),
        ("", "0"),
        ("1e9999999999999999999999", "1"),
    ],
)
def test_unequal_outputs(output: str, expected: str) -> None:
    assert not judge_stdin(output, expected)


class Liar:
    """Equal to everything, as it says."""

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]


class LyingList(list[int]):
    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None


def crossed(value: object, expected: str) -> bool:
    """The judgement on a value that has crossed from the guest as typed JSON."""
    return judge_value(json.dumps(guest_module.typed(value)), expected)


def equal_values() -> list[tuple[object, str]]:
    import collections
    import decimal
    import fractions

    import numpy as np

    return [
        (3.0, "3"),
        (True, "1"),
        (None, "null"),
        (10**5000, "1" + "0" * 5000),
        (decimal.Decimal("0.5"), "0.5"),
        (fractions.Fraction(1, 2), "0.5"),
        (3 + 0j, "3"),
        (collections.Counter("aab"), '{"a": 2, "b": 1}'),
        (collections.OrderedDict(x=[1.5]), '{"x": [1.5]}'),
        (np.int64(3), "3"),
        (np.float32(0.1), "0.1"),
        ([np.float64(0.5), np.bool_(True)], "[0.5, 1]"),
        (np.array([3]), "3"),
        (float("inf"), "Infinity"),
        ("\ud800é", '"\\ud800é"'),
    ]


def unequal_values() -> list[tuple[object, str]]:
    return [
        (0.1 + 0.2, "0.3"),
        ([(1, 2)], "[[1, 2]]"),
        ({1, 2}, "[1, 2]"),
        ({1: 2}, '{"1": 2}'),
        ("3", "3"),
        (b"3", '"3"'),
        (range(3), "[0, 1, 2]"),
        (Liar(), "3"),
        ([Liar()], "[3]"),
        (LyingList([1]), "[2]"),
        (float("nan"), "NaN"),
        (iter([1]), "[1]"),
    ]


@pytest.mark.parametrize(("value", "expected"), equal_values(), ids=range(15))
def test_values_equal_to_json(value: object, expected: str) -> None:
    assert crossed(value, expected)


@pytest.mark.parametrize(("value", "expected"), unequal_values())
def test_values_not_equal_to_json(value: object, expected: str) -> None:
    assert not crossed(value, expected)


def test_array_of_several_elements_is_a_runtime_error_as_officially() -> None:
    import numpy as np

    with pytest.raises(Unjudgeable):
        crossed(np.array([1, 2]), "[1, 2]")


@pytest.mark.parametrize(
    "forged", ["[" * 100_000, "{", '{"dict": 3}', '{"int": "x"}', '{"numpy": ["O", [1], [1]]}', "{}"]
)
def test_forged_value_is_wrong_and_harmless(forged: str) -> None:
    assert not judge_value(forged, "3")


def test_broken_gold_is_an_error_and_not_a_verdict() -> None:
    with pytest.raises(DataError):
        judge_value("3", "not json")


# ---- verdicts


def test_official_codes(sandbox: Sandbox) -> None:
    def codes(code: str, function: str | None = None) -> tuple[list[bool | int], int | None]:
        given = "1" if function else "1\n"
        tests = [CodeTest(input=given, output="1"), CodeTest(input=given.replace("1", "2"), output="2")]
        verdict = grade_program(code, tests, function, sandbox, Limits(seconds=1))
        return verdict.results, verdict.error_code

    assert codes("print(input())") == ([True, True], None)
    assert codes("print(1)") == ([True, -2], -2)
    assert codes("n = input()\nwhile n == '2': pass\nprint(n)") == ([True, -3], -3)
    assert codes("print(1 / (2 - int(input())))") == ([True, -4], -4)
    assert codes("print(") == ([-4], -4)
    assert codes("import os\nos._exit(0)") == ([-2], -5)
    assert codes("def f(x): return x", "f") == ([True, True], None)
    assert codes("class Solution:\n    def f(self, x): return 1", "f") == ([True, False], -2)
    assert codes("def g(x): return x", "f") == ([-4], -4)


def test_out_of_memory_is_named(sandbox: Sandbox) -> None:
    verdict = grade_program("x = bytearray(10**15)", [CodeTest(input="", output="")], None, sandbox, Limits())
    assert verdict.out_of_memory
    assert verdict.error_code == -4


class Occasion:
    """A context that counts how often it was entered."""

    entered = 0

    def __enter__(self) -> None:
        self.entered += 1

    def __exit__(self, *_: object) -> None:
        return None


def test_time_limit_counts_only_when_seen_again_alone(sandbox: Sandbox) -> None:
    alone = Occasion()
    tests = [CodeTest(input="", output="")]
    limits = Limits(seconds=0.5)
    assert grade_program("while True: pass", tests, None, sandbox, limits, alone=alone).error_code == -3
    assert alone.entered == 1
    assert grade_program("print(1)", tests, None, sandbox, limits, alone=alone).error_code == -2
    assert alone.entered == 1


def test_older_stdin_is_a_choice(sandbox: Sandbox) -> None:
    code = "import sys\nprint(sum(int(line) for line in sys.stdin))"
    tests = [CodeTest(input="1\n2\n", output="3")]
    assert grade_program(code, tests, None, sandbox, Limits()).error_code == -4
    assert grade_program(code, tests, None, sandbox, Limits(), stdin="before-2025-05-23").passed


def test_lone_surrogates_and_separators_survive_the_way_out(sandbox: Sandbox) -> None:
    code = "print('\\ud800\\u2028\\x00é')"
    assert sandbox.run(Program(code=code), [""], Limits()).outcomes[0].output == "\ud800\u2028\x00é\n"


@pytest.mark.parametrize("official", ["official", "official_before_2025_05_23"])
def test_edge_programs_equal_official_and_cheats_fail(sandbox: Sandbox, official: str) -> None:
    slow = ("mem_2GB", "sleep_", "alarm_off", "infinite_loop_swallow", "huge_stdout")
    rows = [row for row in data("edge_programs.jsonl") if not row["id"].startswith(slow)]
    verdicts = graded(rows, sandbox, "official" if official == "official" else "before-2025-05-23")
    for row, verdict in zip(rows, verdicts, strict=True):
        assert not (row["id"].startswith("cheat_") and verdict.passed), row["id"]
    differing = unequal(rows, verdicts, official)
    assert [line for line in differing if line.partition(":")[0] not in EXPLAINED] == []


def test_real_programs_equal_official(sandbox: Sandbox) -> None:
    rows = [row for row in data("real_programs.jsonl") if not row.get("racy")]
    sample = random.Random(2025).sample(rows, 100)
    assert unequal(sample, graded(sample, sandbox), "official") == []


def test_complete_test_lists_equal_official(sandbox: Sandbox) -> None:
    rows = data("complete_tests_programs.jsonl")
    assert unequal(rows, graded(rows, sandbox), "official") == []
