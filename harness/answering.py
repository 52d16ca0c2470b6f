"""What came back: a Completion becomes a row, and its tokens where they were asked for."""

import itertools
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

from harness import harmony
from harness.asking import Request, is_rendered, prompt_opens_thinking
from harness.chat import OPEN, split_reasoning
from harness.completion import Choice, Completion
from harness.endpoint import Endpoint
from harness.harmony import speaks_harmony
from harness.tokens import Tokens, tokens
from harness.types import FinishReason, Generation

REPLACEMENT = "\ufffd".encode()
MOST_IDS = 2**31  # no vocabulary has so many: such numbers are no ids


@dataclass(frozen=True, kw_only=True)
class Response:
    """What came back for one request: the row, and its tokens where they were asked for and sent."""

    row: Generation
    tokens: Tokens | None = None


def response(
    request: Request,
    completion: Completion,
    endpoint: Endpoint,
    latency: float,
    honoured: tuple[str, ...] = (),
) -> Response:
    """The response that a completion is. `latency` in seconds; `honoured` goes into the row."""
    choice = completion.choices[0]
    read = understood_text(choice, request, endpoint)
    finish = reason(choice.finish_reason)
    opened = prompt_opens_thinking(request, endpoint.template)
    reasoning, answer = split_reasoning(request.prefix + read.text, finish, opened)
    row = Generation(
        question=request.question,
        draw=request.draw,
        prompt=next((each.content for each in reversed(request.messages) if each.role == "user"), ""),
        text=read.text,
        reasoning=reasoning,
        answer=answer,
        finish_reason=finish,
        prompt_tokens=completion.usage.prompt_tokens,
        completion_tokens=completion.usage.completion_tokens,
        latency=round(latency, 4),
        seed=request.seed,
        sampling=request.sampling,
        request_id=completion.id,
        model=endpoint.model,
        engine=endpoint.label,
        honoured=honoured,
        kept={**request.kept, **read.kept},
    )
    return Response(row=row, tokens=tokens_of(choice, read.lengths) if request.logprobs else None)


@dataclass(frozen=True, kw_only=True)
class Text:
    """A response's text as rows carry it, and the UTF-8 length in it of each sampled token.

    `lengths` is None where the server sent no tokens, or such as the text cannot be made of. `kept` is
    what the text itself no longer tells.
    """

    text: str
    lengths: list[int] | None
    kept: dict[str, Any] = field(default_factory=dict)


def understood_text(choice: Choice, request: Request, endpoint: Endpoint) -> Text:
    """The response with its reasoning in tags, whatever format the model speaks.

    Tokens are spelt by the checkpoint's own vocabulary where their ids came with them: servers show a
    token that ends inside a character in ways of their own.
    """
    raw, shown = choice.whole_text, choice.tokens
    ids = known_ids(choice, endpoint)
    if is_rendered(request, endpoint) and speaks_harmony(endpoint.template):
        return understood_harmony(raw, shown, ids, request, endpoint)
    lengths = None if shown is None else byte_lengths([token for token, _ in shown], raw)
    if ids is not None and endpoint.vocabulary is not None:
        lengths = byte_lengths(endpoint.vocabulary.plain(ids), raw) or lengths
    opened = request.tagged and prompt_opens_thinking(request, endpoint.template)
    return with_tag(raw, lengths) if opened else Text(text=raw, lengths=lengths)


def understood_harmony(
    raw: str,
    shown: list[tuple[bytes, float]] | None,
    ids: list[int] | None,
    request: Request,
    endpoint: Endpoint,
) -> Text:
    """The response's channels as thinking and answer."""
    lengths = None if shown is None else byte_lengths([token for token, _ in shown], raw)
    if ids is not None and endpoint.vocabulary is not None:
        found = harmony.read_bytes(endpoint.vocabulary.spelt(ids), request.prefix)
    else:
        found = harmony.read(harmony.split(raw) if lengths is None else cut(raw, lengths), request.prefix)
    exact = ids is not None or lengths is not None
    return Text(
        text=found.whole,
        lengths=found.lengths if exact else None,
        kept={"function_call": True} if found.function_call else {},
    )


def known_ids(choice: Choice, endpoint: Endpoint) -> list[int] | None:
    """The ids of the sampled tokens, where they came and are the checkpoint's."""
    ids, vocabulary = choice.token_ids, endpoint.vocabulary
    return ids if ids and vocabulary is not None and vocabulary.knows(ids) else None


def with_tag(text: str, lengths: list[int] | None) -> Text:
    """The text behind the tag that the template wrote; the tag's bytes count for the first token."""
    tag = f"{OPEN}\n"
    if text.startswith(OPEN):
        return Text(text=text, lengths=lengths)
    return Text(text=tag + text, lengths=lengths and [lengths[0] + len(tag), *lengths[1:]])


def cut(text: str, lengths: list[int]) -> list[str]:
    """The text in pieces of these UTF-8 lengths."""
    whole, ends = text.encode(), list(accumulate(lengths, initial=0))
    return [whole[start:end].decode("utf-8", "replace") for start, end in itertools.pairwise(ends)]


def tokens_of(choice: Choice, lengths: list[int] | None) -> Tokens | None:
    """Ids, log-probabilities and lengths of the sampled tokens; None where the server sent too little."""
    found = choice.tokens
    if found is None or lengths is None:
        return None
    ids = choice.token_ids or []
    fit = len(ids) == len(found) and all(0 <= number < MOST_IDS for number in ids)
    return tokens(ids if fit else (), (logprob for _, logprob in found), lengths)


def byte_lengths(tokens: list[bytes], text: str) -> list[int] | None:
    """UTF-8 length of each token in `text`, adding up to it; None where they cannot be made to.

    A special token (the final `<|im_end|>`) is sampled but not in the text: its length is 0. Bytes
    that make no character come as empty tokens and stand in the text as U+FFFD, which is counted for
    the token before it.
    """
    whole, position = text.encode(), 0
    lengths: list[int] = []
    for token in tokens:
        broken = broken_before(token, whole, position)
        if broken and lengths:
            lengths[-1] += broken
            position += broken
        lengths.append(len(token) if whole.startswith(token, position) else 0)
        position += lengths[-1]
    rest = whole[position:]
    if lengths and not rest.replace(REPLACEMENT, b""):
        lengths[-1] += len(rest)
        return lengths
    return None if rest else lengths


def broken_before(token: bytes, whole: bytes, position: int) -> int:
    """Bytes of the U+FFFD that stand between `position` and `token`; 0 where something else does."""
    start = position
    while token and whole.startswith(REPLACEMENT, start) and not whole.startswith(token, start):
        start += len(REPLACEMENT)
    return start - position if whole.startswith(token, start) else 0


def reason(finish: str | None) -> FinishReason:
    match finish:
        case "stop" | "length":
            return finish
    return "other"
