"""The limit: a bare aiohttp loop that asks for the same responses and only counts them.

python -m tests.performance.client.bare BODIES URL CONCURRENCY [uvloop]

On asyncio's own event loop, or on uvloop. BODIES holds the requests, one JSON body a line. Prints how
many responses and bytes came, and the seconds of the loop alone and of its processor, as JSON. It reads
no answer, writes and grades nothing.
"""

import asyncio
import json
import sys
import time
from collections.abc import Coroutine, Iterable
from pathlib import Path
from typing import Any, TypeVar

import aiohttp

T = TypeVar("T")


async def ask_all(
    url: str, bodies: Iterable[bytes], concurrency: int, kept: list[bytes] | None = None
) -> tuple[int, int]:
    """Responses, and bytes of their bodies, which are added to `kept` where it is given."""
    responses = received = 0
    left = iter(bodies)

    async def work(session: aiohttp.ClientSession) -> None:
        nonlocal responses, received
        for body in left:
            async with session.post(url, data=body) as answer:
                answer.raise_for_status()
                if kept is not None:
                    kept.append(await answer.read())
                    received += len(kept[-1])
                async for data in answer.content.iter_any():
                    received += len(data)
            responses += 1

    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=concurrency),
        timeout=aiohttp.ClientTimeout(total=None),
        headers={"Content-Type": "application/json"},
    ) as session:
        await asyncio.gather(*(work(session) for _ in range(concurrency)))
    return responses, received


def run_on_uvloop(work: Coroutine[Any, Any, T]) -> T:
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


def main() -> None:
    bodies, url, concurrency, *uvloop = sys.argv[1:]
    run = run_on_uvloop if uvloop else asyncio.run
    started, busy = time.perf_counter(), time.process_time()
    with Path(bodies).open("rb") as lines:
        responses, received = run(ask_all(url, lines, int(concurrency)))
    seconds = time.perf_counter() - started
    told = {"responses": responses, "bytes": received, "seconds": seconds}
    print(json.dumps({**told, "busy": time.process_time() - busy}))


if __name__ == "__main__":
    main()
