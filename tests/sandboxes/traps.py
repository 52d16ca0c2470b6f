"""What is worth stealing and reaching on the host, laid out so that a theft or a visit shows.

Attacks are told everything an attacker could wish to know: paths, ports, addresses, process numbers.
"""

import contextlib
import json
import os
import secrets
import selectors
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

VSOCK_ANY = 0xFFFFFFFF
GLANCE = 0.1
HERE = Path(__file__).resolve()


@dataclass(kw_only=True)
class Traps:
    """Canaries in files, in this process's memory and environment; sockets that record who comes."""

    folder: Path
    canary: str
    abstract: str
    sockets: dict[str, socket.socket]
    visits: list[str] = field(default_factory=list)
    secret_files: dict[str, str] = field(default_factory=dict)

    def facts(self) -> dict[str, Any]:
        """Where everything is, for the program."""
        return {
            "canary_file": str(self.folder / "canary"),
            "folder": str(self.folder),
            "files": [str(HERE), "/var/run/docker.sock", "/etc/shadow", "/root", str(Path.home())],
            "host_pid": os.getpid(),
            "host_parent": os.getppid(),
            "addresses": host_addresses(),
            "ports": {name: port(each) for name, each in self.sockets.items() if "unix" not in name},
            "unix": str(self.folder / "socket"),
            "abstract": self.abstract,
        }  # fmt: skip

    def sprung(self) -> list[str]:
        """What shows that somebody was here: a visit, or a change to the files."""
        found = [f"a visit: {visit}" for visit in self.visits]
        self.visits.clear()
        if self.state() != self.secret_files:
            found.append("the host's files changed")
            self.secret_files = self.state()
        return found

    def wait(self) -> None:
        """Until the watcher has looked at every socket once more."""
        time.sleep(3 * GLANCE)

    def state(self) -> dict[str, str]:
        told = {}
        for path in [self.folder, *sorted(self.folder.rglob("*"))]:
            about = path.lstat()
            content = path.read_text() if path.is_file() else ""
            told[str(path)] = f"{about.st_mode:o} {about.st_nlink} {about.st_uid} {content}"
        return told


@contextlib.contextmanager
def laid() -> Iterator[Traps]:
    """The traps, until the block ends."""
    canary = f"canary-{secrets.token_hex(16)}"
    abstract = f"harness-{secrets.token_hex(16)}"
    os.environ["HARNESS_CANARY"] = canary
    with tempfile.TemporaryDirectory(prefix="harness-traps-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        folder.chmod(0o777)
        (folder / "canary").write_text(canary)
        (folder / "canary").chmod(0o666)
        sockets = {
            kind: stack.enter_context(opened) for kind, opened in listening(folder / "socket", abstract)
        }
        traps = Traps(folder=folder, canary=canary, abstract=abstract, sockets=sockets)
        traps.secret_files = traps.state()
        stop = threading.Event()
        watcher = threading.Thread(target=record, args=(traps, stop), daemon=True)
        watcher.start()
        yield traps
        stop.set()
        watcher.join()
    del os.environ["HARNESS_CANARY"]


def listening(path: Path, abstract: str) -> Iterator[tuple[str, socket.socket]]:
    """A bound socket of every kind that this host has."""
    wanted: list[tuple[str, int, int, Any]] = [
        ("tcp4", socket.AF_INET, socket.SOCK_STREAM, ("0.0.0.0", 0)),
        ("udp4", socket.AF_INET, socket.SOCK_DGRAM, ("0.0.0.0", 0)),
        ("tcp6", socket.AF_INET6, socket.SOCK_STREAM, ("::1", 0)),
        ("udp6", socket.AF_INET6, socket.SOCK_DGRAM, ("::1", 0)),
        ("unix", socket.AF_UNIX, socket.SOCK_STREAM, str(path)),
        ("unix abstract", socket.AF_UNIX, socket.SOCK_STREAM, f"\0{abstract}"),
        ("vsock", socket.AF_VSOCK, socket.SOCK_STREAM, (VSOCK_ANY, 5555)),
    ]
    for name, family, kind, address in wanted:
        try:
            bound = socket.socket(family, kind)
            bound.bind(address)
        except OSError:
            continue  # this host has no such family
        if kind == socket.SOCK_STREAM:
            bound.listen()
        if name == "unix":
            path.chmod(0o777)
        bound.setblocking(False)
        yield name, bound


def port(bound: socket.socket) -> int:
    return int(bound.getsockname()[1])


def record(traps: Traps, stop: threading.Event) -> None:
    """Notes every connection and datagram until `stop`."""
    with selectors.DefaultSelector() as selector:
        for name, listener in traps.sockets.items():
            selector.register(listener, selectors.EVENT_READ, name)
        while not stop.is_set():
            for key, _ in selector.select(GLANCE):
                listener = traps.sockets[key.data]
                with contextlib.suppress(OSError):
                    if listener.type == socket.SOCK_STREAM:
                        listener.accept()[0].close()
                    else:
                        listener.recv(100)
                    traps.visits.append(key.data)


def host_addresses() -> list[str]:
    """Addresses by which this host may be reached, whoever asks."""
    found = {"127.0.0.1", "::1", "172.17.0.1"}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, contextlib.suppress(OSError):
        probe.connect(("192.0.2.1", 9))
        found.add(probe.getsockname()[0])
    return sorted(found)


def told(facts: dict[str, Any], mark: str) -> str:
    """The input of an attack: one line of JSON, which is a function's one argument as well."""
    return json.dumps({**facts, "mark": mark})
