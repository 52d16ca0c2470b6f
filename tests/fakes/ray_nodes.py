"""Ray nodes on this computer: each a raylet at a loopback address of its own, all processes marked.

A node is killed as a computer that fails would take its raylet along; what else ran on it must end by
itself, and `left` tells what did not.
"""

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MARK = "DASD_HARNESS_RAY_NODE"
PATIENCE = 300.0
OBJECT_STORE = 80_000_000  # bytes; Ray's least


def marked(mark: str) -> list[int]:
    """Everything that was started with this mark and still runs, whosever child it is now."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            zombie = (entry / "stat").read_bytes().rpartition(b")")[2].split()[0] == b"Z"
            if not zombie and wanted in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
    return found


def left_of(mark: str, seconds: float) -> list[int]:
    """What of it has not ended by itself in this time."""
    deadline = time.monotonic() + seconds
    while (there := marked(mark)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return there


@dataclass(frozen=True, kw_only=True)
class Node:
    """`ray start --block` in a session of its own."""

    address: str
    mark: str
    process: "subprocess.Popen[bytes]"

    def processes(self) -> list[int]:
        return marked(self.mark)

    def raylet(self) -> int:
        """The process id of the raylet."""
        for process in self.processes():
            with contextlib.suppress(OSError):
                if Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")[0].endswith(b"/raylet"):
                    return process
        raise AssertionError(f"the node at {self.address} has no raylet")

    def kill(self) -> None:
        """SIGKILL to the raylet and to its process group, in which its workers are not."""
        os.killpg(os.getpgid(self.raylet()), signal.SIGKILL)
        self.process.wait()

    def left(self, seconds: float) -> list[int]:
        return left_of(self.mark, seconds)

    def end(self) -> None:
        """Whatever is left is killed."""
        while there := self.processes():
            for process in there:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            self.process.wait()


@dataclass(kw_only=True)
class Nodes:
    """A head at 127.0.0.2 and further nodes at 127.0.0.3 and so on."""

    port: int
    folder: Path
    nodes: list[Node]

    @property
    def address(self) -> str:
        return f"127.0.0.2:{self.port}"

    def add(self, *options: str) -> Node:
        """Starts one more node and returns at once."""
        address = f"127.0.0.{len(self.nodes) + 2}"
        where = [f"--address={self.address}"]
        if not self.nodes:
            where = [
                *("--head", f"--port={self.port}", f"--temp-dir={self.folder}"),
                "--include-dashboard=false",
            ]
        mark = f"{self.port}-{address}"
        with (self.folder / f"{address}.log").open("wb") as log:
            process = subprocess.Popen(
                [
                    *(str(Path(sys.executable).with_name("ray")), "start", "--block", *where),
                    *(f"--node-ip-address={address}", f"--object-store-memory={OBJECT_STORE}"),
                    *("--num-cpus=2", "--num-gpus=0", *options),
                ],
                stdout=log,
                stderr=log,
                env={**os.environ, MARK: mark, "RAY_USAGE_STATS_ENABLED": "0"},
                start_new_session=True,
            )
        node = Node(address=address, mark=mark, process=process)
        self.nodes.append(node)
        if len(self.nodes) == 1:
            self.await_head()
        return node

    def await_head(self) -> None:
        """The others can join, and find the head's address, once its port answers."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.2", self.port), timeout=1).close()
                return
            time.sleep(0.1)
        raise AssertionError((self.folder / "127.0.0.2.log").read_text())

    def joined(self, count: int) -> None:
        """Waits, in a process that is connected to the cluster, until so many nodes are alive."""
        import ray

        deadline = time.monotonic() + PATIENCE
        while sum(node["Alive"] for node in ray.nodes()) != count:
            assert time.monotonic() < deadline, [path.read_text() for path in self.folder.glob("*.log")]
            time.sleep(0.1)


@contextlib.contextmanager
def ray_nodes(count: int) -> Iterator[Nodes]:
    """So many nodes, the first of them the head. Nothing of them is left afterwards.

    They ask for a token, as later versions of Ray always do; whoever this process starts inherits it.
    """
    before = dict(os.environ)
    os.environ.update({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)})
    with socket.socket() as probe:
        probe.bind(("127.0.0.2", 0))
        port = probe.getsockname()[1]
    folder = Path(tempfile.mkdtemp(prefix="ray-"))
    nodes = Nodes(port=port, folder=folder, nodes=[])
    try:
        for _ in range(count):
            nodes.add()
        yield nodes
    finally:
        for node in reversed(nodes.nodes):
            node.end()
        shutil.rmtree(folder, ignore_errors=True)
        for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN"):
            os.environ.pop(name)
            os.environ.update({name: before[name]} if name in before else {})
