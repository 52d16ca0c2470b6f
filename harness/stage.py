"""Stage: a frozen dataclass whose fields are its identity and whose `run` writes one directory.

Keys are Merkle: class, `version`, fields, keys of the input stages. Code is not hashed: bump
`version` when `run` starts to mean something else.
"""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from harness.types import Sampling

if TYPE_CHECKING:
    from harness.cost import Estimator, Volume, Work
    from harness.store import Context

Json = Any


@dataclass(frozen=True, kw_only=True)
class Service:
    """The model server that a stage talks to: which checkpoint, through which engine.

    `sampling` counts only for engines that fix it at start-up.
    """

    model: "Stage"
    engine: str
    sampling: Sampling


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One step of a recipe. Subclasses add fields and implement `run`.

    `run` may be interrupted at any moment and called again on the same directory: it keeps the rows
    that are there and adds what is missing. The store, not the stage, marks the directory complete.
    """

    version: ClassVar[int] = 1

    def run(self, out: Path, context: "Context") -> None:
        """Writes this stage's files into `out`. Raises HarnessError where a user must act."""
        raise NotImplementedError

    def service(self) -> Service | None:
        """The one model server that `run` needs, or None."""
        return None

    def expected(self, estimator: "Estimator") -> "Volume | None":
        """The rows that this stage will leave, guessed before it runs; None where it leaves none."""
        return None

    def work(self, estimator: "Estimator") -> "Work | None":
        """What running this stage takes; None where that is next to nothing."""
        return None

    @property
    def computes(self) -> bool:
        """Whether `run` computes with a model in this process or a child: then the GPUs must be free."""
        return False

    @property
    def follows(self) -> "Stage | None":
        """The input whose rows `run` can read while they are still being written (`Context.follow`)."""
        return None

    @property
    def kind(self) -> str:
        return type(self).__name__.lower()

    @property
    def identity(self) -> dict[str, Json]:
        """Class, version and fields, with input stages by key: what the key is a hash of."""
        identity: dict[str, Json] = described(self)
        return identity

    @property
    def inputs(self) -> list["Stage"]:
        """The stages that this one reads, in field order."""
        return list(dict.fromkeys(stages_in(tuple(field_values(self)))))

    @cached_property
    def key(self) -> str:
        """Kind and eight hex digits, such as `sft-4f2a9c1b`."""
        return key_of_identity(self.kind, self.identity)


def key_of_identity(kind: str, identity: Mapping[str, Json]) -> str:
    """The key of a stage that says this of itself."""
    canonical = json.dumps(identity, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return f"{kind}-{hashlib.sha256(canonical.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"


def described(value: object) -> Json:
    """A stage, benchmark or settings object as JSON: class, version and fields."""
    assert dataclasses.is_dataclass(value)
    record: dict[str, Json] = {"class": type(value).__name__}
    version = getattr(type(value), "version", None)
    if version is not None:
        record["version"] = version
    for field in dataclasses.fields(value):
        record[field.name] = encoded(getattr(value, field.name))
    return record


def encoded(value: object) -> Json:
    """One field's value as JSON; a stage becomes its key."""
    match value:
        case Stage():
            return value.key
        case None | bool() | int() | float() | str():
            return value
        case list() | tuple():
            return [encoded(item) for item in value]
        case dict():
            return {str(name): encoded(item) for name, item in value.items()}
        case _ if dataclasses.is_dataclass(value):
            return described(value)
    raise TypeError(f"{type(value).__name__} cannot be part of a stage's identity")


def field_values(value: object) -> Iterator[object]:
    for field in dataclasses.fields(value):  # type: ignore[arg-type]
        yield getattr(value, field.name)


def stages_in(value: object) -> Iterator[Stage]:
    """The stages in a value, looking into tuples, dicts and plain dataclasses but not into stages."""
    match value:
        case Stage():
            yield value
        case list() | tuple():
            for item in value:
                yield from stages_in(item)
        case dict():
            yield from stages_in(tuple(value.values()))
        case _ if dataclasses.is_dataclass(value) and not isinstance(value, type):
            yield from stages_in(tuple(field_values(value)))


def ordered(stages: list[Stage], without: Callable[[Stage], bool] = lambda _: False) -> list[Stage]:
    """The stages and all that they read, each once, inputs first, in the order given.

    `without` leaves out a stage, and what is read for its sake alone.
    """
    found: dict[str, Stage] = {}

    def visit(stage: Stage) -> None:
        if stage.key in found or without(stage):
            return
        for read in stage.inputs:
            visit(read)
        found[stage.key] = stage

    for stage in stages:
        visit(stage)
    return list(found.values())
