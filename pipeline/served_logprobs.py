"""Log-probabilities of given tokens from a vLLM server: the alternative to `pipeline.logprobs`.

`/v1/completions` with token ids as the prompt, `prompt_logprobs: 0` (the prompt's own tokens and no
rivals) and one token to generate, because vLLM refuses none. vLLM computes the prompt anew where prompt
log-probabilities are asked for, so a warm prefix cache changes nothing.
"""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import aiohttp
import msgspec
import numpy as np
from numpy.typing import NDArray
from tenacity import AsyncRetrying, retry_if_exception_type

from harness.client import Client, Refused, Unreachable, excerpt, failure
from harness.endpoint import Endpoint
from harness.errors import ServerError
from harness.files import UNREADABLE
from harness.generate import Progress
from harness.patience import Patience, Transient, pause
from harness.watchdog import Watchdog, first_failure
from pipeline.logprobs import Encoded, Unscorable, check_length, check_numbers

Save = Callable[[Encoded, NDArray[np.float32]], None]
Leave = Callable[[Unscorable], None]
TOO_LONG = ("context length", "model length", "max_model_len")  # vLLM's words for a prompt that it refuses


class PromptToken(msgspec.Struct):
    logprob: float


class Choice(msgspec.Struct):
    prompt_logprobs: list[dict[int, PromptToken] | None] | None = None


class Completion(msgspec.Struct):
    choices: list[Choice]
    model: str = ""


class ServedLogprobs:
    """Asks for rows, `concurrency` at a time, and hands each to `save` as it comes, or to `leave` where the
    row itself cannot be scored. `limit` is the model's context in tokens, 0 where nothing tells it.

    `hang_after` is how many seconds nothing may finish while the server does not even say that it is
    well. Raises ServerError where the server dies, hangs, refuses a row, keeps failing or answers without
    prompt log-probabilities. What was saved until then stays.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        save: Save,
        leave: Leave,
        concurrency: int,
        progress: Progress,
        *,
        limit: int = 0,
        hang_after: float = 300.0,
    ) -> None:
        self.endpoint = endpoint
        self.save = save
        self.leave = leave
        self.limit = limit
        self.concurrency = max(1, concurrency)
        self.hang_after = hang_after
        self.progress = progress

    async def run(self, rows: Iterator[Encoded]) -> None:
        async with Client(self.endpoint, connections=self.concurrency) as self.client:
            self.watchdog = Watchdog(self.client, self.hang_after)
            watching = asyncio.create_task(self.watchdog.watch())
            workers = [asyncio.create_task(self.work(rows)) for _ in range(self.concurrency)]
            try:
                await first_failure(workers, watching)
            finally:
                for task in (watching, *workers):
                    task.cancel()
                await asyncio.gather(watching, *workers, return_exceptions=True)

    async def work(self, rows: Iterator[Encoded]) -> None:
        """Takes rows until there are none left. All workers share the iterator."""
        for row in rows:
            try:
                self.save(row, await self.ask(row))
            except Unscorable as fault:
                self.leave(fault)
            self.watchdog.sign_of_life()

    async def ask(self, row: Encoded) -> NDArray[np.float32]:
        """Raises Unscorable for a row that is too long, with the token that vLLM must generate, or odd."""
        check_length(row, max(0, self.limit - 1))
        try:
            async for attempt in AsyncRetrying(
                retry=retry_if_exception_type(Transient),
                wait=pause,
                stop=Patience(),
                before_sleep=lambda state: self.progress.advance(rows=0, failures=1),
                reraise=True,
            ):
                with attempt:
                    data = await self.post(row)
        except Transient as error:
            self.endpoint.check()
            raise Unreachable(
                f"{self.endpoint.label} keeps failing: {error}",
                "every row scored so far is kept; the same command goes on once the server is well",
            ) from error
        except Refused as error:
            if any(words in error.message for words in TOO_LONG):
                reason = "the server's context is too short"
                raise Unscorable(row.key, reason, f"response {row.key}: {error.message}") from error
            raise
        logprobs = understood(data, row, self.endpoint)
        check_numbers(row, logprobs)
        return logprobs

    async def post(self, row: Encoded) -> bytes:
        """One attempt. Raises Transient where another may succeed, else ServerError."""
        url = f"{self.endpoint.base_url}/completions"
        try:
            async with self.client.session.post(url, json=body(row, self.endpoint)) as answer:
                data = await answer.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Transient(f"{type(error).__name__}: {error}") from error
        if answer.status != 200:
            raise failure(answer.status, data, answer.headers, self.endpoint)
        return data


def body(row: Encoded, endpoint: Endpoint) -> dict[str, Any]:
    return {
        "model": endpoint.model,
        "prompt": row.ids,
        "max_tokens": 1,
        "temperature": 0.0,
        "prompt_logprobs": 0,
        **endpoint.engine.raw_prompt,
    }


def understood(data: bytes, row: Encoded, endpoint: Endpoint) -> NDArray[np.float32]:
    """The response's log-probabilities in a 200 answer. Raises ServerError where they are not there."""
    try:
        completion = msgspec.json.decode(data, type=Completion)
        found = completion.choices[0].prompt_logprobs or []
        pairs = zip(found, row.ids, strict=True)
        values = [token[wanted].logprob for token, wanted in list(pairs)[len(row.prompt) :] if token]
    except (*UNREADABLE, LookupError, ValueError) as error:
        raise ServerError(
            f"{endpoint.label} gave no log-probability for each of {len(row.ids)} prompt tokens of response "
            f"{row.key}: {excerpt(data)}",
            "vLLM's prompt_logprobs was expected; score by the forward pass instead (through='forward')",
        ) from error
    if not endpoint.engine.is_model(endpoint.model, completion.model):
        raise ServerError(
            f"{endpoint.label} was asked for the model {endpoint.model!r} and answered "
            f"for the model {completion.model!r}",
            "stop the other server, or name the model as the server does",
        )
    return np.array(values, np.float32)
