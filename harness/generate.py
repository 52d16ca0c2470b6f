"""The one generation loop: teacher sampling, drafts, revisions and benchmarks all ask through it.

Rows are appended to a JSONL file keyed by `(question, draw)`; what is there is never asked again, so
re-running is resuming. Requests are pulled as slots become free: memory does not grow with their
number. `session.json` beside the rows says which engine wrote them.
"""

import asyncio
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol

from harness.asking import Request
from harness.client import Client, Unreachable
from harness.endpoint import Endpoint
from harness.errors import HarnessError, ServerError
from harness.rows import RowFile
from harness.session import SESSION, check_session

WATCH_EVERY = 1.0


class Progress(Protocol):
    """Told of finished rows, of completion tokens, and of failed attempts."""

    def advance(self, rows: int = 1, tokens: int = 0, failures: int = 0) -> None: ...


class NoProgress:
    def advance(self, rows: int = 1, tokens: int = 0, failures: int = 0) -> None:
        return None


SILENT = NoProgress()


def generate(
    requests: Iterable[Request],
    endpoint: Endpoint,
    rows: Path,
    *,
    concurrency: int = 64,
    progress: Progress = SILENT,
    honoured: tuple[str, ...] = (),
    hang_after: float = 300.0,
) -> int:
    """Asks for every request that `rows` does not hold yet; returns the number of new rows.

    `hang_after` is how many seconds nothing may finish while the server does not even say that it is
    well. Raises ServerError where the server dies, hangs, keeps failing or answers for another model,
    or where the rows were written by another engine; HarnessError where they cannot be written. What
    was generated until then is kept.
    """
    try:
        rows.parent.mkdir(parents=True, exist_ok=True)
        with RowFile(rows) as file:
            check_session(rows.parent / SESSION, endpoint.fingerprint, has_rows=bool(file.keys))
            loop = Loop(endpoint, file, concurrency, progress, honoured, hang_after)
            return asyncio.run(loop.run(requests))
    except OSError as error:
        raise HarnessError(
            f"{error.filename or rows}: {error.strerror}",
            "everything generated so far is kept; make room, or make it writable, and go on",
        ) from error


class Loop:
    """One run of the loop: as many workers as requests in flight, one file, one watchdog."""

    def __init__(
        self,
        endpoint: Endpoint,
        file: RowFile,
        concurrency: int,
        progress: Progress,
        honoured: tuple[str, ...],
        hang_after: float,
    ) -> None:
        self.endpoint = endpoint
        self.file = file
        self.concurrency = max(1, concurrency)
        self.progress = progress
        self.hang_after = hang_after
        self.written = 0
        self.sign_of_life = time.monotonic()
        self.client = Client(
            endpoint,
            connections=self.concurrency,
            honoured=honoured,
            on_retry=lambda: progress.advance(rows=0, failures=1),
        )

    async def run(self, requests: Iterable[Request]) -> int:
        source = iter(requests)
        async with self.client:
            watchdog = asyncio.create_task(self.watch())
            workers = [asyncio.create_task(self.work(source)) for _ in range(self.concurrency)]
            try:
                await first_failure(workers, watchdog)
            finally:
                watchdog.cancel()
                for worker in workers:
                    worker.cancel()
                await asyncio.gather(watchdog, *workers, return_exceptions=True)
        return self.written

    async def work(self, source: Iterator[Request]) -> None:
        """Takes requests until there are none left. All workers share the iterator."""
        for request in source:
            if not self.file.claim(request.key):
                continue
            try:
                response = await self.client.complete(request)
            except Unreachable:
                await self.hear_last_words()
                raise
            self.file.append(response)
            self.written += 1
            self.sign_of_life = time.monotonic()
            self.progress.advance(rows=1, tokens=response.row.completion_tokens)

    async def hear_last_words(self) -> None:
        """Gives a server that no longer answers the time to be found dead, with its log to show."""
        for _ in range(40 if self.endpoint.server is not None else 0):
            self.endpoint.check()
            await asyncio.sleep(0.25)

    async def watch(self) -> None:
        """Ends, by ServerError, when the server's process has died or the server hangs."""
        while True:
            await asyncio.sleep(min(WATCH_EVERY, self.hang_after / 4))
            self.endpoint.check()
            if time.monotonic() - self.sign_of_life < self.hang_after / 2:
                continue
            if await self.client.healthy(seconds=self.hang_after / 4):
                self.sign_of_life = time.monotonic()
            elif time.monotonic() - self.sign_of_life > self.hang_after:
                raise hung(self.endpoint, self.hang_after)


async def first_failure(workers: list[asyncio.Task[None]], watchdog: asyncio.Task[None]) -> None:
    """Waits until all workers are done; raises what the first of them or the watchdog raised."""
    work = asyncio.gather(*workers)
    work.add_done_callback(lambda ended: ended.cancelled() or ended.exception())  # it counts as heard
    done, _ = await asyncio.wait((work, watchdog), return_when=asyncio.FIRST_COMPLETED)
    for finished in (watchdog, work):
        if finished in done:
            await finished


def hung(endpoint: Endpoint, seconds: float) -> ServerError:
    tail = f"; its log ends:\n{endpoint.server.tail()}" if endpoint.server is not None else ""
    return ServerError(
        f"{endpoint.label} serving {endpoint.model} hangs: for {seconds:.0f} s nothing was finished and "
        f"{endpoint.health_url} did not answer{tail}",
        "everything generated so far is kept; the same command starts the server again and goes on",
    )
