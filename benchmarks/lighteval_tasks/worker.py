"""Our loaders, prompts and graders for lighteval's process: JSON lines on stdin and stdout.

lighteval pins libraries that ours do not fit, so tasks.py asks this process, in our own Python, for
everything that decides a score. Requests, each answered by one line, in order:

    {"do": "list"}                                                the benchmarks, and where the rows are
    {"do": "row", "benchmark": B, "draws": N, "number": I}        question, draw, prompt, kept; or null
    {"do": "grade", "benchmark": B, "question": Q, "draw": D, "kept": …, "prompt": …, "text": …,
     "finish_reason": R}                                          the grade

An error that a user can mend is answered as {"error": …}. `HARNESS_DATA` names the folder of data
sets, ./machine.toml the machine, as for the command line.
"""

import json
import os
import queue
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any, TextIO

from platformdirs import user_cache_path

import benchmarks
from harness.benchmark import Benchmark
from harness.chat import split_reasoning
from harness.discover import discover, pick
from harness.errors import HarnessError, UsageError
from harness.files import write_whole
from harness.machine import Machine, load_machine
from harness.sandboxes import Sandbox, open_sandbox
from harness.types import Generation, Grade, Question

ROWS = 70_000
"""More than any benchmark has questions times draws: 1,055 LiveCodeBench problems, 64 draws."""


class Desk:
    """Answers requests. Loads a benchmark, and opens the sandbox, when first asked about it."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.benchmarks = discover(benchmarks, Benchmark)
        self.questions = cache(self.load)
        self.opening = threading.Lock()
        self.workers = machine.sandbox.workers
        self.permits = threading.Semaphore(self.workers)
        self.waiting = threading.Lock()
        self.opened: Sandbox | None = None

    def answer(self, request: dict[str, Any]) -> Any:
        """What one request is answered with; an error becomes an answer, for lighteval waits for one."""
        try:
            match request["do"]:
                case "list":
                    return self.list()
                case "row":
                    return self.row(request["benchmark"], request["draws"], request["number"])
                case "grade":
                    return asdict(self.grade(request))
            raise UsageError(f"unknown request {request['do']!r}")
        except HarnessError as error:
            return {"error": str(error)}
        except Exception as error:  # noqa: BLE001 - lighteval stops with it; unanswered it would wait for ever
            traceback.print_exc()
            return {"error": repr(error)}

    def list(self) -> dict[str, Any]:
        return {
            "rows": str(numbered_rows()),
            "benchmarks": [
                {
                    "name": name,
                    "version": found.version,
                    "draws": found.sampling.draws,
                    "max_tokens": found.sampling.max_tokens,
                }
                for name, found in self.benchmarks.items()
            ],
        }

    def row(self, name: str, draws: int, number: int) -> dict[str, Any] | None:
        """The request number `number` of a benchmark, draw by draw; None after the last."""
        questions = list(self.questions(name).values())
        if len(questions) * draws > ROWS:
            raise UsageError(f"{name} with {draws} draws: more than {ROWS} requests", "Ask for fewer draws.")
        draw, index = divmod(number, len(questions))
        if draw >= draws:
            return None
        prompt, kept = self.benchmarks[name].render(questions[index], draw)
        return {"question": questions[index].id, "draw": draw, "prompt": prompt, "kept": kept}

    def grade(self, request: dict[str, Any]) -> Grade:
        """The verdict of our grader; after a time-out, that of a second time with nothing else running.

        Raises SandboxError where it cannot be had.
        """
        found = pick("benchmark", request["benchmark"], self.benchmarks)
        question = self.questions(found.name)[request["question"]]
        sandbox = self.sandbox() if found.needs_sandbox else None
        answer = generation(request, found)
        with self.permits:
            grade = found.grade(question, answer, sandbox)
        if not found.timed_out(grade):
            return grade
        with self.alone():
            return found.grade(question, answer, sandbox)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """The block runs while nothing else is graded."""
        with self.waiting:
            for _ in range(self.workers):
                self.permits.acquire()
        try:
            yield
        finally:
            self.permits.release(self.workers)

    def load(self, name: str) -> dict[str, Question]:
        found = pick("benchmark", name, self.benchmarks)
        return {question.id: question for question in found.load(self.machine.data)}

    def sandbox(self) -> Sandbox:
        with self.opening:
            if self.opened is None:
                self.opened = open_sandbox(self.machine, lambda text: print(text, file=sys.stderr))
            return self.opened

    def close(self) -> None:
        if self.opened is not None:
            self.opened.close()


def generation(request: dict[str, Any], benchmark: Benchmark) -> Generation:
    """A response as `harness evaluate --base-url` would have stored it, but for what nobody measured."""
    reasoning, answer = split_reasoning(request["text"], request["finish_reason"])
    return Generation(
        question=request["question"],
        draw=request["draw"],
        prompt=request["prompt"],
        text=request["text"],
        reasoning=reasoning,
        answer=answer,
        finish_reason=request["finish_reason"],
        prompt_tokens=0,
        completion_tokens=0,
        latency=0.0,
        seed=0,
        sampling=benchmark.sampling,
        request_id="",
        model="",
        engine="lighteval",
        kept=request["kept"],
    )


def numbered_rows() -> Path:
    """A data set of numbers: lighteval wants rows, and the questions come from here, one a number."""
    folder = user_cache_path("dasd-harness") / "lighteval" / "rows"
    file = folder / "test.jsonl"
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(file, "".join(f'{{"number": {number}}}\n' for number in range(ROWS)).encode())
    return folder


def serve(answer: Callable[[dict[str, Any]], Any], workers: int, requests: TextIO, out: TextIO) -> None:
    """Answers line by line, in order, `workers` at a time; reads little further than it has answered."""
    waiting: queue.Queue[Future[Any] | None] = queue.Queue(4 * workers)

    def write() -> None:
        while (future := waiting.get()) is not None:
            out.write(json.dumps(future.result()) + "\n")
            out.flush()

    writer = threading.Thread(target=write)
    writer.start()
    with ThreadPoolExecutor(workers) as pool:
        for line in requests:
            waiting.put(pool.submit(answer, json.loads(line)))
    waiting.put(None)
    writer.join()


def this_machine() -> Machine:
    machine = load_machine(None)
    data = os.environ.get("HARNESS_DATA")
    return replace(machine, data=Path(data)) if data else machine


def main() -> None:
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as out:
        os.dup2(2, 1)
        machine = this_machine()
        desk = Desk(machine)
        try:
            serve(desk.answer, machine.sandbox.workers, sys.stdin, out)
        finally:
            desk.close()


if __name__ == "__main__":
    main()
