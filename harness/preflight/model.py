"""Which model answers, from which checkpoint, and whether its context holds what will be asked."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.endpoint import Endpoint
from harness.errors import DataError
from harness.files import read_object
from harness.origin import checkpoint_of
from harness.preflight.remedies import remedy
from harness.preflight.report import Check, Outcome
from harness.preflight.wanted import Wanted
from harness.preflight.wire import Card, Refusal, Wire, probe

SHOWN = 5


async def check_model(wire: Wire, wanted: Wanted) -> Check:
    """Failed where the server does not answer for the model, answers for another, or serves another
    checkpoint under its name. `facts` has the checkpoint's name and, where it is told, its revision."""
    endpoint = wire.endpoint
    cards = await wire.cards()
    card = card_of(endpoint, cards)
    hello = await wire.ask(probe("Hello", replace(wanted.sampling, max_tokens=1)))
    listed = ", ".join(sorted(each.id for each in cards)[:SHOWN])

    def check(outcome: Outcome, observed: str, expected: str = "", **facts: Any) -> Check:
        return Check(
            name="model",
            outcome=outcome,
            observed=observed,
            expected=expected or endpoint.model,
            remedy=remedy(endpoint.engine, "model"),
            stops=True,
            facts=facts,
        )

    if isinstance(hello, Refusal):
        lists = f"; the server lists {listed}" if listed else ""
        return check("failed", f"{hello}: {hello.said}{lists}")
    if not endpoint.engine.is_model(endpoint.model, hello.model):
        return check("failed", f"the server answered for the model {hello.model}")
    root = (card and card.root) or ""
    facts = {"served_as": hello.model, **checkpoint_of(root)}
    told = f"{hello.model}{from_checkpoint(facts)}"
    match is_checkpoint(root, endpoint):
        case True:
            return check("passed", f"{told}, the folder that was asked for", **facts)
        case False:
            made_from = f"{hello.model}, made from {facts['checkpoint']}"
            return check("failed", made_from, f"made from {named(endpoint.folder)}", **facts)
    unlisted = "" if card else "; /v1/models does not list it"
    return check("passed", f"{told}; its checkpoint and revision are not to be compared{unlisted}", **facts)


def card_of(endpoint: Endpoint, cards: list[Card]) -> Card | None:
    return next((card for card in cards if endpoint.engine.is_model(endpoint.model, card.id)), None)


def is_checkpoint(root: str, endpoint: Endpoint) -> bool | None:
    """Whether the server was started from the endpoint's folder; None where that cannot be told, as with
    a server on another machine, or one that was given a copy."""
    if endpoint.folder is None or endpoint.sampling is not None or not Path(root).is_absolute():
        return None
    if Path(root).resolve() == endpoint.folder.resolve():
        return True
    return False if Path(root).is_dir() else None


def from_checkpoint(facts: dict[str, str]) -> str:
    name, revision = facts.get("checkpoint", ""), facts.get("revision", "")
    if not name or name == facts["served_as"]:
        return ""
    return f", made from {name}" + (f" at {revision[:12]}" if revision else "")


def named(folder: Path | None) -> str:
    return checkpoint_of(str(folder)).get("checkpoint", "another checkpoint") if folder else ""


async def check_context(wire: Wire, wanted: Wanted) -> Check:
    """Failed where the longest prompt and its max_tokens do not fit. The server counts the prompt."""
    endpoint, longest = wire.endpoint, wanted.longest
    most = longest.sampling.max_tokens
    asked = await wire.ask(replace(longest, logprobs=False), max_tokens=1)
    limit, source = await context_of(wire)

    def check(outcome: Outcome, observed: str, expected: str = "", **facts: int) -> Check:
        mend = remedy(endpoint.engine, "context")
        return Check(
            name="context",
            outcome=outcome,
            observed=observed,
            expected=expected,
            remedy=mend,
            stops=True,
            facts=facts,
        )

    if isinstance(asked, Refusal):
        return check("failed", f"the longest prompt alone is {asked}: {asked.said}")
    need = asked.usage.prompt_tokens + most
    told = f"{asked.usage.prompt_tokens:,} tokens of prompt + {most:,} max_tokens = {need:,}"
    if limit is not None:
        expected = f"at least {told}"
        outcome: Outcome = "passed" if need <= limit else "failed"
        return check(outcome, f"{limit:,} tokens, says {source}", expected, context=limit)
    refused = await wire.accepts(longest)
    if refused is not None:
        return check("failed", f"{told}: {refused}: {refused.said}")
    return check("passed", f"{told}: accepted; the server does not tell its context")


async def context_of(wire: Wire) -> tuple[int | None, str]:
    """The context in tokens and who says so; None where nobody does."""
    card = card_of(wire.endpoint, await wire.cards())
    if card is not None and card.context:
        return card.context, "the server"
    own = configured(wire.endpoint.folder) if wire.endpoint.folder is not None else None
    return own, "config.json"


def configured(folder: Path) -> int | None:
    """The context that a checkpoint's config.json gives, stretched where its rope is."""
    try:
        config = read_object(folder / "config.json")
        rope = config.get("rope_scaling") or config.get("rope_parameters") or {}
        original = rope.get("original_max_position_embeddings") or 0
        stretched = int(float(rope.get("factor") or 1.0) * original)
        return max(int(config.get("max_position_embeddings") or 0), stretched) or None
    except (OSError, DataError, TypeError, ValueError, AttributeError, OverflowError):
        return None
