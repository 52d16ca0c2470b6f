"""Which sandbox is taken, what a container is allowed, and what is left when the harness dies."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import docker as engine
import pytest

from harness.errors import SandboxError, UsageError
from harness.machine import Machine, SandboxSettings
from harness.sandboxes import Limits, Program, docker, open_sandbox
from tests.sandboxes.conftest import MEMORY_MB, PROCESSES, needs, settings

CHOOSE = """
import sys
from harness.errors import SandboxError
from harness.machine import Machine, SandboxSettings
from harness.sandboxes import open_sandbox
try:
    machine = Machine(sandbox=SandboxSettings(name=sys.argv[1]))
    sandbox = open_sandbox(machine, lambda note: print("note:", note))
    print("opened", sandbox.name)
    sandbox.close()
except SandboxError as error:
    print("error:", error)
"""

HANG = """
import sys, threading
from tests.sandboxes.conftest import settings
from harness.sandboxes import Limits, Program, open_sandbox
sandbox = open_sandbox(settings(sys.argv[1]), lambda note: None)
print(sandbox.run(Program(code="print(1)"), [""], Limits()).outcomes[0].status, flush=True)
sandbox.run(Program(code="while True: pass"), [""], Limits(seconds=120))
"""


def choose(name: str, **environment: str) -> str:
    """What open_sandbox does where no Docker engine can be reached."""
    unreachable = {**os.environ, "DOCKER_HOST": "unix:///nowhere/docker.sock", **environment}
    done = subprocess.run(
        [sys.executable, "-c", CHOOSE, name], env=unreachable, capture_output=True, text=True, check=True
    )
    return done.stdout


def test_without_docker_bubblewrap_is_taken_with_a_note() -> None:
    needs("bubblewrap")
    said = choose("auto", CI="")
    assert "note: Docker does not answer" in said
    assert "opened bubblewrap" in said


def test_without_docker_ci_fails_and_says_what_to_do() -> None:
    said = choose("auto", CI="true")
    assert "error: no Docker engine answers" in said
    assert "start-engine.sh" in said


def test_without_docker_asking_for_docker_fails() -> None:
    assert "error: no Docker engine answers" in choose("docker", CI="")


def test_without_docker_and_bubblewrap_nothing_runs(tmp_path: Path) -> None:
    said = choose("auto", CI="", PATH=str(tmp_path))
    assert "error: no sandbox can run here: bubblewrap is not installed" in said


def test_a_sandbox_of_another_name_is_never_replaced_by_one_that_runs() -> None:
    with pytest.raises(UsageError, match="unknown sandbox 'dockr'"):
        open_sandbox(settings("dockr"), print)


def test_engine_confirms_every_limit_of_the_container() -> None:
    needs("docker")
    others = own_containers(os.getpid())
    sandbox = docker.DockerSandbox(settings("docker"), print)
    try:
        sandbox.run(Program(code="print(1)"), [""], Limits())
        (container,) = (one for one in own_containers(os.getpid()) if one not in others)
        host, config = container.attrs["HostConfig"], container.attrs["Config"]
        assert host["NetworkMode"] == "none"
        assert host["ReadonlyRootfs"] is True
        assert host["CapDrop"] == ["ALL"]
        assert not host["CapAdd"]
        assert host["SecurityOpt"] == ["no-new-privileges"]
        assert host["Memory"] == host["MemorySwap"] == MEMORY_MB * 2**20
        assert host["PidsLimit"] == PROCESSES
        assert host["AutoRemove"] is True
        assert not host["Binds"]
        assert config["User"] == "65534:65534"
    finally:
        sandbox.close()


def own_containers(process: int) -> list[engine.models.containers.Container]:
    found = engine.from_env(version="auto").containers.list(
        all=True, filters={"label": docker.LABEL}, ignore_removed=True
    )
    return [container for container in found if f"/{process}/" in container.labels[docker.LABEL]]


def bubblewraps(process: int) -> list[str]:
    """Processes started by `process`, and theirs: read from /proc, newest state."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, rest = stat.read_text().partition("(")[2].rpartition(")")
        except OSError:
            continue
        if name == "bwrap" or "python" in name:
            parent = int(rest.split()[1])
            found += [stat.parent.name] if parent == process else []
    return found


@pytest.mark.parametrize(("name", "left"), [("docker", own_containers), ("bubblewrap", bubblewraps)])
def test_nothing_is_left_when_the_harness_is_killed(name: str, left: Callable[[int], list[object]]) -> None:
    needs(name)
    harness = subprocess.Popen([sys.executable, "-c", HANG, name], stdout=subprocess.PIPE, text=True)
    assert harness.stdout is not None
    assert harness.stdout.readline() == "ok\n"
    sandboxed = left(harness.pid)
    assert sandboxed
    harness.send_signal(signal.SIGKILL)
    harness.wait()
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and (left(harness.pid) or still_there(sandboxed)):
        time.sleep(0.2)
    assert not left(harness.pid)
    assert not still_there(sandboxed)


def still_there(sandboxed: list[object]) -> bool:
    return any(isinstance(process, str) and Path(f"/proc/{process}").exists() for process in sandboxed)


def test_containers_of_dead_processes_are_removed_at_start() -> None:
    needs("docker")
    client = docker.connected()
    dead = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True
    )
    sandbox = docker.DockerSandbox(settings("docker"), print)
    try:
        mine = docker.owner(os.getpid()).split("/")
        options = {
            **sandbox.options(),
            "labels": {docker.LABEL: "/".join([*mine[:2], dead.stdout.decode().strip(), "1"])},
        }
        stale = client.containers.create(**options)
        docker.reap(client)
        assert stale.id not in [
            container.id for container in client.containers.list(all=True, ignore_removed=True)
        ]
    finally:
        sandbox.close()


def test_a_container_removed_from_outside_is_replaced() -> None:
    needs("docker")
    sandbox = docker.DockerSandbox(settings("docker"), print)
    try:
        before = {container.id for container in own_containers(os.getpid())}
        sandbox.run(Program(code="print(1)"), [""], Limits())
        for container in own_containers(os.getpid()):
            if container.id not in before:
                container.remove(force=True)
        assert sandbox.run(Program(code="print(2)"), [""], Limits()).outcomes[0].output == "2\n"
    finally:
        sandbox.close()


def test_an_image_that_cannot_run_the_guest_is_an_error_of_the_sandbox() -> None:
    needs("docker")
    machine = Machine(sandbox=SandboxSettings(name="docker", memory_mb=1))
    sandbox = open_sandbox(machine, print)
    with pytest.raises(SandboxError):
        sandbox.run(Program(code="print(1)"), [""], Limits())
    sandbox.close()


def test_a_runtime_that_the_engine_does_not_know_is_an_error_that_names_it() -> None:
    needs("docker")
    machine = Machine(sandbox=SandboxSettings(name="docker", runtime="no-such-runtime"))
    sandbox = open_sandbox(machine, print)
    with pytest.raises(SandboxError, match="no-such-runtime"):
        sandbox.run(Program(code="print(1)"), [""], Limits())
    sandbox.close()
