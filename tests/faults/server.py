"""A faulty OpenAI-compatible server: a real process that passes requests on to a healthy one, and at chosen
moments does what servers, proxies and networks do.

    python -m tests.faults.server --port 8123 --fault reset --after 10 --strikes 3
    python -m tests.faults.server --port 8123 --fault 429 --upstream http://127.0.0.1:8000
    python -m tests.faults.server --port 8123 --fault none -- --model tiny --sums 0.5

Without --upstream the healthy one is `tests/fakes/openai_server.py`, a child of this process, which takes
what follows `--`. The fault strikes the requests for completions numbered `after` to `after + strikes - 1`
(0 strikes: all from `after` on). `GET /told` tells how many came, and when those came that were struck: an
answer in which the fault found nothing to change is not among them. `POST /fault {"fault": "none"}` changes
fault, after and strikes, and counts from 1 again.
"""

import argparse
import asyncio
import contextlib
import copy
import email.utils
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from harness.serve import answers, free_port, supervised

HEALTHY = Path(__file__).parents[1] / "fakes" / "openai_server.py"
FOREVER = 86_400.0
Json = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the healthy server answered."""

    status: int
    kind: str
    data: bytes

    @property
    def streamed(self) -> bool:
        return self.kind == "text/event-stream"

    @property
    def pieces(self) -> list[bytes]:
        """The events of a stream; one piece of any other answer."""
        return (
            [event + b"\n\n" for event in self.data.split(b"\n\n") if event] if self.streamed else [self.data]
        )

    def edited(self, edit: Callable[[Json], None]) -> "Answer":
        """The answer with its JSON objects changed; byte for byte as it was where none of them is another."""
        found = []
        for piece in self.pieces:
            head, body = (b"data: ", piece[6:].strip()) if self.streamed else (b"", piece)
            if body == b"[DONE]":
                found.append(piece)
                continue
            told = json.loads(body)
            before = copy.deepcopy(told)
            edit(told)
            whole = head + json.dumps(told).encode() + (b"\n\n" if self.streamed else b"")
            found.append(piece if told == before else whole)
        return Answer(status=self.status, kind=self.kind, data=b"".join(found))


def no_content(told: Json) -> None:
    """The text is null; the counts stay."""
    for choice in told.get("choices", ()):
        for place in (choice, choice.get("message"), choice.get("delta")):
            for name in ("text", "content", "reasoning_content"):
                if place and name in place:
                    place[name] = None


def empty_content(told: Json) -> None:
    """No text and no tokens, and all seems well: what overloaded providers send."""
    no_content(told)
    count(told, completion_tokens=0)


def count(told: Json, **counts: int) -> None:
    if told.get("usage"):
        told["usage"] |= counts


def uncounted(told: Json) -> None:
    told.pop("usage", None)


def limited(told: Json) -> None:
    """Half of the text, said to have reached the limit: a provider's own, smaller one."""
    for choice in told.get("choices", ()):
        if choice.get("finish_reason"):
            choice["finish_reason"] = "length"
        message = choice.get("message")
        if message and message.get("content"):
            message["content"] = message["content"][: len(message["content"]) // 2]


def cut_short(told: Json, times: int) -> None:
    """The same, by something that knows no limit: the same request is cut off at another place each time."""
    limited(told)
    if told.get("usage"):
        count(told, completion_tokens=max(1, told["usage"]["completion_tokens"] - times))


def another_model(told: Json) -> None:
    """Another model's name and another text: such a row shows wherever it gets."""
    told["model"] = "impostor"
    for choice in told.get("choices", ()):
        for place in (choice, choice.get("message"), choice.get("delta")):
            for name in ("text", "content"):
                if place and place.get(name):
                    place[name] = "\\boxed{666}"


def without_end(told: Json) -> None:
    for choice in told.get("choices", ()):
        choice["finish_reason"] = None


def rooted(told: Json, root: str) -> None:
    """Each model of a list is said to be made from `root`."""
    for card in told["data"]:
        card["root"] = root


EDITS: dict[str, Callable[[Json], None]] = {
    "null-content": no_content,
    "empty-content": empty_content,
    "count-missing": uncounted,
    "count-negative": lambda told: count(told, completion_tokens=-5),
    "count-too-many": lambda told: count(told, completion_tokens=1_000_000),
    "count-zero": lambda told: count(told, completion_tokens=0),
    "count-text": lambda told: told.update({"usage": "many"} if told.get("usage") else {}),
    "own-limit": limited,
    "other-model": another_model,
    "no-choices": lambda told: told.update({"choices": []}),
    "no-finish-reason": without_end,
}

OUT_OF_MEMORY = "CUDA out of memory. Tried to allocate 2.00 GiB"
REFUSALS: dict[str, tuple[int, str]] = {
    "429": (429, '{"error": {"message": "slow down"}}'),
    "429-without": (429, '{"error": {"message": "slow down"}}'),
    "429-date": (429, '{"error": {"message": "slow down"}}'),
    "500": (500, '{"error": {"message": "engine is unwell"}}'),
    "502-html": (502, "<html><body>Bad Gateway</body></html>"),
    "503": (503, '{"error": {"message": "restarting"}}'),
    "oom-500": (500, json.dumps({"error": {"message": OUT_OF_MEMORY}})),
    "200-html": (200, "<html><body>One moment, please</body></html>"),
    "200-error": (200, '{"error": {"message": "provider returned error", "code": 502}}'),
}

HALVES = ("reset", "ended", "malformed", "stream-error")
"""Half of the answer comes, and then this."""
DEEDS = ("killed", "exits", "hung", "stalled", "slow")
"""What is done instead, or before: the process is killed; says why and exits; nothing is answered any more,
not even /health; this request alone is not answered; the answer takes its time."""
CUT_SHORT = "cut-short"
FAULTS = ("none", *EDITS, CUT_SHORT, *REFUSALS, *HALVES, *DEEDS)


@dataclass
class State:
    """The fault, and what came so far. Times are of this process's own monotonic clock."""

    fault: str
    after: int
    strikes: int
    upstream: str
    retry_after: str
    only: str = ""
    root: str = ""
    seconds: float = 0.5
    asked: int = 0
    began: float = field(default_factory=time.monotonic)
    came: list[float] = field(default_factory=list)
    struck: list[float] = field(default_factory=list)
    times: Counter[str] = field(default_factory=Counter)

    @property
    def hangs(self) -> bool:
        return self.fault == "hung" and bool(self.struck)

    def strike(self, body: str) -> bool:
        """Whether the request that came now is to be struck."""
        if self.only not in body:
            return False
        self.asked += 1
        self.came.append(time.monotonic() - self.began)
        past = self.asked - self.after
        return self.fault != "none" and past >= 0 and (not self.strikes or past < self.strikes)

    def note(self, came: float) -> None:
        """That the request that came then was struck indeed."""
        self.struck.append(came)


STATE = web.AppKey("state", State)
SESSION = web.AppKey("session", aiohttp.ClientSession)


async def passed_on(request: web.Request) -> web.StreamResponse:
    """Every request: passed on, or struck."""
    state = request.app[STATE]
    body = (await request.read()).decode()
    asks = request.method == "POST" and request.path.endswith("completions")
    struck = asks and state.strike(body)
    came = state.came[-1] if struck else 0.0
    if struck and state.fault in (*REFUSALS, *DEEDS):
        state.note(came)
    while state.hangs:
        await asyncio.sleep(0.1)
    if struck and state.fault in REFUSALS:
        return refused(state)
    if struck and state.fault in DEEDS:
        await done(state)
    session, url = request.app[SESSION], f"{state.upstream}{request.path_qs}"
    headers = {"Content-Type": "application/json"} if body else {}
    async with session.request(request.method, url, data=body or None, headers=headers) as answer:
        found = Answer(status=answer.status, kind=answer.content_type, data=await answer.read())
    if state.root and request.path.endswith("/models"):
        found = found.edited(partial(rooted, root=state.root))
    if struck and found.status == 200 and state.fault in (*EDITS, CUT_SHORT):
        state.times[body] += 1
        edit = EDITS.get(state.fault) or partial(cut_short, times=state.times[body])
        healthy_data, found = found.data, found.edited(edit)
        if found.data != healthy_data:
            state.note(came)
    if struck and found.status == 200 and state.fault in HALVES:
        state.note(came)
        return await half(request, found, state.fault)
    return await sent(request, found, state.seconds if struck and state.fault == "slow" else 0.0)


def refused(state: State) -> web.Response:
    status, text = REFUSALS[state.fault]
    wish = {"429": state.retry_after, "503": state.retry_after}.get(state.fault, "")
    if state.fault == "429-date":
        wish = email.utils.formatdate(time.time() + float(state.retry_after or 1), usegmt=True)
    kind = "text/html" if text.startswith("<") else "application/json"
    return web.Response(
        status=status, text=text, content_type=kind, headers={"Retry-After": wish} if wish else None
    )


async def done(state: State) -> None:
    match state.fault:
        case "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        case "exits":
            print(f"torch.OutOfMemoryError: {OUT_OF_MEMORY}", file=sys.stderr, flush=True)
            os._exit(1)
        case "stalled":
            await asyncio.sleep(FOREVER)


async def sent(request: web.Request, answer: Answer, pause: float = 0.0) -> web.StreamResponse:
    """The answer, event by event where it is a stream."""
    if not answer.streamed:
        await asyncio.sleep(pause)
        return web.Response(body=answer.data, status=answer.status, content_type=answer.kind)
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
    await response.prepare(request)
    for piece in answer.pieces:
        await response.write(piece)
        await asyncio.sleep(pause / len(answer.pieces))
    return response


async def half(request: web.Request, answer: Answer, fault: str) -> web.StreamResponse:
    """Half of the answer, and what the fault does then."""
    middle = len(answer.pieces) // 2
    if answer.streamed:
        head, length = b"".join(answer.pieces[:middle]), None
        broken = answer.pieces[middle][: len(answer.pieces[middle]) // 2] + b"\n\n"
    else:
        head, length = answer.data[: len(answer.data) // 2], len(answer.data)
        broken = b""
    if fault in ("malformed", "stream-error") and not answer.streamed:
        return web.Response(body=head, content_type="application/json")
    response = web.StreamResponse(headers={"Content-Type": answer.kind})
    response.content_length = length
    await response.prepare(request)
    await response.write(head)
    await asyncio.sleep(0.05)  # so that the half is on its way before the connection ends
    match fault:
        case "reset" if request.transport is not None:
            with_reset(request.transport)
        case "ended" if not answer.streamed and request.transport is not None:
            request.transport.close()
        case "malformed":
            await response.write(broken)
        case "stream-error":
            await response.write(b'data: {"error": {"message": "%s"}}\n\n' % OUT_OF_MEMORY.encode())
    return response


def with_reset(transport: asyncio.Transport) -> None:
    """Ends the connection by RST, as a firewall or a crashed machine does."""
    found = transport.get_extra_info("socket")
    found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    transport.abort()


async def told(request: web.Request) -> web.Response:
    state = request.app[STATE]
    return web.json_response({"asked": state.asked, "came": state.came, "struck": state.struck})


async def changed(request: web.Request) -> web.Response:
    state, wanted = request.app[STATE], await request.json()
    state.asked, state.came, state.struck = 0, [], []
    state.fault = wanted["fault"]
    state.after, state.strikes = wanted.get("after", 1), wanted.get("strikes", 0)
    return web.json_response({})


async def sessions(app: web.Application) -> Any:
    app[SESSION] = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None))
    yield
    await app[SESSION].close()


@contextlib.contextmanager
def healthy(switches: list[str]) -> Iterator[str]:
    """The fake server as a child that does not outlive this process; its URL."""
    port = free_port(0)
    command = [sys.executable, str(HEALTHY), "--port", str(port), *switches]
    child = subprocess.Popen(supervised(command, grace=0.0), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    assert child.stdin is not None
    url = f"http://127.0.0.1:{port}"
    try:
        while not answers(f"{url}/v1/models"):
            if child.poll() is not None:
                sys.exit("the healthy server did not start")
            time.sleep(0.02)
        yield url
    finally:
        child.stdin.close()
        child.wait()


def parsed(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--fault", choices=FAULTS, default="none")
    parser.add_argument("--after", type=int, default=1, help="the number of the first request that is struck")
    parser.add_argument("--strikes", type=int, default=0, help="how many are struck; 0: all from there on")
    parser.add_argument("--only", default="", help="only requests whose body holds this text count")
    parser.add_argument("--root", default="", help="what /v1/models says that the model is made from")
    parser.add_argument("--upstream", help="URL of a healthy server, without /v1")
    parser.add_argument("--retry-after", default="1", help="seconds, of 429, 429-date and 503")
    parser.add_argument("--seconds", type=float, default=0.5, help="how long a slow answer takes more")
    parser.add_argument("switches", nargs="*", help="after --: of tests/fakes/openai_server.py")
    return parser.parse_args(arguments)


def main() -> None:
    options = parsed(sys.argv[1:])
    switches = options.switches or ["--model", "tiny"]
    given = contextlib.nullcontext(options.upstream) if options.upstream else healthy(switches)
    with given as upstream:
        app = web.Application(client_max_size=2**26)
        app[STATE] = State(
            fault=options.fault,
            after=options.after,
            strikes=options.strikes,
            upstream=upstream.rstrip("/"),
            retry_after=options.retry_after,
            only=options.only,
            root=options.root,
            seconds=options.seconds,
        )
        app.cleanup_ctx.append(sessions)
        app.router.add_get("/told", told)
        app.router.add_post("/fault", changed)
        app.router.add_route("*", "/{rest:.*}", passed_on)
        web.run_app(app, host="127.0.0.1", port=options.port, print=None, access_log=None)


if __name__ == "__main__":
    main()
