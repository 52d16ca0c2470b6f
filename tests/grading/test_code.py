"""Extraction, comparison and verdicts; docs/code-grading.md and its test hold the tables."""

import json
import sys
from contextlib import closing

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
from harness.sandboxes import Limits, Program, Sandbox, open_sandbox
from harness.sandboxes import guest as guest_module
from tests.grading import programs

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
    folder = programs.data_folder()
    if folder is None:
        pytest.skip("HARNESS_DATA is unset: the recorded outputs are not part of the repository")
    with (folder / "recorded_outputs.jsonl").open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    assert [row["extracted_code"] for row in rows] == [extract_code(row["output"]) for row in rows]


# ---- comparison


@pytest.mark.parametrize(("output", "expected"), [("３", "3"), ("3\r\n4\r\n", "3\n4"), ("", "\n")])
def test_equal_outputs(output: str, expected: str) -> None:
    assert judge_stdin(output, expected)


@pytest.mark.parametrize(
    ("output", "expected"),
    [
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


def crossed(value: object, expected: str) -> bool:
    """The judgement on a value that has crossed from the guest as typed JSON."""
    return judge_value(json.dumps(guest_module.typed(value)), expected)


def test_integers_of_any_length_cross() -> None:
    assert crossed(10**5000, "1" + "0" * 5000)
    assert not crossed(10**5000 + 1, "1" + "0" * 5000)


def test_nesting_without_end_is_wrong_and_harmless() -> None:
    nested: list[object] = []
    nested.append(nested)
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(guest_module.RECURSION_LIMIT)
    try:
        assert not crossed(nested, "[[]]")
    finally:
        sys.setrecursionlimit(limit)


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


def verdict(sandbox: Sandbox, code: str, *tests: tuple[str, str], function: str | None = None) -> CodeVerdict:
    """The verdict under a limit of one second."""
    given = [CodeTest(input=text, output=expected) for text, expected in tests]
    return grade_program(code, given, function, sandbox, Limits(seconds=1))


def test_codes_of_a_method(sandbox: Sandbox) -> None:
    tests = (("1", "1"), ("2", "2"))

    def codes(code: str) -> tuple[list[bool | int], int | None]:
        said = verdict(sandbox, code, *tests, function="f")
        return said.results, said.error_code

    assert codes("def f(x): return x") == ([True, True], None)
    assert codes("class Solution:\n    def f(self, x): return 1") == ([True, False], -2)
    assert codes("def g(x): return x") == ([-4], -4)
    assert codes("def f(x): raise SystemExit") == ([-2], -5)


def test_a_program_without_tests_is_an_error_and_not_a_verdict(sandbox: Sandbox) -> None:
    with pytest.raises(DataError):
        verdict(sandbox, "print(1)")


def test_wrong_answer_before_a_crash_stays_a_wrong_answer(sandbox: Sandbox) -> None:
    code = "import os\nif input() == '2': os._exit(1)\nprint(7)"
    said = verdict(sandbox, code, ("1\n", "1"), ("2\n", "2"))
    assert (said.results, said.error_code) == ([-2], -2)


def test_kernel_kill_for_memory_is_named() -> None:
    machine = Machine(sandbox=SandboxSettings(name="docker", workers=1, memory_mb=256))
    with closing(open_sandbox(machine, print)) as small:
        code = (
            "kept = []\nwhile True:\n    try:\n        kept.append(b'x' * 10**6)\n    except Exception: pass"
        )
        said = grade_program(code, [CodeTest(input="", output="")], None, small, Limits())
    assert said.out_of_memory
    assert said.error_code == -4


def test_swallowed_time_limit_is_still_named(sandbox: Sandbox) -> None:
    code = "try:\n    while True: pass\nexcept Exception:\n    print(input())"
    said = verdict(sandbox, code, ("1\n", "1"))
    assert (said.error_code, said.timed_out) == (-2, True)


def test_time_limit_while_loading_is_named(sandbox: Sandbox) -> None:
    said = verdict(sandbox, "while True: pass\ndef f(x): return x", ("1", "1"), function="f")
    assert (said.error_code, said.timed_out) == (-4, True)


def test_limit_of_the_whole_program_is_named_a_time_limit_too(sandbox: Sandbox) -> None:
    code = "import signal\nsignal.setitimer(signal.ITIMER_REAL, 0)\nwhile True: pass"
    tests = [CodeTest(input="", output="")]
    said = grade_program(code, tests, None, sandbox, Limits(seconds=0.1))
    assert (said.error_code, said.timed_out) == (-5, True)


def test_a_failure_in_time_is_not_named_a_time_limit(sandbox: Sandbox) -> None:
    for code in ("print(2)", "1 / 0", "print(", "import os; os._exit(0)"):
        assert not verdict(sandbox, code, ("1\n", "1")).timed_out


def test_program_that_looks_at_its_globals_finds_the_header(sandbox: Sandbox) -> None:
    for code in ("'gcd' in globals(), 'List' in globals()", "eval('gcd') is gcd, '__name__' in vars(sys)"):
        assert verdict(sandbox, f"print({code})", ("", "True True")).passed


def test_header_names_are_bound_before_the_program_patches_builtins(sandbox: Sandbox) -> None:
    code = "import builtins\nbuiltins.print = builtins.sorted = None\nprint(*sorted([2, 1]))"
    assert verdict(sandbox, code, ("", "1 2")).passed


def test_function_that_only_the_header_has_is_found_as_officially(sandbox: Sandbox) -> None:
    assert verdict(sandbox, "", ("1\n2", "3"), function="add").passed


def test_future_import_comes_too_late_as_officially(sandbox: Sandbox) -> None:
    for function in (None, "f"):
        code = "from __future__ import annotations\ndef f(x): return x\nprint(1)"
        assert verdict(sandbox, code, ("1", "1"), function=function).error_code == -4


def test_string_that_cannot_be_written_back_fails_as_officially(sandbox: Sandbox) -> None:
    assert verdict(sandbox, "print(f\"{'\u3000'}\".strip(), 1)", ("", "1")).error_code == -4


def test_lone_surrogates_and_separators_survive_the_way_out(sandbox: Sandbox) -> None:
    code = "print('\\ud800\\u2028\\x00é')"
    assert sandbox.run(Program(code=code), [""], Limits()).outcomes[0].output == "\ud800\u2028\x00é\n"


def test_number_longer_than_python_writes_equals_nothing() -> None:
    digits = "9" * 60_000
    assert not judge_value(digits, "3")
    assert not judge_value(digits, digits)
    assert not judge_value(json.dumps({"int": "0x" + digits}), "3")
    assert not judge_value(json.dumps({"fraction": ["0x" + digits, "0x" + digits]}), "1")
    assert judge_value("9" * 40_000, "9" * 40_000)


def test_line_of_many_tokens_is_read_to_the_first_that_differs() -> None:
    assert not judge_stdin("1 " * 500_000, "2")
    assert not judge_stdin("2 " + "1 " * 500_000, "2")
    assert judge_stdin("1 " * 500_000, "1.0 " * 500_000)
