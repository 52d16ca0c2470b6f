"""Whether a server draws from the model's whole distribution, and whether it tells that distribution.

A provider that takes OpenAI's parameters alone may apply a top_k of its own that nobody can overrule. Then
no token beyond the twenty likeliest is ever drawn, however hot the sampling; and how improbable that is
under the whole distribution, the server's own log-probabilities say.
"""

import asyncio
import math
from collections.abc import Awaitable
from dataclasses import replace

from harness.asking import asked
from harness.preflight.remedies import remedy
from harness.preflight.report import Check, Outcome
from harness.preflight.temperature import CHANCE, FEW_SEEDS, MORE_SEEDS, PROMPTS
from harness.preflight.wanted import Wanted
from harness.preflight.wire import Place, Ranked, Refusal, Wire, probe
from harness.types import Sampling

TOPS = 20
"""Likeliest tokens that one may ask for: OpenAI's limit, and vLLM's unless it is told otherwise. Hence the
largest top_k that can be seen in this way."""
HOT = 2.0
"""The highest temperature that OpenAI and vLLM take."""
TOKENS = 48
COMPARED, SAME = 10, 0.25
"""How many log-probabilities of one place are compared between two answers, and how far they may lie apart
there, in nats: batches differ in bfloat16."""
ROUNDING = 1e-4
"""How far probabilities may fail to add up to 1 for no other reason than float32."""
UNIQUE = {"return_tokens_as_token_ids": True}
"""vLLM then names tokens by their ids: two that end inside a character are spelt alike otherwise."""


async def check_distribution(wire: Wire, wanted: Wanted, raw: Awaitable[bool | None]) -> Check:
    """Failed where, with everything off and much heat, only the likeliest tokens are ever drawn. `raw` is
    what `are_raw` says."""

    def check(outcome: Outcome, observed: str) -> Check:
        return Check(
            name="whole distribution",
            outcome=outcome,
            observed=observed,
            expected=f"tokens beyond the {TOPS} likeliest, with every filter off",
            remedy=remedy(wire.endpoint.engine, "whole distribution"),
            stops=wanted.sampling.temperature > 0,
        )

    if wire.endpoint.sampling is not None:
        return check("not applicable", "this engine samples as it was started")
    return check(*await drawn_from(wire, raw))


async def drawn_from(wire: Wire, raw: Awaitable[bool | None]) -> tuple[Outcome, str]:
    """Outcome and observation. Asks for more where a few texts hold no token from beyond, and may not."""
    seen: list[Place] = []
    for seeds in (FEW_SEEDS, MORE_SEEDS):
        found, before_heat = await asyncio.gather(hot_places(wire, seeds), raw)
        seen += [place for place in found if len(place.likeliest) >= TOPS]
        if not seen:
            return "could not be told", f"the server does not tell the {TOPS} likeliest tokens"
        if any(map(is_beyond, seen)):
            return "passed", f"tokens beyond the {TOPS} likeliest are drawn"
        if any(map(hides_its_rank, seen)):
            return "could not be told", "the server may count the token drawn among the likeliest"
        if sum(math.log1p(-least_chance_beyond(place, before_heat is True)) for place in seen) < math.log(
            CHANCE
        ):
            told = f"no token beyond the {TOPS} likeliest is drawn at temperature {HOT:g}"
            return "failed", f"{told}: the server cuts the distribution by a setting of its own"
    return "could not be told", f"the model is too sure of its {TOPS} likeliest tokens"


async def hot_places(wire: Wire, seeds: tuple[int, ...]) -> list[Place]:
    sampling = Sampling(temperature=HOT, max_tokens=TOKENS)
    wishes = (places(wire, prompt, sampling, seed) for prompt in PROMPTS for seed in seeds)
    return [place for found in await asyncio.gather(*wishes) for place in found]


async def places(wire: Wire, prompt: str, sampling: Sampling, seed: int) -> list[Place]:
    """Of each token drawn its log-probability and those of the likeliest there; none where they are not
    told. Asked for a text rather than a chat where the server takes one: a chat's answers are surer, and
    vLLM tells one likely token fewer in them."""
    request = probe(prompt, sampling, seed)
    path, body = asked(request, wire.endpoint)
    chat = {**body, "logprobs": True, "top_logprobs": TOPS}
    text = {name: value for name, value in body.items() if name not in ("messages", "reasoning_effort")}
    text |= {"prompt": prompt, "logprobs": TOPS}
    ways = [("/completions", {**text, **UNIQUE}), ("/completions", text)]
    ways += [(path, chat)] if path == "/chat/completions" else []
    for where, wish in ways:
        found = await wire.call("POST", f"{wire.endpoint.base_url}{where}", wish, Ranked)
        if not isinstance(found, Refusal) and found.places:
            return found.places
    return []


def is_beyond(place: Place) -> bool:
    """Whether the token drawn is none of the likeliest, of which the server may tell one more: it itself."""
    return place.own < place.likeliest[TOPS - 1] - 1e-6


def hides_its_rank(place: Place) -> bool:
    """Whether the token drawn may have taken the place of the last of the likeliest."""
    return place.chat and len(place.likeliest) == TOPS and abs(place.own - place.likeliest[-1]) < 1e-6


def least_chance_beyond(place: Place, raw: bool) -> float:
    """A lower bound of the chance, at HOT, of a token beyond the likeliest.

    Log-probabilities after temperature tell it: what is left over. Those before it (`raw`) say that no such
    token is likelier than the last of the likeliest, so that heat raises each at least as much as that one.
    """
    logs = place.likeliest[:TOPS]
    rest = max(0.0, 1.0 - ROUNDING - sum(map(math.exp, logs)))
    if not raw:
        return min(rest, 0.999)
    beyond = rest * math.exp(logs[-1] * (1 / HOT - 1))
    return min(beyond / (beyond + sum(math.exp(log / HOT) for log in logs)), 0.999)


async def are_raw(wire: Wire) -> bool | None:
    """Whether log-probabilities are the model's own, before temperature; None where they are not told.

    Those of one and the same place are compared at two temperatures.
    """
    if wire.endpoint.sampling is not None or not wire.endpoint.engine.logprobs:
        return None
    one_token = Sampling(temperature=1.0, max_tokens=1)
    heats = (one_token, replace(one_token, temperature=HOT))
    found = await asyncio.gather(*(places(wire, PROMPTS[1], each, 1) for each in heats))
    firsts = [each[0].likeliest[:COMPARED] for each in found if each and each[0].likeliest]
    if len(firsts) < len(heats):
        return None
    return all(abs(one - other) < SAME for one, other in zip(*firsts, strict=False))
