"""docker/: pinned bases, and compose files that docker-compose 1.29 and Compose v2 take.

Images that need a registry are built by the hosted workflow alone.
"""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.setup import ENVIRONMENTS

ROOT = Path(__file__).resolve().parents[1]
DOCKER = ROOT / "docker"
DOCKERFILE = (DOCKER / "Dockerfile").read_text()
WORKFLOW = (ROOT / ".github" / "workflows" / "images.yml").read_text()
ENGINES = ("vllm", "sglang", "transformers")
PROFILES = [word for name in ("harness", *ENGINES) for word in ("--profile", name)]


def services() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text())["services"]
    return found


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_the_bases_are_tags_of_the_versions_that_set_up_installs(engine: str) -> None:
    (pin,) = ENVIRONMENTS[engine].packages
    base = re.search(rf"^ARG {engine.upper()}=(\S+)$", DOCKERFILE, re.MULTILINE)
    assert base is not None
    assert base[1].rpartition(":")[2] == "v" + pin.partition("==")[2]


def test_no_base_is_a_moving_tag_and_no_digest_was_made_up() -> None:
    bases = re.findall(r"^ARG \w+=(\S+)$", DOCKERFILE, re.MULTILINE)
    images = [service["image"] for service in services().values()]
    assert len(bases) == 3
    assert all(":" in base and not base.endswith(":latest") for base in [*bases, *images])
    assert "sha256" not in DOCKERFILE + json.dumps(services())
    assert "imagetools inspect" in WORKFLOW


def test_every_target_is_built_by_the_workflow_and_run_by_compose() -> None:
    targets = set(re.findall(r"^FROM \S+ AS (\w+)$", DOCKERFILE, re.MULTILINE))
    built = {
        entry["target"]
        for entry in yaml.safe_load(WORKFLOW)["jobs"]["image"]["strategy"]["matrix"]["include"]
    }
    composed = {service["build"]["target"] for service in services().values() if "build" in service}
    assert targets == built == composed == {"harness", *ENGINES}


def test_ports_are_published_on_loopback_alone_and_no_key_stands_in_the_files() -> None:
    for name, service in services().items():
        assert all(str(port).startswith("127.0.0.1:") for port in service.get("ports", ())), name
        for variable, value in service.get("environment", {}).items():
            if variable.endswith(("KEY", "TOKEN")):
                assert value == f"${{{variable}:-}}"


def test_only_a_server_that_knows_no_key_goes_without_one_and_it_has_a_network_of_its_own() -> None:
    open_to_all = [name for name, each in services().items() if "--no-api-key" in each.get("command", ())]
    assert open_to_all == ["transformers"]
    assert services()["transformers"]["networks"] == ["alone"]


def test_nobody_gets_the_hosts_docker_socket_and_one_service_alone_is_privileged() -> None:
    assert "docker.sock" not in (DOCKER / "compose.yaml").read_text()
    found = services()
    assert [name for name, each in found.items() if each.get("privileged")] == ["sandbox-engine"]
    on_its_network = [name for name, each in found.items() if "sandbox" in each.get("networks", ())]
    assert on_its_network == ["harness", "sandbox-engine"]
    assert "rootless" in found["sandbox-engine"]["image"]


def test_servers_have_a_health_check_and_time_to_stop() -> None:
    for engine in ENGINES:
        service = services()[engine]
        assert "/health" in service["healthcheck"]["test"][-1]
        assert service["stop_grace_period"] == "30s"
        assert service["init"] is True


@pytest.mark.parametrize(("file", "gpus"), [("one-gpu.yaml", 1), ("eight-gpus.yaml", 8)])
def test_the_gpus_of_a_service_are_counted_once(file: str, gpus: int) -> None:
    """Of several files compose adds up the devices, so that the base may name none."""
    paths = [DOCKER / "compose.yaml", DOCKER / file]
    read = [yaml.safe_load(path.read_text())["services"] for path in paths]
    for engine in ("vllm", "sglang"):
        devices = [
            device
            for part in read
            for device in part[engine]
            .get("deploy", {})
            .get("resources", {})
            .get("reservations", {})
            .get("devices", ())
        ]
        assert [device["count"] for device in devices] == [gpus]


@pytest.mark.parametrize("file", ["one-gpu.yaml", "eight-gpus.yaml"])
def test_the_compose_files_are_valid(file: str) -> None:
    """By docker-compose where it is installed; the hosted workflow asks Compose v2."""
    merged = {**services(), **yaml.safe_load((DOCKER / file).read_text())["services"]}
    assert set(merged) == set(services())
    tool = shutil.which("docker-compose")
    if tool is None:
        return
    command = [tool, "-f", str(DOCKER / "compose.yaml"), "-f", str(DOCKER / file), *PROFILES, "config"]
    environment = {"PATH": os.environ["PATH"], "HARNESS_API_KEY": "k", "MODEL": "org/m"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    found = yaml.safe_load(done.stdout)["services"]
    assert found["vllm"]["command"][:2] == ["serve", "org/m"]
    assert found["vllm"]["environment"]["HARNESS_API_KEY"] == "k"


def test_the_commands_of_the_services_are_commands_of_the_harness() -> None:
    from click.testing import CliRunner

    from harness.cli import cli

    for engine in ENGINES:
        words = [word for word in services()[engine]["command"] if word.startswith("--")]
        shown = CliRunner().invoke(cli, ["serve", "--help"]).output
        assert all(word in shown for word in words), engine
