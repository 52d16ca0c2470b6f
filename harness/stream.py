"""Streamed answers: server-sent events, put together into the Completion that they make.

A listener hears the text while it comes, so that a long response is on disk before it is whole. Event
format: the WHATWG's HTML standard, §9.2; of it only `data` fields carry anything here.
"""

from collections.abc import AsyncIterator
from typing import Protocol

import msgspec

from harness.completion import ENDS, AnswerMessage, Choice, Completion, Logprobs, TokenLogprob, Usage
from harness.errors import ServerError
from harness.files import UNREADABLE

STREAMED = {"stream": True, "stream_options": {"include_usage": True}}
LARGEST_ANSWER = 2**30  # bytes: 100,000 tokens with their log-probabilities take some 20 MB
LONGEST_LINE = 64 * 2**20  # bytes; an event with log-probabilities of many tokens stays far below


class Listener(Protocol):
    """Hears a response while it comes. `begin` is called before each attempt at it."""

    def begin(self) -> None: ...

    def hear(self, text: str) -> None: ...


class Deaf:
    def begin(self) -> None:
        return None

    def hear(self, text: str) -> None:
        return None


DEAF = Deaf()


class BrokenStream(Exception):
    """A stream that ended early, said that the server failed, or is none."""


class Uncounted(ServerError):
    """A stream that says nowhere how many tokens it had."""


class Endless(ServerError):
    """More than any answer has."""


class Delta(msgspec.Struct):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: msgspec.Raw = msgspec.Raw()


class ChunkChoice(msgspec.Struct):
    text: str | None = None
    delta: Delta | None = None
    finish_reason: str | None = None
    logprobs: Logprobs | None = None
    token_ids: list[int] | None = None


class Chunk(msgspec.Struct):
    choices: list[ChunkChoice] = []
    id: str = ""
    model: str = ""
    usage: Usage | None = None
    error: msgspec.Raw = msgspec.Raw()


class Assembly:
    """A completion while its chunks arrive. Texts are kept as UTF-8: a list of tokens takes ten times as much
    memory."""

    def __init__(self, listener: Listener = DEAF) -> None:
        self.listener = listener
        self.decoder = msgspec.json.Decoder(Chunk)
        self.text, self.thought = bytearray(), bytearray()
        self.fresh: list[str] = []
        self.chat = self.done = False
        self.id = self.model = ""
        self.finish: str | None = None
        self.usage: Usage | None = None
        self.tool_calls = msgspec.Raw()
        self.content: list[TokenLogprob] = []
        self.tokens: list[str] = []
        self.logprobs: list[float | None] = []
        self.ids: list[int] = []

    def add(self, data: bytes) -> None:
        """One event's data. Raises BrokenStream where it tells of an error or is no chunk."""
        if data == b"[DONE]":
            self.done = True
            return
        try:
            chunk = self.decoder.decode(data)
        except UNREADABLE as error:
            raise BrokenStream(f"an event is no completion chunk ({error}): {shown(data)}") from error
        if len(chunk.error) and bytes(chunk.error) != b"null":
            raise BrokenStream(f"the server failed in the middle of its answer: {shown(bytes(chunk.error))}")
        self.id, self.model = chunk.id or self.id, chunk.model or self.model
        self.usage = chunk.usage or self.usage
        for choice in chunk.choices:
            self.extend(choice)

    def extend(self, choice: ChunkChoice) -> None:
        self.finish = choice.finish_reason or self.finish
        if choice.text:
            self.write(self.text, choice.text)
        if choice.delta is not None:
            self.chat = True
            self.write(self.thought, choice.delta.reasoning_content or choice.delta.reasoning or "")
            self.write(self.text, choice.delta.content or choice.delta.refusal or "")
            self.tool_calls = choice.delta.tool_calls or self.tool_calls
        if choice.token_ids:
            self.ids += choice.token_ids
        if choice.logprobs is not None:
            self.content += choice.logprobs.content or ()
            self.tokens += choice.logprobs.tokens or ()
            self.logprobs += choice.logprobs.token_logprobs or ()

    def write(self, buffer: bytearray, text: str) -> None:
        if text:
            buffer += text.encode("utf-8", "surrogatepass")
            self.fresh.append(text)

    def tell(self) -> None:
        """Lets the listener hear what came since it last did."""
        if self.fresh:
            self.listener.hear("".join(self.fresh))
            self.fresh.clear()

    def whole(self) -> Completion:
        """The completion. Raises BrokenStream where the stream ended before it, Uncounted without counts."""
        if self.finish is None:
            raise BrokenStream(f"the stream broke off after {len(self.text):,} bytes of text")
        usage = self.usage or self.counted()
        text = decoded(self.text)
        choice = Choice(
            text=None if self.chat else text,
            message=self.message(text) if self.chat else None,
            finish_reason=self.finish,
            logprobs=self.heard_logprobs(),
            token_ids=self.ids or None,
        )
        return Completion(choices=[choice], id=self.id, model=self.model, usage=usage)

    def message(self, text: str) -> AnswerMessage:
        return AnswerMessage(
            content=text, reasoning=decoded(self.thought) or None, tool_calls=self.tool_calls
        )

    def counted(self) -> Usage:
        """Token counts of a server that sends none, from the tokens themselves; none of an answer that a
        filter stopped."""
        if (count := len(self.ids) or len(self.content) or len(self.tokens)) or self.finish not in ENDS:
            return Usage(completion_tokens=count)
        raise Uncounted(
            f"{self.model} streamed an answer without token counts, although `include_usage` was asked for",
            "set stream_from = 0 in machine.toml: nothing is streamed then",
        )

    def heard_logprobs(self) -> Logprobs | None:
        if self.content:
            return Logprobs(content=self.content)
        return Logprobs(tokens=self.tokens, token_logprobs=self.logprobs) if self.tokens else None


async def listened(pieces: AsyncIterator[bytes], listener: Listener = DEAF) -> Completion:
    """The completion that the bytes of an event stream make, heard by `listener` as it comes.

    Raises BrokenStream where the stream ends before the completion does, or is none, and Uncounted or
    Endless.
    """
    found = Assembly(listener)
    rest, size = bytearray(), 0
    async for piece in pieces:
        size += len(piece)
        if size > LARGEST_ANSWER:
            raise Endless(
                f"a stream of more than {LARGEST_ANSWER:,} bytes came", "check what answers at its URL"
            )
        start, read = 0, len(rest)  # a long line comes in many pieces, and is not read again for each
        rest += piece
        try:
            while (end := rest.find(b"\n", max(start, read))) >= 0:
                if rest.startswith(b"data:", start):
                    found.add(bytes(rest[start + 5 : end]).strip())
                start = end + 1
        finally:
            found.tell()
        del rest[:start]
        if len(rest) > LONGEST_LINE:
            raise BrokenStream(f"a line of more than {LONGEST_LINE:,} bytes")
        if found.done:
            break
    return found.whole()


def decoded(text: bytearray) -> str:
    return text.decode("utf-8", "surrogatepass")


def shown(data: bytes) -> str:
    return " ".join(data[:400].decode("utf-8", errors="replace").split())
