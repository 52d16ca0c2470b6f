"""The faults of a soak: what is done to a harness at work, at a moment drawn at random."""

import contextlib
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import psutil
from docker.errors import DockerException

from harness.sandboxes.docker import LABEL
from harness.serve import MARK as SERVER
from tests.soak.samples import Watched, owner_of

Strike = Callable[[Watched, random.Random], bool]
"""Strikes, and says whether there was anything to strike."""
STOPPED = 3.0


def servers(watched: Watched) -> list[psutil.Process]:
    """The driver's model server with all below it; its supervisors are none of them."""
    found = []
    for process in below(watched.driver):
        with contextlib.suppress(OSError, psutil.Error):
            environment = Path("/proc", str(process.pid), "environ").read_bytes().split(b"\0")
            marked = any(variable.startswith(SERVER.encode() + b"=") for variable in environment)
            if marked and not any("supervise.py" in word for word in process.cmdline()):
                found.append(process)
    return found


def below(process: int) -> list[psutil.Process]:
    with contextlib.suppress(psutil.Error):
        return psutil.Process(process).children(recursive=True)
    return []


def signalled(found: list[psutil.Process], how: signal.Signals) -> bool:
    for process in found:
        with contextlib.suppress(psutil.Error):
            os.kill(process.pid, how)
    return bool(found)


def server_killed(watched: Watched, rng: random.Random) -> bool:
    return signalled(servers(watched), signal.SIGKILL)


def server_slow(watched: Watched, rng: random.Random) -> bool:
    """Stopped for some seconds, as a machine that swaps is."""
    found = servers(watched)
    struck = signalled(found, signal.SIGSTOP)
    time.sleep(STOPPED)
    signalled(found, signal.SIGCONT)
    return struck


def container_killed(watched: Watched, rng: random.Random) -> bool:
    """`docker kill` of one of the driver's own sandboxes."""
    if watched.engine is None:
        return False
    try:
        listed = watched.engine.containers.list(filters={"label": LABEL}, ignore_removed=True)
        own = [each for each in listed if owner_of(each.labels.get(LABEL, "")) == watched.driver]
        if not own:
            return False
        rng.choice(sorted(own, key=lambda each: str(each.id))).kill()
    except DockerException:
        return False
    return True


def grading_worker_killed(watched: Watched, rng: random.Random) -> bool:
    """One of math-verify's processes, or what they are forked from."""
    found = []
    for process in below(watched.driver):
        with contextlib.suppress(psutil.Error):
            if any("forkserver" in word for word in process.cmdline()):
                found.append(process)
    return bool(found) and signalled([rng.choice(found)], signal.SIGKILL)


STRIKES: dict[str, Strike] = {
    "server killed": server_killed,
    "server slow": server_slow,
    "container killed": container_killed,
    "grading worker killed": grading_worker_killed,
}
"""At the long-lived harness."""
KILLED = ("server killed", "container killed", "grading worker killed")
"""Those of them that may end a round with an error; what is slow or was left alone may not."""
COMMAND_STRIKES: dict[str, signal.Signals] = {
    "command killed": signal.SIGKILL,
    "command told to end": signal.SIGTERM,
}
WIRE_STRIKES = {"connection reset": "reset", "answers slow": "slow"}
"""What tests/faults/server.py, between a command and its server, calls them."""
