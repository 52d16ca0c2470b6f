"""Programs in Docker containers that are kept warm, one program at a time in each.

A container has no network, no capabilities, a read-only root, a small /tmp, limits on memory and
processes, and an unprivileged user. Its stdin is attached to us: where we die, the engine closes
it, the guest leaves, and the engine removes the container.
"""

import os
import socket
import struct
import threading
import time
from pathlib import Path
from typing import Any

import docker
from docker.models.containers import Container

from harness.errors import SandboxError
from harness.machine import Machine
from harness.sandboxes import Accept, Execution, Limits, Program, SandboxKind, Say, accept_all, image
from harness.sandboxes.image import NO_ANSWER
from harness.sandboxes.pool import Channel, OutOfMemory, Pool, guest_settings, guest_source

REMEDY = "start Docker (as root on Debian: docker/start-engine.sh), or join its group"
LABEL = "dasd-harness"
TMP = "rw,noexec,nosuid,nodev,size=64m,nr_inodes=4096,mode=1777"
RUNTIME_THREADS = 512
"""What another runtime may have beside the program: gVisor's kernel is a process of many threads."""
HIDDEN = "ro,noexec,nosuid,nodev,size=4k,mode=0555"
"""Over /sys/kernel, which tells addresses of the host's kernel."""


class DockerSandbox:
    """Runs programs in at most `machine.sandbox.workers` containers of the sandbox image."""

    name = "docker"

    def __init__(self, machine: Machine, say: Say) -> None:
        self.client = connected()
        self.settings = machine.sandbox
        self.starting = threading.Lock()
        reap(self.client)
        image.build(self.client, self.settings.image, say)
        self.pool = Pool(self.start, self.settings.workers, REMEDY, say)

    def run(
        self, program: Program, inputs: list[str], limits: Limits, accept: Accept = accept_all
    ) -> Execution:
        return self.pool.run(program, inputs, limits, accept)

    def close(self) -> None:
        self.pool.close()
        self.client.close()

    def start(self) -> Channel:
        """A container whose guest has been started. Raises SandboxError where the engine refuses."""
        try:
            with self.starting:
                container = self.client.containers.create(**self.options())
                return Attached(self.client, container)
        except NO_ANSWER as error:
            raise SandboxError(f"a sandbox container would not start: {error}", REMEDY) from error

    def options(self) -> dict[str, Any]:
        """Everything about a container; tests look at the engine's own account of it."""
        memory = f"{self.settings.memory_mb}m"
        return {
            "image": self.settings.image,
            "entrypoint": ["python3.11", "-s", "-B", "-c", guest_source()],
            "command": [guest_settings()],
            "labels": {LABEL: owner(os.getpid())},
            "auto_remove": True,
            "stdin_open": True,
            "network_mode": "none",
            "ipc_mode": "none",
            "read_only": True,
            "tmpfs": {"/tmp": TMP, "/sys/kernel": HIDDEN},  # noqa: S108 - inside the container
            "user": "65534:65534",
            "cap_drop": ["ALL"],
            "security_opt": ["no-new-privileges"],
            "mem_limit": memory,
            "memswap_limit": memory,
            "pids_limit": self.settings.processes + (RUNTIME_THREADS if self.settings.runtime else 0),
            "working_dir": "/tmp",  # noqa: S108
            "environment": {"OMP_NUM_THREADS": "1", "NUMBA_CACHE_DIR": "/tmp", "HOME": "/tmp"},  # noqa: S108
            "log_config": {"type": "none"},
            **({"runtime": self.settings.runtime} if self.settings.runtime else {}),
        }


class Attached:
    """The stdin and stdout of one container, through the engine's attach stream."""

    def __init__(self, client: docker.DockerClient, container: Container) -> None:
        self.client = client
        self.container = container
        streams = {"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1}
        self.stream = client.api.attach_socket(str(container.id), params=streams)
        self.socket: socket.socket = getattr(self.stream, "_sock", self.stream)
        self.received = bytearray()
        self.raw = bytearray()
        self.complaints = bytearray()
        container.start()

    def send(self, data: bytes) -> None:
        self.socket.settimeout(60)
        self.socket.sendall(data)

    def receive(self, size: int, seconds: float) -> bytes:
        self.socket.settimeout(seconds)
        while len(self.received) < size:
            data = self.socket.recv(1 << 18)
            if not data:
                if self.out_of_memory():
                    raise OutOfMemory
                words = self.complaints.decode(errors="replace").strip()[-500:]
                raise EOFError(f"the container ended. {words}")
            self.raw += data
            self.demultiplex()
        taken = bytes(self.received[:size])
        del self.received[:size]
        return taken

    def out_of_memory(self) -> bool:
        """Whether the engine saw this container over its memory limit, which is why its guest is gone.

        Programs can see to it that the kernel kills the guest before them.
        """
        of = {"container": [str(self.container.id)], "event": ["oom"]}
        try:
            return bool(list(self.client.events(until=int(time.time()) + 1, since=1, filters=of)))
        except NO_ANSWER:
            return False

    def demultiplex(self) -> None:
        """Docker's stream format: one byte of stream, three zero, four of length, then the bytes."""
        position = 0
        while len(self.raw) - position >= 8:
            stream, size = struct.unpack_from(">BxxxI", self.raw, position)
            if len(self.raw) - position - 8 < size:
                break
            target = self.received if stream == 1 else self.complaints
            target += self.raw[position + 8 : position + 8 + size]
            position += 8 + size
        del self.raw[:position]

    def close(self) -> None:
        """Closes stdin, upon which the guest leaves; then makes sure."""
        self.stream.close()
        self.socket.close()
        try:
            self.client.api.remove_container(str(self.container.id), force=True)
        except NO_ANSWER:
            return  # already removed, or being removed, by the engine itself


def connected(seconds: int = 120) -> docker.DockerClient:
    """A client of the engine, which waits so long for each answer. Raises SandboxError where none comes."""
    try:
        client = docker.from_env(version="auto", timeout=seconds)
        client.ping()
    except NO_ANSWER as error:
        raise SandboxError(f"no Docker engine answers: {error}", REMEDY) from error
    return client


def trouble() -> str:
    """Why Docker cannot be used here, or an empty string."""
    try:
        connected().close()
    except SandboxError as error:
        return error.message.removeprefix("no Docker engine answers: ")
    return ""


def reap(client: docker.DockerClient) -> None:
    """Removes containers of harness processes of this computer that are no more."""
    for container in client.containers.list(all=True, filters={"label": LABEL}, ignore_removed=True):
        computer, _, rest = container.labels[LABEL].partition("/")
        process = rest.rpartition("/")[0].rpartition("/")[2]
        if computer == socket.gethostname() and container.labels[LABEL] != owner(int(process or 0)):
            try:
                container.remove(force=True)
            except NO_ANSWER:
                continue  # another process removes it at the same time


def owner(process: int) -> str:
    """Computer, boot, process and its start time: names a process for good. Empty where it is gone."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        started = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]
    except OSError:
        boot, started = "unknown", "unknown"
    return f"{socket.gethostname()}/{boot}/{process}/{started}"


kind = SandboxKind(name="docker", open=DockerSandbox, trouble=trouble)
