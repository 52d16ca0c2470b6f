"""Stages with given rows, and LLaMA-Factory's view of them, for tests of training."""

import json
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness.errors import UsageError
from harness.files import write_rows
from harness.machine import Machine
from harness.progress import PlainProgress
from harness.serve import ServerPool
from harness.setup import environment_python
from harness.stage import Stage
from harness.store import Context, RunStore
from harness.types import Generation
from pipeline.sft import Sft
from pipeline.tokenizer import StudentTokens
from pipeline.trainers import llamafactory
from tests.pipeline.rows import row

VIEW = Path(__file__).with_name("llamafactory_view.py")


@dataclass(frozen=True, kw_only=True)
class GivenRows(Stage):
    """A stage that holds the given pairs of prompt and response."""

    pairs: tuple[tuple[str, str], ...]

    def run(self, out: Path, context: Context) -> None:
        write_rows(out / "generations.jsonl", rows_of(self.pairs))


def rows_of(pairs: Sequence[tuple[str, str]]) -> list[Generation]:
    found = []
    for number, (prompt, response) in enumerate(pairs):
        plain = row(response, f"q{number}")
        found.append(replace(plain, kept={**plain.kept, "prompt": prompt}))
    return found


def cpu(**settings: Any) -> Machine:
    return Machine(gpus=0, **settings)


def has_llamafactory() -> bool:
    try:
        environment_python("llamafactory", cpu())
    except UsageError:
        return False
    return True


def build(stage: Stage, store: RunStore, machine: Machine | None = None) -> Path:
    """Builds a stage and what it reads."""
    machine = machine or cpu()
    with ServerPool(machine) as pool:
        context = Context(store, machine, PlainProgress(), pool)
        for read in stage.inputs:
            build(read, store, machine)
        return store.build(stage, context)


def llamafactory_files(stage: Sft, base: Path, pairs: Sequence[tuple[str, str]], out: Path) -> Path:
    """The folder that LLaMA-Factory would train in, by our own code."""
    out.mkdir(parents=True, exist_ok=True)
    write_rows(out / "generations.jsonl", rows_of(pairs))
    llamafactory.write_settings(stage, base, out, cpu())
    llamafactory.write_data(stage, out / "generations.jsonl", StudentTokens(base), out)
    return out


View = Callable[[str, Path], Any]
"""What LLaMA-Factory makes of a folder; see llamafactory_view.py."""


@contextmanager
def llamafactory_views(scratch: Path) -> Iterator[View]:
    """LLaMA-Factory, loaded once, for any number of views. It keeps its cache in `scratch`."""
    python = environment_python("llamafactory", cpu())
    environment = llamafactory.environment(python, scratch, cpu())
    with subprocess.Popen(
        [python, VIEW], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        questions, answers = process.stdin, process.stdout

        def view(what: str, folder: Path) -> Any:
            print(json.dumps([what, str(folder.resolve())]), file=questions, flush=True)
            assert answers.readline() == "0\n", (folder / f"{what}.log").read_text()[-3000:]
            return json.loads((folder / f"{what}.json").read_bytes())

        assert "ready\n" in iter(answers.readline, ""), f"it ended with {process.wait()}"
        yield view


def ours(stage: Sft, base: Path, pairs: Sequence[tuple[str, str]]) -> list[dict[str, list[int]]]:
    """What the TRL path makes of the same rows."""
    examples = stage.examples(rows_of(pairs), StudentTokens(base))
    return [{"input_ids": one.input_ids, "labels": one.labels} for one in examples]


def unpacked(sequences: list[dict[str, list[int]]]) -> list[tuple[list[int], list[int]]]:
    """The rows of LLaMA-Factory's packed sequences, told apart by their position ids.

    Padding has position 0 and no label: it looks like rows of one token that is not learned.
    """
    found = []
    for sequence in sequences:
        starts = [index for index, position in enumerate(sequence["position_ids"]) if position == 0]
        for start, end in zip(starts, [*starts[1:], None], strict=True):
            ids, labels = sequence["input_ids"][start:end], sequence["labels"][start:end]
            if (ids, labels) != ([ids[0]], [-100]):
                found.append((ids, labels))
    return found
