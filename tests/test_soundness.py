"""Answers that cannot be what they say: asked again, and never rows."""

import asyncio
from dataclasses import replace

import pytest

from harness.client import Client, Unreachable
from harness.completion import AnswerMessage, Choice, Completion, Usage
from harness.engines.remote import remote
from harness.engines.vllm import vllm
from harness.patience import seconds_to_wait
from harness.soundness import flaw
from tests.fakes.engine import FakeEngine, request, running
from tests.fuzz.answering import ENDPOINT

ASKED = request()  # of at most 40 tokens


def completion(
    text: str | None = "so \\boxed{4}", finish: str | None = "stop", told: int = 5, prompt: int = 7
) -> Completion:
    choice = Choice(message=AnswerMessage(content=text), finish_reason=finish)
    return Completion(choices=[choice], usage=Usage(prompt_tokens=prompt, completion_tokens=told))


def of(found: Completion, counted: bool = True, local: bool = False) -> str:
    return flaw(found, ASKED, replace(ENDPOINT, engine=vllm if local else remote), counted)


def test_honest_answers_have_no_flaw() -> None:
    assert not of(completion())
    assert not of(completion(finish="length", told=40))
    assert not of(completion(text="", told=1))
    assert not of(completion(text=None, finish="length", told=40))
    assert not of(completion(finish="content_filter", told=3))


def test_more_tokens_than_were_asked_for_are_a_flaw() -> None:
    assert "no more than 40" in of(completion(told=41))


def test_what_was_cut_off_before_its_limit_is_not_taken_for_a_model_that_ran_out_of_it() -> None:
    assert "cut off after 39 tokens" in of(completion(finish="length", told=39))


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


def test_a_flaw_that_stays_ends_the_run_and_says_what_cannot_be() -> None:
    async def ask() -> None:
        with running("--finish", "length", engine=FakeEngine()) as endpoint:
            async with Client(endpoint, wary=True) as client:
                await client.complete(request())

    with pytest.raises(Unreachable, match="cut off after 12 tokens") as caught:
        asyncio.run(ask())
    assert "such answers are no rows" in caught.value.remedy


def test_a_date_to_wait_for_is_one_of_the_servers_clock_not_of_ours() -> None:
    now, then = "Wed, 21 Oct 2015 07:28:00 GMT", "Wed, 21 Oct 2015 07:28:09 GMT"
    assert seconds_to_wait(then, now) == 9.0
    assert seconds_to_wait(now, then) == 0.0
    assert seconds_to_wait("Wed, 21 Oct 2999 07:28:00 GMT", "no date") == 300.0
