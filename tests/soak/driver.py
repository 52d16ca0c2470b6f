"""One long-lived harness: evaluates the micro benchmarks again and again, each time under a new identity.

    python -m tests.soak.driver RUNS MACHINE CHECKPOINT MATH CODE DRAWS

Store, server pool, context, sandbox and grading workers stay. A line on standard input is the number of a
round; the line of JSON that answers it says how the round ended. All else goes to standard error.
"""

import json
import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO

from benchmarks.micro import Micro, micro_code, micro_math
from harness.errors import HarnessError
from harness.machine import load_machine
from harness.progress import PlainProgress
from harness.recipe import Recipe, evaluation
from harness.runs import write_recipe
from harness.serve import ServerPool
from harness.store import Context, Runner, RunStore
from reports.assemble import assemble
from reports.page import write_report

NAME = "soak"
LEAST, MOST = 220, 440
"""Tokens of a response at most: in each round another number, and never so few that a response is cut."""


def tokens(number: int) -> int:
    return LEAST + number % (MOST - LEAST)


def recipe(number: int, checkpoint: str, counts: dict[str, int], draws: int) -> Recipe:
    """The evaluation of a round."""

    def sized(benchmark: Micro) -> Micro:
        sampling = replace(benchmark.sampling, draws=draws, max_tokens=tokens(number))
        return replace(benchmark, count=counts[benchmark.name], sampling=sampling)

    benchmarks = [sized(micro_math), sized(micro_code)]
    return evaluation(model=checkpoint, benchmarks=benchmarks, engine="vllm", name=NAME)


def built(store: RunStore, context: Context, wanted: Recipe) -> dict[str, Any]:
    """Builds everything and the report, and says how that ended."""
    started = time.monotonic()
    try:
        Runner(store, context).build(wanted.name, wanted.labels())
        write_recipe(store, wanted)
        write_report(store.root / wanted.name, assemble(store, wanted, wanted.labels()))
    except HarnessError as error:
        return {"error": error.message}
    return {"error": "", "seconds": time.monotonic() - started}


def work(given: TextIO, told: TextIO, arguments: list[str]) -> None:
    runs, machine, checkpoint, *numbers = arguments
    math, code, draws = map(int, numbers)
    counts = {micro_math.name: math, micro_code.name: code}
    here, store = load_machine(Path(machine)), RunStore(Path(runs))
    with ServerPool(here) as pool:
        context = Context(store, here, PlainProgress(), pool)
        try:
            for line in given:
                ended = built(store, context, recipe(int(line), checkpoint, counts, draws))
                told.write(json.dumps(ended) + "\n")
                told.flush()
        finally:
            context.close()


if __name__ == "__main__":
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    work(sys.stdin, answers, sys.argv[1:])
