"""Stages that are finished already, and a stage run on what they left."""

from dataclasses import dataclass
from pathlib import Path

from harness.files import write_json
from harness.integrity import MANIFEST
from harness.machine import Machine
from harness.progress import PlainProgress
from harness.serve import ServerPool
from harness.stage import Stage
from harness.store import Context, RunStore


@dataclass(frozen=True, kw_only=True)
class Given(Stage):
    """Files that a test puts there itself."""

    name: str


def finished(home: Path, name: str) -> Given:
    """A complete stage whose empty folder is `home / stage.key`."""
    stage = Given(name=name)
    folder = home / stage.key
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / MANIFEST, {"key": stage.key, "identity": stage.identity, "inputs": []})
    return stage


def run(stage: Stage, home: Path, machine: Machine | None = None) -> Path:
    """Builds a stage whose inputs stand in `home`; its directory."""
    here = machine or Machine(gpus=0)
    store = RunStore(home)
    store.stages = home
    with ServerPool(here) as pool:
        context = Context(store, here, PlainProgress(), pool)
        try:
            return store.build(stage, context)
        finally:
            context.close()
