"""The Ray cluster that machine.toml names, and Slurm where its commands or its job are."""

import importlib.util
import os
import shutil
from collections.abc import Iterator

from harness.cluster import INSTALL, connected, living, reach
from harness.doctor.finding import Finding
from harness.errors import ServerError
from harness.machine import Machine


def cluster(machine: Machine, deep: bool) -> Iterator[Finding]:
    """Ray where it is configured. It is joined only where asked for: that takes many seconds."""
    address = machine.cluster.address
    if address:
        yield ray(address, deep)
    if job := os.environ.get("SLURM_JOB_ID"):
        cores = len(os.sched_getaffinity(0))
        yield slurm(f"in job {job}, {os.environ.get('SLURM_JOB_NUM_NODES', '1')} nodes, {cores} cores here")
    elif shutil.which("sbatch"):
        yield slurm("sbatch is here: docs/cluster/harness.sbatch starts a run")


def ray(address: str, deep: bool) -> Finding:
    if importlib.util.find_spec("ray") is None:
        return Finding(
            area="cluster",
            name="Ray",
            state="missing",
            found=f"machine.toml names the cluster {address!r}, and Ray is not installed",
            remedy=INSTALL,
        )
    if deep:
        found = f"{len(living(connected(address)))} nodes at {address}"
    else:
        try:
            reach(address)
        except OSError as error:
            raise ServerError(
                f"nothing answers at {address}: {error}", "start it (ray start --head), or take [cluster] out"
            ) from error
        found = f"installed, for the cluster at {address}; --deep joins it"
    return Finding(area="cluster", name="Ray", state="ok", found=found)


def slurm(found: str) -> Finding:
    return Finding(area="cluster", name="Slurm", state="ok", found=found, provides=("Slurm",))
