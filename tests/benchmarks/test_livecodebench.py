"""LiveCodeBench: windows, prompts, private tests, extraction and truncation."""

import base64
import json
import os
import pickle
import zlib
from pathlib import Path

import pytest

from benchmarks import livecodebench
from benchmarks.livecodebench import (
    DATASET,
    PARTIAL,
    REVISION,
    V5_166,
    V5_167,
    V5_279,
    V6_131,
    V6_175,
    V6_454,
    Window,
    between,
    ids_hash,
    inflated,
    lcb,
    lcb_all,
    lcb_prompt,
    lcb_v5,
    lcb_v6,
    pickled_string,
    private_tests,
    question,
    read_tests,
)
from harness.errors import DataError, SandboxError, UsageError
from harness.sandboxes import Execution, Limits, Outcome, Program
from harness.types import Question
from tests.benchmarks.offline import complaint
from tests.benchmarks.responses import response

needs_data = pytest.mark.skipif("HARNESS_DATA" not in os.environ, reason="HARNESS_DATA is not set")
TESTS = [{"input": "1\n", "output": "2\n", "testtype": "stdin"}]


def data() -> Path:
    return Path(os.environ["HARNESS_DATA"])


def row(**changed: str) -> dict[str, str]:
    return {
        "question_id": "abc1_a", "question_content": "Add one.", "contest_date": "2025-03-01T00:00:00",
        "starter_code": "", "difficulty": "easy", "platform": "atcoder", "question_title": "t",
        "contest_id": "abc1", "public_test_cases": json.dumps(TESTS), "private_test_cases": "[]",
        "metadata": "{}",
    } | changed  # fmt: skip


def packed(content: object) -> str:
    return base64.b64encode(zlib.compress(pickle.dumps(content))).decode()


class AddsOne:
    """A sandbox that answers as a right program would where the code says so, and counts its runs."""

    name = "adds-one"

    def __init__(self) -> None:
        self.runs: list[str] = []

    def run(self, program: Program, inputs: list[str], limits: Limits, accept=None) -> Execution:
        self.runs.append(program.code)
        right = "+ 1" in program.code
        outcomes = [Outcome(status="ok", output=f"{int(text) + right}\n") for text in inputs]
        for index, outcome in enumerate(outcomes):
            if accept is not None and not accept(index, outcome):
                return Execution(outcomes=tuple(outcomes[: index + 1]))
        return Execution(outcomes=tuple(outcomes))

    def close(self) -> None: ...


# Windows


@needs_data
@pytest.mark.parametrize(
    ("name", "window"),
    [
        ("v5_file_167", V5_167),
        ("release_v5_2410_2502_166", V5_166),
        ("release_v5_2408_2502_279", V5_279),
        ("v6_file_175", V6_175),
        ("release_v6_2502_2505_131", V6_131),
        ("release_v6_2408_2505_454", V6_454),
    ],
)
def test_window_holds_exactly_the_known_ids(name: str, window: Window):
    wanted = json.loads((data() / "lcb" / "windows.json").read_bytes())[name]
    index = json.loads((data() / "lcb" / "problem_index.json").read_bytes())
    found = [one["question_id"] for one in index if window.holds(one["question_id"], one["contest_date"])]
    assert sorted(found) == sorted(wanted)
    assert (len(wanted), ids_hash(wanted)) == (window.problems, window.ids)


@needs_data
@pytest.mark.parametrize(
    ("window", "count"),
    [
        (Window(start="2024-10-01", end="2025-02-01"), 216),
        (Window(start="2024-10-01", end="2025-01-31"), 210),
        (Window(last_file=5, start="2024-07-01", end="2024-12-31"), 315),
        (Window(start="2025-01-01", end="2025-05-01"), 182),
    ],
)
def test_any_dates_give_the_official_count(window: Window, count: int):
    index = json.loads((data() / "lcb" / "problem_index.json").read_bytes())
    assert sum(window.holds(one["question_id"], one["contest_date"]) for one in index) == count


@needs_data
@pytest.mark.parametrize(("benchmark", "count"), [(lcb_v5, 166), (lcb_v6, 131)])
def test_partial_rows_load_and_are_marked_as_no_score(benchmark, count: int):
    questions = benchmark.load(data())
    assert len(questions) == count
    assert all(one.data["partial"] for one in questions)
    assert all(read_tests(one.data["public"], one.data["private"]) for one in questions)


@needs_data
def test_window_that_the_partial_rows_do_not_cover_is_refused():
    with pytest.raises(DataError, match="169 problems of this window; 279"):
        livecodebench.lcb_v5_279.load(data())


def test_file_that_is_not_the_pinned_one_is_refused(tmp_path: Path):
    (tmp_path / "lcb").mkdir()
    (tmp_path / "lcb" / "test6.jsonl").write_text(json.dumps(row()) + "\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"test6\.jsonl is not the pinned file"):
        lcb("mine", Window(first_file=6)).load(tmp_path)


def test_missing_data_names_file_revision_and_place(tmp_path: Path):
    told = complaint("livecodebench", "lcb_v6", REVISION, tmp_path)
    for part in (DATASET, REVISION, "lcb/test", str(tmp_path)):
        assert part in told


# Prompts


def test_qwen_prompt_for_standard_input_to_the_byte():
    assert lcb_prompt("Add one.", "", "qwen") == (
        "You will be given a question (problem specification) and will generate a correct Python program "
        "that matches the specification and passes all tests.\n\nQuestion: Add one.\n\nRead the inputs from "
        "stdin solve the problem and write the answer to stdout (do not directly test on the sample inputs). "
        "Enclose your code within delimiters as follows. Ensure that when the python program runs, it reads "
        "the inputs, runs the algorithm and writes output to STDOUT.\n```python\n# YOUR CODE HERE\n```\n\n"
    )


def test_qwen_prompt_with_starter_code_to_the_byte():
    assert lcb_prompt("Add one.", "class Solution:\n    ", "qwen") == (
        "You will be given a question (problem specification) and will generate a correct Python program "
        "that matches the specification and passes all tests.\n\nQuestion: Add one.\n\nYou will use the "
        "following starter code to write the solution to the problem and enclose your code within "
        "delimiters.\n```python\nclass Solution:\n    \n```\n\n"
    )


def test_generic_prompt_to_the_byte():
    assert lcb_prompt("Add one.", "x", "generic") == (
        "You are an expert Python programmer. You will be given a question (problem specification) and will "
        "generate a correct Python program that matches the specification and passes all tests.\n\n"
        "### Question:\nAdd one.\n\n### Format: You will use the following starter code to write the "
        "solution to the problem and enclose your code within delimiters.\n```python\nx\n```\n\n"
        "### Answer: (use the provided format with backticks)\n\n"
    )


# Private tests


def test_private_tests_are_read_as_json_and_as_a_pickled_string():
    for encoded in (json.dumps(TESTS), packed(json.dumps(TESTS))):
        found = private_tests(encoded)
        assert [(one.input, one.output) for one in found] == [(one["input"], one["output"]) for one in TESTS]


@needs_data
def test_private_tests_of_a_row_as_published_are_read():
    published = json.loads((data() / "lcb" / "raw_row_1873_A.json").read_bytes())
    tests = private_tests(published["private_test_cases"])
    assert tests
    assert all(test.input and test.output for test in tests)


class Malicious:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


def test_malicious_pickle_is_refused_and_nothing_runs(tmp_path: Path):
    marker = tmp_path / "ran"
    with pytest.raises(ValueError, match=r"no pickled string|more than one"):
        private_tests(packed(Malicious(marker)))
    with pytest.raises(ValueError, match="refused pickle opcode"):
        pickled_string(pickle.dumps(Malicious(marker)))
    assert not marker.exists()


@pytest.mark.parametrize("content", [b"bytes", ["a"], {"a": "b"}, 3, None, ("a", "b"), "ab"])
def test_only_one_pickled_string_is_admitted(content: object):
    if isinstance(content, str):
        assert pickled_string(pickle.dumps(content)) == content
    else:
        with pytest.raises(ValueError, match=r"refused pickle opcode|no string"):
            pickled_string(pickle.dumps(content))


def test_decompression_bomb_is_refused():
    with pytest.raises(ValueError, match="larger than 1000"):
        inflated(zlib.compress(pickle.dumps("0" * 1_000_000)), limit=1000)
    with pytest.raises(ValueError, match="more than one"):
        inflated(zlib.compress(pickle.dumps("0" * 1000) + bytes(1_000_000)))


def test_cut_off_tests_are_refused():
    with pytest.raises(ValueError, match="cut off"):
        inflated(zlib.compress(pickle.dumps("0" * 1000))[:-4])


@pytest.mark.parametrize("garbage", ["", "!", "aGVsbG8=", packed("not json")])
def test_garbage_tests_are_refused(garbage: str):
    with pytest.raises(ValueError, match=r".*"):
        private_tests(garbage)


def test_broken_row_is_named_at_grading():
    one = question(row(private_test_cases="!"), "?")
    answer = "```python\nx\n```"
    with pytest.raises(DataError, match="abc1_a"):
        lcb_v6.grade(one, response("abc1_a", answer), AddsOne())


def test_row_without_a_column_is_named_at_loading():
    broken = row()
    del broken["metadata"]
    with pytest.raises(DataError, match=r"abc1_a.*metadata"):
        question(broken, "?")


# Grading


def program(body: str) -> str:
    return f"Here:\n```python\n{body}\n```"


def loaded(partial: bool = False) -> Question:
    return question(row(), "?", partial)


def test_code_is_taken_from_the_answer_and_graded():
    grade = lcb_v6.grade(
        loaded(), response("abc1_a", program("print(int(input()) + 1)"), text="x"), AddsOne()
    )
    assert grade.correct is True
    assert grade.extracted == "print(int(input()) + 1)"


def test_truncated_response_yields_no_code_but_keeps_the_lenient_verdict():
    text = program("print(int(input()) + 1)")
    grade = lcb_v6.grade(loaded(), response("abc1_a", text, finish="length"), AddsOne())
    assert (grade.correct, grade.extracted, grade.reason, grade.lenient) == (False, None, "truncated", True)


def test_code_in_the_thinking_part_alone_is_no_answer():
    grade = lcb_v6.grade(loaded(), response("abc1_a", "I give up.", text=program("+ 1")), AddsOne())
    assert (grade.correct, grade.reason, grade.lenient) == (False, "no answer", True)


def test_same_code_is_run_once_for_both_verdicts():
    sandbox, text = AddsOne(), program("print(1)")
    lcb_v6.grade(loaded(), response("abc1_a", text), sandbox)
    assert len(sandbox.runs) == 1


def test_partial_tests_are_told_with_every_grade():
    grade = lcb_v6.grade(loaded(partial=True), response("abc1_a", "nothing"), AddsOne())
    assert grade.detail["not_a_score"] == PARTIAL


@pytest.mark.parametrize(
    "changed", [{"question_id": "arc189_a"}, {"question_id": "3333", "question_title": "find-the-peaks"}]
)
def test_problem_with_an_erratum_is_flagged_and_kept_whether_told_by_id_or_title(changed: dict[str, str]):
    one = question(row(**changed), "prompt")
    assert lcb_v6.grade(one, response("abc1_a", "nothing"), AddsOne()).detail["erratum"] is True


def test_no_sandbox_is_an_error_and_not_a_wrong_answer():
    with pytest.raises(SandboxError):
        lcb_v6.grade(loaded(), response("abc1_a", program("1")), None)


def test_dates_are_compared_as_the_rows_write_them() -> None:
    found = between(lcb_all, "20250201", "2025-02-08 18:30")
    assert (found.window.start, found.window.end) == ("2025-02-01", "2025-02-08T18:30:00")
    assert between(lcb_all, "2025-02-01", "").name == "lcb_2025-02-01"


@pytest.mark.parametrize(
    ("start", "end", "said"),
    [("2025-03-01", "2025-02-01", "no contest lies between"), ("2025-02-01T00:00:00+02:00", "", "time zone")],
)
def test_dates_that_hold_nothing_are_refused(start: str, end: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        between(lcb_all, start, end)
