"""What is measured of a harness at work: memory, open files, threads, processes, containers, files."""

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import docker
import psutil
from docker.errors import DockerException

from harness.sandboxes.docker import LABEL

MARK = "DASD_HARNESS_SOAK"
"""In the environment of every process of a soak, with its own value for each soak."""
MEGA = 2**20


@dataclass(frozen=True, kw_only=True)
class Watched:
    """What belongs to a soak. `owners` are the ids of all processes of it that may have had containers."""

    mark: str
    driver: int
    runs: Path
    temporary: Path
    engine: docker.DockerClient | None
    owners: set[int] = field(default_factory=set)


def processes(watched: Watched) -> list[psutil.Process]:
    """All living processes with the mark, whoever their parent is now. vLLM's engine and workers name
    themselves over their environment: they are known by their working folder, in the temporary one."""
    wanted = f"{MARK}={watched.mark}".encode()
    found = []
    for process in psutil.process_iter():
        try:
            environment = Path("/proc", str(process.pid), "environ").read_bytes().split(b"\0")
            within = Path("/proc", str(process.pid), "cwd").readlink().is_relative_to(watched.temporary)
            if (wanted in environment or within) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (OSError, psutil.Error):
            continue
    return found


def proportional(found: Iterable[psutil.Process]) -> float:
    """Their memory in MB, what they share divided among those who share it."""
    total = 0
    for process in found:
        try:
            total += process.memory_full_info().pss
        except (OSError, psutil.Error):
            continue
    return total / MEGA


def size(folder: Path) -> tuple[int, int]:
    """The number of entries below a folder, and the bytes of its files."""
    entries = bytes_ = 0
    for above, folders, files in os.walk(folder):
        entries += len(folders) + len(files)
        for file in files:
            try:
                bytes_ += Path(above, file).lstat().st_size
            except OSError:
                continue
    return entries, bytes_


def containers(watched: Watched) -> int:
    """Containers and volumes that carry the label of one of our processes. Raises DockerException."""
    assert watched.engine is not None
    listed = watched.engine.containers.list(all=True, filters={"label": LABEL}, ignore_removed=True)
    volumes = watched.engine.volumes.list(filters={"label": LABEL})
    labels = [str(each.labels.get(LABEL, "")) for each in listed]
    labels += [str((each.attrs.get("Labels") or {}).get(LABEL, "")) for each in volumes]
    return sum(owner_of(label) in watched.owners for label in labels)


def owner_of(label: str) -> int:
    """The process that a container's label names (`computer/boot/process/start`)."""
    parts = label.split("/")
    return int(parts[2]) if len(parts) == 4 and parts[2].isdigit() else 0


def sample(watched: Watched) -> dict[str, float] | None:
    """One look at everything; None where the driver is gone, or Docker answers with an error. Without
    Docker nothing is told of containers."""
    try:
        driver = psutil.Process(watched.driver)
        below = {watched.driver, *(child.pid for child in driver.children(recursive=True))}
        alive = processes(watched)
        own = driver.memory_full_info()
        counts = {"open files": driver.num_fds(), "threads": driver.num_threads()}
        contained = {"containers and volumes": containers(watched)} if watched.engine else {}
    except (OSError, psutil.Error, DockerException):
        return None
    entries, bytes_ = size(watched.runs)
    return {
        "time": time.monotonic(),
        "resident memory": own.rss / MEGA,
        "own share of memory": own.pss / MEGA,
        "memory with children": proportional(each for each in alive if each.pid in below),
        **counts,
        "processes": len(alive),
        **contained,
        "entries under runs": entries,
        "size of runs": bytes_ / MEGA,
        "temporary entries": size(watched.temporary)[0],
    }


UNITS = {
    "resident memory": "MB",
    "own share of memory": "MB",
    "memory with children": "MB",
    "size of runs": "MB",
}
"""What is no count."""


AT_REST = ("processes", "containers and volumes", "entries under runs", "size of runs", "temporary entries")
"""What comes and goes within a round, and is compared between rounds."""
