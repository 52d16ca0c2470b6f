"""Answers that cannot be what they say: asked again, and never rows."""

import asyncio
import json
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from harness.client import Client, Unsound
from harness.completion import AnswerMessage, Choice, Completion, Usage
from harness.endpoint import Endpoint
from harness.engines.remote import remote
from harness.engines.vllm import vllm
from harness.errors import ServerError
from harness.eventloop import run
from harness.generate import Pace, generate
from harness.patience import seconds_to_wait
from harness.rows import read_rows
from harness.soundness import ATTEMPTS, doubt, flaw
from harness.stream import listened
from harness.types import Generation
from tests.fakes.engine import request, running
from tests.fuzz.answering import ENDPOINT

ASKED = request()  # of at most 40 tokens


def completion(
    text: str | None = "so \\boxed{4}", finish: str | None = "stop", told: int = 5, prompt: int = 7
) -> Completion:
    choice = Choice(message=AnswerMessage(content=text), finish_reason=finish)
    return Completion(choices=[choice], usage=Usage(prompt_tokens=prompt, completion_tokens=told))


def of(found: Completion, counted: bool = True, local: bool = False) -> str:
    return flaw(found, ASKED, replace(ENDPOINT, engine=vllm if local else remote), counted)


def doubted(found: Completion, local: bool = False) -> str:
    return doubt(found, ASKED, replace(ENDPOINT, engine=vllm if local else remote))


def message(told: int, **fields: Any) -> Completion:
    """An answer that its model ended, as a provider puts it."""
    thought = {"reasoning_tokens": fields.pop("hidden", 0)}
    usage = {"prompt_tokens": 7, "completion_tokens": told, "completion_tokens_details": thought}
    choice = {"message": {"content": None, **fields}, "finish_reason": "stop"}
    return msgspec.json.decode(msgspec.json.encode({"choices": [choice], "usage": usage}), type=Completion)


def test_honest_answers_have_no_flaw() -> None:
    assert not of(completion())
    assert not of(completion(finish="length", told=40))
    assert not of(completion(text="", told=1))
    assert not of(completion(text=None, finish="length", told=40))
    assert not of(completion(finish="content_filter", told=3))


def test_more_tokens_than_were_asked_for_are_a_flaw() -> None:
    assert "no more than 40" in of(completion(told=41))


def test_what_was_cut_off_before_its_limit_is_not_taken_at_once_for_a_model_that_ran_out_of_it() -> None:
    assert "cut off after 39 tokens" in doubted(completion(finish="length", told=39))
    assert not doubted(completion(finish="length", told=40))
    assert not doubted(completion())


def test_an_answer_that_a_filter_stopped_is_honest_although_it_is_empty_and_not_counted() -> None:
    for text in (None, "", "so"):
        for prompt in (7, 0):
            found = completion(text=text, finish="content_filter", told=0, prompt=prompt)
            assert not of(found) + doubted(found)


def test_reasoning_that_a_provider_keeps_to_itself_accounts_for_tokens_without_text() -> None:
    assert not of(message(33, hidden=32)) + doubted(message(33, hidden=32))
    assert "33 tokens are counted, and no text came" in of(message(33, hidden=0))
    assert "31 tokens are counted, and no text came" in of(message(33, hidden=2))


def test_a_refusal_is_what_the_model_said_and_a_call_of_a_tool_has_no_text() -> None:
    assert message(12, refusal="I cannot").choices[0].whole_text == "I cannot"
    assert not of(message(12, refusal="I cannot"))
    assert not of(message(12, tool_calls=[{"id": "a"}]))
    assert "no text came" in of(message(12, tool_calls=[]))


def test_markers_alone_are_believed_only_the_second_time() -> None:
    assert not of(message(2))
    assert "no text came" in doubted(message(2))
    assert not doubted(message(2), local=True)


def test_reasoning_that_is_not_counted_makes_no_answer_too_long() -> None:
    assert not of(message(1, content="4", reasoning_content="x" * 5000))
    assert "fewer than came" in of(message(1, content="x" * 5000))


def test_reasoning_that_is_counted_apart_belongs_to_the_limit() -> None:
    found = message(10, content="so", hidden=30)
    found.choices[0].finish_reason = "length"
    assert not of(found) + doubted(found)


def test_details_of_a_count_that_nobody_can_read_spoil_no_answer() -> None:
    for details in (b'{"reasoning_tokens": "many"}', b"7", b"null", b"[]"):
        usage = b'{"completion_tokens": 5, "completion_tokens_details": %s}' % details
        assert msgspec.json.decode(usage, type=Usage).reasoning_tokens == 0


def test_an_answer_without_an_end_is_none() -> None:
    assert "why it ended" in of(completion(finish=None))


def test_text_that_went_missing_is_not_an_empty_answer() -> None:
    assert "no text came" in of(completion(text=None))
    assert "no text came" in of(completion(text="", told=0))


def test_tokens_that_only_a_local_engine_hides_are_no_lost_text() -> None:
    assert not of(completion(text="", told=3), local=True)


def test_missing_counts_are_a_flaw_only_where_the_server_counts() -> None:
    assert "not counted" in of(completion(told=0, prompt=0))
    assert not of(completion(told=0, prompt=0), counted=False)


def test_text_of_no_token_or_of_more_than_tokens_can_hold_is_a_flaw() -> None:
    assert "fewer than came" in of(completion(told=0))
    assert "fewer than came" in of(completion(text="x" * 3000, told=2))


def test_more_tokens_sent_than_counted_are_a_flaw() -> None:
    found = completion(told=2)
    found.choices[0].token_ids = [1, 2, 3, 4]
    assert "fewer than came" in of(found)


def asked(endpoint: Endpoint) -> int:
    with urllib.request.urlopen(endpoint.base_url.removesuffix("/v1") + "/asked") as told:
        return len(json.load(told)["asked"])


def test_a_flaw_that_stays_is_told_after_few_attempts() -> None:
    async def ask(endpoint: Endpoint) -> None:
        async with Client(endpoint, wary=True) as client:
            await client.complete(request())

    with running("--text", "", engine=remote) as endpoint:
        with pytest.raises(Unsound, match="12 tokens are counted, and no text came") as caught:
            asyncio.run(ask(endpoint))
        assert asked(endpoint) == ATTEMPTS
    assert "such answers are no rows" in caught.value.remedy


def test_a_limit_of_the_servers_own_is_believed_the_second_time_and_said_once(tmp_path: Path) -> None:
    said: list[str] = []
    wanted = [request("q", draw) for draw in range(3)]
    with running("--finish", "length") as endpoint:
        assert generate(wanted, endpoint, tmp_path / "rows.jsonl", say=said.append) == 3
        assert asked(endpoint) == 6
    [line] = said
    assert line.startswith("the server ends answers after 12 tokens though 40 were asked for: its own limit")
    assert all(row.truncated for row in read_rows(tmp_path / "rows.jsonl", Generation))


def test_one_answer_that_cannot_be_costs_no_other_and_is_asked_again_alone(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    wanted = [request(f"q{number}", 0) for number in range(20)]
    with running("--spoil", "q3?", engine=remote) as one, running("--spoil", "q3?", engine=remote) as other:
        with pytest.raises(Unsound, match=r"1 request gets no sound answer \(q3 0\).*no text came") as caught:
            generate(wanted, replace(one, replicas=(other,)), rows, pace=Pace(requests=3))
        assert len(list(read_rows(rows, Generation))) == 19
        assert asked(one) + asked(other) == 19 + ATTEMPTS
    assert "asks again only for what has no row" in caught.value.remedy
    with running(engine=remote) as well:
        assert generate(wanted, well, rows) == 1
        assert asked(well) == 1


def test_a_server_without_a_sound_answer_is_not_asked_for_all(tmp_path: Path) -> None:
    wanted = (request("q", draw) for draw in range(400))
    with running("--spoil", "q?", engine=remote) as endpoint:
        with pytest.raises(Unsound, match="100 requests, one after another"):
            generate(wanted, endpoint, tmp_path / "rows.jsonl", pace=Pace(requests=20))
        assert asked(endpoint) < 150 * ATTEMPTS


@pytest.mark.parametrize("reason", ["abort", "error", "insufficient_system_resource"])
def test_an_answer_that_its_server_broke_off_is_none(reason: str, tmp_path: Path) -> None:
    with running("--finish", reason) as endpoint, pytest.raises(ServerError, match="gave up"):
        generate([request()], endpoint, tmp_path / "rows.jsonl")
    assert not list(read_rows(tmp_path / "rows.jsonl", Generation))


def test_a_filter_a_refusal_and_a_tool_are_understood_from_streams() -> None:
    def streamed(*events: dict[str, Any]) -> Completion:
        async def pieces() -> Any:
            for event in events:
                yield b"data: " + json.dumps({"choices": [event]}).encode() + b"\n\n"
            yield b"data: [DONE]\n\n"

        return run(listened(pieces()))

    filtered = streamed({"delta": {}, "finish_reason": "content_filter"})
    assert not of(filtered)
    ended = {"delta": {}, "finish_reason": "content_filter"}
    assert streamed({"delta": {"refusal": "I cannot"}}, ended).choices[0].whole_text == "I cannot"
    assert streamed({"delta": {"tool_calls": [{"id": "a"}]}}, ended).choices[0].calls_tools


def test_a_date_to_wait_for_is_one_of_the_servers_clock_not_of_ours() -> None:
    now, then = "Wed, 21 Oct 2015 07:28:00 GMT", "Wed, 21 Oct 2015 07:28:09 GMT"
    assert seconds_to_wait(then, now) == 9.0
    assert seconds_to_wait(now, then) == 0.0
    assert seconds_to_wait("Wed, 21 Oct 2999 07:28:00 GMT", "no date") == 300.0
