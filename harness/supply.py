"""The supply of requests that several servers share: what one of them lost goes to the others."""

import asyncio
from collections import deque
from collections.abc import Iterable

from harness.asking import Request


class Supply:
    """Each request once: pulled from the source as slots become free, or given back by a server that is
    lost. Requests in flight are `open` until they are answered."""

    def __init__(self, requests: Iterable[Request]) -> None:
        self.source = iter(requests)
        self.returned: deque[Request] = deque()
        self.open: set[tuple[str, int]] = set()
        self.changed = asyncio.Event()

    async def take(self) -> Request | None:
        """The next request; None once all are answered. Waits while what is open may come back."""
        while True:
            request = self.returned.popleft() if self.returned else next(self.source, None)
            if request is not None:
                self.open.add(request.key)
                return request
            if not self.open:
                return None
            self.changed.clear()
            await self.changed.wait()

    def answered(self, request: Request) -> None:
        self.open.discard(request.key)
        if not self.open:
            self.changed.set()

    def give_back(self, requests: Iterable[Request]) -> None:
        """Requests whose server is lost, in the order in which they are asked again."""
        for request in requests:
            self.open.discard(request.key)
            self.returned.append(request)
        self.changed.set()
