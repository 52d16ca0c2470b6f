"""nightly.toml: what is asked each night, what the gate is held to, where the history is, whom to tell.

    [[checkpoints]]
    model = "dasd-micro/final"
    benchmarks = ["micro_math:32", "micro_code:16"]

Everything else has a default. Paths are relative to the file.
"""

import itertools
import re
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from harness.benchmark import Benchmark
from harness.discover import suggestion
from harness.errors import UsageError
from harness.nightly.gate import Outcome, settled
from harness.recipe import checked_name
from harness.toml import table_in

Positive = Annotated[float, Meta(gt=0)]
Chance = Annotated[float, Meta(ge=1e-6, lt=0.5)]
Deviations = Annotated[float, Meta(gt=0, le=6)]  # of more the gate's sums cannot tell the chance from none


class Asked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One checkpoint and its benchmarks, as `NAME[:DRAWS]`.

    `model` is a folder, RUN/ROW, ORG/NAME@COMMIT, or with `base_url` the name that a running server knows.
    `name` is what the history calls it: a checkpoint that is trained anew each night keeps its name.
    `claims` names a row's published values (dasd-4b/released), which are shown and never gated on.
    """

    model: str
    benchmarks: Annotated[tuple[str, ...], Meta(min_length=1)]
    name: str = ""
    engine: str = ""
    base_url: str = ""
    system: str | None = None
    temperature: Annotated[float, Meta(ge=0)] | None = None
    max_tokens: Annotated[int, Meta(ge=1)] | None = None
    claims: str = ""

    @property
    def called(self) -> str:
        """Its name, or one made from the model's."""
        return self.name or re.sub(r"[^\w.-]+", "-", self.model.partition("@")[0]).strip("-.")


class Gate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the gate promises. `alpha` is the chance of a false alarm in a whole night; `k`, in its place,
    the standard deviations of each single test. `drop`, in points, is the smallest drop that must not pass
    unseen: a gate that could not see it says `inconclusive`. `maximum_history` takes only so many of the
    last nights; without it, all since the last `--accept`."""

    alpha: Chance = 0.01
    k: Deviations | None = None
    drop: Positive = 3.0
    minimum_history: Annotated[int, Meta(ge=2)] = 5
    maximum_history: Annotated[int, Meta(ge=2)] | None = None


class Kept(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the counts are kept, for ever, and for how many nights the responses themselves."""

    path: str = ""
    keep_rows: Annotated[int, Meta(ge=1)] = 14


class Notify(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A command that gets the outcome as JSON, when it is one of `on`; none while `command` is empty."""

    command: tuple[str, ...] = ()
    on: tuple[Outcome, ...] = ("regression", "inconclusive")
    timeout: Positive = 60.0


class Nightly(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file. `name` names the runs: NAME-2026-01-31."""

    checkpoints: Annotated[tuple[Asked, ...], Meta(min_length=1)]
    name: str = ""
    gate: Gate = Gate()
    history: Kept = Kept()
    notify: Notify = Notify()


TABLES: dict[str, type[msgspec.Struct]] = {
    "": Nightly,
    "checkpoints": Asked,
    "gate": Gate,
    "history": Kept,
    "notify": Notify,
}


def load_nightly(file: Path) -> Nightly:
    """The configuration in a file; its name is the file's where it gives none.

    Raises UsageError that names the setting which is unknown, or what is wrong with it.
    """
    try:
        table = table_in(file.read_bytes())
        found = msgspec.convert(table, Nightly)
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}", "A minimal one stands in docs/nightly.md.") from error
    except msgspec.ValidationError as error:
        raise UsageError(f"{file}: {explained(str(error))}") from error
    except ValueError as error:
        raise UsageError(f"{file}: {error}") from error
    found = msgspec.structs.replace(found, name=checked_name(found.name or file.stem))
    return checked(found, file)


def checked(found: Nightly, file: Path) -> Nightly:
    """The configuration. Raises UsageError where two of its checkpoints would be one in the history, or no
    history would ever be long enough."""
    reachable(found.gate, file)
    for one in found.checkpoints:
        if not re.fullmatch(r"\w[\w.-]*", one.called):
            raise UsageError(
                f"{file}: a checkpoint cannot be called {one.called!r}",
                "Give it a name with letters, digits, . _ and - only.",
            )
        names = [text.partition(":")[0] for text in one.benchmarks]
        if twice := {name for name in names if names.count(name) > 1}:
            raise UsageError(f"{file}: {one.called} is asked {min(twice)!r} twice")
        if one.base_url and one.engine not in ("", "remote"):
            raise UsageError(
                f"{file}: base_url names a running server, engine = {one.engine!r} starts one",
                f"Leave one of them out of {one.called}.",
            )
    called = [one.called for one in found.checkpoints]
    if double := {name for name in called if called.count(name) > 1}:
        raise UsageError(
            f"{file}: two checkpoints are called {min(double)!r}", 'Give each a name = "…" of its own.'
        )
    return found


def reachable(gate: Gate, file: Path) -> None:
    """Raises UsageError where `minimum_history` nights never count, since the last ones wait (`settled`)."""
    most, least = gate.maximum_history, gate.minimum_history
    if most is not None and (counted := len(settled(range(most)))) < least:
        enough = next(nights for nights in itertools.count(least) if len(settled(range(nights))) >= least)
        raise UsageError(
            f"{file}: of maximum_history = {most} nights the last {most - counted} wait and {counted} count, "
            f"so that minimum_history = {least} is never reached",
            f"Take maximum_history = {enough} or more, or none.",
        )


def drawn_apart(benchmark: Benchmark) -> Benchmark:
    """The benchmark. Raises UsageError where its draws would be copies: the gate takes each for one of its
    own, and would find far less noise than there is."""
    sampling = benchmark.sampling
    if sampling.temperature == 0 and sampling.draws > 1:
        raise UsageError(
            f"{benchmark.name}: {sampling.draws} draws a question at temperature 0 are one, copied",
            f'Ask for one ("{benchmark.name}:1"), or set a temperature above 0.',
        )
    return benchmark


FIELD = re.compile(r"unknown field `(?P<field>[^`]*)`(?: - at `\$\.?(?P<table>\w*).*`)?$")


def explained(message: str) -> str:
    """msgspec's message; of an unknown setting, what may have been meant."""
    if (found := FIELD.search(message)) is None:
        return message
    table = found["table"] or ""
    where = f" in [{table}]" if table else ""
    known = TABLES[table].__struct_fields__
    return f"unknown setting {found['field']!r}{where}. {suggestion(found['field'], known)}"
