"""Recorded programs with the official grader's verdicts, and how ours compare.

Shared by the tests and the acceptance programs. The rows are not part of the repository: they are
read from the folder that HARNESS_DATA names.
"""

import os
import random
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from harness.grading.code import TIME_LIMIT, CodeTest, CodeVerdict, grade_program
from harness.machine import Machine, SandboxSettings
from harness.sandboxes import Limits, Sandbox, StdinMode, open_sandbox

WORKERS = 2
STDIN_MODES: tuple[StdinMode, ...] = ("official", "before-2025-05-23")

CHEAT = "cheat_"
EDGE_REASONS = {
    "cheat_parent_frame": "no frame of the program's process holds an expected output",
    "cheat_patch_grader": "no grader is in the program's process",
    "cheat_eq_object": "the value crosses as typed JSON: an object of the program's own equals nothing",
    "cheat_parent_frame_func": "no frame of the program's process holds an expected output",
    "cheat_result_list": "no list of results is in the program's process, and leaving it is a wrong answer",
}
"""Edge programs whose verdict or error code must differ from the official one, and why."""

SLOW_EDGES = ("infinite_loop", "sleep_", "alarm_off", "catch_timeout", "busy_c_call", "mem_2GB", "huge_")
"""How the names of edge programs begin that take seconds: sampled tests leave them out."""

Difference = Literal["verdict", "error code", "results", "time limit"]


class Official(msgspec.Struct, frozen=True):
    """What the official grader said of a program: results are those of its tests, in order."""

    passed: bool
    results: list[bool | int]
    error_code: int | None


class Recorded(msgspec.Struct, frozen=True):
    """A program, its tests, and the verdicts of the official grader and of the one before 2025-05-23.

    `racy` programs start a thread and never join it: their official verdict varies.
    """

    id: str
    code: str
    inputs: list[str]
    outputs: list[str]
    official: Official
    official_before_2025_05_23: Official | None = None
    fn_name: str | None = None
    racy: bool = False

    def expected(self, stdin: StdinMode) -> Official:
        older = stdin == "before-2025-05-23" and self.official_before_2025_05_23
        return older or self.official

    @property
    def tests(self) -> list[CodeTest]:
        return [CodeTest(input=i, output=o) for i, o in zip(self.inputs, self.outputs, strict=True)]


@dataclass(frozen=True, kw_only=True)
class Compared:
    """One program's official verdict and ours, and the coarsest thing in which they differ."""

    program: Recorded
    official: Official
    ours: CodeVerdict

    @property
    def difference(self) -> Difference | None:
        """A time limit on either side is a difference of its own: it depends on the machine."""
        if self.codes[0] != self.codes[1] and TIME_LIMIT in self.codes:
            return "time limit"
        if self.ours.passed != self.official.passed:
            return "verdict"
        if self.codes[0] != self.codes[1]:
            return "error code"
        return None if self.ours.results == self.official.results else "results"

    @property
    def codes(self) -> tuple[int | None, int | None]:
        return self.official.error_code, self.ours.error_code

    def __str__(self) -> str:
        official = said(self.official.error_code, self.official.results)
        ours = said(self.ours.error_code, self.ours.results)
        message = f" ({self.ours.message[:100]!r})" if self.ours.message else ""
        return f"{self.program.id}: official {official}, ours {ours}{message}"


def said(code: int | None, results: list[bool | int]) -> str:
    """A verdict in words: `passed 5 tests`, `-2 after 4`."""
    return f"passed {len(results)} tests" if code is None else f"{code} after {len(results) - 1}"


def data_folder() -> Path | None:
    """The folder of real data, where HARNESS_DATA names one."""
    folder = os.environ.get("HARNESS_DATA")
    return Path(folder) / "lcb" if folder else None


def read_programs(file: Path) -> list[Recorded]:
    with file.open("rb") as lines:
        return [msgspec.json.decode(line, type=Recorded) for line in lines]


def sampled(programs: Sequence[Recorded], size: int, seed: int = 2025) -> list[Recorded]:
    """A fixed sample, in the file's order; all of them where `size` is 0 or as large."""
    if not 0 < size < len(programs):
        return list(programs)
    chosen = random.Random(seed).sample(range(len(programs)), size)
    return [programs[index] for index in sorted(chosen)]


def docker_sandbox(workers: int = WORKERS) -> Sandbox:
    return open_sandbox(Machine(sandbox=SandboxSettings(name="docker", workers=workers)), print)


def grade(program: Recorded, sandbox: Sandbox, stdin: StdinMode, limits: Limits) -> CodeVerdict:
    return grade_program(program.code, program.tests, program.fn_name, sandbox, limits, stdin=stdin)


def grade_all(
    programs: Iterable[Recorded],
    sandbox: Sandbox,
    stdin: StdinMode = "official",
    *,
    workers: int = WORKERS,
    limits: Limits | None = None,
) -> list[CodeVerdict]:
    """Verdicts in the order of the programs, `workers` at a time."""
    with ThreadPoolExecutor(workers) as threads:
        return list(threads.map(lambda row: grade(row, sandbox, stdin, limits or Limits()), programs))


def compare(programs: Sequence[Recorded], sandbox: Sandbox, stdin: StdinMode = "official") -> list[Compared]:
    """Every program graded and set beside its official verdict.

    Those that met the time limit here are graded again alone, and the second verdict counts.
    """
    verdicts = grade_all(programs, sandbox, stdin)
    late = [index for index, verdict in enumerate(verdicts) if verdict.timed_out]
    again = grade_all([programs[index] for index in late], sandbox, stdin, workers=1)
    settled = dict(zip(late, again, strict=True))
    return [
        Compared(program=program, official=program.expected(stdin), ours=settled.get(index, verdict))
        for index, (program, verdict) in enumerate(zip(programs, verdicts, strict=True))
    ]


def differing(compared: Iterable[Compared], *kinds: Difference) -> list[Compared]:
    return [row for row in compared if row.difference in kinds]


def codes_equal(compared: Sequence[Compared]) -> float:
    """The share of programs with the official error code (None for a pass)."""
    return sum(row.codes[0] == row.codes[1] for row in compared) / len(compared)


def kinds(compared: Iterable[Compared]) -> list[str]:
    """A line for each pair of codes that differ and what we said, the commonest first."""
    counts = Counter(
        f"official {row.codes[0]}, ours {row.codes[1]}: {row.ours.message.partition('(')[0][:60]}"
        for row in compared
        if row.codes[0] != row.codes[1]
    )
    return [f"  {count:4}  {kind}" for kind, count in counts.most_common()]


def listed(title: str, rows: Iterable[object]) -> list[str]:
    """A title with its count, and a line for each row."""
    lines = [f"  {row}" for row in rows]
    return [f"{title}: {len(lines)}", *lines]
