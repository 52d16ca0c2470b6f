"""The watchdog: ends a wait for a server whose process has died, or that hangs."""

import asyncio
import time

from harness.client import Client
from harness.endpoint import Endpoint
from harness.errors import ServerError

WATCH_EVERY = 1.0


class Watchdog:
    """`hang_after` is how many seconds there may be no sign of life, which whoever waits passes on, while
    the server does not even say that it is well."""

    def __init__(self, client: Client, hang_after: float) -> None:
        self.client = client
        self.hang_after = hang_after
        self.heard = time.monotonic()

    def sign_of_life(self) -> None:
        self.heard = time.monotonic()

    async def watch(self) -> None:
        """Never ends but by ServerError, when the server's process has died or the server hangs."""
        endpoint, limit = self.client.endpoint, self.hang_after
        while True:
            await asyncio.sleep(min(WATCH_EVERY, limit / 4))
            endpoint.check()
            if time.monotonic() - self.heard < limit / 2:
                continue
            if await self.client.healthy(seconds=limit / 4):
                self.sign_of_life()
            elif time.monotonic() - self.heard > limit:
                raise hung(endpoint, limit)


def hung(endpoint: Endpoint, seconds: float) -> ServerError:
    tail = f"; its log ends:\n{endpoint.server.tail()}" if endpoint.server is not None else ""
    return ServerError(
        f"{endpoint.label} serving {endpoint.model} hangs: for {seconds:.0f} s nothing was finished and "
        f"{endpoint.health_url} did not answer{tail}",
        "everything generated so far is kept; the same command starts the server again and goes on",
    )


async def first_failure(workers: list[asyncio.Task[None]], watchdog: asyncio.Task[None]) -> None:
    """Waits until all workers are done; raises what the first of them or the watchdog raised."""
    work = asyncio.gather(*workers)
    work.add_done_callback(lambda ended: ended.cancelled() or ended.exception())  # it counts as heard
    done, _ = await asyncio.wait((work, watchdog), return_when=asyncio.FIRST_COMPLETED)
    for finished in (watchdog, work):
        if finished in done:
            await finished
