"""Planted secrets: the search finds them however they are written, and real commands leave none.

The whole of it is `tests/acceptance/planted_secrets`; here is a sample.
"""

import base64
import gzip
import json
import os
import sqlite3
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pyarrow
import pyarrow.parquet
import pytest

from harness.serve import answers, free_port
from tests.secrets.planted import NAMED, PLACES, Watcher, found_in, planted, searched, value_of

ROOT = Path(__file__).resolve().parents[2]
SERVER = ROOT / "tests" / "fakes" / "echoing_server.py"
SECRET = value_of("HF_TOKEN")


def test_every_place_has_a_secret_of_its_own() -> None:
    assert len({value_of(place) for place in PLACES}) == len(PLACES)
    assert all(found_in(f"x{value_of(place)}y".encode()) == {place} for place in PLACES)


@pytest.mark.parametrize(
    "written",
    [
        SECRET,
        SECRET[::-1],
        quote(SECRET, safe=""),
        base64.b64encode(SECRET.encode()).decode(),
        json.dumps(SECRET),
    ],
)
def test_the_search_finds_a_secret_however_it_is_written(written: str, tmp_path: Path) -> None:
    folder = tmp_path / "left"
    folder.mkdir()
    (folder / "plain").write_text(f"a {written} b")
    (folder / "gz").write_bytes(gzip.compress(written.encode()))
    with zipfile.ZipFile(folder / "zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("inner.json.gz", gzip.compress(json.dumps({"a": written}).encode()))
    pyarrow.parquet.write_table(pyarrow.table({"a": [written]}), folder / "parquet", compression="zstd")
    with sqlite3.connect(folder / "sqlite") as base:
        base.execute("create table t (a)")
        base.execute("insert into t values (?)", (written,))
    hits, _, where = searched([folder])
    assert hits == {"HF_TOKEN": 5}, where


def test_the_watcher_sees_a_command_line_and_an_environment(tmp_path: Path) -> None:
    script = (
        "import os, subprocess, sys, time; time.sleep(0.5);"
        "subprocess.run(['sleep', '1.5'], env={**os.environ, 'HF_TOKEN': sys.argv[1][1:]})"
    )
    process = subprocess.Popen([sys.executable, "-c", script, f"-{SECRET}"])
    with Watcher(process.pid) as watcher:
        process.wait()
    assert watcher.lines == {"HF_TOKEN": 1}
    assert watcher.environments == {"HF_TOKEN": 1}
    assert b"sleep" in watcher.programs


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    port = free_port(0)
    server = subprocess.Popen([sys.executable, str(SERVER), "--port", str(port)], cwd=ROOT)
    while not answers(f"http://127.0.0.1:{port}/v1/models"):
        time.sleep(0.1)
    yield f"http://127.0.0.1:{port}/v1"
    server.kill()
    server.wait()


@pytest.mark.parametrize(("model", "code"), [("text", 0), ("status-401", 1)])
def test_a_server_that_sends_everything_back_leaves_no_secret(
    url: str, model: str, code: int, tmp_path: Path
) -> None:
    work, out = tmp_path / "work", tmp_path / "out"
    work.mkdir()
    out.mkdir()
    (work / "machine.toml").write_text(f'gpus = 0\n[engines.remote]\napi_key_env = "{NAMED}"\n')
    words = ["evaluate", model, "-b", "micro_math:1", "--base-url", url, "--limit", "1", "--name", "theirs"]
    with (out / "printed").open("wb") as printed:
        process = subprocess.Popen(
            [sys.executable, "-m", "harness.cli", *words], stdout=printed, stderr=printed, cwd=work,
            env={**planted(tmp_path / "home"), "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        with Watcher(process.pid) as watcher:
            assert process.wait() == code, (out / "printed").read_text()
    hits, size, where = searched([work, out])
    assert size > 1000
    assert (hits, watcher.lines, watcher.environments) == ({}, {}, {}), [*where, *watcher.where]
    told = b"".join(file.read_bytes() for file in [*work.rglob("generations.jsonl"), out / "printed"])
    assert b"Bearer ***" in told


def test_the_environment_of_a_child_that_computes_holds_no_secret(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from pipeline.child import running\n"
        "command = [sys.executable, '-c', 'import os; print(dict(os.environ))']\n"
        "with running(command, Path('log')) as process: print(process.stdout.read().decode())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True,
        env={**planted(tmp_path / "home"), "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert "PYTHONPATH" in done.stdout
    assert found_in(done.stdout.encode()) <= {NAMED}, os.fsdecode(done.stdout)
