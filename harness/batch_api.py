"""A provider's batch API: input files are submitted, waited for, and their answers fetched.

The paths are OpenAI's: `/files`, `/batches`, `/batches/{id}`, `/files/{id}/content`. What was submitted
stands in batch/submitted.json, written before the next file goes out, and every batch carries the hash of
its input, by which one is found again whose number was lost: nothing is paid for twice.
"""

import asyncio
import hashlib
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp
import msgspec
from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from harness.client import excerpt, proxy_for
from harness.errors import ServerError
from harness.files import write_json

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


class Listed(msgspec.Struct):
    data: list[Batch] = []
    has_more: bool = False


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
            outputs += await self.fetch(path, await self.ended(batch, say))
        return outputs

    async def submit(self, path: Path) -> str:
        """The batch of an input file: a known one, or a new one."""
        record = path.with_name(SUBMITTED)
        known: dict[str, str] = msgspec.json.decode(record.read_bytes()) if record.exists() else {}
        with path.open("rb") as file:
            mark = hashlib.file_digest(file, "sha256").hexdigest()
        if mark not in known:
            known[mark] = await self.new_or_found(path, mark)
            write_json(record, known)
        return known[mark]

    @persistent
    async def new_or_found(self, path: Path, mark: str) -> str:
        """Looks before each attempt: an answer that was lost on its way may have made the batch."""
        return await self.found(mark) or await self.create(path, mark)

    async def found(self, mark: str) -> str | None:
        """The batch that carries this mark, where the provider knows one."""
        page = Listed(has_more=True)
        while page.has_more:
            after = f"&after={page.data[-1].id}" if page.data else ""
            page = msgspec.json.decode(await self.call("GET", f"/batches?limit=100{after}"), type=Listed)
            for batch in page.data:
                if (batch.metadata or {}).get(MARK) == mark:
                    return batch.id
        return None

    async def create(self, path: Path, mark: str) -> str:
        uploaded = msgspec.json.decode(await self.upload(path))
        first = msgspec.json.decode(path.open("rb").readline())
        body = {
            "input_file_id": uploaded["id"],
            "endpoint": first["url"],
            "completion_window": WINDOW,
            "metadata": {MARK: mark},
        }
        return msgspec.json.decode(await self.once("POST", "/batches", json=body), type=Batch).id

    async def ended(self, batch: str, say: Callable[[str], None]) -> Batch:
        """Waits for the end of a batch, and tells of every change."""
        before = ""
        while True:
            now = msgspec.json.decode(await self.call("GET", f"/batches/{batch}"), type=Batch)
            counts = now.request_counts or Counts()
            told = f"batch {batch}: {now.status}, {counts.completed} of {counts.total} answered"
            if told != before:
                say(told)
                before = told
            if now.status in ENDED:
                return now
            await asyncio.sleep(self.poll)

    async def fetch(self, path: Path, batch: Batch) -> list[Path]:
        """The answers and errors of a batch, beside its input. Raises ServerError where it failed whole."""
        if batch.status == "failed":
            raise ServerError(f"the provider refused {path.name}: {excerpt(bytes(batch.errors))}")
        found = []
        for kind, file in (("output", batch.output_file_id), ("errors", batch.error_file_id)):
            if file:
                target = path.with_name(f"{kind}-{batch.id}.jsonl")
                aside = target.with_suffix(".partial")
                aside.write_bytes(await self.call("GET", f"/files/{file}/content"))
                aside.rename(target)
                found.append(target)
        return found

    async def upload(self, path: Path) -> bytes:
        def form() -> aiohttp.FormData:
            made = aiohttp.FormData({"purpose": "batch"})
            made.add_field("file", path.open("rb"), filename=path.name, content_type="application/jsonl")
            return made

        return await self.once("POST", "/files", form=form)

    @persistent
    async def call(self, method: str, path: str) -> bytes:
        """As `once`, tried again while that may help."""
        return await self.once(method, path)

    async def once(
        self,
        method: str,
        path: str,
        json: dict[str, Any] | None = None,
        form: Callable[[], aiohttp.FormData] | None = None,
    ) -> bytes:
        """The body of one answer. Raises ServerError where the provider refuses, Busy where that can heal."""
        data = form() if form is not None else None
        try:
            async with self.session.request(method, f"{self.base_url}{path}", json=json, data=data) as answer:
                body = await answer.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Busy(f"{type(error).__name__}: {error}") from error
        if answer.status == 429 or answer.status >= 500:
            raise Busy(f"{answer.status}: {excerpt(body)}")
        if answer.status >= 400:
            raise ServerError(
                f"the batch API refused {method} {path} with {answer.status}: {excerpt(body)}",
                "does [engines.batch] base_url end in /v1, and does api_key_env name the key's variable?",
            )
        return body
