"""Temperature and seed: whether equal seeds give equal texts and different ones do not.

Servers drop parameters in silence: a seed, a temperature, a whole generation configuration. Rows whose
temperature would be a lie are not generated. The requests go the run's own way, through its Client.
"""

import asyncio
import math
from dataclasses import dataclass, replace

from harness.answering import Response
from harness.client import Client
from harness.preflight.remedies import remedy
from harness.preflight.report import Check
from harness.preflight.wanted import Wanted
from harness.preflight.wire import probe
from harness.types import Sampling

TOKENS = 24
PROMPTS = (
    "Write down some random words, each different from the one before.",
    "Zx qwoy 83 ; plim? ## tarn = 5 vel",
    "Invent a name for a village and say who lives there.",
)
FEW_SEEDS, MORE_SEEDS = (1, 2), tuple(range(3, 11))
CHANCE = 1e-6
"""How improbable equal texts must be, by the model's own log-probabilities, before a server is blamed."""

Texts = dict[tuple[str, int], Response]


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a temperature check saw. `honoured` is None where equal texts prove nothing."""

    honoured: bool | None
    observed: str
    texts: Texts | None = None


async def check_temperature_and_seed(client: Client, wanted: Wanted) -> list[Check]:
    """The checks "temperature" and "seed". Asks nothing beside them: what else a server computes at the
    same time may change its texts."""
    sampling = replace(wanted.sampling, max_tokens=TOKENS)
    found = await temperature(client, sampling)
    return [temperature_check(client, sampling, found), await seed_check(client, wanted, sampling, found)]


def temperature_check(client: Client, sampling: Sampling, found: Found) -> Check:
    outcomes = {True: "passed", False: "failed", None: "could not be told"}
    return Check(
        name="temperature",
        outcome=outcomes[found.honoured],  # type: ignore[arg-type]
        observed=found.observed,
        expected="one text at temperature 0, different ones above"
        if client.endpoint.sampling is None
        else f"what the server was started with, {sampling.temperature}",
        remedy=remedy(client.endpoint.engine, "temperature"),
        stops=True,
    )


async def seed_check(client: Client, wanted: Wanted, sampling: Sampling, found: Found) -> Check:
    """Not applicable at temperature 0. Failed where the same seeds give other texts in other company."""
    expected = "equal texts from equal seeds, whatever else is asked at the time"

    def check(outcome: str, observed: str) -> Check:
        return Check(
            name="seed",
            outcome=outcome,  # type: ignore[arg-type]
            observed=observed,
            expected=expected,
            remedy=remedy(client.endpoint.engine, "seed"),
            stops=wanted.seeds,
        )

    if sampling.temperature == 0:
        return check("not applicable", "nothing is drawn at temperature 0")
    if found.texts is None:
        return check("could not be told", "every seed gave one text")
    if client.endpoint.sampling is not None:
        return check("failed", f"{client.endpoint.engine.name} has one seed for the whole process")
    if await repeats(client, sampling, found.texts):
        return check("passed", "equal seeds gave equal texts")
    return check("failed", "equal seeds gave other texts: the seed is not honoured")


async def temperature(client: Client, sampling: Sampling) -> Found:
    """Whether texts vary above temperature 0 and do not at 0."""
    endpoint = client.endpoint
    greedy = sampling.temperature == 0 or (endpoint.sampling is None and endpoint.engine.local)
    if greedy and not await greedy_repeats(client, replace(sampling, temperature=0.0)):
        return Found(honoured=False, observed="at temperature 0, two seeds gave two texts")
    if sampling.temperature == 0:
        return Found(honoured=True, observed="at temperature 0, two seeds gave one text")
    for seeds in (FEW_SEEDS, MORE_SEEDS):
        texts = await drawn(client, sampling, seeds)
        if varied(texts):
            seen = f"at temperature {sampling.temperature}, seeds gave different texts"
            return Found(honoured=True, observed=seen, texts=texts)
    same = f"at temperature {sampling.temperature}, {len(MORE_SEEDS)} seeds gave one text for every prompt"
    if chance_of(texts, sampling.temperature) < math.log(CHANCE):
        return Found(honoured=False, observed=same)
    return Found(honoured=None, observed=f"{same}, and the model is sure of them")


async def repeats(client: Client, sampling: Sampling, texts: Texts) -> bool:
    """Whether the same seeds give the same texts in other company: asked backwards and one fewer, so
    that a seed which belongs to the whole process does not pass by replaying the whole batch."""
    again = await answered(client, sampling, list(reversed(texts))[1:])
    return all(again[key].row.text == texts[key].row.text for key in again)


async def greedy_repeats(client: Client, sampling: Sampling) -> bool:
    """At temperature 0 the seed changes nothing. The same company both times: nothing else differs."""
    one, other = [await answered(client, sampling, [(each, seed) for each in PROMPTS]) for seed in (1, 2)]
    return [each.row.text for each in one.values()] == [each.row.text for each in other.values()]


async def drawn(client: Client, sampling: Sampling, seeds: tuple[int, ...]) -> Texts:
    """Every prompt answered once for each seed, by (prompt, seed)."""
    return await answered(client, sampling, [(prompt, seed) for prompt in PROMPTS for seed in seeds])


async def answered(client: Client, sampling: Sampling, keys: list[tuple[str, int]]) -> Texts:
    """The answers to all (prompt, seed), asked in the order given and all at once."""
    logprobs = client.endpoint.engine.local
    answers = (client.complete(probe(prompt, sampling, seed, logprobs=logprobs)) for prompt, seed in keys)
    return dict(zip(keys, await asyncio.gather(*answers), strict=True))


def varied(texts: Texts) -> bool:
    """Whether any prompt was answered in more than one way."""
    ways = {(prompt, response.row.text) for (prompt, _), response in texts.items()}
    return len(ways) > len({prompt for prompt, _ in texts})


def chance_of(texts: Texts, temperature: float) -> float:
    """Log probability of just these texts, by the model's own log-probabilities; -inf without those."""
    if any(response.tokens is None for response in texts.values()):
        return -math.inf
    logprobs = (
        response.tokens.logprobs.tolist() for response in texts.values() if response.tokens is not None
    )
    return sum(tempered(logprob, temperature) for own in logprobs for logprob in own)


def tempered(logprob: float, temperature: float) -> float:
    """Log probability at a temperature of a token that has `logprob` at 1, if one rival has the rest."""
    chance = min(math.exp(logprob), 1.0)
    if chance in (0.0, 1.0):
        return logprob
    rival = (math.log1p(-chance) - logprob) / temperature
    return -math.log1p(math.exp(min(rival, 700.0)))
