"""Preflight: what an endpoint does is seen before a run spends anything on it.

    report = preflight(endpoint, wanted_by(requests, sampling))
    report.refuse()                                  # raises ServerError where rows would be a lie
    write_json(out / FILE, report)

Fewer than a hundred short requests, most of them at once. First the model, because all else would be
about another; then temperature and seed, with nothing beside them; then the rest together. Every replica
is asked.
"""

import asyncio
import threading
from collections.abc import Awaitable, Coroutine, Hashable
from dataclasses import replace
from typing import Any

from harness.asking import is_rendered
from harness.client import Client
from harness.endpoint import Endpoint
from harness.errors import ServerError
from harness.preflight.answers import (
    check_ends,
    check_logprobs,
    check_prompt_logprobs,
    check_reasoning,
    check_streaming,
)
from harness.preflight.distribution import are_raw, check_distribution
from harness.preflight.model import check_context, check_model
from harness.preflight.parameters import check_parameters
from harness.preflight.prompt import check_prompt
from harness.preflight.report import FILE, Check, Report, merged
from harness.preflight.temperature import check_temperature_and_seed
from harness.preflight.wanted import Wanted, look_through, plain_wanted, room, wanted_by
from harness.preflight.wire import Wire

__all__ = ["FILE", "Preflights", "Report", "Wanted", "look_through", "plain_wanted", "preflight", "wanted_by"]

CONNECTIONS = 64
PATIENCE = 1800.0
"""Seconds for the whole of it: a server that takes longer for a hundred short answers hangs."""


def preflight(endpoint: Endpoint, wanted: Wanted) -> Report:
    """All checks of an endpoint and of its replicas. Raises ServerError where one does not answer."""
    return asyncio.run(of_all(endpoint, wanted))


async def of_all(endpoint: Endpoint, wanted: Wanted) -> Report:
    try:
        async with asyncio.timeout(PATIENCE):
            return merged(await asyncio.gather(*(of_one(server, wanted) for server in all_of(endpoint))))
    except TimeoutError as error:
        endpoint.check()
        raise ServerError(
            f"{endpoint.label} serving {endpoint.model} hangs: no preflight in {PATIENCE:.0f} s",
            "is the server busy with something else? The same command asks again",
        ) from error


async def of_one(endpoint: Endpoint, wanted: Wanted) -> Report:
    """The report of one server. Even short answers are streamed where the run's long ones will be."""
    streams = endpoint.streams(wanted.longest.sampling.max_tokens)
    async with Client(replace(endpoint, stream_from=int(streams)), connections=CONNECTIONS) as client:
        checks = tuple(await checks_of(client, wanted))
    return Report(endpoint=endpoint.fingerprint, replicas=1, checks=checks)


async def checks_of(client: Client, wanted: Wanted) -> list[Check]:
    """All checks; where the model or the streaming failed, nothing beyond that is asked."""
    wire = Wire(client)
    first = [await check_model(wire, wanted)]
    if first[0].outcome == "passed":
        first.append(await check_streaming(client, wanted))
    if any(check.outcome == "failed" for check in first):
        return first
    drawn = await check_temperature_and_seed(client, wanted)
    raw = asyncio.create_task(are_raw(wire))
    at_once: list[Coroutine[Any, Any, list[Check]]] = [
        alone(check_context(wire, wanted)),
        check_prompt(wire, wanted),
        check_parameters(wire, wanted),
        alone(check_distribution(wire, wanted, raw)),
        check_logprobs(wire, wanted, raw),
        alone(check_prompt_logprobs(wire, wanted)),
        alone(check_reasoning(wire, wanted)),
        check_ends(wire, wanted),
    ]
    rest = await asyncio.gather(*at_once)
    await raw
    return [*first, *drawn, *(check for checks in rest for check in checks)]


async def alone(check: Awaitable[Check]) -> list[Check]:
    return [await check]


class Preflights:
    """Reports of one process's endpoints, each made once: a second benchmark on a warm server, with the
    same sampling, is only asked whether its longest prompt fits, and not even that where a longer one did."""

    def __init__(self) -> None:
        self.known: dict[Hashable, tuple[Report, float]] = {}
        self.lock = threading.Lock()

    def of(self, endpoint: Endpoint, wanted: Wanted) -> Report:
        """The report on what a run wants. Raises ServerError where an endpoint does not answer."""
        with self.lock:
            return self.looked_up(endpoint, wanted)

    def looked_up(self, endpoint: Endpoint, wanted: Wanted) -> Report:
        key, needed = depends_on(endpoint, wanted), room(wanted.longest)
        if key not in self.known:
            self.known[key] = preflight(endpoint, wanted), needed
        report, seen = self.known[key]
        if needed > seen:
            report = report.having(asyncio.run(context_alone(endpoint, wanted)))
            self.known[key] = report, needed
        return report


async def context_alone(endpoint: Endpoint, wanted: Wanted) -> Check:
    async with Client(endpoint, connections=1) as client:
        return await check_context(Wire(client), wanted)


def depends_on(endpoint: Endpoint, wanted: Wanted) -> Hashable:
    """All that changes a report but for the longest prompt: the servers, and what the run wants of them."""
    first = wanted.first
    servers = tuple((each.base_url, each.model, each.accepts, each.server) for each in all_of(endpoint))
    sampling = replace(wanted.sampling, max_tokens=0, draws=1, seed=0)
    streamed = endpoint.streams(wanted.sampling.max_tokens)
    asked = (first.logprobs, first.effort, first.date, is_rendered(first, endpoint), streamed)
    return servers, sampling, wanted.system, asked, wanted.seeds, wanted.prompt_logprobs


def all_of(endpoint: Endpoint) -> tuple[Endpoint, ...]:
    """Every server of an endpoint, each as an endpoint of its own."""
    return tuple(replace(server, replicas=()) for server in endpoint.servers)
