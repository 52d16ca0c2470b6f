"""What reaches the model: our own rendering of the chat template, token for token, system prompt and all."""

import asyncio
import hashlib
from dataclasses import dataclass, replace
from typing import Any

from harness.asking import Request, asked, is_rendered, rendered
from harness.endpoint import Endpoint
from harness.errors import HarnessError
from harness.preflight.remedies import remedy
from harness.preflight.report import Check, Outcome
from harness.preflight.wanted import Wanted
from harness.preflight.wire import Answer, Refusal, Wire, probe
from harness.types import Message, Sampling

SYSTEM = "Always mention the code word zephyr-48 before anything else."
QUESTION = "How many legs do three spiders have?"
LONGER = f"{QUESTION} Count them one after the other and say what you do."
ONE_TOKEN = Sampling(temperature=0.0, max_tokens=1)
TELL_IDS: dict[str, Any] = {"return_token_ids": True}
UNTOLD: Outcome = "could not be told"


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """A prompt as a server took it: its length, and its token ids where they are told."""

    tokens: int
    ids: list[int] | None


async def check_prompt(wire: Wire, wanted: Wanted) -> list[Check]:
    """The checks "prompt", "system prompt" and "reasoning effort"."""
    return list(
        await asyncio.gather(
            rendering(wire, wanted), system_prompt(wire, wanted), reasoning_effort(wire, wanted)
        )
    )


async def rendering(wire: Wire, wanted: Wanted) -> Check:
    """Failed where the ids differ from those of our own rendering of the checkpoint's chat template."""
    endpoint, request = wire.endpoint, conversation(wire.endpoint, wanted)
    expected = "the token ids of our own rendering of the chat template"

    def check(outcome: Outcome, observed: str, **facts: Any) -> Check:
        return Check(
            name="prompt",
            outcome=outcome,
            observed=observed,
            expected=expected,
            remedy=remedy(endpoint.engine, "prompt"),
            stops=True,
            facts=facts,
        )

    theirs = await taken(wire, request)
    if isinstance(theirs, Refusal):
        return check("failed", f"{theirs}: {theirs.said}")
    facts: dict[str, Any] = {}
    if theirs.ids is not None:
        facts = {"tokens": len(theirs.ids), "sha256": digest(theirs.ids)}
    if endpoint.template is None:
        return check(UNTOLD, "no chat template is at hand to compare with", **facts)
    text = rendered(request, endpoint.template)
    if theirs.ids is not None and (wrong := misspelt(theirs.ids, text, endpoint)):
        return check("failed", wrong, **facts)
    if rendered_here(wanted, endpoint):
        outcome: Outcome = UNTOLD if theirs.ids is None or endpoint.vocabulary is None else "passed"
        told = "its token ids are not told" if outcome == UNTOLD else f"{len(theirs.ids or [])} ids"
        return check(outcome, f"rendered here, and sent as text: {told}", **facts)
    ours = await taken_as_text(wire, text)
    return check(*compared(theirs, ours), **facts)


def compared(theirs: Prompt, ours: Prompt | Refusal) -> tuple[Outcome, str]:
    """The server's rendering beside ours: by their ids, or else by their lengths."""
    if isinstance(ours, Refusal):
        return UNTOLD, f"the server takes no rendered text: {ours}"
    if theirs.ids is not None and ours.ids is not None:
        if theirs.ids == ours.ids:
            return "passed", f"the same {len(ours.ids)} token ids"
        return "failed", f"{len(theirs.ids)} token ids, {len(ours.ids)} in our own rendering: they differ"
    if theirs.tokens != ours.tokens:
        return "failed", f"{theirs.tokens} tokens, {ours.tokens} in our own rendering"
    if not theirs.tokens:
        return UNTOLD, "neither token ids nor their number are told"
    return "passed", f"as many tokens, {ours.tokens}; their ids are not told"


def rendered_here(wanted: Wanted, endpoint: Endpoint) -> bool:
    return is_rendered(wanted.first, endpoint)


def conversation(endpoint: Endpoint, wanted: Wanted) -> Request:
    """The conversation that is compared: with a system message where the template takes one."""
    first = wanted.first
    with_system = replace(probe(QUESTION, ONE_TOKEN, system=SYSTEM), effort=first.effort, date=first.date)
    if endpoint.template is None:
        return with_system
    try:
        rendered(with_system, endpoint.template)
    except HarnessError:
        return replace(with_system, messages=(Message(role="user", content=QUESTION),))
    return with_system


async def taken(wire: Wire, request: Request) -> Prompt | Refusal:
    """The prompt of a request, by the way that the run's own take."""
    found = await wire.ask(request, **TELL_IDS)
    if isinstance(found, Refusal):
        found = await wire.ask(request)
    if isinstance(found, Refusal):
        return found
    return await with_ids(wire, found, tokenizable(request, wire.endpoint))


def tokenizable(request: Request, endpoint: Endpoint) -> dict[str, Any]:
    """The part of a request's body that /tokenize understands."""
    _, body = asked(request, endpoint)
    names = ("messages", "prompt", "add_special_tokens", "reasoning_effort")
    return {name: body[name] for name in names if name in body}


async def taken_as_text(wire: Wire, text: str) -> Prompt | Refusal:
    """The prompt that our own rendering makes."""
    endpoint = wire.endpoint
    body = {
        "model": endpoint.model,
        "prompt": text,
        "max_tokens": 1,
        "temperature": 0.0,
        "seed": 1,
        **endpoint.engine.raw_prompt,
    }
    url = f"{endpoint.base_url}/completions"
    found = await wire.call("POST", url, {**body, **TELL_IDS}, Answer)
    if isinstance(found, Refusal):
        found = await wire.call("POST", url, body, Answer)
    if isinstance(found, Refusal):
        return found
    return await with_ids(wire, found, {"prompt": text, "add_special_tokens": False})


async def with_ids(wire: Wire, answer: Answer, body: dict[str, Any]) -> Prompt:
    """The answer's prompt ids; where it holds none, those that /tokenize tells for `body`."""
    ids = answer.prompt_ids or await wire.tokenized(body)
    return Prompt(tokens=answer.usage.prompt_tokens, ids=ids)


def misspelt(ids: list[int], text: str, endpoint: Endpoint) -> str:
    """What is wrong with ids that should spell a text in the checkpoint's own vocabulary; "" if nothing.

    A special token that was taken for plain characters spells the same text, and is another prompt.
    """
    vocabulary = endpoint.vocabulary
    if vocabulary is None:
        return ""
    if not vocabulary.knows(ids):
        return "token ids that the checkpoint's vocabulary does not have"
    whole, wanted = b"".join(vocabulary.spelt(ids)), text.encode()
    if whole != wanted:
        return f"another prompt of {len(ids)} tokens, from byte {differing(whole, wanted)} on"
    for number in vocabulary.special:
        if (spelt := vocabulary.bytes[number]) and wanted.count(spelt) != ids.count(number):
            return f"{spelt.decode(errors='replace')} is taken for plain characters"
    return ""


def differing(one: bytes, other: bytes) -> int:
    """The first byte at which two texts differ."""
    pairs = zip(one, other, strict=False)
    return next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


def digest(ids: list[int]) -> str:
    """SHA-256 of token ids, written in decimal with commas between."""
    return hashlib.sha256(",".join(map(str, ids)).encode()).hexdigest()


async def system_prompt(wire: Wire, wanted: Wanted) -> Check:
    """Failed where a system message makes the prompt no longer, although a longer question does."""

    def check(outcome: Outcome, observed: str) -> Check:
        return Check(
            name="system prompt",
            outcome=outcome,
            observed=observed,
            expected="it makes the prompt longer, as a longer question does",
            remedy=remedy(wire.endpoint.engine, "system prompt"),
            stops=wanted.system,
        )

    try:
        plain, longer, told = await asyncio.gather(
            *(
                wire.ask(replace(probe(question, ONE_TOKEN, system=system), date=wanted.first.date))
                for question, system in ((QUESTION, None), (LONGER, None), (QUESTION, SYSTEM))
            )
        )
    except HarnessError as error:
        return check("failed", f"the chat template refuses it: {error.message}")
    if isinstance(told, Refusal):
        return check("failed", f"{told}: {told.said}")
    if isinstance(plain, Refusal) or isinstance(longer, Refusal):
        return check(UNTOLD, str(plain if isinstance(plain, Refusal) else longer))
    before, question, system = (each.usage.prompt_tokens for each in (plain, longer, told))
    if question <= before:
        return check(UNTOLD, "the server does not count prompts")
    if system <= before:
        return check("failed", "dropped: the prompt is no longer with it than without")
    return check("passed", f"it adds {system - before} tokens to the prompt")


async def reasoning_effort(wire: Wire, wanted: Wanted) -> Check:
    """Passed where the harness writes the prompt itself: a request fails where that does not say it."""
    effort = wanted.first.effort

    def check(outcome: Outcome, observed: str) -> Check:
        return Check(name="reasoning effort", outcome=outcome, observed=observed)

    if not effort:
        return check("not applicable", "none is asked for")
    if rendered_here(wanted, wire.endpoint):
        return check("passed", f"{effort}: in the prompt, which is rendered here")
    return check(UNTOLD, f"{effort}: the server renders the prompt, and may drop it")
