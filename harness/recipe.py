"""Recipe: named stages, the checkpoints that become rows of the report, and what to measure."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.benchmark import Benchmark
from harness.cost import Assumptions
from harness.discover import suggestion
from harness.errors import UsageError
from harness.evaluate import Ask, Mark
from harness.hub import Served, checkpoint
from harness.stage import Stage, ordered

RESERVED = ("stages", "logs")


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row of the report: a checkpoint and how it is asked."""

    model: Stage
    system: str | None = None


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A reproduction. `stages` are in the order a reader wants; `published` names the claims' file and
    `claimed` whose claims in it are meant, where they are not those of the recipe it is named after.

    `entries` are the points at which the reproduction may start, the whole of it first. `make(entry,
    engine)` makes the same recipe from one of them and on an engine. `assumed` is what `harness plan`
    reckons with until it is measured. `commands` are those that made such a run, each as words; empty where
    nobody wrote them down.
    """

    name: str
    summary: str
    stages: dict[str, Stage]
    models: dict[str, Row]
    benchmarks: tuple[Benchmark, ...]
    engine: str
    entries: tuple[str, ...] = ("questions",)
    make: "Callable[[str, str], Recipe] | None" = None
    published: str = ""
    claimed: str = ""
    limit: int | None = None
    assumed: Assumptions | None = None
    commands: tuple[tuple[str, ...], ...] = ()

    def marks(self) -> dict[str, Mark]:
        """One graded evaluation a row and benchmark, labelled `eval/<row>/<benchmark>`."""
        return {
            f"eval/{name}/{benchmark.name}": Mark(
                asked=Ask(
                    model=row.model,
                    benchmark=benchmark,
                    engine=self.engine,
                    system=row.system,
                    limit=self.limit,
                ),
                grader=benchmark.grader,
            )
            for name, row in self.models.items()
            for benchmark in self.benchmarks
        }

    def labels(self, until: str | None = None) -> dict[str, Stage]:
        """All stages by label, numbered, each evaluation as soon as its checkpoint exists.

        With `until`, only that stage and what it reads. Raises UsageError for an unknown label.
        """
        numbered: dict[str, Stage] = {
            f"{number:02}-{name}": stage for number, (name, stage) in enumerate(self.stages.items(), 1)
        }
        everything = {**numbered, **self.marks()}
        if until is None:
            return everything
        wanted = [stage for label, stage in everything.items() if until in (label, label[3:])]
        if not wanted:
            raise UsageError(f"unknown stage {until!r}. {suggestion(until, [*self.stages, *self.marks()])}")
        needed = {stage.key for stage in ordered(wanted)}
        return {label: stage for label, stage in everything.items() if stage.key in needed}


def evaluation(
    *,
    model: str,
    benchmarks: Sequence[Benchmark],
    engine: str,
    base_url: str | None = None,
    system: str | None = None,
    name: str | None = None,
    limit: int | None = None,
) -> Recipe:
    """A recipe of one row: `model` on some benchmarks, with nothing to compare it with."""
    measured: Stage = Served(name=model, base_url=base_url) if base_url else checkpoint(model)
    label = re.sub(r"[^\w.-]+", "-", Path(model).resolve().name if Path(model).is_dir() else model)
    asked = [benchmark.name for benchmark in benchmarks]
    if twice := {one for one in asked if asked.count(one) > 1}:
        raise UsageError(f"benchmark {min(twice)!r} is given twice")
    return Recipe(
        name=checked_name(name or label),
        summary=f"{model} on {', '.join(benchmark.name for benchmark in benchmarks)}",
        stages={"model": measured},
        models={label: Row(model=measured, system=system)},
        benchmarks=tuple(benchmarks),
        engine=engine,
        limit=limit,
    )


def checked_name(name: str) -> str:
    """A name that `runs/<name>` may have. Raises UsageError otherwise."""
    if not re.fullmatch(r"[\w][\w.-]*", name) or name in RESERVED:
        raise UsageError(
            f"a run cannot be called {name!r}", "Give --name with letters, digits, . _ and - only."
        )
    return name
