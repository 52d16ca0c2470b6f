"""An engine from a Docker image: it answers as one from an environment does, and leaves no container."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import docker
import pytest

from harness.container import contained
from harness.engines import Engine, Serving, image_version
from harness.engines.transformers import transformers
from harness.errors import ServerError
from harness.machine import EngineSettings, Machine
from harness.sandboxes import image
from harness.sandboxes.docker import trouble
from harness.serve import ServerPool
from harness.serving import Foreground, Model, Wanted, decided, looked_at
from tests.fakes.engine import WARM, checkpoint

ROOT = Path(__file__).resolve().parents[1]
TAG = "dasd-harness-tiny-server:test"
DOCKERFILE = """
ARG BASE
FROM ${BASE}
RUN ln -sf "$(command -v python3.11)" /usr/bin/python3
COPY tiny_server.py /tiny_server.py
COPY METADATA /usr/lib/python3/dist-packages/tiny-1.0.dist-info/METADATA
ENV PYTHONPATH=/usr/lib/python3/dist-packages
"""


@dataclass(frozen=True, kw_only=True)
class Boxed(Engine):
    """The tiny server in its image."""

    name: ClassVar[str] = "boxed"
    package: ClassVar[tuple[str, ...]] = ("tiny",)

    def command(self, model: Path, served_as: str, port: int, machine: Machine) -> list[str]:
        return [str(self.python(machine)), "/tiny_server.py", str(model), served_as, str(port)]

    def serving_arguments(self, serving: Serving, scratch: Path) -> list[str]:
        return []

    def prepare_serving(self, scratch: Path, key: str) -> dict[str, str]:
        return {"VLLM_API_KEY": key}


def boxed_machine() -> Machine:
    settings = EngineSettings(image=TAG, environment={"TOLD": "yes"}, start_timeout=60.0)
    return Machine(gpus=0, engines={"boxed": settings})


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[docker.DockerClient]:
    if reason := trouble():
        pytest.skip(f"no Docker engine: {reason}")
    client = docker.from_env()
    context = tmp_path_factory.mktemp("image")
    (context / "Dockerfile").write_text(DOCKERFILE)
    (context / "tiny_server.py").write_bytes((ROOT / "tests" / "fakes" / "tiny_server.py").read_bytes())
    (context / "METADATA").write_text("Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
    base = image.base_image(client, print)
    client.images.build(path=str(context), tag=TAG, buildargs={"BASE": base}, network_mode="none", rm=True)
    yield client
    client.images.remove(TAG, force=True)
    client.close()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A checkpoint whose files are links to elsewhere, as in the Hub's cache."""
    blob = tmp_path / "blobs" / "1"
    blob.parent.mkdir()
    blob.write_text('{"told": "by the mounted file"}')
    folder = checkpoint(tmp_path / "model")
    (folder / "config.json").symlink_to(blob)
    return folder


def running(client: docker.DockerClient) -> int:
    return len(client.containers.list(all=True, filters={"ancestor": TAG}, ignore_removed=True))


def none_left(client: docker.DockerClient) -> bool:
    deadline = time.monotonic() + 30
    while running(client) and time.monotonic() < deadline:
        time.sleep(0.1)
    return not running(client)


def asked(base_url: str) -> dict[str, str]:
    body = json.dumps({"model": "m", "messages": []}).encode()
    with urllib.request.urlopen(f"{base_url}/chat/completions", body, timeout=10) as answer:
        found: dict[str, str] = json.loads(json.load(answer)["choices"][0]["message"]["content"])
    return found


def test_a_server_in_a_container_reads_the_checkpoint_and_nothing_of_ours(
    client: docker.DockerClient, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNTOLD", "the harness's own")
    with ServerPool(boxed_machine()) as pool:
        endpoint = pool.acquire(Boxed(), model, "m", WARM, tmp_path / "log")
        seen = asked(endpoint.base_url)
        assert running(client) == 1
        (container,) = client.containers.list(filters={"ancestor": TAG})
        binds = container.attrs["HostConfig"]["Binds"]
    assert (seen["config"], seen["user"]) == ('{"told": "by the mounted file"}', "yes")
    assert seen["other"] == ""
    assert endpoint.fingerprint["version"] == "1.0"
    assert all(bind.endswith(":ro") for bind in binds)
    assert none_left(client)


def test_people_are_served_from_an_image_too_and_the_key_is_in_no_command_line(
    client: docker.DockerClient, model: Path, tmp_path: Path
) -> None:
    wanted = Wanted(port=0, key="a-secret", key_variable="K")
    offer = decided(Model(folder=model, name="org/m"), Boxed(), boxed_machine(), wanted)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    server = Foreground(offer, boxed_machine(), tmp_path / "log", scratch)
    try:
        server.start()
        server.await_ready(lambda text: None)
        assert looked_at(server).context == 64
        assert server.process is not None
        command = Path("/proc", str(server.process.pid), "cmdline").read_bytes()
        seen = asked(f"{offer.url}/v1")
    finally:
        server.stop()
    assert (seen["key"], seen["config"]) == ("a-secret", '{"told": "by the mounted file"}')
    assert b"VLLM_API_KEY" in command
    assert b"a-secret" not in command
    assert none_left(client)


HARNESS = """
import sys, time
from pathlib import Path
from harness.serve import ServerPool
from harness.serving import Foreground, Model, Wanted, decided, looked_at
from tests.fakes.engine import WARM
from tests.test_container import Boxed, boxed_machine
folder = Path(sys.argv[1])
with ServerPool(boxed_machine()) as pool:
    pool.acquire(Boxed(), folder / "model", "m", WARM, folder / "log")
    print("ready", flush=True)
    time.sleep(600)
"""


def test_no_container_outlives_a_harness_that_is_killed(
    client: docker.DockerClient, model: Path, tmp_path: Path
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", HARNESS, str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    assert running(client) == 1
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert none_left(client)


def test_no_container_outlives_a_docker_client_that_is_killed(
    client: docker.DockerClient, model: Path, tmp_path: Path
) -> None:
    with ServerPool(boxed_machine()) as pool:
        pool.acquire(Boxed(), model, "m", WARM, tmp_path / "log")
        server = pool.current
        assert server is not None
        server.process.kill()  # type: ignore[attr-defined]
        assert none_left(client)


def test_a_secret_goes_by_name_and_gpus_only_where_there_are_some() -> None:
    command = contained(
        ["python3", "-m", "x"], "org/image:1", mounts=[ROOT], variables={"KEY"}, gpus=True, grace=5.0
    )
    assert command[command.index("--env") + 1] == "KEY"
    assert command[command.index("--gpus") + 1] == "all"
    assert command[-3:] == ["python3", "-m", "x"]
    without = contained(["x"], "org/image:1", mounts=[ROOT], variables=(), gpus=False, grace=5.0)
    assert "--gpus" not in without


def test_an_image_that_is_not_there_says_how_to_look(client: docker.DockerClient) -> None:
    with pytest.raises(ServerError, match="docker run --rm"):
        image_version("dasd-harness-no-such-image:0", ("tiny",))


def test_transformers_in_an_image_is_its_own_command() -> None:
    machine = Machine(gpus=0, engines={"transformers": EngineSettings(image="org/transformers:1")})
    assert transformers.command(Path("/m"), "m", 1, machine)[:2] == ["transformers", "serve"]
