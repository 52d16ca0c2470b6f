"""The other sampling parameters: those that are sent take effect, and nothing that is left out does.

Two questions, because servers fail in two ways. A parameter that is sent may be ignored: a value that
leaves one token to choose from must give one text. One that is left out may have a default of the server's
own (a checkpoint's generation_config.json, say): leaving it out must change nothing. The third way, a
default that cannot be overruled, is `distribution`'s.
"""

import asyncio
from collections.abc import Awaitable, Mapping
from typing import Any

from harness.preflight.remedies import remedy
from harness.preflight.report import Check, Outcome
from harness.preflight.temperature import PROMPTS
from harness.preflight.wanted import Wanted
from harness.preflight.wire import Answer, Refusal, Wire, probe
from harness.types import Sampling

HOT = 2.0
"""The highest temperature that OpenAI allows: it flattens what a filter would cut."""
SHORT, LONG = 12, 48
SEEDS = (1, 2, 3, 4)

NEUTRAL = Sampling(temperature=HOT, max_tokens=SHORT)
OFF: Mapping[str, float] = {"top_p": 1.0, "top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0}
ONE_TOKEN: Mapping[str, Any] = {"top_p": 1e-6, "top_k": 1, "min_p": 1.0}
"""Values that leave only the likeliest token, whatever the temperature."""
STRONG_PENALTY = 1.9
REPEATING = "Write the word apple ten times: apple apple apple apple apple apple"
UNTOLD: Outcome = "could not be told"

Texts = list[str] | Refusal
"""One text a seed."""


async def check_parameters(wire: Wire, wanted: Wanted) -> list[Check]:
    """One check a parameter, and "server defaults"."""
    if wire.endpoint.sampling is not None:
        return [fixed(wire)]
    control = asyncio.create_task(texts(wire, SEEDS))
    sent = [name for name in ONE_TOKEN if name in wire.endpoint.accepts]
    checks = [takes_effect(wire, wanted, name, control) for name in sent]
    checks += [penalty_takes_effect(wire, wanted)] if "repetition_penalty" in wire.endpoint.accepts else []
    return list(await asyncio.gather(*checks, defaults(wire, control)))


def fixed(wire: Wire) -> Check:
    observed = "this engine samples as it was started, with the run's own parameters"
    return Check(name="sampling parameters", outcome="not applicable", observed=observed)


async def texts(wire: Wire, seeds: tuple[int, ...], without: tuple[str, ...] = (), **changes: Any) -> Texts:
    """One short text a seed, at a high temperature with everything off but `changes`."""
    answers = await asyncio.gather(
        *(wire.ask(probe(PROMPTS[0], NEUTRAL, seed), without, **changes) for seed in seeds)
    )
    return next((each for each in answers if isinstance(each, Refusal)), None) or [
        each.text for each in answers if isinstance(each, Answer)
    ]


async def takes_effect(wire: Wire, wanted: Wanted, name: str, plain: Awaitable[Texts]) -> Check:
    """Failed where different seeds give different texts although the parameter leaves one token. `plain`
    are the texts with everything off."""
    value = ONE_TOKEN[name]
    found, control = await asyncio.gather(texts(wire, SEEDS, **{name: value}), plain)
    expected = f"one text from all seeds at {name}={value:g}"
    if isinstance(found, Refusal) or isinstance(control, Refusal):
        refusal = found if isinstance(found, Refusal) else control
        return parameter(wire, wanted, name, UNTOLD, f"{name}={value:g}: {refusal}", expected)
    if len(set(control)) < len(SEEDS):
        seen = f"seeds give equal texts at temperature {HOT:g} anyway"
        return parameter(wire, wanted, name, UNTOLD, seen, expected)
    if len(set(found)) == len(SEEDS):
        seen = f"ignored: at {name}={value:g} every seed gave a text of its own"
        return parameter(wire, wanted, name, "failed", seen, expected)
    return parameter(wire, wanted, name, "passed", f"takes effect at {name}={value:g}", expected)


async def penalty_takes_effect(wire: Wire, wanted: Wanted) -> Check:
    """Failed where a strong penalty leaves a greedy, repeating text as it is."""
    name, greedy = "repetition_penalty", Sampling(temperature=0.0, max_tokens=LONG)
    plain, without = await asyncio.gather(
        wire.ask(probe(REPEATING, greedy), repetition_penalty=STRONG_PENALTY),
        wire.ask(probe(REPEATING, greedy)),
    )
    expected = f"another greedy text at {name}={STRONG_PENALTY}"
    if isinstance(plain, Refusal) or isinstance(without, Refusal):
        refusal = plain if isinstance(plain, Refusal) else without
        return parameter(wire, wanted, name, UNTOLD, f"{name}={STRONG_PENALTY}: {refusal}", expected)
    if plain.text == without.text:
        seen = f"ignored: at {name}={STRONG_PENALTY} the greedy text is the same"
        return parameter(wire, wanted, name, "failed", seen, expected)
    return parameter(wire, wanted, name, "passed", f"takes effect at {name}={STRONG_PENALTY}", expected)


def parameter(wire: Wire, wanted: Wanted, name: str, outcome: Outcome, observed: str, expected: str) -> Check:
    """A failure stops only a run that sets the parameter: one that is off may as well be ignored."""
    return Check(
        name=name,
        outcome=outcome,
        observed=observed,
        expected=expected,
        remedy=remedy(wire.endpoint.engine, "parameter"),
        stops=getattr(wanted.sampling, name) != OFF[name],
    )


async def defaults(wire: Wire, plain: Awaitable[Texts]) -> Check:
    """Failed where leaving a parameter out is not leaving it off. Never stops a run: all these are sent."""
    accepts = wire.endpoint.accepts

    def check(outcome: Outcome, observed: str) -> Check:
        return Check(
            name="server defaults",
            outcome=outcome,
            observed=observed,
            expected="leaving a parameter out changes nothing",
            remedy=remedy(wire.endpoint.engine, "server defaults"),
        )

    found = asyncio.gather(*(left_out(wire, name, plain) for name in accepts))
    control, again, changes = await asyncio.gather(plain, texts(wire, SEEDS), found)
    if isinstance(control, Refusal):
        return check(UNTOLD, str(control))
    if again != control:
        return check(UNTOLD, "seeds are not honoured, so texts cannot be compared")
    changing = [name for name, changed in zip(accepts, changes, strict=True) if changed]
    if changing:
        named = ", ".join(changing)
        return check("failed", f"the server has a default of its own for {named}; the run overrules it")
    told = [name for name, changed in zip(accepts, changes, strict=True) if changed is not None]
    if not told:
        return check(UNTOLD, "the server refuses to have a parameter left out")
    return check("passed", f"none for {', '.join(told)}")


async def left_out(wire: Wire, name: str, plain: Awaitable[Texts]) -> bool | None:
    """Whether any text changes without the parameter; None where the server refuses. Of the temperature,
    whose default is 1, the texts are compared with those at 1."""
    compared = texts(wire, SEEDS, temperature=1.0) if name == "temperature" else plain
    found, control = await asyncio.gather(texts(wire, SEEDS, (name,)), compared)
    return None if isinstance(found, Refusal) else found != control
