"""What a recipe needs from outside: checkpoints, data sets, benchmarks; and whether it is here."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator

from harness.benchmark import Benchmark
from harness.discover import pick
from harness.errors import DataError, HarnessError
from harness.hub import (
    MODEL_FILES,
    UNPINNED,
    Checkpoint,
    Lock,
    cached,
    check_checkpoint,
    find_present,
    resolve,
)
from harness.hubs import HubFailure, HubName, Kind
from harness.machine import Machine
from harness.stage import Stage, field_values, ordered
from pipeline.released import responses_table
from pipeline.released_logprobs import LOGPROBS
from pipeline.sources import SOURCES, TACO_AND_APPS
from pipeline.tables import Table, check_files, columns_of

KNOWN = (
    *(source.table for source in SOURCES),
    *(place.table for place in TACO_AND_APPS.places),
    responses_table("stage1"),
    responses_table("stage2"),
    LOGPROBS,
)

Need = Table | Benchmark | Checkpoint


def needs(stages: Iterable[Stage]) -> list[Need]:
    """Each thing once, in the order in which the stages read it."""
    found = [part for stage in ordered(list(stages)) for part in parts(stage)]
    return list({named(part): part for part in found}.values())


def parts(stage: Stage) -> Iterator[Need]:
    """The needs of one stage, not of those that it reads."""
    if isinstance(stage, Checkpoint):
        yield stage
        return
    for value in field_values(stage):
        yield from parts_of(value)


def parts_of(value: object) -> Iterator[Need]:
    match value:
        case Stage():
            return
        case Table() | Benchmark():
            yield value
        case list() | tuple():
            for item in value:
                yield from parts_of(item)
        case _ if dataclasses.is_dataclass(value) and not isinstance(value, type):
            yield from parts_of(tuple(field_values(value)))


def named(need: Need) -> str:
    match need:
        case Table():
            return need.repo if len(need.files) > 1 else f"{need.repo} {need.files[0]}"
        case Benchmark():
            return f"benchmark {need.name}"
        case Checkpoint():
            return f"model {need.source}"


def repository(need: Need, machine: Machine) -> tuple[str, str, Kind, HubName] | None:
    """Name, revision, kind and hub of what is on a hub; None for the rest."""
    match need:
        case Table():
            return need.repo, need.revision, "dataset", machine.hub
        case Benchmark() if "/" in need.dataset:
            return need.dataset, need.revision, "dataset", "huggingface"
        case Checkpoint() if not need.sha256:
            return need.source, need.revision, "model", machine.hub
    return None


def pinned(need: Need, machine: Machine) -> str:
    """The commit that a need is pinned to, resolved and locked where it was unpinned.

    Raises DataError where the hub does not tell.
    """
    found = repository(need, machine)
    if found is None:
        return "needs no pin"
    repo, revision, kind, hub = found
    try:
        commit = resolve(repo, revision, kind, Lock(), hub)
    except HubFailure as failure:
        raise DataError(
            f"no commit of {repo}: {failure}", "Connect to the hub, or give a data folder."
        ) from failure
    return f"{commit} ({'locked' if revision == UNPINNED else 'pinned by the recipe'})"


def verified(need: Need, machine: Machine) -> str:
    """What is there of a need. Raises HarnessError where it is missing or is not what was expected."""
    match need:
        case Table():
            return verified_table(need, machine)
        case Benchmark():
            return f"{len(need.load(machine.data))} questions"
        case Checkpoint():
            return verified_checkpoint(need, machine)


def verified_table(table: Table, machine: Machine) -> str:
    columns = columns_of(table, machine)
    found = find_present(table.repo, table.revision, list(table.files), machine.data, machine.hub)
    if found is None:
        raise DataError(
            f"{table.repo}: none of {', '.join(table.files)} is on this machine",
            "The first run downloads it from the hub; or put a clone below the data folder.",
        )
    check_files(table, found.paths, columns)
    size = sum(path.stat().st_size for path in found.paths)
    told = ", ".join(f"{role} = {column}" for role, column in columns.items())
    return f"{len(found.paths)} files, {size / 2**20:,.1f} MiB ({found.origin}); {told}"


def verified_checkpoint(model: Checkpoint, machine: Machine) -> str:
    folder = model.path or model.find_local(machine.data)[0]
    folder = folder or cached(model.source, model.revision, list(MODEL_FILES), "model", machine.hub)
    if folder is None:
        raise DataError(
            f"{model.source} is not on this machine",
            "The first run downloads it from the hub; or put it below the data folder.",
        )
    check_checkpoint(folder)
    return str(folder)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Looked:
    """A need, whether a look at it found no fault, and what was found."""

    need: str
    fine: bool
    told: str

    @property
    def line(self) -> str:
        return f"{self.need}: {self.told}".replace("\n", "\n         ")


def looked_at(
    stages: Iterable[Stage], machine: Machine, look: Callable[[Need, Machine], str]
) -> Iterator[Looked]:
    """For each need whether `look` is content with it, and what it says."""
    for need in needs(stages):
        name = named(need)
        try:
            yield Looked(need=name, fine=True, told=look(need, machine))
        except HarnessError as error:
            yield Looked(need=name, fine=False, told=str(error).removeprefix(f"{name}: "))


def column_lines(machine: Machine) -> Iterator[str]:
    """A line a known data set. Raises UsageError where machine.toml renames columns of an unknown one."""
    known = {table.repo: table for table in KNOWN}
    for repo in machine.columns:
        pick("data set in machine.toml's columns", repo, known)
    for table in KNOWN:
        told = ", ".join(f"{role} = {column}" for role, column in columns_of(table, machine).items())
        yield f"{table.repo} ({table.files[0]}): {told}"
