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
from docker.utils.build import exclude_paths

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
    assert base[1].partition("@")[0].rpartition(":")[2] == "v" + pin.partition("==")[2]


def is_pinned(image: str) -> bool:
    """Whether an image has a tag that says a version, with a whole digest where it has one."""
    return bool(re.fullmatch(r"[\w./-]+:v?\d[\w.-]*(@sha256:[0-9a-f]{64})?", image))


def with_defaults(image: str) -> str:
    """An image of compose.yaml where no variable is set."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", image)


def test_a_digest_beside_the_tag_is_a_pin_and_half_a_digest_is_none() -> None:
    tag = "vllm/vllm-openai:v0.32.0"
    assert is_pinned(tag)
    assert is_pinned(f"{tag}@sha256:{'0a' * 32}")
    assert not is_pinned(f"{tag}@sha256:0a0a")
    assert not is_pinned("python")
    assert not is_pinned("python:latest")


def test_every_base_has_a_version_and_the_workflow_resolves_it_to_a_digest() -> None:
    bases = dict(re.findall(r"^ARG (\w+)=(\S+)$", DOCKERFILE, re.MULTILINE))
    used = {word for word in re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE) if word != "harness"}
    assert used == {f"${{{name}}}" for name in bases}
    images = [with_defaults(service["image"]) for service in services().values()]
    assert all(map(is_pinned, [*bases.values(), *images])), images
    jobs = yaml.safe_load(WORKFLOW)["jobs"]
    resolved = {entry["argument"] for entry in jobs["image"]["strategy"]["matrix"]["include"]}
    assert resolved == set(bases)
    assert json.dumps(jobs["compose"]).count("imagetools inspect") == 1
    assert json.dumps(jobs["image"]).count("imagetools inspect") == 1


def test_only_jobs_of_a_version_tag_may_write_packages_and_no_tag_is_pushed_twice() -> None:
    workflow = yaml.safe_load(WORKFLOW)
    assert workflow["permissions"] == {"contents": "read"}
    for name, job in workflow["jobs"].items():
        may = job.get("permissions", {}).get("packages") == "write"
        assert may == (job.get("if") == "startsWith(github.ref, 'refs/tags/')"), name
    pushed = re.findall(r'pushed="(.+)"', WORKFLOW)
    assert len(pushed) == 2
    assert all(image.endswith("${GITHUB_REF_NAME#v}") for image in pushed)


def test_keys_data_and_results_go_into_no_image_and_no_commit(tmp_path: Path) -> None:
    """compose.yaml tells people to write their keys into docker/.env, and docker/Dockerfile copies all."""
    private = ["docker/.env", ".env", ".env.local", "docker/.env.bak", "data/aime24/a.parquet", "shared/x"]
    private += ["runs/a/b.jsonl", ".git/config", ".venv/bin/python", "machine.toml", "models/m.safetensors"]
    needed = ["pyproject.toml", "harness/data.py", "harness/engines/vllm.py", "docker/compose.yaml"]
    for name in [*private, *needed]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    patterns = [line for line in lines if line and not line.startswith("#")]
    copied = {name for name in exclude_paths(str(tmp_path), patterns) if (tmp_path / name).is_file()}
    assert copied - {"Dockerfile", ".dockerignore"} == set(needed)
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    assert {".env", "/data/", "runs/", "machine.toml"} <= set(ignored)


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


def test_the_sandboxes_engine_answers_only_to_who_has_its_key() -> None:
    """Its port can be reached by every user of the host, on the bridge network."""
    engine, harness = services()["sandbox-engine"], services()["harness"]
    assert engine["environment"]["DOCKER_TLS_CERTDIR"]
    assert engine["command"] == ["--tlsverify"]
    assert harness["environment"]["DOCKER_TLS_VERIFY"] == "1"
    assert harness["environment"]["DOCKER_HOST"].endswith(f"{engine['hostname']}:2376")
    holders = {
        name: [volume for volume in each.get("volumes", ()) if volume.startswith("sandbox-certificates:")]
        for name, each in services().items()
    }
    assert {name: found for name, found in holders.items() if found} == {
        "harness": [f"sandbox-certificates:{harness['environment']['DOCKER_CERT_PATH']}:ro"],
        "sandbox-engine": ["sandbox-certificates:/certs/client"],
    }
    assert "2375" not in (DOCKER / "compose.yaml").read_text()


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
