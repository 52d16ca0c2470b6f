"""The proof of the sampling: a few short requests that show whether a server does as it is asked.

Servers drop parameters in silence: a seed, a temperature, a whole generation configuration. Rows whose
temperature would be a lie are not generated.
"""

import asyncio
import math
from dataclasses import replace

from harness.answering import Response
from harness.asking import Request, is_rendered
from harness.client import Client
from harness.endpoint import Endpoint
from harness.errors import ServerError
from harness.types import Message, Sampling

PROOF_TOKENS = 24
PROOF_PROMPTS = (
    "Write down some random words, each different from the one before.",
    "Zx qwoy 83 ; plim? ## tarn = 5 vel",
    "Invent a name for a village and say who lives there.",
)
CHANCE = 1e-6

Texts = dict[tuple[str, int], Response]


def prove_sampling(endpoint: Endpoint, sampling: Sampling) -> tuple[str, ...]:
    """Which of "temperature" and "seed" the endpoint was seen to honour, by a few short requests.

    Raises ServerError where the rows' temperature would be a lie: all seeds give one text although
    the temperature is above 0 and the model is not sure of every token, or two texts at 0.
    """
    return asyncio.run(proven(endpoint, replace(sampling, max_tokens=PROOF_TOKENS)))


def carries_effort(endpoint: Endpoint, request: Request) -> tuple[str, ...]:
    """("effort",) where the reasoning effort is seen to arrive: the harness writes the prompt itself, and
    the request fails where the prompt does not say it. A server that renders prompts may drop it."""
    return ("effort",) if request.effort and is_rendered(request, endpoint) else ()


def prove_tokens(endpoint: Endpoint, request: Request) -> None:
    """Raises ServerError where a request wants tokens that this endpoint, of all its kind, does not send:
    before thousands of responses are paid for that selection could not use."""

    short = replace(request.sampling, max_tokens=min(PROOF_TOKENS, request.sampling.max_tokens))

    async def some() -> list[Response]:
        asked = [replace(request, sampling=short, seed=request.seed + more) for more in range(3)]
        async with Client(endpoint) as client:
            return [await client.complete(each) for each in asked]

    wanted = request.logprobs and endpoint.engine.logprobs
    if wanted and all(response.tokens is None for response in asyncio.run(some())):
        raise ServerError(
            f"{endpoint.label} serving {endpoint.model} sends no log-probabilities of the tokens it samples",
            "divergence-aware selection needs them: sample through vllm or sglang",
        )


async def proven(endpoint: Endpoint, sampling: Sampling) -> tuple[str, ...]:
    async with Client(endpoint, connections=8) as client:
        if sampling.temperature == 0 or (endpoint.sampling is None and endpoint.engine.local):
            await prove_greedy(client, replace(sampling, temperature=0.0))
        if sampling.temperature == 0:
            return ("temperature",)
        few = await drawn(client, sampling, seeds=(1, 2))
        if not varied(few):
            few = await drawn(client, sampling, seeds=tuple(range(3, 11)))
        if not varied(few):
            refuse_constant(client.endpoint, sampling.temperature, few)
            return ()
        seeded = endpoint.sampling is None and await repeats(client, sampling, few)
        return ("temperature", "seed") if seeded else ("temperature",)


async def repeats(client: Client, sampling: Sampling, texts: Texts) -> bool:
    """Whether the same seeds give the same texts in other company: asked backwards and one fewer, so
    that a seed which belongs to the whole process does not pass by replaying the whole batch."""
    again = await answered(client, sampling, list(reversed(texts))[1:])
    return all(again[key].row.text == texts[key].row.text for key in again)


async def prove_greedy(client: Client, sampling: Sampling) -> None:
    """At temperature 0 the seed changes nothing. One request at a time: nothing else differs."""
    for prompt in PROOF_PROMPTS[:2]:
        one = await client.complete(probe(prompt, sampling, seed=1))
        other = await client.complete(probe(prompt, sampling, seed=2))
        if one.row.text != other.row.text:
            raise lie(client.endpoint, "at temperature 0, two seeds gave two texts")


async def drawn(client: Client, sampling: Sampling, seeds: tuple[int, ...]) -> Texts:
    """Every proof prompt answered once for each seed, by (prompt, seed)."""
    return await answered(client, sampling, [(prompt, seed) for prompt in PROOF_PROMPTS for seed in seeds])


async def answered(client: Client, sampling: Sampling, keys: list[tuple[str, int]]) -> Texts:
    """The answers to all (prompt, seed), asked in the order given and all at once."""
    logprobs = client.endpoint.engine.local
    answers = (client.complete(probe(prompt, sampling, seed, logprobs)) for prompt, seed in keys)
    return dict(zip(keys, await asyncio.gather(*answers), strict=True))


def varied(texts: Texts) -> bool:
    """Whether any prompt was answered in more than one way."""
    ways = {(prompt, response.row.text) for (prompt, _), response in texts.items()}
    return len(ways) > len({prompt for prompt, _ in texts})


def refuse_constant(endpoint: Endpoint, temperature: float, texts: Texts) -> None:
    """Raises ServerError unless the model is so sure of its texts that equal ones prove nothing."""
    expected = 0.0
    for response in texts.values():
        if response.tokens is None:
            expected = -math.inf
            break
        expected += sum(tempered(logprob, temperature) for logprob in response.tokens.logprobs.tolist())
    if expected < math.log(CHANCE):
        seeds = len({seed for _, seed in texts})
        raise lie(endpoint, f"at temperature {temperature}, {seeds} seeds gave one text for every prompt")


def tempered(logprob: float, temperature: float) -> float:
    """Log probability at a temperature of a token that has `logprob` at 1, if one rival has the rest."""
    chance = min(math.exp(logprob), 1.0)
    if chance in (0.0, 1.0):
        return logprob
    rival = (math.log1p(-chance) - logprob) / temperature
    return -math.log1p(math.exp(min(rival, 700.0)))


def probe(prompt: str, sampling: Sampling, seed: int, logprobs: bool = False) -> Request:
    return Request(
        question="proof",
        draw=seed,
        messages=(Message(role="user", content=prompt),),
        sampling=sampling,
        seed=seed,
        logprobs=logprobs,
    )


def lie(endpoint: Endpoint, observed: str) -> ServerError:
    return ServerError(
        f"{endpoint.label} serving {endpoint.model} does not sample as it is asked to: {observed}",
        "rows would claim a temperature that was not used; use another engine (vllm honours it)",
    )
