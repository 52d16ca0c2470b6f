"""Whether data sets and checkpoints are on this machine, for `harness doctor`. Only their names are read."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial

from harness.benchmark import Benchmark
from harness.cost import Estimator
from harness.doctor.finding import Check, Finding
from harness.hub import UNPINNED, Lock, locked_as
from harness.machine import Machine
from harness.stage import Stage
from pipeline.lacks import Lacks, present
from pipeline.needs import Need, column_lines, named, needs, repository

NAME = re.compile(r"^(dataset|model) \S+ ")  # stands beside it already
BY_HAND = "or put it below the data folder (docs/data.md)"


def from_outside(stages: Iterable[Stage], asked: Iterable[Benchmark], machine: Machine) -> list[Need]:
    """The checkpoints and data sets that no part of the harness brings along, each once."""
    found = {named(need): need for need in (*needs(stages), *asked)}
    return [need for need in found.values() if repository(need, machine)]


def data_checks(
    wanted: Iterable[Need], lacks: Lacks, estimator: Estimator, reachable: bool
) -> Iterator[Check]:
    """A check a need. `reachable`: the hub answers, so that what is not here is only a download away."""
    yield Check(area="data", name="columns", look=partial(renamed, lacks.machine))
    for need in wanted:
        name = named(need)
        look = partial(look_for, need, lacks, estimator, reachable)
        yield Check(area="data", name=name, look=look, provides=(name,))


def look_for(need: Need, lacks: Lacks, estimator: Estimator, reachable: bool) -> Iterator[Finding]:
    """Whether a checkpoint or a data set is on this machine, and at which commit."""
    name, machine = named(need), lacks.machine
    for lack in lacks.need(need, estimator):
        yield Finding(
            area="data",
            name=name,
            state="warning" if reachable else "missing",
            found=NAME.sub("", lack.what),
            remedy=f"{lack.remedy.rstrip('.')}; {BY_HAND}",
            provides=(name,),
        )
        return
    cached = present(need, replace(machine, data=None))
    yield Finding(
        area="data",
        name=name,
        state="ok",
        found=f"in the hub's cache, {pin_of(need, machine)}" if cached else "in the data folder",
        provides=(name,),
    )


def pin_of(need: Need, machine: Machine) -> str:
    """The commit that a need is read at, and who says so."""
    found = repository(need, machine)
    if found is None:
        return "part of the harness"
    repo, revision, _, hub = found
    if revision != UNPINNED:
        return f"pinned at {revision[:12]}"
    locked = Lock().revision(locked_as(repo, hub))
    return f"locked at {locked[:12]}" if locked else "unpinned"


def renamed(machine: Machine) -> Iterator[Finding]:
    """The renamings of machine.toml. Raises UsageError where they are of data that nobody knows."""
    known = len(list(column_lines(machine)))
    if machine.columns:
        yield Finding(
            area="data",
            name="columns",
            state="ok",
            found=f"machine.toml renames columns of {len(machine.columns)} of {known} data sets",
        )
