"""The time that a finished run took, stage by stage, beside what the capacity model says of it.

    harness calibrate dasd-micro --runs DIR
    harness reproduce dasd-micro --runs DIR
    python -m tests.performance.capacity dasd-micro DIR

The checkpoints are taken to be there, as they are once the calibration has asked them.

Twice: as planned, from the recipe's assumptions alone, and from the rows that were written. Only the
first could have been told before; the second leaves to the model what is its own: speeds, slots, starts.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from harness.cli.found import find_recipe
from harness.cost import Assumptions, Counted, Estimator
from harness.finish import HOUR, Reckoning, Task
from harness.hardware import hardware
from harness.hub import Checkpoint
from harness.machine import load_machine
from harness.recipe import Recipe
from harness.rows import read_rows
from harness.stage import Stage, ordered
from harness.store import RunStore, readable
from harness.throughput import hours, read_rates


@dataclass(frozen=True, kw_only=True)
class Line:
    """Seconds of one stage."""

    name: str
    planned: float
    reckoned: float
    measured: float

    def __str__(self) -> str:
        ratios = (
            f"{told / self.measured:.2f}" if told and self.measured else "–"
            for told in (self.planned, self.reckoned)
        )
        cells = (f"{self.planned:.1f}", f"{self.reckoned:.1f}", f"{self.measured:.1f}", *ratios)
        return f"| {' | '.join((self.name, *cells))} |"


def longest(folder: Path) -> float:
    """Tokens of the longest response; 0 where there are none."""
    file = folder / "generations.jsonl"
    return max((row.completion_tokens for row in read_rows(file, Counted)), default=0) if file.exists() else 0


def reckoning(recipe: Recipe, stages: Sequence[Stage], counted: RunStore, runs: Path) -> Reckoning:
    """As if nothing were done, with the rows that `counted` holds and the speeds of `runs`."""
    machine = load_machine(None)
    here = hardware(machine)
    rates = read_rates(runs, here.device)
    estimator = Estimator(counted, recipe.assumed or Assumptions(), machine.data)

    def task(stage: Stage) -> Task:
        work = estimator.work(stage)
        model, size = (
            ("", None) if work.model is None else (estimator.name(work.model), estimator.size(work.model))
        )
        found = hours(work, model, size, rates, machine)
        return Task(stage=stage, work=work, hours=found, left=1.0, longest=longest(counted.path(stage)))

    return Reckoning([task(stage) for stage in stages], estimator, machine, here, rates, None)


def told(found: Reckoning, stage: Stage) -> float:
    """Likely seconds of one stage, its start included."""
    clock = found.clock(stage.key)
    return clock.hours.likely * HOUR if clock else 0.0


def lines(
    stages: Sequence[Stage], names: dict[str, str], store: RunStore, both: Sequence[Reckoning]
) -> Iterator[Line]:
    """Those that the model counts, and those that took a second or more, as they ran."""
    for stage in sorted(stages, key=lambda one: ended(one, store)):
        planned, reckoned = (told(found, stage) for found in both)
        measured = float(store.manifest(stage)["seconds"])
        if stage.follows is None and (planned or measured >= 1):
            yield Line(name=names[stage.key], planned=planned, reckoned=reckoned, measured=measured)


def whole(stages: Sequence[Stage], store: RunStore) -> float:
    """Seconds from the beginning of the first stage to the end of the last."""
    begun = (ended(stage, store) - float(store.manifest(stage)["seconds"]) for stage in stages)
    return max(ended(stage, store) for stage in stages) - min(begun)


def ended(stage: Stage, store: RunStore) -> float:
    """When a stage was finished, in seconds since the epoch: whole ones."""
    finished = datetime.strptime(store.manifest(stage)["finished"], "%Y-%m-%dT%H:%M:%SZ")
    return finished.replace(tzinfo=UTC).timestamp()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe")
    parser.add_argument("runs", type=Path)
    chosen = parser.parse_args()
    recipe, store = find_recipe(chosen.recipe, None, None), RunStore(chosen.runs)
    there = (one for one in ordered(list(recipe.labels().values())) if not isinstance(one, Checkpoint))
    stages = list(there)
    undone = [stage.key for stage in stages if store.state(stage) != "done"]
    if undone:
        parser.error(f"{chosen.recipe} is not finished in {chosen.runs}: {', '.join(undone)}")
    with tempfile.TemporaryDirectory() as nothing:
        both = [reckoning(recipe, stages, one, chosen.runs) for one in (RunStore(Path(nothing)), store)]
        found = list(lines(stages, readable(recipe.labels()), store, both))
    print(
        "| stage | planned, s | from its rows, s | measured, s | planned ÷ measured | from rows ÷ measured |"
    )
    print("|---|---|---|---|---|---|")
    print(*found, sep="\n")
    finishes = [one.finish(readable(recipe.labels())) for one in both]
    totals = [one.hours.likely * HOUR for one in finishes]
    print(Line(name="**all**", planned=totals[0], reckoned=totals[1], measured=whole(stages, store)))
    for name, one in zip(("planned", "from its rows"), finishes, strict=True):
        least, most, starts, tail, grading = (
            f"{part * HOUR:.0f} s"
            for part in (one.hours.least, one.hours.most, one.starts, one.tail, one.grading)
        )
        print(f"{name}: between {least} and {most}; starts {starts}, tail {tail}, grading {grading}")
    print(f"{time.strftime('%d %B %Y', time.gmtime())}; speeds of {store.root / 'throughput.json'}")


if __name__ == "__main__":
    main()
