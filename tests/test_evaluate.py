"""Asking and marking: what a broken sandbox leaves behind, and what identity must not hold."""

import resource
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from benchmarks.micro import micro_code, micro_math
from harness.adopt import known_verdict, known_verdicts
from harness.errors import SandboxError, UsageError
from harness.evaluate import Ask, Mark, draw_seed, keep_decided
from harness.files import write_json, write_rows
from harness.machine import Machine
from harness.progress import PlainProgress
from harness.recipe import evaluation
from harness.rows import read_rows
from harness.sandboxes import Execution, Limits, Outcome, Program
from harness.serve import ServerPool
from harness.stage import Stage
from harness.store import Context, Runner, RunStore
from harness.types import Generation, Grade
from pipeline.collect import Collect
from tests.pipeline.rows import row


class Box:
    """A sandbox that fails for the first `broken` programs and prints nothing for the others."""

    name = "fake"

    def __init__(self, broken: int) -> None:
        self.broken = broken

    def run(
        self,
        program: Program,
        inputs: list[str],
        limits: Limits,
        accept: Callable[[int, Outcome], bool] = lambda index, outcome: True,
    ) -> Execution:
        if self.broken > 0:
            self.broken -= 1
            raise SandboxError("the engine is gone")
        silent = Outcome(status="ok")
        return Execution(outcomes=(silent,) if not accept(0, silent) else (silent,) * len(inputs))

    def close(self) -> None:
        return None


class Busy:
    """A sandbox that is too slow for each program's first test, once, and counts how many run at a time."""

    name = "busy"

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.seen: list[str] = []
        self.now = 0
        self.at_a_time: list[int] = []

    def run(
        self,
        program: Program,
        inputs: list[str],
        limits: Limits,
        accept: Callable[[int, Outcome], bool] = lambda index, outcome: True,
    ) -> Execution:
        with self.lock:
            first = self.seen.count(inputs[0]) == 0
            self.seen.append(inputs[0])
            self.now += 1
            self.at_a_time.append(self.now)
        time.sleep(0.05)
        with self.lock:
            self.now -= 1
        if first:
            return Execution(
                outcomes=(Outcome(status="time_limit", alarmed=True, message="TimeoutException()"),)
            )
        silent = Outcome(status="ok")
        return Execution(outcomes=(silent,) if not accept(0, silent) else (silent,) * len(inputs))

    def close(self) -> None:
        return None


class Full:
    """A sandbox under which the disk is full at `size` bytes, until `file` has become so long."""

    name = "full"

    def __init__(self, file: Path, size: int) -> None:
        self.file, self.size = file, size
        self.lock = threading.Lock()
        self.before: tuple[int, int] | None = None

    def run(
        self,
        program: Program,
        inputs: list[str],
        limits: Limits,
        accept: Callable[[int, Outcome], bool] = lambda index, outcome: True,
    ) -> Execution:
        with self.lock:
            first, self.before = self.before is None, self.before or resource.getrlimit(resource.RLIMIT_FSIZE)
            if first:
                resource.setrlimit(resource.RLIMIT_FSIZE, (self.size, self.before[1]))
        given_up = time.monotonic() + 10
        while not first and self.file.stat().st_size < self.size and time.monotonic() < given_up:
            time.sleep(0.01)
        if not first:
            self.close()
        silent = Outcome(status="ok")
        return Execution(outcomes=(silent,) if not accept(0, silent) else (silent,) * len(inputs))

    def close(self) -> None:
        if self.before is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, self.before)


class Boxed(Context):
    """A context with that sandbox."""

    box: Box | Busy | Full = Box(broken=0)

    def sandbox(self) -> Box | Busy | Full:
        return self.box


@pytest.fixture
def boxed(tmp_path: Path) -> Iterator[tuple[RunStore, Boxed]]:
    store, machine = RunStore(tmp_path), Machine()
    with ServerPool(machine) as pool:
        yield store, Boxed(store, machine, PlainProgress(), pool)


def asked(store: RunStore, context: Context) -> Ask:
    """A finished Ask of four questions, one draw each, without a server."""
    benchmark = replace(micro_code, count=4, sampling=replace(micro_code.sampling, draws=1))
    stage = Ask(model=Collect(sources=()), benchmark=benchmark, engine="vllm")
    path = store.path(stage)
    path.mkdir(parents=True)
    text = "<think>\nx\n</think>\n\n```python\nprint(1)\n```"
    write_rows(path / "generations.jsonl", (row(text, one.id) for one in benchmark.load(None)))
    write_json(path / "asked.json", {"questions": 4, "draws": 1})
    write_json(path / "stage.json", {})
    return stage


def test_a_sandbox_that_fails_leaves_the_stage_partial_and_a_second_run_heals_it(
    boxed: tuple[RunStore, Boxed],
) -> None:
    store, context = boxed
    mark = Mark(asked=asked(store, context), grader=1)
    context.box = Box(broken=2)
    with pytest.raises(SandboxError, match="2 of 4 answers could not be graded"):
        store.build(mark, context)
    assert store.state(mark) == "partial"
    store.build(mark, context)
    grades = list(read_rows(store.path(mark) / "grades.jsonl", Grade))
    assert len({grade.question for grade in grades}) == len(grades) == 4
    assert all(grade.correct is False for grade in grades)


def test_a_verdict_that_the_disk_had_no_room_for_is_given_again(boxed: tuple[RunStore, Boxed]) -> None:
    store, context = boxed
    mark = Mark(asked=asked(store, context), grader=1)
    context.box = full = Full(store.path(mark) / "grades.jsonl", size=100)
    try:
        with suppress(OSError):
            store.build(mark, context)
    finally:
        full.close()
    context.box = Box(broken=0)
    store.build(mark, context)
    grades = list(read_rows(store.path(mark) / "grades.jsonl", Grade))
    assert len({grade.question for grade in grades}) == len(grades) == 4


def test_verdicts_on_responses_that_are_there_no_more_are_given_again(boxed: tuple[RunStore, Boxed]) -> None:
    """Beside the one that was not given, that on the one response that is another now."""
    store, context = boxed
    mark = Mark(asked=asked(store, context), grader=1)
    context.box = Box(broken=1)
    with pytest.raises(SandboxError):
        store.build(mark, context)
    rows = store.path(mark.asked) / "generations.jsonl"
    before = list(read_rows(rows, Generation))
    undecided = {
        one.question for one in read_rows(store.path(mark) / "grades.jsonl", Grade) if one.correct is None
    }
    decided = [one for one in before if one.question not in undecided]
    other = replace(row("I give up", decided[0].question), finish_reason="length")
    write_rows(rows, [other, *(one for one in before if one.question != other.question)])
    context.box = busy = Busy()
    store.build(mark, context)
    grades = {one.question: one for one in read_rows(store.path(mark) / "grades.jsonl", Grade)}
    assert len(grades) == 4
    assert grades[other.question].truncated
    assert len(set(busy.seen)) == 1


def test_verdicts_are_not_taken_over_from_a_mark_whose_responses_were_replaced(
    boxed: tuple[RunStore, Boxed],
) -> None:
    store, context = boxed
    mark = Mark(asked=asked(store, context), grader=1)
    context.box = Box(broken=1)
    with pytest.raises(SandboxError):
        store.build(mark, context)
    write_json(store.path(mark.asked) / "identity.json", mark.asked.identity)
    benchmark = mark.asked.benchmark
    twice = replace(benchmark, sampling=replace(benchmark.sampling, draws=2))
    longer = replace(mark, asked=replace(mark.asked, benchmark=twice))
    rows = store.path(mark.asked) / "generations.jsonl"
    before = list(read_rows(rows, Generation))
    known = known_verdicts(longer, store.stages)
    assert [known_verdict(known, one) for one in before].count(None) == 1
    after = [row("I give up", one.question) for one in before]
    write_rows(rows, after)
    known = known_verdicts(longer, store.stages)
    assert [known_verdict(known, one) for one in after].count(None) == 4


def test_damaged_verdicts_of_another_run_are_left_and_told(boxed: tuple[RunStore, Boxed]) -> None:
    store, context = boxed
    mark = Mark(asked=asked(store, context), grader=1)
    store.build(mark, context)
    write_json(store.path(mark.asked) / "identity.json", mark.asked.identity)
    benchmark, said = mark.asked.benchmark, list[str]()
    twice = replace(benchmark, sampling=replace(benchmark.sampling, draws=2))
    longer = replace(mark, asked=replace(mark.asked, benchmark=twice))
    assert known_verdicts(longer, store.stages, said.append)
    grades = store.path(mark) / "grades.jsonl"
    grades.write_bytes(grades.read_bytes().replace(b"true", b"null", 1).replace(b"false", b"null", 1))
    assert not known_verdicts(longer, store.stages, said.append)
    assert len(said) == 1
    assert str(grades) in said[0]


def test_verdicts_on_responses_that_are_still_to_come_are_not_kept(boxed: tuple[RunStore, Boxed]) -> None:
    store, context = boxed
    mark = Mark(asked=asked(store, context), grader=1)
    context.box = Box(broken=1)
    with pytest.raises(SandboxError):
        store.build(mark, context)
    grades, rows = store.path(mark) / "grades.jsonl", store.path(mark.asked) / "generations.jsonl"
    kept = keep_decided(grades, rows)
    assert len(kept) == 3
    [gone, *others] = kept
    write_rows(rows, [one for one in list(read_rows(rows, Generation)) if one.question != gone[0]])
    assert keep_decided(grades, rows) == set(others)
    rows.unlink()
    assert keep_decided(grades, rows) == frozenset()
    assert grades.read_bytes() == b""


def test_a_complete_mark_holds_its_verdicts_alone(boxed: tuple[RunStore, Boxed]) -> None:
    store, context = boxed
    mark = Mark(asked=asked(store, context), grader=1)
    context.box = Box(broken=0)
    store.build(mark, context)
    assert {file.name for file in store.path(mark).iterdir()} == {
        "identity.json",
        "grades.jsonl",
        "stage.json",
    }


def test_a_time_out_counts_only_once_it_was_seen_again_alone(boxed: tuple[RunStore, Boxed]) -> None:
    store, context = boxed
    mark = Mark(asked=asked(store, context), grader=1)
    context.box = busy = Busy()
    store.build(mark, context)
    grades = list(read_rows(store.path(mark) / "grades.jsonl", Grade))
    assert len(busy.seen) == 8
    assert busy.at_a_time[4:] == [1, 1, 1, 1]
    assert all(grade.detail["graded_again_alone"] for grade in grades)
    assert {grade.detail["error_code"] for grade in grades} == {-2}


@dataclass(frozen=True, kw_only=True)
class Waits(Stage):
    """Works until every program was run once, and a little longer; then writes how often they were run."""

    def run(self, out: Path, context: Context) -> None:
        assert isinstance(context, Boxed)
        busy = context.box
        assert isinstance(busy, Busy)
        while len(busy.seen) < 4:
            time.sleep(0.01)
        time.sleep(0.3)
        write_json(out / "runs.json", len(busy.seen))


def test_a_time_out_is_not_seen_again_while_another_stage_runs(boxed: tuple[RunStore, Boxed]) -> None:
    store, context = boxed
    mark = Mark(asked=asked(store, context), grader=1)
    context.box = busy = Busy()
    Runner(store, context).build("demo", {"other": Waits(), "mark": mark})
    assert (store.path(Waits()) / "runs.json").read_text() == "4\n"
    assert len(busy.seen) == 8
    assert busy.at_a_time[4:] == [1, 1, 1, 1]


def test_a_new_grader_marks_again_and_asks_nothing() -> None:
    ask = Ask(model=Collect(sources=()), benchmark=micro_math, engine="vllm")
    assert Mark(asked=ask, grader=1).inputs == Mark(asked=ask, grader=2).inputs
    assert Mark(asked=ask, grader=1).key != Mark(asked=ask, grader=2).key


def test_how_a_benchmark_is_asked_does_not_change_what_is_collected() -> None:
    more = replace(micro_math, sampling=replace(micro_math.sampling, draws=64))
    one, other = (Collect(sources=(), decontaminate=(each,)) for each in (micro_math, more))
    assert one.key == other.key
    assert one.key != Collect(sources=(), decontaminate=(replace(micro_math, count=7),)).key


def test_every_draw_has_a_seed_of_its_own() -> None:
    seeds = {draw_seed(0, question, draw) for question in ("a", "b") for draw in range(64)}
    assert len(seeds) == 128
    assert all(0 <= seed < 2**31 for seed in seeds)


def test_a_served_models_url_is_not_written_down() -> None:
    recipe = evaluation(
        model="m", benchmarks=[micro_math], engine="remote", base_url="http://user:secret@127.0.0.1/v1"
    )
    assert "secret" not in str(recipe.stages["model"].identity)


@pytest.mark.parametrize("name", ["stages", "../x", "", "a b"])
def test_a_run_cannot_take_a_name_that_is_a_path_or_reserved(name: str) -> None:
    with pytest.raises(UsageError):
        evaluation(model="m", benchmarks=[micro_math], engine="remote", base_url="u", name=name or "/")


def test_a_benchmark_given_twice_is_refused() -> None:
    with pytest.raises(UsageError, match="given twice"):
        evaluation(model="m", benchmarks=[micro_math, micro_math], engine="remote", base_url="u")
