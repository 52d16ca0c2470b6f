"""What comes back: log-probabilities, reasoning, and whether the end of an answer is told right."""

import asyncio
from collections.abc import Awaitable
from dataclasses import replace

from harness.answering import Response
from harness.asking import Request, wants_tokens
from harness.chat import CLOSE, OPEN, opens_thinking
from harness.client import Client, Refused
from harness.engines import Engine
from harness.preflight.prompt import TELL_IDS
from harness.preflight.remedies import remedy
from harness.preflight.report import Check, Outcome
from harness.preflight.temperature import PROMPTS
from harness.preflight.wanted import Wanted
from harness.preflight.wire import Answer, Refusal, Wire, probe
from harness.types import Sampling

TRUNCATED_AFTER = 16
SEVERAL = 3
THINKING = 48
"""Tokens in which a model that reasons has begun to."""
UNTOLD: Outcome = "could not be told"


async def check_streaming(client: Client, wanted: Wanted) -> Check:
    """Failed where the server does not stream the run's own request, or not with what the run needs."""
    outcome: Outcome = "not applicable"
    observed = "answers come whole"
    if client.endpoint.stream_from:
        try:
            row = (await client.complete(short(wanted.first))).row
            outcome, observed = "passed", "answers come as they are written, with their token counts"
            if not row.completion_tokens or not row.prompt_tokens:
                outcome, observed = UNTOLD, "answers come as they are written, without token counts"
        except Refused as error:
            outcome, observed = "failed", error.message
    return Check(
        name="streaming",
        outcome=outcome,
        observed=observed,
        expected="an answer in pieces",
        remedy=remedy(client.endpoint.engine, "streaming"),
        stops=True,
    )


async def check_logprobs(wire: Wire, wanted: Wanted, raw: Awaitable[bool | None]) -> list[Check]:
    """The checks "logprobs" and "logprobs before temperature". Asked the run's own way: the tokens must
    come, and must add up to the text."""
    engine, first = wire.endpoint.engine, wanted.first
    needed = wants_tokens(first, wire.endpoint)
    if not engine.logprobs:
        observed = f"{engine.name} sends none; a teacher scores its text instead"
        return [Check(name="logprobs", outcome="not applicable", observed=observed)]
    responses, told = await asyncio.gather(some(wire.client, wanted), raw)
    sent = any(each.tokens is not None for each in responses)
    return [sampled(engine, sent, needed), before_temperature(engine, told, needed)]


def sampled(engine: Engine, sent: bool, needed: bool) -> Check:
    missing = "the server sends no log-probabilities of the tokens it samples"
    return Check(
        name="logprobs",
        outcome="passed" if sent else "failed" if needed else "not applicable",
        observed="of every sampled token"
        if sent
        else missing
        if needed
        else f"{missing}; this run needs none",
        expected="log-probabilities of tokens that add up to the text",
        remedy=remedy(engine, "logprobs"),
        stops=needed,
    )


def before_temperature(engine: Engine, raw: bool | None, needed: bool) -> Check:
    """Failed where log-probabilities are those of the sampler: a selection would compare temperatures."""
    told: dict[bool | None, tuple[Outcome, str]] = {
        True: ("passed", "the same at two temperatures"),
        False: ("failed", "they change with the temperature"),
        None: (UNTOLD, "the likeliest tokens are not told"),
    }
    return Check(
        name="logprobs before temperature",
        outcome=told[raw][0],
        observed=told[raw][1],
        expected="the model's own, whatever the temperature",
        remedy=remedy(engine, "logprobs before temperature"),
        stops=needed,
    )


async def some(client: Client, wanted: Wanted) -> list[Response]:
    """A few short responses to the run's first request, with their tokens."""
    request = replace(short(wanted.first), logprobs=True)
    asked = (replace(request, seed=request.seed + more) for more in range(SEVERAL))
    return list(await asyncio.gather(*map(client.complete, asked)))


def short(request: Request) -> Request:
    """The request with a few tokens to answer in."""
    few = min(TRUNCATED_AFTER, request.sampling.max_tokens)
    return replace(request, sampling=replace(request.sampling, max_tokens=few))


async def check_prompt_logprobs(wire: Wire, wanted: Wanted) -> Check:
    """Whether a prompt can be scored, as vLLM's `prompt_logprobs` does."""
    endpoint = wire.endpoint
    body = {"model": endpoint.model, "prompt": "One two three", "max_tokens": 1, "prompt_logprobs": 0}
    found = await wire.call("POST", f"{endpoint.base_url}/completions", body, Answer)
    sent = not isinstance(found, Refusal) and bool(found.choice.prompt_logprobs)
    outcome: Outcome = "passed" if sent else "failed" if wanted.prompt_logprobs else "not applicable"
    return Check(
        name="prompt_logprobs",
        outcome=outcome,
        observed="of every token of a prompt" if sent else "the server does not score prompts",
        remedy=remedy(endpoint.engine, "prompt_logprobs"),
        stops=wanted.prompt_logprobs,
    )


async def check_reasoning(wire: Wire, wanted: Wanted) -> Check:
    """How reasoning comes: apart, or in the text with its tags. Failed where it is lost."""

    def check(outcome: Outcome, observed: str) -> Check:
        return Check(
            name="reasoning",
            outcome=outcome,
            observed=observed,
            expected="every sampled token in the text or in the reasoning",
            remedy=remedy(wire.endpoint.engine, "reasoning"),
            stops=True,
        )

    sampling = replace(wanted.sampling, max_tokens=THINKING)
    request = replace(wanted.first, sampling=sampling, logprobs=False)
    answer = await wire.ask(request, **TELL_IDS)
    if isinstance(answer, Refusal):
        answer = await wire.ask(request)
    if isinstance(answer, Refusal):
        return check(UNTOLD, str(answer))
    return check(*where_reasoning_is(answer, wire, wanted))


def where_reasoning_is(answer: Answer, wire: Wire, wanted: Wanted) -> tuple[Outcome, str]:
    message = answer.choice.message
    if message is not None and (message.reasoning_content or message.reasoning):
        name = "reasoning_content" if message.reasoning_content else "reasoning"
        return "passed", f"apart, in {name}; rows have it in the text again"
    if not answer.text and answer.usage.completion_tokens > 1:
        return "failed", "lost: tokens were sampled and no text came"
    if lost := lost_tags(answer, wire):
        return "failed", f"lost: {lost} was sampled and is not in the text"
    if OPEN in answer.text or CLOSE in answer.text:
        return "passed", "in the text, with its tags"
    template = wire.endpoint.template
    if template is not None and opens_thinking(template.render(wanted.first.messages)):
        return "passed", "in the text; the chat template opens it"
    return "not applicable", f"none seen in {THINKING} tokens; nothing is lost"


def lost_tags(answer: Answer, wire: Wire) -> str:
    """A tag that was sampled as a token and is not in the text; "" where ids or vocabulary are not told."""
    vocabulary, ids = wire.endpoint.vocabulary, answer.choice.token_ids
    if vocabulary is None or not ids or not vocabulary.knows(ids):
        return ""
    pieces = vocabulary.spelt(ids)
    return next((tag for tag in (OPEN, CLOSE) if tag.encode() in pieces and tag not in answer.text), "")


async def check_ends(wire: Wire, wanted: Wanted) -> list[Check]:
    """The checks "truncated", "stopped" and "usage", by one request that is cut off and one that stops."""
    heat = wanted.sampling if wire.endpoint.sampling is not None else Sampling(temperature=0.0, max_tokens=1)
    request = probe(PROMPTS[2], replace(heat, max_tokens=TRUNCATED_AFTER))
    whole = await wire.ask(request)
    if isinstance(whole, Refusal):
        return [end(wire, name, UNTOLD, str(whole)) for name in ("truncated", "stopped", "usage")]
    if whole.choice.finish_reason == "length":
        stopped = await stopped_by_text(wire, request, whole)
        return [truncated(wire, whole, whole, TRUNCATED_AFTER), stopped, usage(wire, [whole])]
    stopped, fewer = end(wire, "stopped", *by_itself(whole)), max(1, whole.usage.completion_tokens // 2)
    cut = await wire.ask(request, max_tokens=fewer)
    if isinstance(cut, Refusal):
        return [end(wire, "truncated", UNTOLD, str(cut)), stopped, usage(wire, [whole])]
    return [truncated(wire, cut, whole, fewer), stopped, usage(wire, [whole, cut])]


def truncated(wire: Wire, cut: Answer, whole: Answer, limit: int) -> Check:
    """Failed where an answer goes on beyond `limit` tokens, is cut off before them, or is cut off and said
    to be whole."""
    tokens, reason = cut.usage.completion_tokens, cut.choice.finish_reason
    if tokens > limit or (reason != "length" and cut.text != whole.text):
        seen = f"{tokens} tokens at max_tokens={limit}, and finish_reason {reason}"
        return end(wire, "truncated", "failed", seen)
    if reason != "length":
        return end(wire, "truncated", UNTOLD, f"the answer is no longer than {limit} tokens")
    if 0 < tokens < limit:
        return end(wire, "truncated", "failed", f"cut off after {tokens} tokens at max_tokens={limit}")
    return end(wire, "truncated", "passed", "finish_reason length at max_tokens")


def by_itself(whole: Answer) -> tuple[Outcome, str]:
    if whole.choice.finish_reason == "stop":
        return "passed", "finish_reason stop where the model ended"
    return "failed", f"finish_reason {whole.choice.finish_reason} before max_tokens"


async def stopped_by_text(wire: Wire, request: Request, whole: Answer) -> Check:
    """The same request again, with a piece of its own answer as the text to stop at."""
    piece = stop_text(whole.text)
    if not piece or wire.endpoint.sampling is not None:
        return end(wire, "stopped", UNTOLD, "no answer ended by itself")
    answer = await wire.ask(request, stop=[piece])
    if isinstance(answer, Refusal):
        return end(wire, "stopped", UNTOLD, f"stop: {answer}")
    reason, stopped = answer.choice.finish_reason, piece not in answer.text
    if stopped and reason == "stop":
        return end(wire, "stopped", "passed", "finish_reason stop at a stop text")
    if not whole.text.startswith(answer.text):
        return end(wire, "stopped", UNTOLD, "the same greedy request was answered in another way")
    seen = "an answer that ended at its stop text has" if stopped else "stop is ignored:"
    return end(wire, "stopped", "failed", f"{seen} finish_reason {reason}")


def stop_text(text: str) -> str:
    """A few characters from the middle of a text."""
    return text[len(text) // 2 :][:8].strip()


def usage(wire: Wire, answers: list[Answer]) -> Check:
    """Failed where tokens are not counted, or not as many are told as are sent."""
    for answer in answers:
        told, ids = answer.usage.completion_tokens, answer.choice.token_ids
        if not told or not answer.usage.prompt_tokens:
            return end(wire, "usage", "failed", "the server does not count tokens")
        if ids is not None and len(ids) != told:
            return end(wire, "usage", "failed", f"{told} completion tokens told, {len(ids)} sent")
    return end(wire, "usage", "passed", "prompt and completion tokens are counted")


def end(wire: Wire, name: str, outcome: Outcome, observed: str) -> Check:
    """A wrong count is noted; an end that is told wrong stops the run, whose rows would be cut in silence."""
    expected = {
        "truncated": "finish_reason length after max_tokens",
        "stopped": "finish_reason stop",
        "usage": "as many tokens told as sent",
    }
    return Check(
        name=name,
        outcome=outcome,
        observed=observed,
        expected=expected[name],
        remedy=remedy(wire.endpoint.engine, name),
        stops=name != "usage",
    )
