"""Streamed answers: put together exactly, broken off, never-ending; and what is kept while they come."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from harness.client import Client, Unreachable
from harness.endpoint import Endpoint
from harness.engines.remote import remote
from harness.engines.sglang import sglang
from harness.errors import ServerError
from harness.generate import Pace, generate
from harness.machine import EngineSettings, Machine
from harness.rows import read_rows
from harness.serve import remote_endpoint
from harness.stream import BrokenStream, Uncounted, listened
from harness.types import Generation
from harness.unfinished import INTERRUPTED, UNFINISHED, read_partial
from tests.fakes.engine import WARM, FakeFixedEngine, request, running

ROOT = Path(__file__).resolve().parents[1]


def streaming(endpoint: Endpoint) -> Endpoint:
    return replace(endpoint, stream_from=1)


def both(endpoint: Endpoint, **changes: object) -> tuple[Generation, Generation]:
    """The same request, answered whole and streamed, without what is of one answer alone."""

    async def ask(way: Endpoint) -> Generation:
        async with Client(way) as client:
            row = (await client.complete(request(**changes))).row
        return replace(row, latency=0.0, request_id="")

    return asyncio.run(ask(endpoint)), asyncio.run(ask(streaming(endpoint)))


@pytest.mark.parametrize("switches", [(), ("--piece", "3"), ("--line-end", "\\r\\n"), ("--style", "sglang")])
def test_a_streamed_answer_is_the_whole_one_wherever_its_bytes_are_cut(switches: tuple[str, ...]) -> None:
    with running(*switches) as endpoint:
        whole, streamed = both(endpoint)
    assert streamed == whole
    assert len(whole.text) > 20


def test_reasoning_that_a_server_cut_out_comes_back_from_a_stream_too() -> None:
    with running("--reasoning", "so it is", "--text", "four") as endpoint:
        whole, streamed = both(endpoint)
    assert streamed == whole
    assert (streamed.reasoning, streamed.answer) == ("so it is", "four")


def test_text_completions_are_streamed_as_chat_is() -> None:
    with running(engine=FakeFixedEngine()) as endpoint:
        from harness.chat import ChatTemplate

        rendered = replace(endpoint, template=ChatTemplate(source="{{ messages[-1].content }}", tokens={}))
        whole, streamed = both(rendered)
    assert streamed == whole


@pytest.mark.parametrize("words", ["12", "40"])
def test_tokens_and_their_log_probabilities_are_those_of_the_whole_answer(words: str) -> None:
    async def ask(endpoint: Endpoint) -> tuple[list[float], list[int], str]:
        async with Client(endpoint) as client:
            response = await client.complete(request(logprobs=True))
        assert response.tokens is not None
        return (
            response.tokens.logprobs.tolist(),
            response.tokens.lengths.tolist(),
            response.row.finish_reason,
        )

    with running("--words", words) as endpoint:
        assert asyncio.run(ask(endpoint)) == asyncio.run(ask(streaming(endpoint)))


def test_a_short_answer_is_not_streamed() -> None:
    with running() as endpoint:
        both(replace(endpoint, stream_from=WARM.max_tokens + 1))
        with urllib.request.urlopen(endpoint.base_url.removesuffix("/v1") + "/asked") as answer:
            bodies = json.load(answer)["asked"]
    assert [body.get("stream", False) for body in bodies] == [False, True]


@pytest.mark.parametrize("how", ["end", "error", "rubbish", "reset"])
def test_a_stream_that_breaks_is_asked_again_and_half_of_it_is_no_answer(how: str, tmp_path: Path) -> None:
    failures = []

    class Counted:
        def advance(self, rows: int = 1, tokens: int = 0, failures_: int = 0, failures: int = 0) -> None:
            heard.append(failures)

    heard = failures
    with running("--break-streams", "2", "--break-with", how) as endpoint:
        generate([request("q", 0)], streaming(endpoint), tmp_path / "rows.jsonl", progress=Counted())
        whole, _ = both(endpoint, question="q", draw=0)
    [row] = read_rows(tmp_path / "rows.jsonl", Generation)
    assert row.text == whole.text
    assert sum(failures) == 2
    partial = [read_partial(file) for file in sorted((tmp_path / INTERRUPTED).iterdir())]
    assert all(each is not None and each.text and whole.text.startswith(each.text) for each in partial)
    assert len(partial) == 2
    assert not (tmp_path / UNFINISHED).exists()


def test_a_server_that_answers_whole_when_asked_for_a_stream_is_understood() -> None:
    with running("--never-stream") as endpoint:
        whole, streamed = both(endpoint)
    assert streamed == whole


def test_a_stream_without_counts_is_refused_by_name_and_not_tried_again() -> None:
    with running("--no-stream-usage") as endpoint, pytest.raises(Uncounted, match="stream_from = 0"):
        both(endpoint)


@pytest.mark.parametrize("switch", ["--no-stream-usage", "--refuse-streams"])
def test_a_provider_that_cannot_stream_is_asked_without(switch: str) -> None:
    with running(switch) as endpoint:
        settings = EngineSettings(base_url=endpoint.base_url, api_key_env="NO_KEY_HERE")
        machine = Machine(engines={"remote": settings}, stream_from=1)
        assert remote_endpoint(remote, "tiny", WARM, machine).stream_from == 0
    with running() as endpoint:
        settings = EngineSettings(base_url=endpoint.base_url, api_key_env="NO_KEY_HERE")
        machine = Machine(engines={"remote": settings}, stream_from=1)
        assert remote_endpoint(remote, "tiny", WARM, machine).stream_from == 1


def test_an_engine_that_streams_no_token_ids_is_asked_whole_for_them() -> None:
    async def ask(endpoint: Endpoint) -> None:
        async with Client(endpoint) as client:
            await client.complete(request(logprobs=True))
            await client.complete(request())

    with running(engine=sglang) as endpoint:
        asyncio.run(ask(streaming(endpoint)))
        with urllib.request.urlopen(endpoint.base_url.removesuffix("/v1") + "/asked") as answer:
            assert [body.get("stream", False) for body in json.load(answer)["asked"]] == [False, True]


async def pieces(*data: bytes) -> AsyncIterator[bytes]:
    for each in data:
        yield each


def heard(*data: bytes) -> str:
    return asyncio.run(listened(pieces(*data))).choices[0].whole_text


def test_comments_and_other_fields_of_a_stream_say_nothing() -> None:
    end = b'data: {"choices": [{"text": "", "finish_reason": "stop"}], "usage": {"completion_tokens": 1}}\n\n'
    said = b': ping\n\nevent: x\ndata:{"choices": [{"text": "a\xe2\x80\xa8b"}]}\n\nid: 7\n\n'
    assert heard(said, end) == "a\u2028b"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b'data: {"choices": [{"text": "a"}]}\n\n',
        b'data: {"choices": [{"text": "a"}]}\n\ndata: [DONE]\n\n',
        b'data: {"choices": [{"text": 7}]}\n\n',
        b'data: {"error": {"message": "x"}}\n\n',
        b'data: {"error": "x", "choices": []}\n\n',
        b"data: \xff\xfe\n\n",
        b'data: {"choices": [{"text": "\xff"}]}\n\n',
        b"data:\n\n",
        b'data: {"x": ' + b"[" * 100_000 + b"\n\n",
    ],
)
def test_what_is_no_whole_stream_is_never_an_answer(data: bytes) -> None:
    with pytest.raises(BrokenStream):
        heard(data)


def test_a_line_that_never_ends_does_not_fill_the_memory() -> None:
    with pytest.raises(BrokenStream, match="a line of more than"):
        heard(b"data: ", *([b"x" * 2**24] * 5))


def streams(endpoint: Endpoint) -> int:
    with urllib.request.urlopen(endpoint.base_url.removesuffix("/v1") + "/asked") as answer:
        return len(json.load(answer)["asked"])


LONG_RUN = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from pathlib import Path
from harness.endpoint import Endpoint
from harness.engines import ALL_PARAMETERS
from harness.generate import Pace, generate
from tests.fakes.engine import FakeEngine, request
from dataclasses import replace
from tests.fakes.engine import WARM
endpoint = Endpoint(base_url=sys.argv[1], model="tiny", engine=FakeEngine(), accepts=ALL_PARAMETERS,
                    fingerprint={"engine": "fake", "version": "1.0", "model": "tiny"}, stream_from=1)
LONG = replace(WARM, max_tokens=5000)
wanted = [request("q", d, sampling=LONG) for d in range(3)]
generate(wanted, endpoint, Path(sys.argv[2]), pace=Pace(requests=3), say=print)
"""


@pytest.mark.parametrize(
    ("end", "words"), [(signal.SIGKILL, 4000), (signal.SIGTERM, 4000), (signal.SIGINT, 30)]
)
def test_an_interrupted_response_is_reported_and_asked_again_from_its_start(
    end: signal.Signals, words: int, tmp_path: Path
) -> None:
    rows = tmp_path / "rows.jsonl"
    with running("--words", str(words), "--stall-streams") as endpoint:
        run = [sys.executable, "-c", LONG_RUN, endpoint.base_url, str(rows)]
        process = subprocess.Popen(run, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})
        while (words > 30 and len(list((tmp_path / UNFINISHED).glob("*"))) < 3) or streams(endpoint) < 3:
            assert process.poll() is None
            time.sleep(0.05)
        time.sleep(0.3)
        process.send_signal(end)
        process.wait()
    said: list[str] = []
    with running("--words", "5000") as endpoint:
        wanted = [request("q", draw, sampling=replace(WARM, max_tokens=5000)) for draw in range(3)]
        generate(wanted, streaming(endpoint), rows, say=said.append)
    assert len(said) == 1
    assert said[0].startswith("3 responses were cut short")
    whole = {row.draw: row.text for row in read_rows(rows, Generation)}
    for file in (tmp_path / INTERRUPTED).iterdir():
        partial = read_partial(file)
        assert partial is not None
        assert 0 < len(partial.text) < len(whole[partial.draw])
        assert whole[partial.draw].startswith(partial.text.rstrip("\ufffd"))
    assert not (tmp_path / UNFINISHED).exists()


def test_a_stream_that_is_slow_is_no_hang_although_the_server_says_nothing_else(tmp_path: Path) -> None:
    pace = Pace(hang_after=1)
    with running("--words", "30", "--token-delay", "0.1", "--unwell") as endpoint:
        assert generate([request("q", 0)], streaming(endpoint), tmp_path / "rows.jsonl", pace=pace) == 1
    with running("--delay", "5", "--unwell") as endpoint, pytest.raises(ServerError, match="hangs"):
        generate([request("q", 1)], streaming(endpoint), tmp_path / "rows.jsonl", pace=pace)


def test_a_server_whose_streams_always_break_is_given_up() -> None:
    with running("--break-streams", "99") as endpoint, pytest.raises(Unreachable, match="broke off after"):
        both(endpoint)
