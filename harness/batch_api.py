"""A provider's batch API: input files are submitted, waited for, and their answers fetched.

The paths are OpenAI's: `/files`, `/batches`, `/batches/{id}`, `/files/{id}/content`. What was submitted
stands in batch/submitted.json, written before the next file goes out, and every batch carries a mark, the
hash of its input, by which one is found again whose number was lost: nothing is paid for twice.

What was fetched of a batch is in batch/output-….jsonl, empty where it had no answers. The same input is
submitted again once that file is there, with the number of the round in the mark.
"""

import asyncio
import hashlib
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import quote

import aiohttp
import msgspec
from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from harness.client import excerpt, proxy_for
from harness.errors import ServerError
from harness.files import UNREADABLE, write_json
from harness.secrets import Masking, masked_bytes

Told = TypeVar("Told")

SUBMITTED = "submitted.json"
MARK = "dasd_harness"
ENDED = ("completed", "failed", "expired", "cancelled")
WINDOW = "24h"


class Counts(msgspec.Struct):
    total: int = 0
    completed: int = 0
    failed: int = 0


class Batch(msgspec.Struct):
    id: str
    status: str = ""
    output_file_id: str | None = None
    error_file_id: str | None = None
    request_counts: Counts | None = None
    metadata: dict[str, Any] | None = None
    errors: msgspec.Raw = msgspec.Raw()

    @property
    def dead(self) -> bool:
        """Whether it ended and there is nothing to fetch."""
        return self.status in ENDED and not (self.output_file_id or self.error_file_id)


class Uploaded(msgspec.Struct):
    id: str


class Listed(msgspec.Struct):
    data: list[Batch] = []
    has_more: bool = False


class Gone(ServerError):
    """What is asked for is not there, or not any more."""


class Busy(ServerError):
    """A failure that can heal."""


persistent = retry(
    retry=retry_if_exception_type(Busy),
    wait=wait_random_exponential(multiplier=0.5, max=60),
    stop=stop_after_attempt(8),
    reraise=True,
)


class BatchApi:
    """One provider. `base_url` ends in the version path."""

    def __init__(self, base_url: str, api_key: str, poll: float) -> None:
        self.base_url = base_url.rstrip("/")
        self.api_key = api_key
        self.poll = poll
        self.provider = hashlib.sha256(self.base_url.encode()).hexdigest()[:8]

    async def __aenter__(self) -> Self:
        self.session = aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {self.api_key}"} if self.api_key else {},
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=30, sock_read=300),
            cookie_jar=aiohttp.DummyCookieJar(),
            proxy=proxy_for(self.base_url),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.session.close()

    async def answer_all(self, inputs: list[Path], say: Callable[[str], None]) -> list[Path]:
        """Submits the files that are not submitted yet, and waits until all have ended; the files of
        answers. Raises ServerError where the provider refuses one."""
        batches = [await self.submit(path) for path in inputs]
        outputs = []
        for path, batch in zip(inputs, batches, strict=True):
            outputs += await self.fetch(path, await self.ended(batch, say), say)
        return outputs

    async def submit(self, path: Path) -> str:
        """The batch of an input file: a known one that runs or is not fetched yet, or a new one."""
        record = path.with_name(SUBMITTED)
        known: dict[str, str] = msgspec.json.decode(record.read_bytes()) if record.exists() else {}
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        again = -1
        while True:
            again += 1
            mark = f"{digest}-{again}" if again else digest
            name = f"{self.provider}-{mark}"
            batch = known.get(name) or await self.new_or_found(path, mark)
            if batch is None or self.target(path, batch).exists():
                continue
            if name not in known:
                write_json(record, known | {name: batch})
            return batch

    def target(self, path: Path, batch: str, kind: str = "output") -> Path:
        """Where the answers or errors of a batch go, beside its input."""
        return path.with_name(f"{kind}-{self.provider}-{quote(batch, safe='')}.jsonl")

    @persistent
    async def new_or_found(self, path: Path, mark: str) -> str | None:
        """The batch with this mark, made where there is none; None where it has nothing to fetch. Looks
        before each attempt: an answer that was lost on its way may have made the batch."""
        batch = await self.found(mark)
        if batch is None:
            return await self.create(path, mark)
        return None if batch.dead else batch.id

    async def found(self, mark: str) -> Batch | None:
        """The batch that carries this mark, where the provider knows one."""
        after = ""
        while True:
            answer = await self.call("GET", f"/batches?limit=100{after and f'&after={quote(after)}'}")
            page = read(answer, Listed)
            for batch in page.data:
                if (batch.metadata or {}).get(MARK) == mark:
                    return batch
            if not page.has_more or not page.data or page.data[-1].id == after:
                return None
            after = page.data[-1].id

    async def create(self, path: Path, mark: str) -> str:
        uploaded = read(await self.upload(path), Uploaded)
        with path.open("rb") as lines:
            first = msgspec.json.decode(lines.readline())
        body = {
            "input_file_id": uploaded.id,
            "endpoint": first["url"],
            "completion_window": WINDOW,
            "metadata": {MARK: mark},
        }
        return read(await self.once("POST", "/batches", json=body), Batch).id

    async def ended(self, batch: str, say: Callable[[str], None]) -> Batch:
        """Waits for the end of a batch, and tells of every change."""
        before = ""
        while True:
            now = read(await self.call("GET", f"/batches/{batch}"), Batch)
            counts = now.request_counts or Counts()
            told = f"batch {batch}: {now.status}, {counts.completed} of {counts.total} answered"
            if told != before:
                say(told)
                before = told
            if now.status in ENDED:
                return now
            await asyncio.sleep(self.poll)

    async def fetch(self, path: Path, batch: Batch, say: Callable[[str], None]) -> list[Path]:
        """The answers and errors of a batch, beside its input. Raises ServerError where it failed whole.

        The file of answers is there afterwards, whatever came: it says that this batch is done with.
        """
        found = [self.target(path, batch.id)]
        await self.download(batch.output_file_id, found[0], say)
        if batch.status == "failed":
            raise ServerError(
                f"the provider refused {path.name}: {excerpt(bytes(batch.errors))}",
                "mend what it says, and run the same command again: the file is then submitted anew",
            )
        if batch.error_file_id:
            found.append(self.target(path, batch.id, "errors"))
            await self.download(batch.error_file_id, found[1], say)
        return found

    async def download(self, file: str | None, target: Path, say: Callable[[str], None]) -> None:
        """Writes a provider's file to `target`, whole or not at all; an empty one where there is none, or
        none any more."""
        aside = target.with_suffix(".partial")
        aside.write_bytes(b"")
        if file:
            try:
                await self.call("GET", f"/files/{file}/content", into=aside)
            except Gone as error:
                say(f"what it answers is asked for again: {error.message}")
        aside.rename(target)

    async def upload(self, path: Path) -> bytes:
        def form() -> aiohttp.FormData:
            made = aiohttp.FormData({"purpose": "batch"})
            made.add_field("file", path.open("rb"), filename=path.name, content_type="application/jsonl")
            return made

        return await self.once("POST", "/files", form=form)

    @persistent
    async def call(self, method: str, path: str, into: Path | None = None) -> bytes:
        """As `once`, tried again while that may help."""
        return await self.once(method, path, into=into)

    async def once(
        self,
        method: str,
        path: str,
        json: dict[str, Any] | None = None,
        form: Callable[[], aiohttp.FormData] | None = None,
        into: Path | None = None,
    ) -> bytes:
        """The body of one answer; a good one goes `into` a file, piece by piece, where one is named.

        Raises Gone for 404, another ServerError where the provider refuses, Busy where that can heal.
        """
        data = form() if form is not None else None
        try:
            async with self.session.request(method, f"{self.base_url}{path}", json=json, data=data) as answer:
                if into is not None and answer.status < 400:
                    masking = Masking(self.api_key)
                    with into.open("wb") as file:
                        async for piece in answer.content.iter_any():
                            file.write(masking.of(piece.decode("latin-1")).encode("latin-1"))  # bytes as such
                        file.write(masking.rest().encode("latin-1"))
                    return b""
                body = masked_bytes(await answer.read(), self.api_key)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Busy(f"{type(error).__name__}: {error}") from error
        if answer.status == 429 or answer.status >= 500:
            raise Busy(f"{answer.status}: {excerpt(body)}")
        if answer.status >= 400:
            kind = Gone if answer.status == 404 else ServerError
            raise kind(
                f"the batch API refused {method} {path} with {answer.status}: {excerpt(body)}",
                "does [engines.batch] base_url end in /v1, and does api_key_env name the key's variable?",
            )
        return body


def read(data: bytes, kind: type[Told]) -> Told:
    """What the provider told. Raises ServerError where it is something else."""
    try:
        return msgspec.json.decode(data, type=kind)
    except UNREADABLE as error:
        raise ServerError(
            f"the batch API answered no {kind.__name__.lower()} ({error}): {excerpt(data)}",
            "does [engines.batch] base_url name an OpenAI-compatible batch API, and end in /v1?",
        ) from error
