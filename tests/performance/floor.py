"""The floor of code grading: a bare forked run of programs and their tests, with no grader around it.

Runs inside the sandbox image, as the text of `python3.11 -c`, where the grader's guest runs too. Each
worker is a warm Python that forks one child a program; the child loads the program, feeds it each test
under an alarm, captures what it prints in memory, and ends. Nothing leaves the child: no outcome, no
judge, no protocol, no cleaning up. The names of the official header are at hand before the fork.

On stdin: one line of JSON with the programs, then one line of indices for each round. Answers with one
line when it is ready and one after each round.
"""

import gc
import importlib
import io
import json
import os
import signal
import struct
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any


class TimeIsUp(Exception):
    """The alarm of one test."""


def on_alarm(_signal: int, _frame: object) -> None:
    raise TimeIsUp


def run_program(program: dict[str, Any], names: dict[str, Any], seconds: float) -> None:
    """Loads one program and runs its tests; any error ends it."""
    signal.signal(signal.SIGALRM, on_alarm)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    sys.setrecursionlimit(50000)
    module = ModuleType("program")
    vars(module).update(names)
    exec(program["source"], vars(module))
    owner = module.Solution() if "class Solution" in program["source"] else module
    call = getattr(owner, program["function"])
    for text in program["inputs"]:
        signal.setitimer(signal.ITIMER_REAL, seconds)
        run_test(call, text, returns=program["returns"])
    signal.setitimer(signal.ITIMER_REAL, 0)


def run_test(call: Callable[..., Any], text: str, *, returns: bool) -> None:
    """One test: the arguments from JSON, or the text as stdin and a buffer as stdout."""
    if returns:
        call(*map(json.loads, text.split("\n")))
        return
    sys.stdin, sys.stdout = io.TextIOWrapper(io.BytesIO(text.encode())), io.StringIO()
    try:
        call()
        sys.stdout.getvalue()
    except SystemExit:
        return


def work(task: dict[str, Any], names: dict[str, Any], queue: int) -> None:
    """Runs the programs whose indices come out of the pipe `queue`, until it closes."""
    null = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null, standard)
    while index := os.read(queue, 4):
        child = os.fork()
        if child == 0:
            try:
                program = task["programs"][struct.unpack(">I", index)[0]]
                run_program(program, names, task["seconds"])
            finally:
                os._exit(0)
        os.waitpid(child, 0)


def play_round(task: dict[str, Any], names: dict[str, Any], indices: list[int]) -> None:
    """Runs the programs `indices`, in that order, on processes that share one queue."""
    reading, writing = os.pipe()
    children = []
    for _ in range(task["workers"]):
        child = os.fork()
        if child == 0:
            os.close(writing)
            work(task, names, reading)
            os._exit(0)
        children.append(child)
    for index in indices:
        os.write(writing, struct.pack(">I", index))
    os.close(writing)
    os.close(reading)
    for child in children:
        os.waitpid(child, 0)


def main() -> None:
    task = json.loads(sys.stdin.readline())
    for name in task["warm"]:
        importlib.import_module(name)
    bound: dict[str, Any] = {}
    exec(task["header"], bound)
    names = {name: value for name, value in bound.items() if not name.startswith("_")}
    gc.collect()
    gc.freeze()
    print("ready", flush=True)
    for line in sys.stdin:
        play_round(task, names, json.loads(line))
        print("done", flush=True)


if __name__ == "__main__":
    main()
