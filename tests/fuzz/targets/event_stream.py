"""A streamed answer, in pieces whose length the first byte says: wherever it is cut it means the same."""

import asyncio
from collections.abc import AsyncIterator

from harness.completion import Completion
from harness.errors import HarnessError
from harness.stream import BrokenStream, listened
from tests.fuzz.answering import kept

REFUSALS = (HarnessError, BrokenStream)
WORDS = (
    b"data: ", b"data:[DONE]\n\n", b'{"choices":[{', b'"delta":{"content":"', b'"reasoning":"', b'"text":"',
    b'"finish_reason":"stop"', b'"finish_reason":"length"', b'"usage":{"completion_tokens":1}', b'"error":{',
    b'"logprobs":{"content":[{"token":"a","logprob":-1}]}', b"}]}\n\n", b"\r\n", b": ping\n", b"event: x\n",
    b'"token_ids":[1]', b"\\ud83d", b"\\udc00", b"null",
)  # fmt: skip


class Ear:
    """Keeps what it hears."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def begin(self) -> None:
        self.heard.clear()

    def hear(self, text: str) -> None:
        self.heard.append(text)


def read(data: bytes) -> None:
    step, data = 1 + (data[0] if data else 0), data[1:]
    whole, cut = outcome(data, len(data) + 1), outcome(data, step)
    if isinstance(whole, Exception):
        assert type(cut) is type(whole)
        raise whole
    assert cut == whole
    kept(whole)


def outcome(data: bytes, step: int) -> Completion | Exception:
    ear = Ear()
    try:
        found = asyncio.run(listened(pieces(data, step), ear))
    except REFUSALS as error:
        return error
    choice = found.choices[0]
    message = choice.message
    whole = choice.text if message is None else f"{message.content}{message.reasoning or ''}"
    assert sum(map(len, ear.heard)) == len(whole or "")
    return found


async def pieces(data: bytes, step: int) -> AsyncIterator[bytes]:
    for start in range(0, len(data), step):
        yield data[start : start + step]
