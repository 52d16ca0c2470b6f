"""Memory, cores, open files, ports and the clock."""

import os
import resource
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from harness.doctor.finding import Finding
from harness.machine import Machine
from harness.plan import gigabytes

SERVE = "harness serve"
SERVE_PORT = 8000  # that it takes without --port
SPARE_FILES = 256  # open files beside the requests that are under way
MEMORY_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
DAY = 86400


def memory(machine: Machine) -> Iterator[Finding]:
    """Memory and cores, against what programs in the sandbox may take together."""
    total, cores = total_memory(), len(os.sched_getaffinity(0))
    workers, each = machine.sandbox.workers, machine.sandbox.memory_mb
    tight = workers * each * 2**20 > total
    told = f"{gigabytes(total)}, {cores} cores"
    yield Finding(
        area="machine",
        name="memory and cores",
        state="warning" if tight else "ok",
        found=f"{told}; {workers} graded programs may take {each:,} MB each" if tight else told,
        remedy=f"sandbox.workers = {max(1, int(total // (each * 2**20)))} in machine.toml" if tight else "",
    )


def total_memory() -> float:
    """Bytes that processes here may use: the machine's, or a control group's limit."""
    physical = float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    limits = [
        Path(name).read_text(encoding="ascii").strip() for name in MEMORY_LIMITS if os.path.exists(name)
    ]
    return min([physical, *(float(limit) for limit in limits if limit.isdigit())])


def files(machine: Machine) -> Iterator[Finding]:
    """The limit on open files against the connections that a run holds."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = machine.concurrency * max(1, machine.cluster.replicas, machine.gpus) + SPARE_FILES
    few = soft != resource.RLIM_INFINITY and soft < wanted
    raisable = hard == resource.RLIM_INFINITY or hard >= wanted
    remedy = f"ulimit -n {wanted}" if raisable else "a lower concurrency in machine.toml"
    yield Finding(
        area="machine",
        name="open files",
        state="warning" if few else "ok",
        found=("no limit" if soft == resource.RLIM_INFINITY else f"{soft:,}")
        + f"; concurrency = {machine.concurrency} may take {wanted:,}",
        remedy=remedy if few else "",
    )


def ports(machine: Machine) -> Iterator[Finding]:
    """Whether the port that machine.toml gives engines, and the one of `harness serve`, are free."""
    if machine.port:
        yield port("port of engines", machine.port, "port = 0 in machine.toml takes a free one", ())
    yield port("port of harness serve", SERVE_PORT, "harness serve MODEL --port 0 takes a free one", (SERVE,))


def port(name: str, number: int, remedy: str, provides: tuple[str, ...]) -> Finding:
    taken = in_use(number)
    return Finding(
        area="machine",
        name=name,
        state="warning" if taken else "ok",
        found=f"{number} is {'in use' if taken else 'free'}",
        remedy=remedy if taken else "",
        provides=provides,
    )


def in_use(number: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", number))
        except OSError:
            return True
    return False


def clock() -> Iterator[Finding]:
    """A clock that is behind the harness's own files is wrong: certificates are then not valid yet."""
    behind = Path(__file__).stat().st_mtime - time.time()
    wrong = behind > DAY
    yield Finding(
        area="machine",
        name="clock",
        state="warning" if wrong else "ok",
        found=time.strftime("%Y-%m-%d %H:%M %Z")
        + (f", {behind / DAY:.0f} days before the harness's own files were written" if wrong else ""),
        remedy="set it (timedatectl set-ntp true): no certificate is valid yet" if wrong else "",
    )
