"""Harmony: channels become thinking and answer, and every token keeps its place."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from harness import harmony
from harness.answering import Response, response
from harness.asking import Request, asked
from harness.chat import ChatTemplate
from harness.client import Client
from harness.completion import Choice, Completion, Logprobs
from harness.endpoint import Endpoint
from harness.engines.vllm import vllm
from harness.errors import ServerError
from harness.preflight import preflight, wanted_by
from harness.types import Message
from harness.vocabulary import Vocabulary
from tests.fakes.engine import request, running

TEMPLATE = ChatTemplate(
    source="<|start|>system<|message|>Current date: {{ strftime_now('%Y-%m-%d') }}\n"
    "Reasoning: {{ reasoning_effort or 'medium' }}\n# Valid channels: analysis, commentary, final.<|end|>"
    "{% for m in messages %}<|start|>{{ m.role }}<|message|>{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant{% endif %}{# <|channel|> #}"
)
WHOLE = "<|channel|>analysis<|message|>2 + 2 é 4.<|end|><|start|>assistant<|channel|>final<|message|>It is 4."


def text(raw: str, prefix: str = "") -> str:
    return "".join(harmony.read(harmony.split(raw), prefix).text)


def test_analysis_becomes_thinking_and_final_the_answer() -> None:
    assert text(WHOLE) == "<think>\n2 + 2 é 4.\n</think>\n\nIt is 4."


def test_several_analysis_messages_are_one_thinking() -> None:
    twice = "<|channel|>analysis<|message|>a<|end|><|start|>assistant" + WHOLE
    assert text(twice) == "<think>\na\n\n2 + 2 é 4.\n</think>\n\nIt is 4."


def test_an_answer_without_analysis_has_no_thinking() -> None:
    assert text("<|channel|>final<|message|>4<|return|>") == "4"


def test_analysis_without_a_final_message_stays_open() -> None:
    assert text("<|channel|>analysis<|message|>I am not sure<|end|>") == "<think>\nI am not sure"


@pytest.mark.parametrize(
    "call",
    [
        "<|channel|>commentary to=functions.add <|constrain|>json<|message|>{}<|call|>",
        " to=functions.add<|channel|>commentary json<|message|>{}",
    ],
)
def test_a_message_to_a_tool_is_a_function_call(call: str) -> None:
    assert harmony.read(harmony.split(WHOLE + "<|end|><|start|>assistant" + call)).function_call
    assert not harmony.read(harmony.split(WHOLE)).function_call


def test_a_preamble_in_commentary_to_nobody_is_thinking_and_no_call() -> None:
    found = harmony.read(harmony.split("<|channel|>commentary<|message|>I shall add.<|end|>"))
    assert ("".join(found.text), found.function_call) == ("<think>\nI shall add.", False)


def test_words_about_markers_inside_a_message_are_text() -> None:
    pieces = ["<|channel|>", "final", "<|message|>", "harmony ends with <|ret", "urn|> to=functions.x"]
    found = harmony.read(pieces)
    assert "".join(found.text) == "harmony ends with <|return|> to=functions.x"
    assert not found.function_call


def test_every_piece_has_the_bytes_that_it_became() -> None:
    found = harmony.read(harmony.split(WHOLE))
    whole = "".join(found.text).encode()
    assert sum(found.lengths) == len(whole)
    start = sum(found.lengths[:3])
    assert whole[start : start + found.lengths[3]].decode() == "2 + 2 é 4."


THINKING, ANSWER = "<think>\n2 + 2 é 4.", "\n</think>\n\nIt is 4."
INSIDE_THINKING = range(len("<think>\n"), len(THINKING) + 1)
INSIDE_ANSWER = range(len(THINKING) + len("\n</think>\n\n"), len(THINKING) + len(ANSWER) + 1)


@pytest.mark.parametrize("cut", [*INSIDE_THINKING, *INSIDE_ANSWER])
def test_a_beginning_in_the_models_own_form_reads_back_as_itself(cut: int) -> None:
    prefix = (THINKING + ANSWER)[:cut]
    assert text(harmony.continued(prefix)) == prefix


def test_a_continuation_goes_on_inside_the_thinking() -> None:
    rest = "and 4.<|end|><|start|>assistant<|channel|>final<|message|>4"
    assert text(rest, prefix="<think>\nso ") == "and 4.\n</think>\n\n4"
    assert harmony.continued("<think>\nso ") == "<|channel|>analysis<|message|>so "


def test_a_continuation_goes_on_inside_the_answer() -> None:
    assert text("is 4.", prefix="<think>\nso\n</think>\n\nIt ") == "is 4."
    assert harmony.continued("It ") == "<|channel|>final<|message|>It "


def answered(endpoint: Endpoint, asking: Request) -> Response:
    async def one() -> Response:
        async with Client(endpoint) as client:
            return await client.complete(asking)

    return asyncio.run(one())


def pieces(raw: str) -> list[str]:
    """Tokens of one marker or of at most three characters."""
    found = []
    for part in harmony.split(raw):
        step = len(part) if part.startswith("<|") else 3
        found += [part[start : start + step] for start in range(0, len(part), step)]
    return found


def test_a_harmony_model_is_asked_with_rendered_text_and_its_tokens_kept() -> None:
    sent = pieces(WHOLE)
    with running("--pieces", json.dumps(sent), engine=vllm) as endpoint:
        response = answered(replace(endpoint, template=TEMPLATE), request(logprobs=True, effort="high"))
    row, tokens = response.row, response.tokens
    assert row.text == "<think>\n2 + 2 é 4.\n</think>\n\nIt is 4."
    assert (row.reasoning, row.answer) == ("2 + 2 é 4.", "It is 4.")
    assert "function_call" not in row.kept
    assert tokens is not None
    assert tokens.lengths.sum() == len(row.text.encode())
    assert len(tokens.ids) == len(tokens.logprobs) == len(sent) + 1


def test_a_function_call_is_told_in_the_row() -> None:
    call = "<|end|><|start|>assistant<|channel|>commentary to=functions.f<|message|>{}"
    sent = pieces("<|channel|>analysis<|message|>use a tool" + call)
    with running("--pieces", json.dumps(sent), engine=vllm) as endpoint:
        row = answered(replace(endpoint, template=TEMPLATE), request()).row
    assert row.kept["function_call"] is True


def test_the_effort_stands_in_the_prompt_and_the_day_is_the_one_given() -> None:
    with running(engine=vllm) as endpoint:
        asking = request(effort="high", date="2025-08-05")
        path, body = asked(asking, replace(endpoint, template=TEMPLATE))
        wanted = wanted_by([asking], asking.sampling)
        assert "effort" in preflight(replace(endpoint, template=TEMPLATE), wanted).honoured
        assert "effort" not in preflight(endpoint, wanted).honoured
    assert path == "/completions"
    assert "Reasoning: high\n" in body["prompt"]
    assert "Current date: 2025-08-05\n" in body["prompt"]
    assert body["prompt"].endswith("<|start|>assistant")
    assert body["skip_special_tokens"] is False


def test_a_template_that_drops_the_effort_is_refused() -> None:
    deaf = ChatTemplate(source="{{ messages[-1].content }}{# <|channel|>final<|message|> #}")
    with running(engine=vllm) as endpoint, pytest.raises(ServerError, match="does not say it"):
        asked(request(effort="high"), replace(endpoint, template=deaf))


def test_a_chat_server_is_asked_for_the_effort_in_its_own_field() -> None:
    with running() as endpoint:
        _, body = asked(request(effort="low"), endpoint)
    assert body["reasoning_effort"] == "low"
    assert body["messages"] == [{"role": "user", "content": "what is q?"}]


def test_a_students_beginning_is_continued_in_the_teachers_own_channels() -> None:
    asking = request(messages=(Message(role="user", content="2 + 2?"),), prefix="<think>\nso 2")
    with running(engine=vllm) as endpoint:
        _, body = asked(asking, replace(endpoint, template=TEMPLATE))
    assert body["prompt"].endswith("<|start|>assistant<|channel|>analysis<|message|>so 2")


def spelt_checkpoint(folder: Path, tokens: list[str]) -> Path:
    """A folder with a byte-level vocabulary of single bytes and of the given special tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={piece: n for n, piece in enumerate(alphabet)}, merges=[]))
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(tokens)
    folder.mkdir()
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def ids_of(folder: Path, raw: str) -> list[int]:
    """One id a byte, one a marker."""
    vocabulary = {spelt: number for number, spelt in Vocabulary(folder / "tokenizer.json").bytes.items()}
    parts = harmony.MARKER.split(raw)
    found = []
    for part in parts:
        marker = harmony.MARKER.fullmatch(part)
        found += [vocabulary[part.encode()]] if marker else [vocabulary[bytes([b])] for b in part.encode()]
    return found


def answered_by_ids(folder: Path, raw: str, shown: str, template: ChatTemplate) -> Response:
    """What a server's answer becomes that shows each byte of a split character as it likes."""
    ids = ids_of(folder, raw)
    logprobs = Logprobs(tokens=[shown] * len(ids), token_logprobs=[-0.5] * len(ids))
    choice = Choice(text=raw, finish_reason="stop", logprobs=logprobs, token_ids=ids)
    with running(engine=vllm) as endpoint:
        local = replace(endpoint, template=template, folder=folder)
        return response(request(logprobs=True), Completion(choices=[choice], model="tiny"), local, 0.0)


MARKERS = ["<|start|>", "<|channel|>", "<|message|>", "<|end|>", "<|return|>"]


@pytest.mark.parametrize("shown", ["\ufffd", "", "Ã"])
def test_a_character_of_several_tokens_keeps_all_tokens_however_the_server_shows_it(
    tmp_path: Path, shown: str
) -> None:
    folder = spelt_checkpoint(tmp_path / "model", MARKERS)
    raw = WHOLE.replace("é", "水 𝑥") + "<|return|>"
    response = answered_by_ids(folder, raw, shown, TEMPLATE)
    assert response.row.text == "<think>\n2 + 2 水 𝑥 4.\n</think>\n\nIt is 4."
    assert response.tokens is not None
    assert response.tokens.lengths.sum() == len(response.row.text.encode())
    assert len(response.tokens.ids) == len(response.tokens.logprobs)


def test_a_plain_answer_keeps_its_tokens_however_the_server_shows_them(tmp_path: Path) -> None:
    folder = spelt_checkpoint(tmp_path / "model", ["<|im_end|>"])
    response = answered_by_ids(folder, "水 is 𝑥", "Ã", ChatTemplate(source="{{ messages[-1].content }}"))
    assert response.row.text == "水 is 𝑥"
    assert response.tokens is not None
    assert response.tokens.lengths.tolist() == [1] * len("水 is 𝑥".encode())
