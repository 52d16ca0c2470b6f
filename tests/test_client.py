"""The client: what is asked, what is tried again, and what is never taken for an answer."""

import asyncio
import json
import urllib.request
from dataclasses import replace
from typing import Any

import pytest
from tenacity import RetryCallState

from harness.answering import Response, byte_lengths
from harness.asking import Request, asked
from harness.chat import ChatTemplate, load_template, opens_thinking, split_reasoning
from harness.client import LONGEST_SILENCE, Client, Refused, Unreachable, understood
from harness.completion import Choice, Logprobs
from harness.endpoint import Endpoint
from harness.engines import OPENAI_PARAMETERS
from harness.engines.vllm import vllm
from harness.errors import DataError, ServerError
from harness.patience import Patience, Transient, pause, seconds_to_wait
from harness.types import Generation, Message, Sampling
from tests.fakes.engine import FakeFixedEngine, request, running


def responses(endpoint: Endpoint, *requests: Request, **options: Any) -> list[Response]:
    async def ask() -> list[Response]:
        async with Client(endpoint, **options) as client:
            return await asyncio.gather(*(client.complete(each) for each in requests))

    return asyncio.run(ask())


def complete(endpoint: Endpoint, *requests: Request, **options: Any) -> list[Generation]:
    return [response.row for response in responses(endpoint, *requests, **options)]


def bodies(endpoint: Endpoint) -> list[dict[str, Any]]:
    with urllib.request.urlopen(endpoint.base_url.removesuffix("/v1") + "/asked") as answer:
        asked: list[dict[str, Any]] = json.load(answer)["asked"]
        return asked


def test_every_sampling_parameter_is_sent_even_where_it_is_off() -> None:
    with running() as endpoint:
        complete(endpoint, request(seed=11))
        body = bodies(endpoint)[0]
    assert body["seed"] == 11
    assert (body["temperature"], body["top_p"], body["max_tokens"]) == (1.0, 1.0, 40)
    assert (body["top_k"], body["min_p"], body["repetition_penalty"]) == (-1, 0.0, 1.0)


def test_an_engine_that_knows_few_parameters_is_sent_no_others() -> None:
    with running("--openai-only") as endpoint:
        complete(replace(endpoint, accepts=OPENAI_PARAMETERS), request())
        assert "top_k" not in bodies(endpoint)[0]


def test_the_row_keeps_tokens_finish_reason_latency_seed_and_request_id() -> None:
    with running() as endpoint:
        (row,) = complete(endpoint, request(seed=3, kept={"order": [2, 0]}), honoured=("seed",))
    assert (row.prompt_tokens, row.completion_tokens, row.finish_reason) == (7, 12, "stop")
    assert row.latency > 0
    assert row.seed == 3
    assert row.request_id.startswith("chatcmpl-")
    assert (row.model, row.engine, row.honoured, row.kept) == (
        "tiny",
        "fake 1.0",
        ("seed",),
        {"order": [2, 0]},
    )
    assert row.prompt == "what is q?"


def test_max_tokens_of_one_request_cuts_that_one_off() -> None:
    with running() as endpoint:
        short, whole = complete(
            endpoint, request(sampling=Sampling(temperature=1.0, max_tokens=4)), request()
        )
    assert (short.finish_reason, short.truncated, short.answer) == ("length", True, "")
    assert whole.finish_reason == "stop"


def test_an_answer_of_another_model_names_both() -> None:
    with (
        running("--answer-model", "impostor") as endpoint,
        pytest.raises(ServerError, match=r"'tiny'.*'impostor'"),
    ):
        complete(endpoint, request())


def test_500_is_tried_again_and_then_answers() -> None:
    retries: list[int] = []
    with running("--fail", "2") as endpoint:
        (row,) = complete(endpoint, request(), on_retry=lambda: retries.append(1))
    assert row.text
    assert len(retries) == 2


def test_500_for_ever_is_an_error_and_not_an_endless_loop() -> None:
    with running("--fail", "1000") as endpoint, pytest.raises(ServerError, match="engine is unwell"):
        complete(endpoint, request())


def test_429_waits_as_long_as_the_server_says() -> None:
    with running("--busy", "1", "--retry-after", "1") as endpoint:
        (row,) = complete(endpoint, request())
        assert len(bodies(endpoint)) == 2
    assert row.text


def test_retry_after_may_be_a_date_in_the_past() -> None:
    assert seconds_to_wait("Wed, 21 Oct 2015 07:28:00 GMT") == 0.0
    assert seconds_to_wait("7") == 7.0
    assert seconds_to_wait("soon") is None
    assert seconds_to_wait("999999") == 300.0


def test_a_prompt_over_the_context_is_refused_once_and_not_asked_again() -> None:
    with running("--context", "50") as endpoint:
        with pytest.raises(Refused, match="maximum context length"):
            complete(endpoint, request())
        assert len(bodies(endpoint)) == 1


def test_a_wrong_model_name_says_which() -> None:
    with running() as endpoint, pytest.raises(ServerError, match=r"404.*giant"):
        complete(replace(endpoint, model="giant"), request())


def test_a_generation_that_the_server_aborted_is_not_a_response() -> None:
    with running("--finish", "abort") as endpoint, pytest.raises(ServerError, match="gave up"):
        complete(endpoint, request())


def test_a_server_that_is_not_there_is_an_error_that_shows_no_key() -> None:
    with running() as endpoint:
        gone = replace(endpoint, base_url="http://127.0.0.1:9/v1", api_key="sk-secret")
    with pytest.raises(ServerError, match="keeps failing") as caught:
        complete(gone, request())
    assert "sk-secret" not in str(caught.value) + repr(gone)


def test_text_with_line_separators_and_multibyte_characters_comes_back_whole() -> None:
    with running("--text", "a\u2028b é 水 \\boxed{7}") as endpoint:
        (row,) = complete(endpoint, request())
    assert row.text == "a\u2028b é 水 \\boxed{7}"


def test_token_lengths_add_up_to_the_text_and_the_end_token_counts_nothing() -> None:
    with running() as endpoint:
        (response,) = responses(endpoint, request(logprobs=True))
    tokens = response.tokens
    assert tokens is not None
    assert tokens.lengths.sum() == len(response.row.text.encode())
    assert tokens.lengths[-1] == 0
    assert len(tokens.logprobs) == len(tokens.lengths) == 13


def test_tokens_that_were_not_asked_for_are_not_kept() -> None:
    with running() as endpoint:
        (response,) = responses(endpoint, request())
    assert response.tokens is None


def test_token_lengths_of_a_character_in_two_tokens() -> None:
    assert byte_lengths([b"a", b"", "水".encode(), b"<|im_end|>"], "a水") == [1, 0, 3, 0]


def test_token_lengths_of_a_character_cut_off_at_the_limit() -> None:
    assert byte_lengths([b"a", b""], "a\ufffd") == [1, 3]


def test_token_lengths_of_bytes_that_make_no_character() -> None:
    assert byte_lengths([b"a", b"", b"b", b"<|im_end|>"], "a\ufffdb") == [1, 3, 1, 0]
    assert byte_lengths([b"a", b"", b"<|im_end|>"], "a\ufffd\ufffd") == [1, 0, 6]


def test_token_lengths_that_cannot_add_up_are_not_invented() -> None:
    assert byte_lengths([b"x"], "hello") is None


def test_a_prefix_is_continued_from_our_own_rendering_because_templates_rewrite_reasoning() -> None:
    template = ChatTemplate(source="<u>{{ messages[0].content }}<a>")
    with running(engine=vllm) as endpoint:
        path, body = asked(request(prefix="<think>so far"), replace(endpoint, template=template))
    assert path == "/completions"
    assert body["prompt"] == "<u>what is q?<a><think>so far"
    assert body["add_special_tokens"] is False


OPENING = ChatTemplate(source="{{ messages[-1].content }}<a>{{ '<think>\\n' }}")


def test_a_tag_that_the_template_wrote_stands_in_a_text_that_is_to_be_learned() -> None:
    with running("--pieces", '["so ", "</think>", "4"]', engine=vllm) as endpoint:
        opened = replace(endpoint, template=OPENING)
        plain, tagged = responses(opened, request(logprobs=True), request(logprobs=True, tagged=True))
    assert plain.row.text == "so </think>4"
    assert tagged.row.text == "<think>\nso </think>4"
    assert (tagged.row.reasoning, tagged.row.answer) == ("so", "4")
    assert tagged.tokens is not None
    assert tagged.tokens.lengths.tolist() == [11, 8, 1, 0]


def test_a_prefix_does_not_open_again_what_the_template_opened() -> None:
    with running(engine=vllm) as endpoint:
        _, body = asked(request(prefix="<think>\nso far"), replace(endpoint, template=OPENING))
    assert body["prompt"] == "what is q?<a><think>\nso far"


def test_a_prefix_without_a_template_is_continued_by_the_server() -> None:
    with running() as endpoint:
        path, body = asked(request(prefix="so far"), endpoint)
    assert path == "/chat/completions"
    assert body["messages"][-1] == {"role": "assistant", "content": "so far"}
    assert (body["add_generation_prompt"], body["continue_final_message"]) == (False, True)


def test_the_parts_of_a_continuation_are_those_of_prefix_and_continuation_together() -> None:
    with running("--text", " more</think>42") as endpoint:
        (row,) = complete(endpoint, request(prefix="<think>some"))
    assert (row.text, row.reasoning, row.answer) == (" more</think>42", "some more", "42")


def test_an_engine_with_one_sampling_is_never_asked_for_another() -> None:
    with running(engine=FakeFixedEngine()) as endpoint:
        fixed = replace(
            endpoint,
            sampling=Sampling(temperature=0.6, max_tokens=0),
            template=ChatTemplate(source="{{ messages[0].content }}"),
        )
        with pytest.raises(ServerError, match=r"temperature=0.6.*temperature=1.0"):
            complete(fixed, request())


def test_reasoning_that_the_server_cut_out_is_put_back() -> None:
    with running("--reasoning", "two and two", "--text", "4") as endpoint:
        (row,) = complete(endpoint, request())
    assert (row.text, row.reasoning, row.answer) == ("<think>two and two</think>4", "two and two", "4")


def test_the_answer_follows_the_last_closing_tag() -> None:
    assert split_reasoning("<think>a</think>b</think>c", "stop") == ("a</think>b", "c")


def test_thinking_that_never_ends_has_no_answer() -> None:
    assert split_reasoning("<think>on and on", "length") == ("on and on", "")
    assert split_reasoning("on and on", "stop", prompt_opens_thinking=True) == ("on and on", "")
    assert split_reasoning("a</think>b<think>again", "stop")[1] == ""


def test_a_response_without_tags_is_all_answer_unless_it_was_cut_off() -> None:
    assert split_reasoning("42", "stop") == ("", "42")
    assert split_reasoning("42 and", "length") == ("42 and", "")


def test_a_template_that_opens_thinking_is_noticed() -> None:
    template = ChatTemplate(source="{{ messages[0].content }}<think>\n")
    assert opens_thinking(template.render((Message(role="user", content="hi"),)))


def test_a_template_that_refuses_says_so() -> None:
    template = ChatTemplate(source="{{ raise_exception('no system prompt here') }}")
    with pytest.raises(DataError, match="no system prompt here"):
        template.render((Message(role="system", content="be brief"),))


def test_a_template_cannot_reach_python() -> None:
    template = ChatTemplate(source="{{ ''.__class__.__mro__[1].__subclasses__() }}")
    with pytest.raises(DataError):
        template.render((Message(role="user", content="hi"),))


def test_the_default_of_several_named_templates_is_taken(tmp_path: Any) -> None:
    named = [{"name": "tool_use", "template": "no"}, {"name": "default", "template": "yes {{ bos_token }}"}]
    config = {"chat_template": named, "bos_token": {"content": "<s>"}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    template = load_template(tmp_path)
    assert template is not None
    assert template.render((Message(role="user", content="hi"),)) == "yes <s>"


def failures(*errors: Transient) -> list[bool]:
    """After which of these failures in a row a request is given up."""
    patience, given_up = Patience(), []
    for number, error in enumerate(errors, 1):
        state = RetryCallState(retry_object=None, fn=None, args=(), kwargs={})  # type: ignore[arg-type]
        state.attempt_number = number
        state.set_exception((type(error), error, None))
        given_up.append(patience(state))
    return given_up


def test_being_busy_for_long_is_no_reason_to_give_up_at_the_first_other_failure() -> None:
    busy, broken = Transient("429", attempts=30), Transient("500")
    assert not any(failures(*[busy] * 20, broken))
    assert failures(*[broken] * 6) == [False] * 5 + [True]
    assert failures(*[busy] * 30)[-1]


def test_a_wish_for_no_pause_at_all_is_not_taken_at_its_word() -> None:
    state = RetryCallState(retry_object=None, fn=None, args=(), kwargs={})  # type: ignore[arg-type]
    error = Transient("429", wait=0.0, attempts=30)
    state.set_exception((Transient, error, None))
    state.attempt_number = 20
    assert sum(pause(state) for _ in range(50)) > 1.0


@pytest.mark.parametrize("header", ["²", "-1", "soon", ""])
def test_a_retry_after_that_is_no_number_is_no_wish(header: str) -> None:
    assert seconds_to_wait(header) is None


@pytest.mark.parametrize(
    "data", [b'{"choices": [{"text": "\xff"}]}', b'{"choices": [{"text": "a"', b"\xff", b"[" * 100_000]
)
def test_bytes_that_are_no_text_are_a_servers_fault_and_no_traceback(data: bytes) -> None:
    with running() as endpoint, pytest.raises(Transient, match="answered no OpenAI completion"):
        understood(data, endpoint)


def test_log_probabilities_of_another_number_than_the_tokens_are_none() -> None:
    choice = Choice(text="ab", logprobs=Logprobs(tokens=["a", "b"], token_logprobs=[-1.0]))
    assert choice.tokens is None


def test_only_a_stream_is_cut_for_its_silence_unless_a_number_is_asked_for() -> None:
    with running() as endpoint:
        unset, none, set_to = (Client(endpoint, longest_silence=value) for value in (None, 0.0, 7.0))
    assert [unset.timeout(streamed).sock_read for streamed in (True, False)] == [LONGEST_SILENCE, None]
    assert [none.timeout(streamed).sock_read for streamed in (True, False)] == [None, None]
    assert [set_to.timeout(streamed).sock_read for streamed in (True, False)] == [7.0, 7.0]


def test_an_answer_that_takes_longer_than_the_longest_silence_names_the_setting() -> None:
    with running("--delay", "60") as endpoint, pytest.raises(Unreachable, match="nothing came of") as told:
        complete(endpoint, request(), longest_silence=0.2, patience=3600.0)
    assert "longest_silence in machine.toml" in told.value.remedy


def test_a_stream_that_breaks_off_may_be_the_end_of_a_server_and_is_vouched_for() -> None:
    """A proxy ends the stream of a server that is killed in good order."""
    known = {"checkpoint": "tiny"}

    async def ask(endpoint: Endpoint) -> tuple[int, int]:
        async with Client(endpoint, made_from=known) as client:
            await client.complete(request())
            return client.failures, client.vouched

    with running("--break-streams", "1") as endpoint:
        assert asyncio.run(ask(replace(endpoint, stream_from=1))) == (1, 1)


def test_what_fails_while_a_server_is_vouched_for_is_not_vouched_for() -> None:
    async def ask(endpoint: Endpoint) -> tuple[int, int]:
        async with Client(endpoint, made_from={"checkpoint": "tiny"}) as client:
            client.failures = 1
            vouching = asyncio.create_task(client.vouch())
            await asyncio.sleep(0)  # it is asked now
            client.failures = 2
            await vouching
            return client.failures, client.vouched

    with running() as endpoint:
        assert asyncio.run(ask(endpoint)) == (2, 1)
