"""LiveCodeBench: programs against tests, over windows of contest dates.

DASD §7.1, §7.3: "v5 contains problems collected from October 2024 to February 2025, and v6 … from
February 2025 to May 2025"; temperature 1.0, top-p 1.0, 64 responses a problem, at most 81,920 tokens.
Problem counts, prompt, grader version and time limit are unpublished. Best reading: v5 is the window
of 166 (or test5.jsonl, 167), v6 the one of 131. The windows differ by points: o1-mini has 49.4 on the
166, 47.9 on the 167, 52.0 on the 279.

Data: Hub `livecodebench/code_generation_lite` (test.jsonl to test6.jsonl, rows of strings), or
`lcb/partial_rows.jsonl` of a data folder: the same rows with only the publicly known tests. A result
on those is not an LCB score, and every grade says so.

Prompt: Qwen's for reasoning models (QwenLM/QwQ `eval/data/process_data.py`; lighteval sends the same),
or the official generic one (LiveCodeBench 28fef95 `prompts/code_generation.py`) as one user message.
Extraction is the official rule on the answer after `</think>`; a truncated response has no code. The
lenient verdict is the official behaviour: the rule on the whole text.
"""

import base64
import hashlib
import pickletools
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

import msgspec

from harness.benchmark import Benchmark, Variation, grading_setting
from harness.errors import DataError, SandboxError, UsageError
from harness.files import UNREADABLE
from harness.grading.code import CodeTest, CodeVerdict, extract_code, grade_program
from harness.hub import find_file, find_local, read_jsonl
from harness.sandboxes import Limits, Sandbox, StdinMode
from harness.types import Generation, Grade, Question, Sampling

DATASET = "livecodebench/code_generation_lite"
REVISION = "0fe84c3912ea0c4d4a78037083943e8f0c4dd505"
SAMPLING = Sampling(temperature=1.0, top_p=1.0, draws=64, max_tokens=81_920)

FILES = {
    1: ("test.jsonl", "2bd02b38beb48e8c46b5b9987095d999ff38cd8efc255ea5d58974317c48f63f"),
    2: ("test2.jsonl", "095df7c5daf15f882c51a9deb84085cff1e073495a5dbcf95015a564d485f3a3"),
    3: ("test3.jsonl", "28ed26cc83363ce3f1fe2d5fad9f8393077beb1907b167a31bd3b32f80801b79"),
    4: ("test4.jsonl", "d711138ddaebfcf5f8ec6a4283ee677298c0f5c5d374a235af92aaf0584510da"),
    5: ("test5.jsonl", "7f77571c2a6df0c2a72a3277650309f67e01e0008e18117e624633df53f81214"),
    6: ("test6.jsonl", "bb4c364f71921c4495a6ad15abe1a927350b720009f4933e2e71f8af0f6fd1f5"),
}
"""File number → name and SHA-256, at REVISION."""

LATE_IN_FILE_4 = frozenset((
    "abc373_a", "abc373_b", "abc373_c", "abc373_e", "abc373_f", "abc373_g",
    "3510", "3580", "3584", "3606", "3570", "3600", "3579", "3583",
))  # fmt: skip
"""Problems of test4.jsonl that are dated after test5.jsonl begins."""

LATE_IN_FILE_5 = frozenset(("3684", "3688", "3716", "3562", "3634", "3702", "3715"))
"""Problems of test5.jsonl that are dated after test6.jsonl begins."""

ERRATA = frozenset((
    "abc311_c", "abc326_d", "abc327_b", "abc333_e", "abc343_e", "abc362_c", "arc185_c", "abc343_a",
    "abc337_e", "abc355_e", "abc350_c", "arc189_a",
))  # fmt: skip
ERRATA_TITLES = frozenset((
    "find-words-containing-character", "find-the-peaks", "generate-binary-strings-without-adjacent-zeros",
    "apply-operations-to-make-string-empty", "most-frequent-ids",
))  # fmt: skip
"""Several right answers, interactive, or wrong tests (LiveCodeBench ERRATA.md, which names AtCoder's
problems by id and LeetCode's by title). Flagged, not dropped."""

OFFICIAL_SECONDS = 6.0
PARTIAL = "partial tests: not an LCB score"


# Windows ------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Window:
    """Problems by file and contest date: `start <= date <= end`, an end without a time at 00:00.

    That is how the official `--start_date/--end_date` filter. `problems` and `ids` (a hash of the
    sorted ids) are known for the usual windows and checked; 0 and "" for others.
    """

    first_file: int = 1
    last_file: int = 6
    start: str = ""
    end: str = ""
    problems: int = 0
    ids: str = ""

    def holds(self, question: str, date: str) -> bool:
        inside = self.start <= date and (not self.end or date <= full_date(self.end))
        return inside and self.first_file <= file_of(question, date) <= self.last_file

    def holds_question(self, question: Question) -> bool:
        return self.holds(question.id, question.data["date"])

    @property
    def files(self) -> list[int]:
        """The files to read. test.jsonl to test3.jsonl end in July 2024."""
        first = max(self.first_file, 4) if self.start >= "2024-08" else self.first_file
        return list(range(first, self.last_file + 1))

    @property
    def dates(self) -> str:
        """In words: `contest dates 2024-10-01 to 2025-02-01, files 1 to 5`."""
        span = f"{self.start or 'the first'} to {self.end or 'the last'}"
        return f"contest dates {span}, files {self.first_file} to {self.last_file}"

    def check(self, ids: list[str], where: str) -> None:
        """Raises DataError unless these are all the problems of the window."""
        if not ids:
            raise DataError(f"{where} has no problem of the window ({self.dates})", "Give other dates.")
        if len(ids) != len(set(ids)):
            raise DataError(f"{where}: a problem of this window occurs twice")
        if self.problems and len(ids) != self.problems:
            raise DataError(
                f"{where} has {len(ids)} problems of this window; {self.problems} are expected",
                "Take the complete data set at the pinned revision.",
            )
        if self.ids and ids_hash(ids) != self.ids:
            raise DataError(f"{where}: the count is right but the problems are not this window's")


def full_date(date: str) -> str:
    return date if "T" in date else f"{date}T00:00:00"


def ids_hash(ids: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(sorted(ids)).encode()).hexdigest()[:16]


def file_of(question: str, date: str) -> int:
    """The file that holds a problem: 5, 6, or 4 for test4.jsonl and all before it."""
    if date >= "2025-01-04" and question not in LATE_IN_FILE_5:
        return 6
    return 5 if date >= "2024-09-22" and question not in LATE_IN_FILE_4 else 4


EVERYTHING = Window(problems=1055, ids="0dbf7b95eca5e412")
V5_166 = Window(last_file=5, start="2024-10-01", end="2025-02-01", problems=166, ids="2aa9e3be08fc20ce")
V5_167 = Window(first_file=5, last_file=5, problems=167, ids="f96e8b73b8bce6cf")
V5_279 = Window(last_file=5, start="2024-08-01", end="2025-02-01", problems=279, ids="257bcd509a240e64")
V6_131 = Window(start="2025-02-01", end="2025-05-01", problems=131, ids="fac42de28db669ef")
V6_175 = Window(first_file=6, problems=175, ids="466f69464a4da2a9")
V6_454 = Window(start="2024-08-01", end="2025-05-01", problems=454, ids="94604fb005bbf5ca")

WINDOWS = {"v5": (V5_166, V5_167, V5_279), "v6": (V6_131, V6_175, V6_454)}
"""The readings of each version's name. V6_454 holds all of them."""


# Prompts ------------------------------------------------------------------------------------

PromptStyle = Literal["qwen", "generic"]

TASK = (
    "You will be given a question (problem specification) and will generate a correct Python program "
    "that matches the specification and passes all tests."
)
WITH_STARTER = (
    "You will use the following starter code to write the solution to the problem and enclose your code "
    "within delimiters."
)
WITHOUT_STARTER = (
    "Read the inputs from stdin solve the problem and write the answer to stdout (do not directly test on "
    "the sample inputs). Enclose your code within delimiters as follows. Ensure that when the python "
    "program runs, it reads the inputs, runs the algorithm and writes output to STDOUT."
)
PLACEHOLDER = "# YOUR CODE HERE"


def lcb_prompt(content: str, starter: str, style: PromptStyle) -> str:
    """The user message, byte for byte; trailing line breaks belong to it."""
    form = WITH_STARTER if starter else WITHOUT_STARTER
    block = f"```python\n{starter or PLACEHOLDER}\n```"
    match style:
        case "qwen":
            return f"{TASK}\n\nQuestion: {content}\n\n{form}\n{block}\n\n"
        case "generic":
            return (
                f"You are an expert Python programmer. {TASK}\n\n### Question:\n{content}\n\n"
                f"### Format: {form}\n{block}\n\n### Answer: (use the provided format with backticks)\n\n"
            )


# Tests --------------------------------------------------------------------------------------

LARGEST_TESTS = 1 << 30
LONGEST_HEAD = 32
"""Bytes of a pickled string before its text, and more than enough."""
STRING_OPCODES = {"SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"}
OTHER_OPCODES = {"PROTO", "FRAME", "MEMOIZE", "STOP"}


def pickled_string(pickled: bytes) -> str:
    """The string that a pickle of one string holds. Nothing is unpickled: opcodes are only read.

    Raises ValueError at any opcode but those of one string, so no object can be built.
    """
    strings: list[str] = []
    for opcode, argument, _ in pickletools.genops(pickled):
        if opcode.name in STRING_OPCODES and not strings:
            strings.append(str(argument))
        elif opcode.name not in OTHER_OPCODES:
            raise ValueError(f"refused pickle opcode {opcode.name}: one string is expected")
    if not strings:
        raise ValueError("the pickle holds no string")
    return strings[0]


def inflated(compressed: bytes, limit: int = LARGEST_TESTS) -> bytes:
    """zlib data of a pickled string of at most `limit` bytes. Raises ValueError for anything else.

    No more is inflated than the head claims, so that a bomb of zeros costs nothing.
    """
    stream = zlib.decompressobj()
    head = stream.decompress(compressed, LONGEST_HEAD)
    size = claimed_size(head)
    if size > limit:
        raise ValueError(f"the tests are larger than {limit} bytes")
    content = head + stream.decompress(stream.unconsumed_tail, size + LONGEST_HEAD)
    if stream.unconsumed_tail or not stream.eof:
        raise ValueError("the tests are cut off, or more than one pickled string")
    return content


def claimed_size(head: bytes) -> int:
    """The bytes of text that the beginning of a pickled string announces. Raises ValueError for others."""
    place = 2 if head[:1] == b"\x80" else 0
    if head[place : place + 1] == b"\x95":
        place += 9
    for code, form in ((b"\x8c", "<B"), (b"X", "<I"), (b"\x8d", "<Q")):
        if head[place : place + 1] == code and len(head) >= place + 1 + struct.calcsize(form):
            return int(struct.unpack_from(form, head, place + 1)[0])
    raise ValueError("the tests are no pickled string")


class TestRow(msgspec.Struct, frozen=True):
    """One test as it is written in a row. Reading straight into it, no bomb of empty lists is built."""

    input: str
    output: str


def test_rows(text: str) -> list[TestRow]:
    """Raises ValueError where the text is not a JSON list of tests."""
    try:
        return msgspec.json.decode(text, type=list[TestRow])
    except (msgspec.DecodeError, RecursionError) as error:
        raise ValueError(str(error)) from error


def private_tests(encoded: str) -> list[TestRow]:
    """The private tests of a row: JSON, or base64 of zlib of a pickle of one JSON string.

    Raises ValueError where it is neither.
    """
    if encoded.lstrip().startswith("["):
        return test_rows(encoded)
    try:
        return test_rows(pickled_string(inflated(base64.b64decode(encoded, validate=True))))
    except (zlib.error, IndexError, KeyError) as error:
        raise ValueError(str(error)) from error


@lru_cache(maxsize=16)
def read_tests(public: str, private: str) -> list[CodeTest]:
    """Every test, public ones first. Raises ValueError for a broken row."""
    tests = test_rows(public) + private_tests(private)
    return [CodeTest(input=test.input, output=test.output) for test in tests]


# Questions ----------------------------------------------------------------------------------

COLUMNS = (
    "question_id", "question_content", "contest_date", "starter_code", "difficulty", "platform",
    "public_test_cases", "private_test_cases", "metadata",
)  # fmt: skip


class Metadata(msgspec.Struct):
    """Of a problem: the method that is called, none where the program reads stdin."""

    func_name: str | None = None


def question(row: Mapping[str, str], prompt: str, partial: bool = False) -> Question:
    """A question from a row of the original schema. Raises DataError that names the row.

    Tests stay encoded: decoded, the private tests of one problem can take hundreds of megabytes.
    """
    name = row.get("question_id", "")
    if absent := [column for column in COLUMNS if not isinstance(row.get(column), str)]:
        raise DataError(f"LiveCodeBench row {name!r}: no text in column {absent[0]!r}")
    try:
        function = msgspec.json.decode(row["metadata"], type=Metadata).func_name
        msgspec.json.decode(row["public_test_cases"])
    except (ValueError, *UNREADABLE) as error:
        raise DataError(f"LiveCodeBench row {name!r}: {error}") from error
    return Question(
        id=name,
        domain="code",
        prompt=prompt,
        data={
            "function": function,
            "public": row["public_test_cases"],
            "private": row["private_test_cases"],
            "date": row["contest_date"],
            "platform": row["platform"],
            "difficulty": row["difficulty"],
            "partial": partial,
            "erratum": name in ERRATA or row.get("question_title") in ERRATA_TITLES,
        },
    )


def lcb_rows(dataset: str, revision: str, window: Window, data: Path | None) -> tuple[list[Path], bool]:
    """The files to read, and whether they hold only the publicly known tests."""
    wanted = {FILES[number][0]: FILES[number][1] for number in window.files}
    local = {name: find_local(dataset, revision, [name], data, [f"lcb/{name}"]) for name in wanted}
    known_tests = data / "lcb" / "partial_rows.jsonl" if data else None
    if not all(local.values()) and known_tests and known_tests.is_file():
        return [known_tests], True
    paths = [find_file(dataset, revision, [name], data, [f"lcb/{name}"]).path for name in wanted]
    for path, expected in zip(paths, wanted.values(), strict=True):
        check_file(path, expected if revision == REVISION else "")
    return paths, False


def check_file(path: Path, expected: str) -> None:
    """Raises DataError where the file's SHA-256 is not the pinned one."""
    if not expected:
        return
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != expected:
        raise DataError(
            f"{path} is not the pinned file: its SHA-256 is {found}, not {expected}",
            f"Download it again from {DATASET} at {REVISION}.",
        )


# Grading ------------------------------------------------------------------------------------


def grade_code(
    question: Question,
    generation: Generation,
    sandbox: Sandbox | None,
    limits: Limits,
    stdin: StdinMode = "official",
) -> Grade:
    """The verdict on one response: strict on the answer, lenient on the whole text.

    Raises SandboxError where the sandbox failed, DataError where the tests cannot be read.
    """
    if sandbox is None:
        raise SandboxError("programs are graded in a sandbox, and none was opened")
    code = "" if generation.truncated else extract_code(generation.answer)
    lax = extract_code(generation.text)
    strict = verdict(question, code, sandbox, limits, stdin)
    lenient = strict if lax == code else verdict(question, lax, sandbox, limits, stdin)
    reason = "truncated" if generation.truncated else "" if code else "no answer"
    return Grade(
        question=question.id,
        draw=generation.draw,
        correct=strict is not None and strict.passed,
        extracted=code or None,
        truncated=generation.truncated,
        reason=reason,
        lenient=lenient is not None and lenient.passed,
        detail=detail(question, strict, lenient),
    )


def verdict(
    question: Question, code: str, sandbox: Sandbox, limits: Limits, stdin: StdinMode
) -> CodeVerdict | None:
    """What the tests say of a program; None where there is no code."""
    if not code:
        return None
    tests, function = tests_of(question)
    return grade_program(code, tests, function, sandbox, limits, stdin=stdin)


def tests_of(question: Question) -> tuple[list[CodeTest], str | None]:
    """Every test, public ones first, and the function to call. Raises DataError for a broken row."""
    try:
        tests = read_tests(question.data["public"], question.data["private"])
    except ValueError as error:
        raise DataError(f"LiveCodeBench row {question.id!r}: the tests cannot be read ({error})") from error
    return tests, question.data["function"]


def detail(question: Question, strict: CodeVerdict | None, lenient: CodeVerdict | None) -> dict[str, Any]:
    """Results and error codes, and what a reader of the score must know about this problem."""
    told: dict[str, Any] = {}
    if strict is not None:
        told["results"] = strict.results
        told["error_code"] = strict.error_code
        told["message"] = strict.message
        told["out_of_memory"] = strict.out_of_memory
    if lenient is not None:
        told["lenient_error_code"] = lenient.error_code
    if any(found is not None and found.timed_out for found in (strict, lenient)):
        told["timed_out"] = True
    if question.data.get("partial"):
        told["not_a_score"] = PARTIAL
    if question.data.get("erratum"):
        told["erratum"] = True
    return told


def ran_out_of_time(grade: Grade) -> bool:
    """Whether a program that failed, the strict or the lenient one, met a time limit on the way."""
    return bool(grade.detail.get("timed_out"))


@dataclass(frozen=True, kw_only=True)
class LiveCodeBench(Benchmark):
    """One window of problems.

    `seconds` is the limit of each test: 6 officially, 30 as Qwen used. `stdin` chooses the grader:
    28fef95, or as it was before 2025-05-23.
    """

    grader: ClassVar[int] = 2
    needs_sandbox: ClassVar[bool] = True
    voted: ClassVar[bool] = False

    window: Window
    prompt: PromptStyle = "qwen"
    seconds: float = grading_setting(OFFICIAL_SECONDS)
    stdin: StdinMode = grading_setting("official")

    def load(self, data: Path | None) -> list[Question]:
        paths, partial = lcb_rows(self.dataset, self.revision, self.window, data)
        questions = [
            question(row, lcb_prompt(row["question_content"], row["starter_code"], self.prompt), partial)
            for path in paths
            for row in read_jsonl(path)
            if self.window.holds(row["question_id"], row["contest_date"])
        ]
        self.window.check([row.id for row in questions], ", ".join(path.name for path in paths))
        return questions

    def grade(self, question: Question, generation: Generation, sandbox: Sandbox | None) -> Grade:
        return grade_code(question, generation, sandbox, Limits(seconds=self.seconds), self.stdin)

    def tests(self, question: Question) -> tuple[list[CodeTest], str | None]:
        return tests_of(question)

    def timed_out(self, grade: Grade) -> bool:
        return ran_out_of_time(grade)

    def protocol(self) -> dict[str, str]:
        return {
            **super().protocol(),
            "window": self.window.dates,
            "prompt": self.prompt,
            "grader": f"28fef95, standard input {self.stdin}",
            "time limit": f"{self.seconds:g} s a test",
        }

    def variations(self) -> tuple[Variation, ...]:
        return (
            *super().variations(),
            *other_graders(self),
            *(
                Variation(
                    ambiguity=f"lcb-{version}-window",
                    name=f"window of {other.problems}",
                    holds=other.holds_question,
                    of=other.problems,
                )
                for version, windows in WINDOWS.items()
                for other in windows
                if self.window in windows and other != self.window
            ),
        )


class GradesCode(Protocol):
    """A benchmark with the two settings of the grader of programs."""

    @property
    def seconds(self) -> float: ...

    @property
    def stdin(self) -> StdinMode: ...


def other_graders(benchmark: GradesCode) -> Iterator[Variation]:
    """The other way to mock standard input, and the other usual time limit."""
    stdin: StdinMode = "before-2025-05-23" if benchmark.stdin == "official" else "official"
    seconds = 30.0 if benchmark.seconds == OFFICIAL_SECONDS else OFFICIAL_SECONDS
    for ambiguity, name, other in (
        ("lcb-grader", f"standard input {stdin}", {"stdin": stdin}),
        ("lcb-time-limit", f"{seconds:g} s a test", {"seconds": seconds}),
    ):
        changed: Any = replace(benchmark, **other)  # type: ignore[type-var]
        yield Variation(ambiguity=ambiguity, name=name, benchmark=changed)


def lcb(name: str, window: Window) -> LiveCodeBench:
    """LiveCodeBench over any window, such as `lcb("mine", Window(start="2024-11-01", end="2025-01-01"))`."""
    return LiveCodeBench(name=name, window=window, dataset=DATASET, revision=REVISION, sampling=SAMPLING)


def between(benchmark: LiveCodeBench, start: str, end: str) -> LiveCodeBench:
    """The problems of all files with contest dates from `start` to `end`, as the official options filter.

    Either may be empty. Raises UsageError where one is not a date, or the end lies before the start.
    """
    start, end = (as_written_in_rows(date) if date else "" for date in (start, end))
    if end and full_date(start) > full_date(end):
        raise UsageError(f"no contest lies between {start} and {end}", "The start comes first.")
    name = "_".join(filter(None, ("lcb", start, end)))
    return replace(benchmark, name=name, window=Window(start=start, end=end))


def as_written_in_rows(date: str) -> str:
    """A date as `2025-02-01`, or `2025-02-01T18:30:00` where it has a time: dates are compared as text."""
    try:
        read = datetime.fromisoformat(date)
    except ValueError as error:
        raise UsageError(f"{date!r} is not a date", "Give it as 2025-02-01.") from error
    if read.tzinfo is not None:
        raise UsageError(f"{date!r} has a time zone, contest dates have none", "Give it as 2025-02-01.")
    return read.isoformat().removesuffix("T00:00:00")


lcb_all = lcb("lcb", EVERYTHING)
lcb_v5 = lcb("lcb_v5", V5_166)
lcb_v5_167 = lcb("lcb_v5_167", V5_167)
lcb_v5_279 = lcb("lcb_v5_279", V5_279)
lcb_v6 = lcb("lcb_v6", V6_131)
lcb_v6_175 = lcb("lcb_v6_175", V6_175)
lcb_v6_454 = lcb("lcb_v6_454", V6_454)
