"""`harness doctor`: what is missing is named, a broken check hides no other, nothing secret is told.

Every fault is a real one: a dead socket, a full disk, an interpreter that hangs, a driver that fails.
"""

import io
import json
import os
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from harness.doctor.finding import Finding, Purpose
from harness.doctor.sandbox import shortcomings
from reports.doctor import print_doctor

COMMAND = [sys.executable, "-m", "harness.cli", "doctor"]
SERVED = ("--base-url", "http://127.0.0.1:9/v1")  # a benchmark that needs no engine here
DEMO = "harness reproduce dasd-micro"


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    """An environment without this machine's caches, tokens and driver settings."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "HOME", "PYTHONPATH") if name in os.environ}
    return {**kept, "HF_HOME": str(tmp_path / "hub"), "HF_HUB_DISABLE_TELEMETRY": "1"}


def doctor(
    home: dict[str, str], folder: Path, *arguments: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Runs it with the runs folder and the working directory in `folder`."""
    return subprocess.run(
        [*COMMAND, "--runs", str(folder / "runs"), *arguments],
        capture_output=True,
        text=True,
        env={**home, "PYTHONPATH": str(Path(__file__).parent.parent), **environment},
        cwd=folder,
        check=False,
        timeout=240,
    )


def findings(done: subprocess.CompletedProcess[str]) -> dict[str, dict[str, Any]]:
    """The findings of a document by name."""
    return {one["name"]: one for one in json.loads(done.stdout)["findings"]}


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def machine(folder: Path, text: str) -> tuple[str, str]:
    (folder / "machine.toml").write_text(text)
    return "--machine", str(folder / "machine.toml")


def test_the_exit_code_is_that_of_the_demo_and_the_document_says_why(
    home: dict[str, str], tmp_path: Path
) -> None:
    done = doctor(home, tmp_path, "--json")
    document = json.loads(done.stdout)
    missing = [one for one in document["findings"] if one["state"] == "missing" and DEMO in one["blocks"]]
    assert document["purpose"] == DEMO
    assert document["able"] == (not missing) == (done.returncode == 0)
    assert {"Python", "machine", "sandbox", "GPUs", "engines", "data", "keys"} <= {
        one["area"] for one in document["findings"]
    }
    blocked = findings(done)["benchmark aime24"]["blocks"]
    assert {"harness reproduce dasd-4b", "harness evaluate MODEL -b aime24"} <= set(blocked)
    assert not (tmp_path / "runs").exists()


def test_what_only_others_need_is_not_looked_at(home: dict[str, str], tmp_path: Path) -> None:
    done = doctor(home, tmp_path, "micro_math", *SERVED)
    assert done.returncode == 0, done.stdout
    assert "can run here" in done.stdout
    assert not {"sandbox", "engines vllm", "GPUs", "data"} & set(done.stdout.splitlines())


def test_a_gated_benchmark_is_missing_with_its_token_until_its_file_is_there(
    home: dict[str, str], tmp_path: Path
) -> None:
    data = tmp_path / "data"
    arguments = ("gpqa_diamond", *SERVED, "--data", str(data))
    without = doctor(home, tmp_path, *arguments)
    assert without.returncode == 1
    assert "accept its terms" in without.stdout
    assert "hf auth login" in without.stdout
    (data / "gpqa").mkdir(parents=True)
    (data / "gpqa" / "gpqa_diamond.csv").touch()
    assert doctor(home, tmp_path, *arguments).returncode == 0


def test_an_unknown_name_is_wrong_usage_and_not_a_finding(home: dict[str, str], tmp_path: Path) -> None:
    done = doctor(home, tmp_path, "gpqa_dimond")
    assert (done.returncode, done.stdout) == (64, "")
    assert "Did you mean 'gpqa_diamond'?" in done.stderr
    assert doctor(home, tmp_path, "--engine", "vllm").returncode == 64


def test_a_dead_docker_socket_blocks_grading_only_where_nothing_weaker_may_stand_in(
    home: dict[str, str], tmp_path: Path
) -> None:
    path = tmp_path / "docker.sock"
    with closing(socket.socket(socket.AF_UNIX)) as dead:
        dead.bind(str(path))
    away = {"DOCKER_HOST": f"unix://{path}"}
    strict = doctor(home, tmp_path, "micro_code", *SERVED, "--json", CI="true", **away)
    assert strict.returncode == 1
    assert findings(strict)["Docker"]["state"] == "missing"
    assert "docker/start-engine.sh" in findings(strict)["Docker"]["remedy"]
    empty = script(tmp_path / "bin" / "true", "exit 0").parent
    alone = doctor(home, tmp_path, "micro_code", *SERVED, "--json", PATH=str(empty), **away)
    assert alone.returncode == 1
    assert findings(alone)["Docker"]["state"] == "missing"


def test_a_docker_engine_that_never_answers_hides_nothing_else(home: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "docker.sock"
    with closing(socket.socket(socket.AF_UNIX)) as silent:
        silent.bind(str(path))
        silent.listen(64)
        done = doctor(
            home, tmp_path, "micro_code", *SERVED, "--json", DOCKER_HOST=f"unix://{path}", CI="true"
        )
    assert done.returncode == 1
    assert findings(done)["Docker"]["state"] == "missing"
    assert findings(done)["packages"]["state"] == "ok"
    assert findings(done)["clock"]["state"] == "ok"


def test_a_check_that_breaks_is_a_finding_and_hides_no_other(home: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "docker.py").write_text("raise RuntimeError('this docker package is broken')\n")
    done = subprocess.run(
        [sys.executable, "-c", BROKEN, "micro_code", *SERVED, "--json"],
        capture_output=True, text=True, env=home, cwd=tmp_path, check=False, timeout=240,
    )  # fmt: skip
    assert done.returncode == 1
    assert "RuntimeError: this docker package is broken" in findings(done)["sandbox"]["found"]
    assert findings(done)["sandbox"]["blocks"]
    assert findings(done)["memory and cores"]["state"] == "ok"
    assert "Traceback" not in done.stderr


BROKEN = """
import sys
sys.path.insert(0, ".")
sys.argv[0] = "harness"
sys.argv.insert(1, "doctor")
from harness.cli import main
main()
"""


@pytest.mark.parametrize(
    ("python", "said"),
    [
        (None, "which is not there"),
        ("echo 'broken env' >&2; exit 3", "exit code 3: broken env"),
        ("echo hello", "is no Python"),
        ("sleep 60", "does not answer within 8 s"),
        ('echo \'{"python": "3.11", "versions": {}, "cuda": null, "importable": false}\'', "has no vllm"),
    ],
)
def test_an_engine_whose_python_does_not_run_is_missing_and_says_how(
    python: str | None, said: str, home: dict[str, str], tmp_path: Path
) -> None:
    path = tmp_path / "env" / "bin" / "python"
    if python is not None:
        script(path, python)
    settings = machine(tmp_path, f'[engines.vllm]\npython = "{path}"\n')
    done = doctor(home, tmp_path, "micro_math", "--json", *settings)
    found = findings(done)["vllm"]
    assert done.returncode == 1
    assert (found["state"], found["blocks"]) == ("missing", ["harness evaluate MODEL -b micro_math"])
    assert said in found["found"]


def test_an_environment_that_was_never_built_says_what_builds_it(
    home: dict[str, str], tmp_path: Path
) -> None:
    settings = machine(tmp_path, f'environments = "{tmp_path / "none"}"\n')
    done = doctor(home, tmp_path, "micro_math", *settings)
    assert done.returncode == 1
    assert "run: harness setup vllm" in done.stdout


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("gpu = 8\n", "unknown setting 'gpu'"),
        ('[engines.vllm]\npyton = "/x"\n', "unknown setting 'engines.vllm.pyton'"),
        ("concurrency = [\n", "machine.toml"),
        ("sandbox = 3\n", "sandbox"),
    ],
)
def test_a_machine_file_that_is_wrong_is_a_finding_beside_all_others(
    text: str, said: str, home: dict[str, str], tmp_path: Path
) -> None:
    done = doctor(home, tmp_path, "micro_math", *SERVED, "--json", *machine(tmp_path, text))
    assert done.returncode == 1
    assert said in findings(done)["machine.toml"]["found"]
    assert findings(done)["packages"]["state"] == "ok"


def test_an_engine_that_nobody_knows_is_told_with_the_nearest(home: dict[str, str], tmp_path: Path) -> None:
    settings = machine(tmp_path, '[engines.vlm]\nbase_url = "http://x/v1"\n')
    found = findings(doctor(home, tmp_path, "micro_math", *SERVED, "--json", *settings))
    assert found["machine.toml"]["state"] == "warning"
    assert "'vllm'" in found["machine.toml"]["found"]


def test_a_disk_that_is_too_small_is_told_with_what_is_needed(home: dict[str, str], tmp_path: Path) -> None:
    done = doctor(home, Path("/dev/shm"), "dasd-4b", "--json")  # no memory disk holds 1.5 TB
    found = findings(done)["disk for runs"]
    assert (found["state"], found["blocks"]) == ("missing", ["harness reproduce dasd-4b"])
    assert " TB for harness reproduce dasd-4b" in found["found"]


NVIDIA_SMI = """
case "$1" in
  -L) echo "GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-11111111-2222-3333-4444-555555555555)" ;;
  -q) printf 'Driver Version      : 535.104\\nCUDA Version        : 12.2\\n' ;;
  --query-gpu=driver_version) echo 535.104 ;;
  *) echo "NVIDIA H100 80GB HBM3, 81559" ;;
esac
"""


def test_a_driver_older_than_an_engines_cuda_blocks_that_engine(home: dict[str, str], tmp_path: Path) -> None:
    smi = script(tmp_path / "bin" / "nvidia-smi", NVIDIA_SMI)
    answer = {"python": "3.11", "versions": {"vllm": "0.32.0"}, "cuda": "13.0", "importable": True}
    python = script(tmp_path / "env" / "bin" / "python", f"echo '{json.dumps(answer)}'")
    settings = machine(tmp_path, f'[engines.vllm]\npython = "{python}"\n')
    done = doctor(home, tmp_path, "dasd-4b", "--json", *settings, PATH=f"{smi.parent}:{home['PATH']}")
    found = findings(done)
    assert found["NVIDIA driver"]["found"] == "535.104, up to CUDA 12.2"
    assert "1 × NVIDIA H100 80GB HBM3" in found["GPUs"]["found"]
    assert "too little GPU memory for 4B parameters to train" in found["GPUs"]["found"]
    assert found["vllm"]["state"] == "missing"
    assert "CUDA 13.0 needs a driver from 580 on" in found["vllm"]["found"]


def test_a_driver_that_fails_or_hangs_is_told_and_all_else_is_still_looked_at(
    home: dict[str, str], tmp_path: Path
) -> None:
    smi = tmp_path / "bin" / "nvidia-smi"
    path = f"{smi.parent}:{home['PATH']}"
    script(smi, "echo 'NVIDIA-SMI has failed because it could not communicate with the driver'; exit 9")
    failing = findings(doctor(home, tmp_path, "dasd-4b", "--json", PATH=path))
    assert failing["NVIDIA driver"]["state"] == "missing"
    assert "could not communicate" in failing["NVIDIA driver"]["found"]
    script(smi, "exec sleep 90")
    hanging = findings(doctor(home, tmp_path, "micro_math", *SERVED, "--json", PATH=path))
    assert "the driver hangs" in hanging["machine.toml"]["found"]
    assert hanging["packages"]["state"] == "ok"


def test_no_secret_nor_the_beginning_of_one_is_printed(home: dict[str, str], tmp_path: Path) -> None:
    secrets = {
        "HF_TOKEN": "hf_Pl4ntedTokenOfTheHub",
        "HARNESS_API_KEY": "sk-Pl4ntedKeyOfOurServer",
        "OPENAI_API_KEY": "sk-Pl4ntedKeyOfTheirServer",
        "MODELSCOPE_API_TOKEN": "ms-Pl4ntedTokenOfScope",
    }
    url = "http://user:Pl4ntedPassword@127.0.0.1:9/v1"
    settings = machine(tmp_path, f'hub = "modelscope"\n[engines.remote]\nbase_url = "{url}"\n')
    for form in ((), ("gpqa_diamond", "--engine", "remote", "--json")):
        done = doctor(home, tmp_path, *form, *settings, **secrets)
        assert "$OPENAI_API_KEY is set" in done.stdout
        assert "$HF_TOKEN" in done.stdout
        for text in (*secrets.values(), "Pl4nted", url):
            assert text not in done.stdout + done.stderr


def test_a_key_that_cannot_be_sent_is_told_without_the_key(home: dict[str, str], tmp_path: Path) -> None:
    done = doctor(home, tmp_path, "--json", HARNESS_API_KEY="two words")
    assert findings(done)["key of harness serve"]["state"] == "warning"
    assert "two words" not in done.stdout


class Hub(BaseHTTPRequestHandler):
    """Answers anything, as somebody would who is there and refuses."""

    def do_GET(self) -> None:
        self.send_response(401)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None: ...


@contextmanager
def hub() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_data_that_a_run_would_fetch_is_missing_unless_the_hub_was_seen_to_answer(
    home: dict[str, str], tmp_path: Path
) -> None:
    wanted = ("aime24", *SERVED, "--json")
    assert doctor(home, tmp_path, *wanted).returncode == 1
    with hub() as url:
        reached = doctor(home, tmp_path, *wanted, "--network", HF_ENDPOINT=url)
    assert reached.returncode == 0
    assert findings(reached)["benchmark aime24"]["state"] == "warning"
    dead = doctor(home, tmp_path, *wanted, "--network", HF_ENDPOINT="http://127.0.0.1:9")
    assert dead.returncode == 1
    assert "does not answer" in findings(dead)["hub"]["found"]
    offline = doctor(home, tmp_path, *wanted, "--network", HF_HUB_OFFLINE="1")
    assert "HF_HUB_OFFLINE is set" in findings(offline)["hub"]["found"]


def test_a_docker_engine_that_copies_images_or_keeps_no_limits_is_a_warning() -> None:
    fine = {"Driver": "overlay2", "MemoryLimit": True, "PidsLimit": True}
    assert list(shortcomings(fine)) == []
    copying, unlimited = shortcomings({"Driver": "vfs", "MemoryLimit": False, "PidsLimit": True})
    assert (copying.state, copying.name) == ("warning", "storage driver")
    assert "memory" in unlimited.found
    assert "processes" not in unlimited.found


def test_text_from_outside_cannot_move_the_cursor() -> None:
    told = Finding(area="engines", name="x", state="missing", found="a\x1b[2Jb\rc\nd", blocks=("y",))
    console = Console(file=io.StringIO(), force_terminal=False)
    print_doctor([told], [Purpose(command="y")], console)
    written = console.file.getvalue()  # type: ignore[attr-defined]
    assert "a [2Jb c d" in written
    assert "\x1b" not in written
    assert "y cannot run here. Missing: x" in written
