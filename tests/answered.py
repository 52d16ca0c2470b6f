"""A small evaluation in a store of its own, answered and graded, as the loop leaves it; and damage to it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from benchmarks.micro import micro_math
from harness.answering import Response
from harness.evaluate import Ask, Mark
from harness.files import write_json
from harness.machine import Machine
from harness.progress import PlainProgress
from harness.rows import RowFile
from harness.runs import Stored
from harness.serve import ServerPool
from harness.session import SESSION
from harness.store import Context, RunStore
from harness.types import Generation
from tests.pipeline.rows import row

BENCHMARK = replace(micro_math, count=5, sampling=replace(micro_math.sampling, draws=2))
Place = tuple[RunStore, Context, Mark]


@contextmanager
def answered(root: Path) -> Iterator[Place]:
    """A finished evaluation whose answers all are right."""
    store = RunStore(root)
    with ServerPool(Machine()) as pool:
        context = Context(store, Machine(), PlainProgress(), pool)
        ask = Ask(model=Stored(stored="served-1"), benchmark=BENCHMARK, engine="remote")
        answer(store, ask)
        store.build(ask, context)
        mark = Mark(asked=ask, grader=BENCHMARK.grader)
        store.build(mark, context)
        store.view("mine", {"eval/m/micro_math": mark})
        yield store, context, mark


def answer(store: RunStore, ask: Ask) -> None:
    """Writes the rows that are missing."""
    path = store.path(ask)
    path.mkdir(parents=True, exist_ok=True)
    write_json(path / "identity.json", ask.identity)
    write_json(path / SESSION, {"engine": "a"})
    with RowFile(path / "generations.jsonl") as file:
        for question in BENCHMARK.load(None):
            for draw in range(2):
                if file.claim((question.id, draw)):
                    file.append([Response(row=right(question.id, question.gold, draw))])


def right(question: str, gold: object, draw: int) -> Generation:
    text = f"<think>\nx\n</think>\n\n\\boxed{{{gold}}}"
    return replace(row(text, question), draw=draw)


def flip(file: Path, at: int, bit: int = 1) -> None:
    content = bytearray(file.read_bytes())
    content[at] ^= bit
    file.write_bytes(content)
