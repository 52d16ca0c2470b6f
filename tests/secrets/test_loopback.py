"""Servers listen on loopback, as the kernel tells it, unless somebody says otherwise."""

import itertools
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmarks.micro import micro_math
from harness.engines import Engine, Serving
from harness.engines.sglang import sglang
from harness.engines.transformers import transformers
from harness.engines.vllm import vllm
from harness.machine import EngineSettings, Machine
from tests.reports.viewed import Run, sums
from tests.secrets.planted import parents, read

ROOT = Path(__file__).resolve().parents[2]
VLLM = ROOT / "tests" / "fakes" / "vllm_cli.py"
BASE = ROOT / "pipeline" / "micro" / "base"
LISTENING = "0A"
LOOPBACK = {"0100007F", "00000000000000000000000001000000"}


def listening(root: int) -> set[str]:
    """The addresses, in the kernel's hexadecimal, on which a process or one below it listens."""
    below = {root}
    for process, parent in sorted(parents().items()):
        if parent in below:
            below.add(process)
    inodes = {inode for process in below for inode in sockets(process)}
    found = set()
    for table in ("tcp", "tcp6"):
        for line in read(root, f"net/{table}").decode().splitlines()[1:]:
            words = line.split()
            if words[3] == LISTENING and words[9] in inodes:
                found.add(words[1].partition(":")[0])
    return found


def sockets(process: int) -> Iterator[str]:
    """The inodes of a process's sockets."""
    for link in Path(f"/proc/{process}/fd").glob("*"):
        try:
            target = str(link.readlink())
        except OSError:
            continue
        if target.startswith("socket:["):
            yield target[8:-1]


@contextmanager
def started(folder: Path, *words: str) -> Iterator[subprocess.Popen[str]]:
    """A command that says in one line of JSON that it is ready."""
    process = subprocess.Popen(
        [sys.executable, "-m", "harness.cli", *words, "--port", "0", "--json"],
        cwd=folder, stdout=subprocess.PIPE, text=True, env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    try:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["url"].startswith("http://127.0.0.1:")
        yield process
    finally:
        process.terminate()
        process.wait(timeout=60)


def test_the_kernels_table_is_read_right(tmp_path: Path) -> None:
    script = "import socket as s; t = s.create_server(('0.0.0.0', 0)); print('up', flush=True); t.accept()"
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    assert listening(process.pid) == {"00000000"}
    process.kill()
    process.wait()


def test_a_served_model_is_on_loopback(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} {VLLM} {tmp_path}/notes.json -- "$@"\n')
    python.chmod(0o755)
    (tmp_path / "machine.toml").write_text(f'gpus = 0\n[engines.vllm]\npython = "{python}"\n')
    with started(tmp_path, "serve", str(BASE), "--name", "m") as process:
        assert listening(process.pid)
        assert listening(process.pid) <= LOOPBACK
    command = json.loads((tmp_path / "notes.json").read_text())["command"]
    hosts = [word for switch, word in itertools.pairwise(command) if switch == "--host"]
    assert set(hosts) == {"127.0.0.1"}


def test_the_viewer_is_on_loopback(tmp_path: Path) -> None:
    Run(runs=tmp_path / "runs", name="one").write(micro_math, sums())
    with started(tmp_path, "view", "one") as process:
        time.sleep(0.1)
        assert listening(process.pid)
        assert listening(process.pid) <= LOOPBACK


@pytest.mark.parametrize("engine", [vllm, sglang, transformers])
def test_the_last_host_of_every_engines_command_is_the_one_that_was_decided(engine: Engine) -> None:
    settings = EngineSettings(python=Path(sys.executable))
    machine = Machine(gpus=0, engines={"vllm": settings, "sglang": settings, "transformers": settings})
    serving = Serving(host="127.0.0.1", context=0, parser="", replicas=1, tensor_parallel=1)
    command = [*engine.command(BASE, "m", 1, machine), *engine.serving_arguments(serving, Path("/s"))]
    hosts = [word for switch, word in itertools.pairwise(command) if switch == "--host"]
    assert set(hosts) == {"127.0.0.1"}
