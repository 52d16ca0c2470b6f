"""Tokens in flight: how much one server may be writing at once, beside how many requests.

A server's cache holds so many tokens. Requests that outgrow it are put off and computed again, at the
cost of all. A request is counted at what it is expected to grow to, or at what has come of it where
that is more; what is expected is the mean of the responses so far, and `max_tokens` before there is one.
"""

import asyncio
from dataclasses import dataclass, field
from typing import Protocol

from harness.asking import Request

CHARACTERS_A_TOKEN = 4  # of text whose tokens are not counted yet


class Come(Protocol):
    """Tells how many characters of a response have come."""

    characters: int


@dataclass(eq=False)
class InFlight:
    """One admitted request: the tokens of its prompt, its limit, and what has come."""

    prompt: int
    limit: int
    come: Come

    def tokens(self, expected: float) -> float:
        return self.prompt + max(min(expected, self.limit), self.come.characters / CHARACTERS_A_TOKEN)


@dataclass(eq=False)
class Budget:
    """Admits requests while their tokens stay within `limit`. One is always admitted."""

    limit: int
    finished: int = 0
    written: int = 0
    open: set[InFlight] = field(default_factory=set)
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def admit(self, request: Request, come: Come) -> InFlight:
        """Waits for room."""
        entry = InFlight(prompt=prompt_tokens(request), limit=request.sampling.max_tokens, come=come)
        if not self.has_room(entry):
            async with self.changed:
                await self.changed.wait_for(lambda: self.has_room(entry))
        self.open.add(entry)
        return entry

    async def release(self, entry: InFlight, tokens: int | None) -> None:
        """The response is whole: so many tokens. None: the request has none, and tells nothing of others."""
        self.open.discard(entry)
        if tokens is not None:
            self.finished += 1
            self.written += tokens
        async with self.changed:
            self.changed.notify_all()

    def has_room(self, entry: InFlight) -> bool:
        if not self.open:
            return True
        expected = self.written / self.finished if self.finished else float("inf")
        return sum(each.tokens(expected) for each in (entry, *self.open)) <= self.limit


def prompt_tokens(request: Request) -> int:
    """About how many tokens a prompt has."""
    characters = sum(len(message.content) for message in request.messages) + len(request.prefix)
    return characters // CHARACTERS_A_TOKEN
