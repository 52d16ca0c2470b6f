"""All checks of `harness doctor`, in the order of its table."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from harness.doctor.cluster import cluster
from harness.doctor.disk import disk
from harness.doctor.environments import (
    TRAINING,
    elsewhere,
    environment,
    environment_names,
    provided,
    training,
)
from harness.doctor.finding import Check, Purpose
from harness.doctor.gpus import GPU, gpus
from harness.doctor.interpreter import packages, python
from harness.doctor.keys import TOKEN, keys
from harness.doctor.limits import SERVE, clock, files, memory, ports
from harness.doctor.network import network
from harness.doctor.sandbox import BUBBLEWRAP, SANDBOX, program, sandbox
from harness.doctor.starting import started
from harness.machine import Machine

REMOTE = "remote"
DEEP_SECONDS = 1800.0  # beyond an engine's own start_timeout


def first_checks(runs: Path, machine: Machine, purposes: Sequence[Purpose]) -> list[Check]:
    """The Python, the machine, the sandbox, the GPUs, the engines."""
    return [
        Check(area="Python", name="Python", look=python),
        Check(area="Python", name="packages", look=packages),
        Check(area="machine", name="disk", look=partial(disk, runs, machine, purposes)),
        Check(area="machine", name="memory and cores", look=partial(memory, machine)),
        Check(area="machine", name="open files", look=partial(files, machine)),
        Check(area="machine", name="ports", look=partial(ports, machine), provides=(SERVE,)),
        Check(area="machine", name="clock", look=clock),
        Check(area="sandbox", name="sandbox", look=partial(sandbox, machine), provides=(SANDBOX, BUBBLEWRAP)),
        Check(area="GPUs", name="GPUs", look=partial(gpus, machine, purposes), provides=(GPU,)),
        *(
            Check(
                area="engines",
                name=name,
                look=partial(environment, name, machine),
                provides=(provided(name),),
            )
            for name in environment_names()
        ),
        *remote_checks(machine, purposes),
        Check(area="engines", name="torch and trl", look=partial(training, machine), provides=TRAINING),
    ]


def remote_checks(machine: Machine, purposes: Sequence[Purpose]) -> Iterator[Check]:
    """A server that somebody else runs, where machine.toml names one or something needs one."""
    name = provided(REMOTE)
    if machine.engine(REMOTE).base_url or any(name in one.needs for one in purposes):
        yield Check(area="engines", name=REMOTE, look=partial(elsewhere, REMOTE, machine), provides=(name,))


def last_checks(machine: Machine, gated: bool, deep: bool) -> list[Check]:
    """Keys and the cluster."""
    return [
        Check(
            area="keys",
            name="keys",
            look=partial(keys, machine, gated),
            provides=(TOKEN, SERVE, provided("remote"), provided("batch")),
        ),
        Check(
            area="cluster",
            name="cluster",
            look=partial(cluster, machine, deep),
            seconds=DEEP_SECONDS if deep else 10.0,
        ),
    ]


def network_check(machine: Machine) -> Check:
    return Check(
        area="network", name="hub", look=partial(network, machine.hub), provides=("network",), seconds=8.0
    )


def deep_checks(machine: Machine, model: Path) -> Iterator[Check]:
    """What starts something, to be made one after the other."""
    yield Check(
        area="sandbox",
        name="a program",
        look=partial(program, machine),
        provides=(SANDBOX,),
        seconds=DEEP_SECONDS,
    )
    for name in environment_names():
        yield Check(
            area="engines",
            name=f"{name} at work",
            look=partial(started, name, machine, model),
            provides=(provided(name),),
            seconds=machine.engine(name).start_timeout + DEEP_SECONDS,
        )
