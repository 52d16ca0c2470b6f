"""What a machine lacks for a stage: an environment, GPUs, a checkpoint, data, a sandbox. No network is asked.

Disk is told by `harness.plan`, which knows what the stages before fill.
"""

import functools
import importlib.util
from collections.abc import Iterator

from benchmarks.gpqa import TERMS, Gpqa
from benchmarks.livecodebench import FILES, LiveCodeBench
from harness.benchmark import Benchmark
from harness.capacity import least_gpus, needed_bytes
from harness.cost import Estimator, Size, Work
from harness.discover import engines, find_engine
from harness.engines.remote import Remote
from harness.errors import HarnessError
from harness.hardware import MEMORY_OF_AN_H100, Hardware
from harness.hub import MODEL_FILES, Checkpoint, cached, find_local, find_present
from harness.machine import Machine
from harness.plan import Lack, gigabytes
from harness.setup import environment_python
from harness.stage import Stage
from pipeline.needs import Need, named, parts, repository
from pipeline.tables import Table

CPU_LIMIT = 1e9  # parameters; a larger model writes less than a token a second and core

TABLES = ("*.jsonl", "*.parquet", "*.csv")
IN_PROCESS = {"torch": "torch", "trl": "trl"}


class Lacks:
    """Says what a stage misses on one machine."""

    def __init__(self, machine: Machine, here: Hardware) -> None:
        self.machine = machine
        self.here = here

    def __call__(self, stage: Stage, work: Work, estimator: Estimator) -> Iterator[Lack]:
        if work.model is not None:
            yield from self.engine(work.engine)
            if not self.is_remote(work.engine):
                yield from self.gpus(work, estimator.size(work.model))
        for need in parts(stage):
            yield from self.need(need, estimator)
        if work.sandbox:
            yield from self.sandbox()

    def is_remote(self, engine: str) -> bool:
        return engine in engines() and isinstance(find_engine(engine), Remote)

    def engine(self, name: str) -> Iterator[Lack]:
        """The environment of an engine or a trainer."""
        if name in IN_PROCESS:
            if importlib.util.find_spec(IN_PROCESS[name]) is None:
                yield Lack(what=f"{name} is not installed", remedy="pip install 'dasd-harness[train]'")
            return
        try:
            if self.is_remote(name):
                Remote().base_url(self.machine)
            elif not self.machine.engine(name).image:
                environment_python(name, self.machine)
        except HarnessError as error:
            yield Lack(what=error.message, remedy=error.remedy)

    def gpus(self, work: Work, size: Size | None) -> Iterator[Lack]:
        """GPUs with memory for the model: one for a forward pass or TRL, all of this machine for a server,
        and those of all nodes for a training."""
        if size is None:
            return
        each = self.here.gpu_bytes or MEMORY_OF_AN_H100
        needed, least = needed_bytes(work.kind, size), least_gpus(work.kind, size, each)
        purpose = "to train" if work.kind == "train" else "to run"
        model = f"{size.parameters / 1e9:.3g}B parameters {purpose}"
        remedy = f"needs {gigabytes(needed)} of GPU memory: {least} × {gigabytes(each)} or more"
        if not self.here.gpus:
            if size.parameters > CPU_LIMIT:
                yield Lack(what=f"no GPU for {model}", remedy=remedy)
            return
        nodes = self.machine.training.nodes if work.kind == "train" else 1
        usable = 1 if work.engine in IN_PROCESS else self.here.gpus * nodes
        if self.here.gpu_bytes and least > usable:
            yield Lack(what=f"too little GPU memory for {model}", remedy=remedy)

    def need(self, need: Need, estimator: Estimator) -> Iterator[Lack]:
        """A checkpoint or data set that is neither in the data folder nor in the hub's cache."""
        try:
            if present(need, self.machine):
                return
        except HarnessError as error:
            yield Lack(what=error.message, remedy=error.remedy)
            return
        found = repository(need, self.machine)
        name, kind = (found[0], found[2]) if found else (named(need), "model")
        size = estimator.size(need) if isinstance(need, Checkpoint) else None
        room = f" ({gigabytes(size.bytes)})" if size else ""
        yield Lack(
            what=f"{kind} {name}{room} is neither in the data folder nor in the hub's cache",
            remedy="it will be downloaded from the hub" + (f"; {TERMS}" if isinstance(need, Gpqa) else ""),
        )

    @functools.cached_property
    def sandbox_trouble(self) -> str:
        """Why no sandbox would open here, or nothing."""
        from harness.sandboxes import sandbox_trouble

        return sandbox_trouble(self.machine)

    def sandbox(self) -> Iterator[Lack]:
        if self.sandbox_trouble:
            yield Lack(
                what=f"no sandbox for programs: {self.sandbox_trouble}", remedy="run: harness setup sandbox"
            )


def present(need: Need, machine: Machine) -> bool:
    """Whether something from outside is on this machine. Raises HarnessError for a part of a data set."""
    match need:
        case Checkpoint():
            here = need.path or need.find_local(machine.data)[0]
            return bool(here or cached(need.source, need.revision, list(MODEL_FILES), "model", machine.hub))
        case Table():
            files = list(need.files)
            return find_present(need.repo, need.revision, files, machine.data, machine.hub) is not None
        case LiveCodeBench():
            names = [FILES[number][0] for number in need.window.files]
            return all(local_file(need, name, f"lcb/{name}", machine) for name in names)
        case Benchmark():
            return "/" not in need.dataset or by_name(need, machine)


def local_file(benchmark: Benchmark, name: str, alias: str, machine: Machine) -> bool:
    """Whether one file of a benchmark is in the data folder or the hub's cache."""
    repo, revision = benchmark.dataset, benchmark.revision
    if find_local(repo, revision, [name], machine.data, [alias]):
        return True
    return cached(repo, revision, [name], "dataset", "huggingface") is not None


def by_name(benchmark: Benchmark, machine: Machine) -> bool:
    """Whether the data folder has a benchmark by its own name or by its repository's, or the cache does."""
    if machine.data is not None and any(machine.data.glob(f"*/{benchmark.name}.*")):
        return True
    repo, revision = benchmark.dataset, benchmark.revision
    return find_present(repo, revision, list(TABLES), machine.data, "huggingface") is not None
