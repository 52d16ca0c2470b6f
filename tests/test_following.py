"""Stages that run beside the one whose rows they read: what they see, and who waits for whom."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import pytest

from benchmarks.micro import micro_math
from harness.company import Floor
from harness.errors import StageError
from harness.evaluate import Ask, Mark, results
from harness.files import write_json
from harness.grading.answers import VERIFIER
from harness.machine import Machine
from harness.progress import PlainProgress
from harness.rows import Key
from harness.serve import ServerPool
from harness.stage import Stage
from harness.store import Context, Runner, RunStore
from harness.types import Generation
from tests.pipeline.rows import row

PATIENCE = 20.0
ROWS = "rows.jsonl"


def until(path: Path, lines: int) -> None:
    """Waits for so many lines in a file."""
    given_up = time.monotonic() + PATIENCE
    while not path.exists() or path.read_bytes().count(b"\n") < lines:
        if time.monotonic() > given_up:
            raise StageError(f"{path} never had {lines} lines")
        time.sleep(0.01)


def append(path: Path, *draws: int) -> None:
    with path.open("ab") as file:
        for draw in draws:
            file.write(msgspec.json.encode(Key(question="q", draw=draw)) + b"\n")


@dataclass(frozen=True, kw_only=True)
class Grow(Stage):
    """Writes two rows, waits until `awaited` has seen them, and ends as told."""

    name: str
    awaited: str = ""
    end: str = "well"

    def run(self, out: Path, context: Context) -> None:
        append(out / ROWS, 0, 1)
        if self.awaited:
            until(out.parent.parent / self.awaited, 2)
        match self.end:
            case "badly":
                raise StageError("the server is gone")
            case "interrupted":
                raise KeyboardInterrupt
        append(out / ROWS, 2)


@dataclass(frozen=True, kw_only=True)
class See(Stage):
    """Writes the draws that it sees, one by one, into a file beside the stages."""

    grown: Grow
    name: str = "seen"
    fail: bool = False

    @property
    def follows(self) -> Stage:
        return self.grown

    def run(self, out: Path, context: Context) -> None:
        for seen in context.follow(self.grown, ROWS, Key):
            if seen is not None:
                with (out.parent.parent / self.name).open("a") as file:
                    file.write(f"{seen.draw}\n")
            if self.fail:
                raise StageError("cannot see")


@dataclass(frozen=True, kw_only=True)
class Read(Stage):
    """Needs what See has left."""

    seen: See

    def run(self, out: Path, context: Context) -> None:
        context.path(self.seen)


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return RunStore(tmp_path / "runs")


@pytest.fixture
def context(store: RunStore) -> Iterator[Context]:
    machine = Machine()
    with ServerPool(machine) as pool:
        found = Context(store, machine, PlainProgress(), pool)
        yield found
        found.close()


def seen(store: RunStore, name: str = "seen") -> list[int]:
    return [int(line) for line in (store.root / name).read_text().split()]


def test_rows_are_read_while_the_stage_that_writes_them_still_runs(store: RunStore, context: Context) -> None:
    see = See(grown=Grow(name="a", awaited="seen"))
    Runner(store, context).build("demo", {"see": see})
    assert seen(store) == [0, 1, 2]
    assert store.state(see) == "done"
    assert (store.root / "demo" / "see" / "stage.json").exists()


def test_a_stage_that_fails_leaves_its_follower_partial_and_its_error_is_the_one_raised(
    store: RunStore, context: Context
) -> None:
    see = See(grown=Grow(name="a", awaited="seen", end="badly"))
    with pytest.raises(StageError, match="the server is gone"):
        Runner(store, context).build("demo", {"see": see})
    assert seen(store) == [0, 1]
    assert store.state(see) == "partial"


def test_a_follower_that_fails_stops_nothing_else_and_its_error_comes_at_the_end(
    store: RunStore, context: Context
) -> None:
    see, other = See(grown=Grow(name="a"), fail=True), See(grown=Grow(name="b"), name="others")
    with pytest.raises(StageError, match="cannot see"):
        Runner(store, context).build("demo", {"see": see, "other": other, "read": Read(seen=see)})
    assert store.state(see.grown) == store.state(other) == "done"
    assert store.state(see) == "partial"
    assert store.state(Read(seen=see)) == "missing"


def test_one_follower_goes_on_while_the_next_stage_runs(store: RunStore, context: Context) -> None:
    """The second stage waits for a row that the follower of the first writes after the first has ended."""
    first = See(grown=Grow(name="a"))
    second = See(grown=Grow(name="b", awaited="seen"), name="others")
    Runner(store, context).build("demo", {"first": first, "second": second, "read": Read(seen=first)})
    assert seen(store) == seen(store, "others") == [0, 1, 2]
    assert store.state(Read(seen=first)) == "done"


def test_an_interruption_stops_followers_and_keeps_what_they_have(store: RunStore, context: Context) -> None:
    see = See(grown=Grow(name="a", awaited="seen", end="interrupted"))
    with pytest.raises(KeyboardInterrupt):
        Runner(store, context).build("demo", {"see": see})
    assert seen(store) == [0, 1]
    assert store.state(see) == "partial"


def test_an_interruption_ends_a_follower_that_waits_for_another_process(
    store: RunStore, context: Context
) -> None:
    see = See(grown=Grow(name="a", end="interrupted"))
    raised: list[BaseException] = []

    def build() -> None:
        try:
            Runner(store, context).build("demo", {"see": see})
        except KeyboardInterrupt as error:
            raised.append(error)

    with store.locked(see, context.progress.say):
        building = threading.Thread(target=build)
        building.start()
        building.join(PATIENCE / 4)
        ended = not building.is_alive()
    building.join()
    assert ended
    assert len(raised) == 1
    assert store.state(see) == "missing"


def test_an_input_that_nobody_builds_is_not_waited_for(store: RunStore, context: Context) -> None:
    with pytest.raises(StageError, match="not complete"):
        store.build(See(grown=Grow(name="a")), context)


def test_who_wants_to_be_alone_waits_for_all_who_are_busy_and_keeps_others_out() -> None:
    floor, order = Floor(), list[str]()

    def alone() -> None:
        with floor.alone():
            order.append("alone")
            time.sleep(0.1)
            order.append("alone no more")

    def busy() -> None:
        with floor.busy():
            order.append("busy")

    with floor.busy():
        waiting = threading.Thread(target=alone)
        waiting.start()
        time.sleep(0.05)
        busy()
    while "alone" not in order:
        time.sleep(0.01)
    busy()
    waiting.join()
    assert order == ["busy", "alone", "alone no more", "busy"]


def test_results_are_given_while_the_next_item_is_waited_for() -> None:
    """A pause (None) gives what is ready: else a grade would be kept only when the next row comes."""
    given: list[int] = []

    def items() -> Iterator[int | None]:
        yield 1
        while not given:
            time.sleep(0.01)
            yield None
        yield 2

    with ThreadPoolExecutor(1) as pool:
        for result in results(lambda item: pool.submit(abs, item), items(), ahead=8):
            given.append(result)
    assert given == [1, 2]


@dataclass(frozen=True, kw_only=True)
class Told(Ask):
    """An Ask whose answers are here already; they come in any order, with pauses between them."""

    def answers(self) -> list[Generation]:
        texts = ("so \\boxed{7}", "no box", "first \\boxed{1}, then \\boxed{12}", "\\boxed{x+1}")
        return [
            replace(row(texts[(number + draw) % 4], one.id), draw=draw)
            for number, one in enumerate(self.benchmark.load(None))
            for draw in range(self.drawn.draws)
        ]

    def run(self, out: Path, context: Context) -> None:
        answers = self.answers()
        with (out / "generations.jsonl").open("ab", buffering=0) as file:
            for place in range(len(answers)):
                line = msgspec.json.encode(answers[place * 7 % len(answers)]) + b"\n"
                file.write(line[:20])
                time.sleep(0.01)
                file.write(line[20:])
        write_json(out / "asked.json", {"questions": self.benchmark.count, "draws": self.drawn.draws})  # type: ignore[attr-defined]


def test_grades_of_rows_that_came_in_any_order_are_those_of_grading_afterwards(
    store: RunStore, context: Context
) -> None:
    benchmark = replace(micro_math, count=5, sampling=replace(micro_math.sampling, draws=4))
    mark = Mark(asked=Told(model=Grow(name="model"), benchmark=benchmark, engine="vllm"), grader=2)
    Runner(store, context).build("demo", {"eval/x/micro": mark})
    beside = (store.path(mark) / "grades.jsonl").read_bytes()
    for file in store.path(mark).iterdir():
        file.unlink()
    Runner(store, context).build("demo", {"eval/x/micro": mark})
    assert (store.path(mark) / "grades.jsonl").read_bytes() == beside
    assert beside.count(b"\n") == 20
    VERIFIER.close()
