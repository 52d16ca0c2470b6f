"""Free disk where results, environments and downloads go, against what purposes are going to write."""

import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from harness.doctor.finding import Finding, Purpose
from harness.doctor.interpreter import shortened
from harness.machine import Machine
from harness.plan import gigabytes
from harness.store import existing

LITTLE = 5e9  # bytes; less than this fills up with logs and a compiler's cache
MOVES = {
    "environments": 'environments = "/larger/disk" in machine.toml',
    "hub cache": "export HF_HOME=/larger/disk",
    "temporary files": "export TMPDIR=/larger/disk",
}


def disk(runs: Path, machine: Machine, purposes: Iterable[Purpose]) -> Iterator[Finding]:
    """Free space where results go, against what is still to be written; and where caches are."""
    yield results(runs, [one for one in purposes if one.disk])
    yield from caches(machine, device(runs))


def results(runs: Path, purposes: list[Purpose]) -> Finding:
    free = shutil.disk_usage(existing(runs)).free
    short = [one for one in purposes if one.disk > free]
    needs = "".join(f"; {gigabytes(one.disk)} for {one.command}" for one in purposes)
    return Finding(
        area="machine",
        name="disk for runs",
        state="missing" if short else "ok",
        found=f"{gigabytes(free)} free at {shortened(runs)}{needs}",
        remedy="--runs DIR on a larger disk" if short else "",
        blocks=tuple(one.command for one in short),
    )


def caches(machine: Machine, known: int) -> Iterator[Finding]:
    """The other file systems that fill up: environments, the hub's cache, temporary files."""
    from huggingface_hub.constants import HF_HUB_CACHE

    places = {
        "environments": machine.environments,
        "hub cache": Path(HF_HUB_CACHE),
        "temporary files": Path(tempfile.gettempdir()),
    }
    for name, place in places.items():
        if device(place) == known:
            continue
        free = shutil.disk_usage(existing(place)).free
        yield Finding(
            area="machine",
            name=f"disk for {name}",
            state="warning" if free < LITTLE else "ok",
            found=f"{gigabytes(free)} free at {shortened(place)}",
            remedy=MOVES[name] if free < LITTLE else "",
        )


def device(path: Path) -> int:
    return existing(path).stat().st_dev
