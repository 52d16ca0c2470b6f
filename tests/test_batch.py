"""Batch files: what is written, what is read back, and what is never paid for twice."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.asking import Request
from harness.batch import BatchPending, ask_by_files, ask_in_batches, batch_endpoint, custom_id
from harness.engines.batch import batch
from harness.errors import ServerError
from harness.generate import SILENT, generate
from harness.machine import EngineSettings, Machine
from harness.rows import read_rows
from harness.types import Generation
from tests.fakes.engine import WARM, request, running

ROOT = Path(__file__).resolve().parents[1]
WANTED = [request(f"q{question}", draw) for draw in range(3) for question in range(4)]


def endpoint() -> Any:
    return batch_endpoint("tiny", WARM, Machine())


def collect(rows: Path, wanted: list[Request] = WANTED) -> list[str]:
    said: list[str] = []
    ask_by_files(wanted, endpoint(), rows, say=said.append)
    return said


def inputs(rows: Path) -> list[dict[str, Any]]:
    files = sorted((rows.parent / "batch").glob("input-*.jsonl"))
    return [json.loads(line) for file in files for line in file.read_text(encoding="utf-8").splitlines()]


def answer(line: dict[str, Any], url: str) -> dict[str, Any]:
    """What the fake server answers to one line of an input file, as a provider would put it."""
    body = json.dumps(line["body"]).encode()
    asked = urllib.request.Request(
        url.removesuffix("/v1") + line["url"], body, {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(asked) as reply:
        return {
            "custom_id": line["custom_id"],
            "response": {"status_code": 200, "body": json.load(reply)},
            "error": None,
        }


def put(rows: Path, name: str, lines: list[dict[str, Any]]) -> None:
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (rows.parent / "batch" / name).write_text(text, encoding="utf-8")


def plain(rows: Path) -> dict[tuple[str, int], Generation]:
    """The rows without what is of one answer alone."""
    return {
        (row.question, row.draw): replace(row, latency=0.0, request_id="", engine="")
        for row in read_rows(rows, Generation)
    }


def test_answers_from_files_are_the_rows_that_the_server_would_have_given(tmp_path: Path) -> None:
    rows = tmp_path / "files" / "generations.jsonl"
    with running("--openai-only") as server:
        assert collect(rows) == []
        put(rows, "output-1.jsonl", [answer(line, server.base_url) for line in reversed(inputs(rows))])
        collect(rows)
    with running() as server:
        generate(WANTED, server, tmp_path / "served" / "generations.jsonl")
    assert plain(rows) == plain(tmp_path / "served" / "generations.jsonl")
    assert len(plain(rows)) == 12
    assert inputs(rows) == []


def test_half_an_answer_leaves_the_other_half_to_be_asked(tmp_path: Path) -> None:
    rows = tmp_path / "generations.jsonl"
    with running() as server:
        collect(rows)
        lines = inputs(rows)
        put(rows, "output-1.jsonl", [answer(line, server.base_url) for line in lines[:5]])
        collect(rows)
        assert [line["custom_id"] for line in inputs(rows)] == [line["custom_id"] for line in lines[5:]]
        put(rows, "output-2.jsonl", [answer(line, server.base_url) for line in inputs(rows)])
        collect(rows)
    assert len(plain(rows)) == 12


def test_what_is_no_answer_is_told_and_asked_again(tmp_path: Path) -> None:
    rows = tmp_path / "generations.jsonl"
    collect(rows)
    lines = inputs(rows)
    refused = {"status_code": 400, "body": {"error": {"message": "too long"}}}
    expired = {"code": "batch_expired", "message": "not in time"}
    put(
        rows,
        "output-1.jsonl",
        [
            {"custom_id": lines[0]["custom_id"], "response": refused, "error": None},
            {"custom_id": lines[1]["custom_id"], "response": None, "error": expired},
            {"custom_id": lines[2]["custom_id"], "response": {"status_code": 200, "body": {"choices": 7}}},
            {"custom_id": "nobody's", "response": {"status_code": 200, "body": {}}, "error": None},
        ],
    )
    with (tmp_path / "batch" / "output-1.jsonl").open("a") as file:
        file.write('{"custom_id": "' + lines[3]["custom_id"] + '", "response": {"sta')
    with pytest.raises(ServerError, match="answered no OpenAI completion"):
        collect(rows)
    text = (tmp_path / "batch" / "output-1.jsonl").read_text().replace('{"choices": 7}', '{"choices": []}')
    (tmp_path / "batch" / "output-1.jsonl").write_text(text.replace(lines[2]["custom_id"], "another's"))
    said = collect(rows)
    assert any("too long" in line for line in said)
    assert any("not in time" in line for line in said)
    assert len(inputs(rows)) == 12
    assert plain(rows) == {}


def test_a_late_refusal_does_not_replace_an_answer(tmp_path: Path) -> None:
    rows = tmp_path / "generations.jsonl"
    with running() as server:
        collect(rows)
        lines = inputs(rows)
        put(rows, "output-1.jsonl", [answer(line, server.base_url) for line in lines])
    expired = {"code": "batch_expired", "message": "not in time"}
    put(rows, "output-2.jsonl", [{"custom_id": line["custom_id"], "error": expired} for line in lines])
    assert collect(rows) == []
    assert len(plain(rows)) == 12


def test_an_answer_of_another_model_is_refused(tmp_path: Path) -> None:
    rows = tmp_path / "generations.jsonl"
    with running("--answer-model", "huge") as server:
        collect(rows)
        put(rows, "output-1.jsonl", [answer(line, server.base_url) for line in inputs(rows)])
    with pytest.raises(ServerError, match="'huge'"):
        collect(rows)
    assert batch.is_model("gpt-oss", "gpt-oss-2025-08-05")
    assert not batch.is_model("gpt-oss", "gpt-os")


def test_parameters_that_openai_does_not_know_go_out_only_where_they_mean_something() -> None:
    assert "top_k" not in batch_endpoint("tiny", WARM, Machine()).accepts
    assert "top_k" in batch_endpoint("tiny", replace(WARM, top_k=20), Machine()).accepts


def test_every_request_has_a_name_of_its_own_that_says_nothing_else() -> None:
    names = {custom_id(each) for each in WANTED}
    assert len(names) == len(WANTED)
    assert custom_id(request("a", 11)) != custom_id(request("a1", 1))


def test_a_file_is_full_at_the_providers_limit(tmp_path: Path) -> None:
    rows = tmp_path / "generations.jsonl"
    many = [request("q", draw) for draw in range(50_001)]
    found = ask_by_files(many, endpoint(), rows)
    assert [sum(1 for _ in path.open("rb")) for path in found.left] == [50_000, 1]


def test_without_a_provider_the_files_are_named_and_the_exit_code_says_wait(tmp_path: Path) -> None:
    with pytest.raises(BatchPending, match=r"input-0001\.jsonl") as told:
        ask_in_batches(
            WANTED, endpoint(), tmp_path / "generations.jsonl", Machine(), SILENT, lambda text: None
        )
    assert told.value.exit_code == 75


@contextlib.contextmanager
def provider(*switches: str) -> Iterator[Machine]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    run = [sys.executable, "-m", "tests.fakes.batch_api_server", "--port", str(port), "--model", "tiny"]
    process = subprocess.Popen([*run, *switches], cwd=ROOT)
    try:
        for _ in range(400):
            with contextlib.suppress(urllib.error.URLError):
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health")
                break
            time.sleep(0.05)
        settings = EngineSettings(base_url=f"http://127.0.0.1:{port}/v1", api_key_env="BATCH_TEST_KEY")
        yield Machine(engines={"batch": settings}, batch_poll=0.1)
    finally:
        process.kill()
        process.wait()


def calls(machine: Machine) -> list[str]:
    with urllib.request.urlopen(machine.engine("batch").base_url.removesuffix("/v1") + "/asked") as reply:
        told: list[str] = json.load(reply)
        return told


@pytest.fixture
def key() -> Iterator[None]:
    os.environ["BATCH_TEST_KEY"] = "secret-key"
    yield
    del os.environ["BATCH_TEST_KEY"]


@pytest.mark.usefixtures("key")
@pytest.mark.parametrize("switches", [(), ("--expire", "3"), ("--busy", "1"), ("--drop-reply",)])
def test_the_provider_answers_all_whatever_expires_or_is_lost_on_the_way(
    switches: tuple[str, ...], tmp_path: Path
) -> None:
    rows = tmp_path / "generations.jsonl"
    said: list[str] = []
    with provider(*switches) as machine:
        ask_in_batches(WANTED, endpoint(), rows, machine, SILENT, said.append)
        made = calls(machine).count("create")
        ask_in_batches(WANTED, endpoint(), rows, machine, SILENT, said.append)
        assert calls(machine).count("create") == made == (2 if "--expire" in switches else 1)
    with running() as server:
        generate(WANTED, server, tmp_path / "served" / "generations.jsonl")
    assert plain(rows) == plain(tmp_path / "served" / "generations.jsonl")
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not [path for path in files if b"secret-key" in path.read_bytes()]


def test_a_key_that_is_missing_is_named(tmp_path: Path) -> None:
    with provider() as machine, pytest.raises(ServerError, match="401") as told:
        ask_in_batches(WANTED, endpoint(), tmp_path / "generations.jsonl", machine, SILENT, lambda text: None)
    assert "api_key_env" in told.value.remedy
