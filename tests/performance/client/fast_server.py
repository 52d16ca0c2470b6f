"""A fake OpenAI server that is quicker than its clients: one process, prebuilt bytes, no framework.

python -m tests.performance.client.fast_server --questions FILE --port 8123 [--characters 80000]
[--latency] [--tokens-an-event 1]

Answers /v1/chat/completions and /v1/completions, streamed as vLLM streams (an event for every token,
each in an HTTP chunk of its own) and whole; /v1/models; /health. Text is a function of prompt and
seed: a client that sends one seed with all draws of a question gets one text, as from an engine that
honours seeds. Requests without a seed get texts of their own. `GET /asked` tells what was asked since
`POST /reset`: the only witness of what a client really sent.
"""

import argparse
import asyncio
import json
import time
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec

from tests.performance.client.answers import (
    CHARACTERS,
    PIECE,
    Known,
    answer_of,
    body,
    ending,
    is_right,
    latency,
    read_questions,
    tokens_of,
    unknown_ending,
)

CONTEXT = 131_072
HEAD = b"HTTP/1.1 %d %s\r\nContent-Type: %s\r\n"
STREAMED = HEAD % (200, b"OK", b"text/event-stream; charset=utf-8") + b"Transfer-Encoding: chunked\r\n\r\n"
ENDED = b"0\r\n\r\n"


class StreamOptions(msgspec.Struct):
    include_usage: bool = False


class Asked(msgspec.Struct):
    """What the server reads of a request; `prompt` is that of /v1/completions."""

    model: str
    messages: list[dict[str, Any]] = []
    prompt: str = ""
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    seed: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    n: int | None = None
    stop: str | list[str] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    @property
    def text(self) -> str:
        """The prompt, or all messages one after the other."""
        contents = [each.get("content") for each in self.messages]
        return self.prompt + "".join(each if isinstance(each, str) else json.dumps(each) for each in contents)

    @property
    def tokens(self) -> int:
        """The most tokens of a response."""
        return self.max_tokens or self.max_completion_tokens or CONTEXT - len(self.text) // CHARACTERS

    @property
    def greedy(self) -> bool:
        """Whether the sampling leaves but one token to choose."""
        return self.temperature == 0 or self.top_k == 1 or self.min_p == 1 or (self.top_p or 1.0) < 1e-3

    @property
    def stops(self) -> list[str]:
        return [self.stop] if isinstance(self.stop, str) else self.stop or []


class Event(msgspec.Struct, omit_defaults=True):
    """One request in the record. `numbers` are those that decided its responses."""

    question: str
    seed: int | None
    numbers: list[int]
    right: int
    max_tokens: int
    stream: bool = False


@dataclass
class State:
    """What the server knows, and what it was asked since the last reset."""

    questions: list[Known]
    model: str
    characters: int
    delayed: bool
    tokens_an_event: int
    record: list[Event] = field(default_factory=list)
    places: Counter[str] = field(default_factory=Counter)
    unseeded: Counter[str] = field(default_factory=Counter)
    open: int = 0
    most_open: int = 0
    in_flight: int = 0
    most_in_flight: int = 0
    first: float = 0.0
    last: float = 0.0

    def reset(self) -> None:
        self.record.clear()
        self.places.clear()
        self.unseeded.clear()
        self.most_open = self.most_in_flight = 0
        self.first = self.last = 0.0

    def find(self, text: str) -> Known | None:
        """The question whose mark stands in the prompt."""
        start = text.find("[speed-")
        number = text[start + 7 : start + 9] if start >= 0 else ""
        return self.questions[int(number)] if number.isdigit() else None


@dataclass(frozen=True)
class Answer:
    """One response: a body that others share, and an end of its own."""

    shared: str
    end: str
    finish: str

    @property
    def tokens(self) -> int:
        return -(-(len(self.shared) + len(self.end)) // CHARACTERS)


def answer(asked: Asked, known: Known | None, number: int, state: State) -> Answer:
    end = ending(answer_of(known, number)) if known else unknown_ending(asked.text, number)
    shared = body(max(0, state.characters - len(end))) if known else ""
    if stops := [place for each in asked.stops if (place := (shared + end).find(each)) >= 0]:
        return cut(Answer(shared, end, "stop"), min(stops), "stop")
    return cut(Answer(shared, end, "stop"), CHARACTERS * asked.tokens, "length")


def cut(answer: Answer, characters: int, finish: str) -> Answer:
    """The answer up to so many characters, and why it ends there where it does."""
    if len(answer.shared) + len(answer.end) <= characters:
        return answer
    return Answer(answer.shared[:characters], answer.end[: max(0, characters - len(answer.shared))], finish)


def numbers_of(asked: Asked, question: str, state: State) -> list[int]:
    """The numbers that decide the responses to a request: its seed, or how often it was asked before."""
    if asked.greedy:
        return [round(1e3 * (asked.repetition_penalty or 1.0))] * (asked.n or 1)
    if asked.seed is not None:
        return [asked.seed + index for index in range(asked.n or 1)]
    first = state.unseeded[question]
    state.unseeded[question] += asked.n or 1
    return list(range(first, first + (asked.n or 1)))


@lru_cache
def escaped(text: str) -> bytes:
    return json.dumps(text)[1:-1].encode()


def usage(asked: Asked, answers: list[Answer]) -> dict[str, int]:
    prompt, completion = len(asked.text) // CHARACTERS, sum(each.tokens for each in answers)
    return {
        "prompt_tokens": prompt,
        "total_tokens": prompt + completion,
        "completion_tokens": completion,
    }


# Whole answers --------------------------------------------------------------------------------


def whole(asked: Asked, answers: list[Answer], chat: bool, serial: int) -> bytes:
    """The answer with its HTTP head, in vLLM's shape."""
    choices = b",".join(choice(each, index, chat) for index, each in enumerate(answers))
    kind = b"chat.completion" if chat else b"text_completion"
    content = b'{"id":"chatcmpl-%032x","object":"%s","created":%d,"model":"%s","choices":[%s],"usage":%s}' % (
        serial,
        kind,
        int(time.time()),
        escaped(asked.model),
        choices,
        msgspec.json.encode(usage(asked, answers)),
    )
    return head(200, b"OK", len(content)) + content


def choice(answer: Answer, index: int, chat: bool) -> bytes:
    text = escaped(answer.shared) + json.dumps(answer.end)[1:-1].encode()
    shape = (
        b'{"index":%d,"message":{"role":"assistant","content":"%s","refusal":null,"annotations":null,'
        b'"audio":null,"function_call":null,"tool_calls":[],"reasoning_content":null},"logprobs":null,'
        b'"finish_reason":"%s","stop_reason":null}'
        if chat
        else b'{"index":%d,"text":"%s","logprobs":null,"finish_reason":"%s","stop_reason":null}'
    )
    return shape % (index, text, answer.finish.encode())


def head(status: int, reason: bytes, length: int) -> bytes:
    return HEAD % (status, reason, b"application/json") + b"Content-Length: %d\r\n\r\n" % length


# Streams --------------------------------------------------------------------------------------


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def event(model: str, chat: bool, choices: list[Any], **more: Any) -> bytes:
    """One server-sent event in an HTTP chunk."""
    kind = "chat.completion.chunk" if chat else "text_completion"
    told = {"id": "chatcmpl-fast", "object": kind, "created": 1_764_000_000, "model": model}
    return chunk(b"data: " + msgspec.json.encode({**told, "choices": choices, **more}) + b"\n\n")


def token_event(model: str, chat: bool, text: str) -> bytes:
    place: dict[str, Any] = {"delta": {"content": text}} if chat else {"text": text}
    return event(model, chat, [{"index": 0, **place, "logprobs": None, "finish_reason": None}])


@lru_cache
def shared_stream(model: str, chat: bool, text: str, tokens_an_event: int) -> list[bytes]:
    """The events of a shared body, in pieces that are written at once."""
    return list(pieces(model, chat, text, tokens_an_event))


def pieces(model: str, chat: bool, text: str, tokens_an_event: int) -> Iterator[bytes]:
    tokens = tokens_of(text)
    parts = [
        "".join(tokens[start : start + tokens_an_event]) for start in range(0, len(tokens), tokens_an_event)
    ]
    step = max(1, PIECE // tokens_an_event)
    for start in range(0, len(parts), step):
        yield b"".join(token_event(model, chat, part) for part in parts[start : start + step])


def stream(asked: Asked, answer: Answer, chat: bool, tokens_an_event: int) -> Iterator[bytes]:
    """The bytes of a streamed answer, piece by piece."""
    model = asked.model
    role = {"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}
    yield STREAMED + (event(model, chat, [role]) if chat else b"")
    yield from shared_stream(model, chat, answer.shared, tokens_an_event)
    yield from pieces(model, chat, answer.end, tokens_an_event)
    end: dict[str, Any] = {"delta": {}} if chat else {"text": ""}
    last = event(model, chat, [{"index": 0, **end, "finish_reason": answer.finish, "stop_reason": None}])
    if asked.stream_options is not None and asked.stream_options.include_usage:
        last += event(model, chat, [], usage=usage(asked, [answer]))
    yield last + chunk(b"data: [DONE]\n\n") + ENDED


# Connections ----------------------------------------------------------------------------------


class Connection(asyncio.Protocol):
    """One connection: reads requests one after the other, answers each before the next."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.loop = asyncio.get_running_loop()
        self.buffer = bytearray()
        self.waiting: deque[tuple[bytes, bytes, bytes]] = deque()
        self.busy = False
        self.full = False
        self.closed = False
        self.rest: Iterator[bytes] = iter(())

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.state.open += 1

    def connection_lost(self, error: Exception | None) -> None:
        self.closed = True
        self.state.open -= 1
        if self.busy:
            self.state.in_flight -= 1

    def pause_writing(self) -> None:
        self.full = True

    def resume_writing(self) -> None:
        self.full = False
        self.loop.call_soon(self.go_on)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            lines = bytes(self.buffer[:end])
            length = content_length(lines)
            if len(self.buffer) < end + 4 + length:
                return
            content = bytes(self.buffer[end + 4 : end + 4 + length])
            del self.buffer[: end + 4 + length]
            method, path, _ = lines.split(b" ", 2)
            self.waiting.append((method, path, content))
        self.next()

    def next(self) -> None:
        while self.waiting and not self.busy:
            self.handle(*self.waiting.popleft())

    def handle(self, method: bytes, path: bytes, content: bytes) -> None:
        match method, path:
            case b"POST", b"/v1/chat/completions" | b"/v1/completions":
                self.complete(content, chat=path == b"/v1/chat/completions")
            case b"GET", b"/v1/models":
                model = {"id": self.state.model, "object": "model", "max_model_len": CONTEXT}
                self.send(200, {"object": "list", "data": [model]})
            case b"GET", b"/health":
                self.send(200, {})
            case b"GET", b"/asked":
                self.send(200, {"asked": self.state.record, **measured(self.state)})
            case b"POST", b"/reset":
                self.state.reset()
                self.send(200, {})
            case _:
                self.send(404, {"error": {"message": f"no {path.decode()} here", "code": 404}})

    def send(self, status: int, content: Any) -> None:
        data = msgspec.json.encode(content)
        self.transport.write(head(status, b"OK" if status == 200 else b"Refused", len(data)) + data)

    def complete(self, content: bytes, chat: bool) -> None:
        try:
            asked = msgspec.json.decode(content, type=Asked)
        except msgspec.MsgspecError as error:
            self.send(400, {"error": {"message": str(error), "code": 400}})
            return
        if asked.model != self.state.model:
            message = f"The model `{asked.model}` does not exist."
            self.send(404, {"error": {"message": message, "code": 404}})
            return
        if len(asked.text) // CHARACTERS + asked.tokens > CONTEXT:
            message = f"This model's maximum context length is {CONTEXT} tokens."
            self.send(400, {"error": {"message": message, "code": 400}})
            return
        known = self.state.find(asked.text)
        question = known.id if known else asked.text[:40]
        numbers = numbers_of(asked, question, self.state)
        first = self.state.places[question]
        self.state.places[question] += len(numbers)
        event = Event(
            question=question,
            seed=asked.seed,
            numbers=numbers,
            right=right(known, numbers),
            max_tokens=asked.tokens,
            stream=bool(asked.stream),
        )
        self.begin(event)
        answers = [answer(asked, known, number, self.state) for number in numbers]
        if self.state.delayed and known:
            wait = max(latency(question, first + index) for index in range(len(numbers)))
            self.loop.call_later(wait, self.answer, asked, answers, chat)
        else:
            self.answer(asked, answers, chat)

    def begin(self, event: Event) -> None:
        state = self.state
        self.busy = True
        state.record.append(event)
        state.in_flight += 1
        state.most_open = max(state.most_open, state.open)
        state.most_in_flight = max(state.most_in_flight, state.in_flight)
        state.first = state.first or time.monotonic()

    def answer(self, asked: Asked, answers: list[Answer], chat: bool) -> None:
        if self.closed:
            return
        if asked.stream:
            self.rest = stream(asked, answers[0], chat, self.state.tokens_an_event)
            self.go_on()
        else:
            self.transport.write(whole(asked, answers, chat, len(self.state.record)))
            self.done()

    def go_on(self) -> None:
        """Writes the next piece of a stream. Others get their turn between two pieces."""
        if self.full or self.closed or not self.busy:
            return
        piece = next(self.rest, None)
        if piece is None:
            self.done()
        else:
            self.transport.write(piece)
            self.loop.call_soon(self.go_on)

    def done(self) -> None:
        self.busy = False
        self.state.in_flight -= 1
        self.state.last = time.monotonic()
        if self.waiting:
            self.loop.call_soon(self.next)


def right(known: Known | None, numbers: list[int]) -> int:
    return sum(is_right(known.id, number) for number in numbers) if known else 0


def measured(state: State) -> dict[str, Any]:
    return {
        "connections": state.most_open,
        "in_flight": state.most_in_flight,
        "seconds": state.last - state.first,
    }


def content_length(lines: bytes) -> int:
    start = lines.lower().find(b"\r\ncontent-length:")
    return int(lines[start + 17 :].split(b"\r\n", 1)[0]) if start >= 0 else 0


async def serve(state: State, port: int) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(state), "127.0.0.1", port, backlog=2048)
    print(f"ready on port {server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--questions", type=Path, required=True)
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one, which is printed")
    parser.add_argument("--model", default="speed")
    parser.add_argument("--characters", type=int, default=600, help="of a response")
    parser.add_argument("--latency", action="store_true", help="0.5 to 3 seconds a request")
    parser.add_argument("--tokens-an-event", type=int, default=1, help="of a stream")
    options = parser.parse_args()
    state = State(
        questions=read_questions(options.questions),
        model=options.model,
        characters=options.characters,
        delayed=options.latency,
        tokens_an_event=options.tokens_an_event,
    )
    asyncio.run(serve(state, options.port))


if __name__ == "__main__":
    main()
