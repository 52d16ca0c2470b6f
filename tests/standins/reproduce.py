"""Runs a recipe on stand-ins as `harness reproduce` would, and says what is there afterwards."""

from dataclasses import replace
from pathlib import Path

from harness.machine import Machine, load_machine
from harness.progress import PlainProgress
from harness.recipe import Recipe
from harness.rows import count_rows
from harness.runs import write_recipe
from harness.serve import ServerPool
from harness.store import Context, Runner, RunStore
from reports.assemble import assemble
from reports.page import write_report


def machine(data: Path) -> Machine:
    """This machine, with its data in `data`."""
    return replace(load_machine(None), data=data)


def reproduce(recipe: Recipe, runs: Path, data: Path, until: str | None = None) -> RunStore:
    """Every stage, every evaluation and the report; with `until` what that stage needs."""
    store, here, labels = RunStore(runs), machine(data), recipe.labels(until)
    with ServerPool(here) as pool:
        context = Context(store, here, PlainProgress(), pool)
        try:
            Runner(store, context).build(recipe.name, labels)
        finally:
            context.close()
    write_recipe(store, recipe)
    write_report(runs / recipe.name, assemble(store, recipe, labels))
    return store


def told(store: RunStore, recipe: Recipe, until: str | None = None) -> list[str]:
    """A line a stage: its state and its rows."""
    labels = recipe.labels(until)
    return [
        f"{store.state(stage):8} {label:28} {count_rows(store.path(stage) / 'generations.jsonl') or ''}"
        for label, stage in labels.items()
    ]
