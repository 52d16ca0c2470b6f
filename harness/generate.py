"""The one generation loop: teacher sampling, drafts, revisions and benchmarks all ask through it.

Rows are appended to a JSONL file keyed by `(question, draw)`; what is there is never asked again, so
re-running is resuming. Requests are pulled as slots become free: memory does not grow with their
number. `session.json` beside the rows says which engine wrote them.
"""

import asyncio
import functools
import json
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from itertools import accumulate
from pathlib import Path
from typing import Protocol, TypeVar

import msgspec

from harness import tokens
from harness.client import Client, Endpoint, Request, Response, Unreachable
from harness.errors import DataError, HarnessError, ServerError
from harness.tokens import TokenFile

T = TypeVar("T")

SESSION = "session.json"
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


def keys_of(rows: Path) -> set[tuple[str, int]]:
    """The keys that a file holds; none where there is no file. What it holds is not asked again."""
    return {(row.question, row.draw) for row in read_rows(rows, Key)} if rows.exists() else set()


def count_rows(rows: Path) -> int:
    """The whole rows of a file; 0 where there is none."""
    return sum(1 for _ in read_rows(rows, Key)) if rows.exists() else 0


class Loop:
    """One run of the loop: as many workers as requests in flight, one file, one watchdog."""

    def __init__(
        self,
        endpoint: Endpoint,
        file: "RowFile",
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


class Key(msgspec.Struct):
    question: str
    draw: int


class RowFile:
    """The append-only file of generations, and tokens.arrow beside it where tokens come with them.

    The only writer of both while it is open.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.encoder = msgspec.json.Encoder()

    def __enter__(self) -> "RowFile":
        self.path.touch()
        drop_torn_line(self.path)
        self.keys = keys_of(self.path)
        self.opened = ExitStack()
        self.descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND)
        self.opened.callback(os.close, self.descriptor)
        if self.path.with_name(tokens.NAME).exists():
            _ = self.tokens  # its index is read now, not while answers wait
        return self

    def __exit__(self, *failure: object) -> None:
        self.opened.close()

    @functools.cached_property
    def tokens(self) -> TokenFile:
        return self.opened.enter_context(TokenFile(self.path.with_name(tokens.NAME)))

    def claim(self, key: tuple[str, int]) -> bool:
        """Whether this key is neither in the file nor being asked for; it is taken from now on."""
        if key in self.keys:
            return False
        self.keys.add(key)
        return True

    def append(self, response: Response) -> None:
        """Writes one row and hands it to the system, so that it outlives this process.

        Its tokens go first: of a row that is there nothing is missing.
        """
        if response.tokens is not None:
            self.tokens.append((response.row.question, response.row.draw), response.tokens)
        row = self.encoder.encode(response.row) + b"\n"
        while row:
            row = row[os.write(self.descriptor, row) :]


def drop_torn_line(path: Path) -> None:
    """Cuts off what follows the last line feed: a row whose writing was interrupted."""
    with path.open("rb+") as file:
        size = file.seek(0, os.SEEK_END)
        end = size
        while end > 0:
            start = max(0, end - 65_536)
            file.seek(start)
            found = file.read(end - start).rfind(b"\n")
            if found >= 0:
                end = start + found + 1
                break
            end = start
        if end < size:
            file.truncate(end)


def read_rows(path: Path, kind: type[T]) -> Iterator[T]:
    """The rows of a JSONL file, one at a time. A last line without a line feed is not there yet.

    Lines end at line feeds only: text may hold U+2028, which `str.splitlines` takes for one.
    Raises DataError, with the line's number, where a whole line is not a row of this kind.
    """
    decoder = msgspec.json.Decoder(kind)
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                return
            yield decode(decoder, line, path, number)


def read_in_order(path: Path, kind: type[T]) -> Iterator[T]:
    """The rows by question and draw, whatever the order in which they came; one in memory.

    Raises DataError as `read_rows` does.
    """
    with path.open("rb") as file:
        ends = accumulate(map(len, file), initial=0)
        keys = enumerate(zip(read_rows(path, Key), ends, strict=False), start=1)
        places = sorted((key.question, key.draw, start, number) for number, (key, start) in keys)
    decoder = msgspec.json.Decoder(kind)
    with path.open("rb") as file:
        for _, _, start, number in places:
            file.seek(start)
            yield decode(decoder, file.readline(), path, number)


def decode(decoder: msgspec.json.Decoder[T], line: bytes, path: Path, number: int) -> T:
    try:
        return decoder.decode(line)
    except msgspec.MsgspecError as error:
        raise DataError(
            f"{path}, line {number}: not a {decoder.type.__name__} ({error})",
            "remove this line, or the file, and run the same command again",
        ) from error


def check_session(path: Path, fingerprint: dict[str, str], has_rows: bool) -> None:
    """Records which engine writes the rows. Raises ServerError where another one wrote those there."""
    if has_rows and path.exists():
        before = json.loads(path.read_text(encoding="utf-8"))
        changed = [
            f"{name} was {before.get(name)!r} and is now {fingerprint.get(name)!r}"
            for name in sorted({*before, *fingerprint})
            if before.get(name) != fingerprint.get(name)
        ]
        if changed:
            raise ServerError(
                f"{path.parent} holds rows of another engine: {'; '.join(changed)}",
                "go on with the engine that wrote them, or remove the folder to start again",
            )
        return
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(json.dumps(fingerprint, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    os.replace(partial, path)
