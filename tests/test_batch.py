"""Batch files: what is written, what is read back, and what is never paid for twice."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
import tracemalloc
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest

from benchmarks.micro import micro_math
from harness.adopt import adopt_draws
from harness.asking import Request
from harness.batch import BatchPending, ask_by_files, ask_in_batches, batch_endpoint
from harness.batch_api import Batch, BatchApi, read
from harness.client import Unsound
from harness.engines.batch import batch
from harness.errors import ServerError
from harness.evaluate import Ask
from harness.eventloop import run
from harness.files import write_json, write_rows
from harness.generate import SILENT, generate
from harness.machine import EngineSettings, Machine
from harness.progress import PlainProgress
from harness.rows import keys_of, read_rows
from harness.runs import Stored
from harness.serve import ServerPool
from harness.store import Context, RunStore
from harness.types import Generation, Message
from tests.fakes.engine import WARM, request, running
from tests.pipeline.rows import row

T = TypeVar("T")
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
            {"custom_id": lines[4]["custom_id"], "error": {"error": {"message": "no memory", "code": 500}}},
            {"custom_id": lines[5]["custom_id"], "error": {"message": "no room", "code": 507}},
            {"custom_id": "nobody's", "response": {"status_code": 200, "body": {}}, "error": None},
        ],
    )
    with (tmp_path / "batch" / "output-1.jsonl").open("a") as file:
        file.write('{"custom_id": "' + lines[3]["custom_id"] + '", "response": {"sta')
    said = collect(rows)
    assert any("too long" in line for line in said)
    assert any("not in time" in line for line in said)
    assert any('no completion: {"choices": 7}' in line for line in said)
    assert any("no memory" in line for line in said)
    assert any("no room" in line for line in said)
    assert any("1 answers were ignored" in line for line in said)
    assert len(inputs(rows)) == 12
    assert plain(rows) == {}
    assert collect(rows) == []


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


def spoilt(line: dict[str, Any], url: str, text: str, finish: str) -> dict[str, Any]:
    found = answer(line, url)
    [choice] = found["response"]["body"]["choices"]
    choice["message"]["content"], choice["finish_reason"] = text, finish
    return found


def test_an_answer_that_can_never_be_is_not_paid_for_without_end_and_is_no_row(tmp_path: Path) -> None:
    rows = tmp_path / "generations.jsonl"
    with running("--openai-only") as server:
        collect(rows)
        put(rows, "output-0.jsonl", [answer(line, server.base_url) for line in inputs(rows)[1:]])
        assert collect(rows) == []
        for number in (1, 2, 3):
            [line] = inputs(rows)
            put(rows, f"output-{number}.jsonl", [spoilt(line, server.base_url, "", "stop")])
            said = "".join(collect(rows))
            assert ("no text came" in said) == (number < 3)
    assert inputs(rows) == []
    for _ in range(2):
        with pytest.raises(Unsound, match=r"1 request gets no sound answer .*no text came") as told:
            ask_in_batches(WANTED, endpoint(), rows, Machine(), SILENT, lambda text: None)
        assert told.value.exit_code == 1
        assert "output-….jsonl" in told.value.remedy
    assert len(plain(rows)) == 11


def test_two_answers_that_end_at_the_providers_own_limit_are_believed(tmp_path: Path) -> None:
    rows = tmp_path / "generations.jsonl"
    with running("--openai-only") as server:
        collect(rows)
        for number in (1, 2):
            lines = [spoilt(line, server.base_url, "so", "length") for line in inputs(rows)]
            put(rows, f"output-{number}.jsonl", lines)
            said = collect(rows)
    assert [line for line in said if "its own limit; they count as truncated" in line]
    assert len(plain(rows)) == 12


def test_a_copy_of_an_answer_is_no_second_one(tmp_path: Path) -> None:
    rows = tmp_path / "generations.jsonl"
    with running("--openai-only") as server:
        collect(rows)
        lines = [spoilt(line, server.base_url, "so", "length") for line in inputs(rows)]
        for number in (1, 2, 3):
            put(rows, f"output-{number}.jsonl", lines)
            collect(rows)
    assert plain(rows) == {}
    assert len(inputs(rows)) == 12


def test_an_answer_of_another_model_is_refused(tmp_path: Path) -> None:
    rows = tmp_path / "generations.jsonl"
    with running("--answer-model", "huge") as server:
        collect(rows)
        put(rows, "output-1.jsonl", [answer(line, server.base_url) for line in inputs(rows)])
    with pytest.raises(ServerError, match="'huge'"):
        collect(rows)
    assert batch.is_model("gpt-oss", "gpt-oss-2025-08-05")
    assert not batch.is_model("gpt-oss", "gpt-os")


@pytest.mark.parametrize(
    ("answered", "same"),
    [
        ("gpt-4o", True),
        ("gpt-4o-2024-08-06", True),
        ("gpt-4o-20240806", True),
        ("gpt-4o-0806", True),
        ("gpt-4o-mini", False),
        ("gpt-4o-mini-2024-07-18", False),
        ("gpt-4o-2024-08-06-mini", False),
        ("gpt-4o-32768", False),
        ("gpt-4o2024-08-06", False),
    ],
)
def test_only_a_date_may_follow_the_name_of_a_model(answered: str, same: bool) -> None:
    assert batch.is_model("gpt-4o", answered) == same


NO_ANSWERS: list[Callable[[dict[str, Any]], bytes]] = [
    lambda body: b'{"error": {"message": "overloaded"}}',
    lambda body: json.dumps({**body, "choices": []}).encode(),
    lambda body: b'{"choices": [{"text": "\xff"}]}',
    lambda body: json.dumps({**body, "choices": [{**body["choices"][0], "finish_reason": "abort"}]}).encode(),
]


@pytest.mark.parametrize("broken", NO_ANSWERS)
def test_a_200_that_is_no_completion_stops_nothing_and_replaces_no_answer(
    broken: Callable[[dict[str, Any]], bytes], tmp_path: Path
) -> None:
    rows = tmp_path / "generations.jsonl"
    with running() as server:
        collect(rows)
        lines = [answer(line, server.base_url) for line in inputs(rows)]
    put(rows, "output-1.jsonl", lines[1:])
    (tmp_path / "batch" / "output-2.jsonl").write_bytes(
        b"".join(
            b'{"custom_id": "%s", "response": {"status_code": 200, "body": %s}}\n'
            % (line["custom_id"].encode(), broken(line["response"]["body"]))
            for line in lines
        )
    )
    [said] = collect(rows)
    assert said.startswith("1 of the answers are none")
    assert len(plain(rows)) == 11
    assert [line["custom_id"] for line in inputs(rows)] == [lines[0]["custom_id"]]


def test_a_line_that_is_no_text_is_no_answer(tmp_path: Path) -> None:
    rows = tmp_path / "generations.jsonl"
    collect(rows)
    (tmp_path / "batch" / "output-1.jsonl").write_bytes(
        b'{"custom_id": "\xff\xfe"}\n\xff\n{"custom_id": 7}\n'
        b'{"custom_id": "a", "error": {"message": "\xff"}}\n'
        b'{"custom_id": "a", "response": {"status_code": 200, "body": %s}}\n' % (b"[" * 5000 + b"]" * 5000)
    )
    collect(rows)
    assert len(inputs(rows)) == 12


@pytest.mark.parametrize(
    "other",
    [
        [request(each.question, each.draw, sampling=replace(WARM, temperature=0.5)) for each in WANTED],
        [request(each.question, each.draw, sampling=replace(WARM, max_tokens=41)) for each in WANTED],
        [request(each.question, each.draw, seed=each.seed + 1) for each in WANTED],
        [request(each.question, each.draw, effort="high") for each in WANTED],
    ],
)
def test_answers_of_another_run_answer_nothing(other: list[Request], tmp_path: Path) -> None:
    rows = tmp_path / "generations.jsonl"
    with running() as server:
        collect(rows)
        put(rows, "output-1.jsonl", [answer(line, server.base_url) for line in inputs(rows)])
    [said] = collect(rows, other)
    assert said.startswith("12 answers were ignored")
    assert plain(rows) == {}
    assert len(inputs(rows)) == 12


def test_an_input_file_that_waits_is_not_touched_by_what_is_left_of_another(tmp_path: Path) -> None:
    rows = tmp_path / "generations.jsonl"
    collect(rows, WANTED[:6])
    collect(rows)
    folder = tmp_path / "batch"
    first, second = inputs(rows)[:6], (folder / "input-0002.jsonl").read_bytes()
    with running() as server:
        put(rows, "output-1.jsonl", [answer(line, server.base_url) for line in first[1:]])
        for _ in range(2):
            collect(rows)
            assert sorted(path.name for path in folder.glob("input-*")) == [
                "input-0002.jsonl",
                "input-0003.jsonl",
            ]
            assert (folder / "input-0002.jsonl").read_bytes() == second
            assert inputs(rows)[6:] == first[:1]
        put(rows, "output-2.jsonl", [answer(line, server.base_url) for line in inputs(rows)])
        collect(rows)
    assert len(plain(rows)) == 12
    assert inputs(rows) == []


def test_parameters_that_openai_does_not_know_go_out_only_where_they_mean_something() -> None:
    assert "top_k" not in batch_endpoint("tiny", WARM, Machine()).accepts
    assert "top_k" in batch_endpoint("tiny", replace(WARM, top_k=20), Machine()).accepts


def test_every_request_has_a_name_of_its_own_that_says_nothing_else(tmp_path: Path) -> None:
    wanted = [*WANTED, request("a", 11), request("a1", 1)]
    collect(tmp_path / "generations.jsonl", wanted)
    names = {line["custom_id"] for line in inputs(tmp_path / "generations.jsonl")}
    assert len(names) == len(wanted)
    assert {len(name) for name in names} == {32}


def test_a_file_is_full_at_the_providers_limit(tmp_path: Path) -> None:
    rows = tmp_path / "generations.jsonl"
    many = [request("q", draw) for draw in range(50_001)]
    found = ask_by_files(many, endpoint(), rows)
    assert [sum(1 for _ in path.open("rb")) for path in found.left] == [50_000, 1]


def test_input_files_are_not_held_in_memory(tmp_path: Path) -> None:
    long = (Message(role="user", content="word " * 200_000),)
    many = [request("q", draw, messages=long) for draw in range(48)]
    tracemalloc.start()
    try:
        ask_by_files(many, endpoint(), tmp_path / "generations.jsonl")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (tmp_path / "batch" / "input-0001.jsonl").stat().st_size > 48_000_000
    assert peak < 16_000_000


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


@pytest.mark.usefixtures("key")
@pytest.mark.parametrize("switch", ["--expire-whole", "--fail"])
def test_a_batch_that_answered_nothing_is_submitted_again(switch: str, tmp_path: Path) -> None:
    """Also where it is known by its mark alone: the folder it was submitted from is lost."""
    with provider(switch, "2", "--endless-pages") as machine:
        for folder in ("lost", "kept", "kept"):
            (tmp_path / folder).mkdir(exist_ok=True)
            rows = tmp_path / folder / "generations.jsonl"
            with contextlib.suppress(ServerError):
                ask_in_batches(WANTED, endpoint(), rows, machine, SILENT, lambda text: None)
            if folder == "lost":
                made = calls(machine).count("create")
        assert made == (1 if switch == "--fail" else 3)
        assert calls(machine).count("create") == 3
    assert len(plain(rows)) == 12


@pytest.mark.usefixtures("key")
def test_a_refused_batch_says_why_and_that_it_goes_out_again(tmp_path: Path) -> None:
    rows = tmp_path / "generations.jsonl"
    with provider("--fail", "1") as machine:
        with pytest.raises(ServerError, match="too many enqueued tokens") as told:
            ask_in_batches(WANTED, endpoint(), rows, machine, SILENT, lambda text: None)
        assert "submitted anew" in told.value.remedy
        ask_in_batches(WANTED, endpoint(), rows, machine, SILENT, lambda text: None)
    assert len(plain(rows)) == 12


@pytest.mark.usefixtures("key")
def test_answers_that_the_provider_keeps_no_more_are_asked_for_again(tmp_path: Path) -> None:
    rows, said = tmp_path / "generations.jsonl", list[str]()
    with provider("--forget") as machine:
        with pytest.raises(BatchPending):
            ask_in_batches(WANTED, endpoint(), rows, machine, SILENT, said.append)
        assert calls(machine).count("create") == 3
    assert any("asked for again" in line and "no such file" in line for line in said)


@pytest.mark.usefixtures("key")
def test_what_one_provider_was_given_is_not_looked_for_at_another(tmp_path: Path) -> None:
    rows = tmp_path / "generations.jsonl"
    collect(rows)
    [path] = (tmp_path / "batch").glob("input-*.jsonl")
    with provider() as machine:
        api_call(machine, lambda api: api.submit(path))
    with provider() as machine:
        ask_in_batches(WANTED, endpoint(), rows, machine, SILENT, lambda text: None)
        assert calls(machine).count("create") == 1
    assert len(plain(rows)) == 12


@pytest.mark.usefixtures("key")
def test_killed_while_one_of_two_batches_runs_it_pays_for_neither_twice(tmp_path: Path) -> None:
    rows = tmp_path / "generations.jsonl"
    collect(rows, WANTED[:6])
    collect(rows)
    first, second = sorted((tmp_path / "batch").glob("input-*.jsonl"))

    async def until_killed(api: BatchApi) -> None:
        begun = [await api.submit(path) for path in (first, second)]
        await api.fetch(first, await api.ended(begun[0], print), print)

    with provider("--expire", "1") as machine:
        api_call(machine, until_killed)
        ask_in_batches(WANTED, endpoint(), rows, machine, SILENT, lambda text: None)
        assert calls(machine).count("create") == 3
        assert len(plain(rows)) == 12
        assert inputs(rows) == []
    answered = [path.read_text().count("\n") for path in (tmp_path / "batch").glob("output-*.jsonl")]
    assert sorted(answered) == [1, 5, 6]


@pytest.mark.usefixtures("key")
def test_answers_are_not_held_in_memory(tmp_path: Path) -> None:
    large, target = tmp_path / "large.jsonl", tmp_path / "output-1.jsonl"
    large.write_bytes(b"x" * 64_000_000)

    async def there_and_back(api: BatchApi) -> int:
        name = json.loads(await api.upload(large))["id"]
        tracemalloc.start()
        try:
            await api.download(name, target, print)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    with provider() as machine:
        assert api_call(machine, there_and_back) < 16_000_000
    assert target.read_bytes() == large.read_bytes()
    assert not list(tmp_path.glob("*.partial"))


def api_call(machine: Machine, call: Callable[[BatchApi], Awaitable[T]]) -> T:
    """What one session with the provider's API gives."""

    async def session() -> T:
        async with BatchApi(machine.engine("batch").base_url, "secret-key", 0.1) as api:
            return await call(api)

    return run(session())


@pytest.mark.parametrize(("engine", "adopted"), [("batch", 8), ("vllm", 0)])
def test_more_draws_begin_with_those_that_batch_files_brought(
    engine: str, adopted: int, tmp_path: Path
) -> None:
    store, machine = RunStore(tmp_path), Machine()
    fewer, more = asking(4), asking(8)
    path, questions = store.path(fewer), [one.id for one in fewer.benchmark.load(None)]
    path.mkdir(parents=True)
    store.path(more).mkdir()
    write_json(path / "identity.json", fewer.identity)
    with ServerPool(machine) as pool:
        context = Context(store, machine, PlainProgress(), pool)
        told = batch_endpoint(context.served_name(fewer.service()), fewer.drawn, machine).fingerprint
        write_json(path / "session.json", {**told, "engine": engine})
        drawn = [replace(row("7", one), draw=draw) for draw in range(4) for one in questions]
        write_rows(path / "generations.jsonl", drawn)
        assert adopt_draws(more, questions, store.path(more), context) == adopted
    assert len(keys_of(store.path(more) / "generations.jsonl")) == adopted


def asking(draws: int) -> Ask:
    benchmark = replace(micro_math, count=2, sampling=replace(micro_math.sampling, draws=draws))
    return Ask(model=Stored(stored="served-1"), benchmark=benchmark, engine="batch")


@pytest.mark.usefixtures("key")
def test_a_server_without_a_batch_api_is_named_and_no_traceback(tmp_path: Path) -> None:
    with running() as server:
        settings = EngineSettings(base_url=server.base_url, api_key_env="BATCH_TEST_KEY")
        machine = Machine(engines={"batch": settings}, batch_poll=0.1)
        with pytest.raises(ServerError, match="the batch API"):
            ask_in_batches(
                WANTED, endpoint(), tmp_path / "generations.jsonl", machine, SILENT, lambda text: None
            )


@pytest.mark.parametrize("data", [b"<html>", b'{"id": 7}', b"\xff", b'{"x": ' + b"[" * 100_000])
def test_what_is_no_batch_is_an_error_with_words(data: bytes) -> None:
    with pytest.raises(ServerError, match="answered no batch"):
        read(data, Batch)
