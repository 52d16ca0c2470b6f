"""Recipe: named stages, the checkpoints that become rows of the report, and what to measure."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from harness.benchmark import Benchmark
from harness.discover import suggestion
from harness.errors import UsageError
from harness.evaluate import Ask, Mark
from harness.hub import Served, checkpoint
from harness.stage import Stage, ordered


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row of the report: a checkpoint and how it is asked."""

    model: Stage
    system: str | None = None


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A reproduction. `stages` are in the order a reader wants; `published` names the claims' file."""

    name: str
    summary: str
    stages: dict[str, Stage]
    models: dict[str, Row]
    benchmarks: tuple[Benchmark, ...]
    engine: str
    published: str = ""
    limit: int | None = None

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

    def on(self, engine: str) -> "Recipe":
        """The same recipe with every stage on another engine."""
        moved = with_engine(self, engine, {})
        assert isinstance(moved, Recipe)
        return moved


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
    label = model.rstrip("/").rpartition("/")[2]
    return Recipe(
        name=name or label,
        summary=f"{model} on {', '.join(benchmark.name for benchmark in benchmarks)}",
        stages={"model": measured},
        models={label: Row(model=measured, system=system)},
        benchmarks=tuple(benchmarks),
        engine=engine,
        limit=limit,
    )


def with_engine(value: Any, engine: str, done: dict[int, Any]) -> Any:
    """A copy of a value in which every field called `engine` is `engine`, stages shared as before."""
    if id(value) in done:
        return done[id(value)]
    match value:
        case tuple():
            moved: Any = tuple(with_engine(item, engine, done) for item in value)
        case dict():
            moved = {name: with_engine(item, engine, done) for name, item in value.items()}
        case _ if dataclasses.is_dataclass(value) and not isinstance(value, type):
            fields = {
                field.name: engine
                if field.name == "engine"
                else with_engine(getattr(value, field.name), engine, done)
                for field in dataclasses.fields(value)
            }
            moved = dataclasses.replace(value, **fields)
        case _:
            return value
    done[id(value)] = moved
    return moved
