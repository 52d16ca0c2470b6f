"""How fast programs are graded in the Docker sandbox, beside a floor that grades nothing.

    HARNESS_DATA=… python -m tests.performance.code_grading [--sample N] [--repeats N]

The floor (floor.py) runs in the same image, with the same Python, under the same container limits and
on the same two cores. It executes exactly the tests that the official verdict was reached on, so it
stops where a grader stops although it judges nothing: a program that fails its third test runs three
tests in it, which the floor is told and a grader must find out. Its programs come to it already
wrapped as the grader wraps them. Both run whole passes over all programs, turn by turn, so that noise
hits both alike; the time that grading time-outs again alone would take is measured apart.
"""

import json
import os
import time
from argparse import ArgumentParser
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from harness.grading.code import TIME_LIMIT, CodeVerdict
from harness.machine import Machine, SandboxSettings
from harness.sandboxes import Limits, Sandbox
from harness.sandboxes.docker import Attached, DockerSandbox
from harness.sandboxes.guest import HEADER, STAR, WARM, unguarded, wrapped
from tests.grading.programs import WORKERS, Official, Recorded, grade_all

FLOOR = Path(__file__).with_name("floor.py")
PATIENCE = 600.0
SUM_ON_STDIN = """\
a, b = map(int, input().split())
print(a + b + {number})
"""
SUM_AS_METHOD = """\
class Solution:
    def add(self, a: int, b: int) -> int:
        return a + b + {number}
"""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Seconds of every pass over `programs`, and the verdicts of the last.

    `moved` are the places of verdicts that differ from the recorded ones by this machine's speed alone:
    with half or twice the time limit the verdict is the recorded one.
    """

    name: str
    programs: list[Recorded]
    floor: list[float]
    grading: list[float]
    again_alone: float
    verdicts: list[CodeVerdict]
    moved: frozenset[int]

    @property
    def ratio(self) -> float:
        """The speed of grading as a share of the floor's."""
        return sum(self.floor) / sum(self.grading)

    @property
    def unequal(self) -> list[str]:
        return [
            self.told(place) for place in differing(self.programs, self.verdicts) if place not in self.moved
        ]

    @property
    def by_speed(self) -> list[str]:
        return [self.told(place) for place in sorted(self.moved)]

    def told(self, place: int) -> str:
        program = self.programs[place]
        return f"{program.id}: official {program.official}, ours {self.verdicts[place]}"

    def rate(self, seconds: Sequence[float]) -> float:
        """Programs a second."""
        return len(self.programs) * len(seconds) / sum(seconds)

    def __str__(self) -> str:
        return (
            f"{self.name:34} {len(self.programs):4} programs   floor {self.rate(self.floor):6.1f}/s"
            f"   grading {self.rate(self.grading):6.1f}/s   {self.ratio:6.1%}"
            f"   time-outs again alone {self.again_alone:5.1f} s   unequal verdicts {len(self.unequal)}"
            f" (by this machine's speed {len(self.moved)})"
        )


def same(program: Recorded, verdict: CodeVerdict) -> bool:
    """Whether a verdict is the recorded one, results and error code included."""
    official = program.official
    ours = (verdict.passed, verdict.error_code, verdict.results)
    return ours == (official.passed, official.error_code, official.results)


def differing(programs: list[Recorded], verdicts: list[CodeVerdict]) -> list[int]:
    """The places of the verdicts that are not the recorded ones."""
    pairs = zip(programs, verdicts, strict=True)
    return [place for place, (program, verdict) in enumerate(pairs) if not same(program, verdict)]


def only_speed(program: Recorded, verdict: CodeVerdict, sandbox: Sandbox) -> bool:
    """Whether a time limit met on one side only is all that differs: half or twice the limit mends it."""
    if TIME_LIMIT not in (program.official.error_code, verdict.error_code):
        return False
    others = Limits(seconds=Limits().seconds / 2), Limits(seconds=2 * Limits().seconds)
    return any(same(program, grade_all([program], sandbox, limits=limits)[0]) for limits in others)


class PinnedSandbox(DockerSandbox):
    """The Docker sandbox on given cores."""

    def __init__(self, cores: str) -> None:
        self.cores = cores
        super().__init__(Machine(sandbox=SandboxSettings(name="docker", workers=WORKERS)), print)

    def options(self) -> dict[str, Any]:
        return {**super().options(), "cpuset_cpus": self.cores}


class Floor:
    """The floor's container, holding the programs. Leave it to end it."""

    def __init__(self, sandbox: PinnedSandbox, programs: list[Recorded]) -> None:
        options = sandbox.options()
        python = options["entrypoint"][:-1]
        options |= {"entrypoint": [*python, FLOOR.read_text(encoding="utf-8")], "command": []}
        self.channel = Attached(sandbox.client, sandbox.client.containers.create(**options))
        self.count = len(programs)
        task = {
            "programs": [bare(program) for program in programs],
            "header": HEADER,
            "warm": [*STAR, *WARM],
            "workers": WORKERS,
            "seconds": Limits().seconds,
        }
        self.say(task, "ready")

    def say(self, message: object, answer: str) -> None:
        """Sends a line and waits for the answer."""
        self.channel.send(json.dumps(message).encode() + b"\n")
        told = self.channel.receive(len(answer) + 1, PATIENCE)
        if told != f"{answer}\n".encode():
            raise RuntimeError(f"the floor answered {told!r}")

    def run(self) -> None:
        self.say(list(range(self.count)), "done")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.channel.close()


def bare(program: Recorded) -> dict[str, Any]:
    """What the floor needs of a program: ready source, and the tests that the official grader ran."""
    source = program.code if program.fn_name else wrapped(*unguarded(program.code))[0]
    return {
        "source": source,
        "function": program.fn_name or "wrapped_function",
        "returns": program.fn_name is not None,
        "inputs": program.inputs[: len(program.official.results)],
    }


def seconds_of(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def measure(name: str, programs: list[Recorded], sandbox: PinnedSandbox, repeats: int) -> Measured:
    """Passes of floor and grader in turns (floor first, then grader first, and so on)."""
    floor_seconds: list[float] = []
    grading_seconds: list[float] = []
    verdicts: list[CodeVerdict] = []

    def grade() -> None:
        verdicts[:] = grade_all(programs, sandbox)

    grade_all(programs[: 2 * WORKERS], sandbox)
    with Floor(sandbox, programs) as floor:
        for repeat in range(repeats):
            turns = [(floor.run, floor_seconds), (grade, grading_seconds)]
            for work, seconds in turns if repeat % 2 == 0 else reversed(turns):
                seconds.append(seconds_of(work))
    late = [program for program, verdict in zip(programs, verdicts, strict=True) if verdict.timed_out]
    return Measured(
        name=name,
        programs=programs,
        floor=floor_seconds,
        grading=grading_seconds,
        again_alone=seconds_of(lambda: grade_all(late, sandbox, workers=1)) if late else 0.0,
        verdicts=verdicts,
        moved=frozenset(
            place
            for place in differing(programs, verdicts)
            if only_speed(programs[place], verdicts[place], sandbox)
        ),
    )


def one_test_programs(count: int) -> list[Recorded]:
    """Short right programs with one test, all different: half on stdin, half a method."""
    passed = Official(passed=True, results=[True], error_code=None)
    return [
        Recorded(
            id=f"sum-{number}",
            code=(SUM_ON_STDIN if number % 2 else SUM_AS_METHOD).format(number=number),
            inputs=["1 2\n" if number % 2 else "1\n2"],
            outputs=[str(3 + number)],
            official=passed,
            fn_name=None if number % 2 else "add",
        )
        for number in range(count)
    ]


def in_time(programs: list[Recorded]) -> list[Recorded]:
    return [program for program in programs if program.official.error_code != TIME_LIMIT]


def first_cores(count: int) -> str:
    """Cores that this process may use, as Docker writes them; it keeps to them from now on."""
    cores = sorted(os.sched_getaffinity(0))[:count]
    os.sched_setaffinity(0, cores)
    return ",".join(map(str, cores))


def measure_all(programs: list[Recorded], repeats: int) -> tuple[Measured, Measured, Measured]:
    """All programs; those that meet no time limit; short programs with one test."""
    sandbox = PinnedSandbox(first_cores(WORKERS))
    try:
        return (
            measure("recorded programs", programs, sandbox, repeats),
            measure("recorded, none meets its time limit", in_time(programs), sandbox, 2 * repeats),
            measure("one test each", one_test_programs(len(programs)), sandbox, 2 * repeats),
        )
    finally:
        sandbox.close()


def options(description: str | None) -> ArgumentParser:
    parser = ArgumentParser(description=description)
    parser.add_argument("--sample", type=int, default=0, help="so many programs; all by default")
    parser.add_argument("--repeats", type=int, default=3, help="passes of floor and grader each")
    return parser


def main() -> None:
    from tests.grading.programs import data_folder, read_programs, sampled

    chosen = options(__doc__).parse_args()
    folder = data_folder()
    if folder is None:
        raise SystemExit("HARNESS_DATA is not set: the recorded programs are not part of the repository")
    programs = sampled(read_programs(folder / "speed_programs.jsonl"), chosen.sample)
    for measured in measure_all(programs, chosen.repeats):
        print(measured)


if __name__ == "__main__":
    main()
