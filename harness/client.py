"""Asynchronous client of OpenAI-compatible servers: one request in, one Response out.

Tries again only what can heal: a connection that failed, 429, 5xx, an answer that the server itself
gave up, or one that cannot be what it says. There is no time limit on a generation, only one on silence,
and on that of whole answers only where it is asked for: a client that gives up restarts an hour's work.
"""

import asyncio
import socket
import time
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import aiohttp
import msgspec
from aiohttp.connector import AddrInfoType
from aiohttp.payload import BytesPayload
from tenacity import AsyncRetrying, retry_if_exception_type
from yarl import URL

from harness.answering import Response, response
from harness.asking import Request, asked, wants_tokens
from harness.completion import GAVE_UP, Completion
from harness.endpoint import Endpoint
from harness.errors import ServerError
from harness.files import UNREADABLE
from harness.origin import Origin, check_origin, listed
from harness.patience import (
    ATTEMPTS_WHEN_BUSY,
    GO_ON,
    Patience,
    Transient,
    pause,
    seconds_to_wait,
)
from harness.secrets import SURELY, Masking, hidden, masked, masked_bytes
from harness.soundness import ATTEMPTS, PAUSE, doubt, flaw, is_cut_off, own_limit
from harness.stream import DEAF, LARGEST_ANSWER, STREAMED, BrokenStream, Listener, Uncounted, listened
from harness.types import Sampling

REFUSALS = (400, 413, 422)  # of the request itself; others are of the server, and another one may take it
WHOLE_BUFFER = 2**16
STREAM_BUFFER = 2**14  # bytes that wait for each of many streams: every event of them is an object of its own
JSON, AGENT = "application/json", "dasd-harness"
EVENT_STREAM = "text/event-stream"
UNSOUND = (
    "everything generated so far is kept, and such answers are no rows; mend the server, or ask another: "
    "the same command asks again only for what has no row"
)
SILENT = (
    "everything generated so far is kept; look at the server, or raise longest_silence in machine.toml where "
    "answers take longer: the same command goes on"
)
LONGEST_SILENCE = 4 * 3600.0  # seconds, in a stream, unless another number is asked for
PATIENCE_FOR_A_LIST = 30.0  # seconds, of models
KEEP_ALIVE = 2.0  # below uvicorn's 5 s: a connection that the server is closing would cost a retry
SAMPLING_AT_START = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")


class Refused(ServerError):
    """The server says that the request itself is wrong; asking again would not help."""


class Unreachable(ServerError):
    """The server kept failing until every attempt was used up."""


class Unsound(ServerError):
    """No answer to a request can be what it says. The server may be well: others may be answered."""


class Flawed(Transient):
    """An answer that cannot be what it says, or of which it must be seen whether the next one is like it."""

    def __init__(self, flaw: str) -> None:
        said = f"an answer cannot be what it says: {flaw}"
        super().__init__(said, PAUSE, ATTEMPTS, UNSOUND)


@dataclass(frozen=True, kw_only=True)
class Posted:
    """A request as it is sent, as often as it must be. `doubts` are those about its answers so far."""

    request: Request
    url: URL
    data: bytes
    timeout: aiohttp.ClientTimeout
    doubts: set[str] = field(default_factory=set)


class Client:
    """Asks one endpoint over one connection pool. `on_retry` is called at every repeated attempt.

    `honoured` goes into every row: what the preflight found. `wary` takes no answer that cannot be what it
    says; a preflight tells of those itself. `counted` says that the server was seen to count tokens: an
    answer without counts is none of its own then. `patience` is how many seconds a server that is away has to
    come back, and `longest_silence` how many nothing may come of an answer (0: any; None: LONGEST_SILENCE
    of a stream, any of a whole answer, which is silent until it is there). `made_from` is what the server
    said that its model is made from: one that was away is asked again. `say` is told of a limit of the
    server's own.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        connections: int = 64,
        honoured: tuple[str, ...] = (),
        wary: bool = False,
        counted: bool = False,
        patience: float = 0.0,
        longest_silence: float | None = None,
        made_from: Origin | None = None,
        on_retry: Callable[[], None] = lambda: None,
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.endpoint = endpoint
        self.connections = connections
        self.honoured = honoured
        self.wary = wary
        self.counted = counted
        self.patience = patience
        self.longest_silence = longest_silence
        self.made_from = made_from or {}
        self.failures = self.vouched = 0
        self.on_retry = on_retry
        self.say = say
        self.told_limit = False
        self.quiet_until = 0.0
        self.urls: dict[str, URL] = {}

    async def __aenter__(self) -> Self:
        key = self.endpoint.api_key
        self.session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=self.connections + 1, keepalive_timeout=KEEP_ALIVE, socket_factory=kept_alive
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            read_bufsize=STREAM_BUFFER if self.endpoint.stream_from else WHOLE_BUFFER,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=30),
            headers={
                "User-Agent": AGENT,
                "Accept-Encoding": "identity",
                **({"Authorization": f"Bearer {key}"} if key else {}),
            },
            proxy=None if self.endpoint.engine.local else proxy_for(self.endpoint.base_url),
            json_serialize=lambda value: msgspec.json.encode(value).decode(),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.session.close()

    async def complete(self, request: Request, listener: Listener = DEAF) -> Response:
        """The response to one request. The listener hears it while it comes, where it is streamed.

        Raises ServerError where the server refuses it (Refused), keeps failing or keeps answering what is no
        completion (Unreachable), or one that cannot be (Unsound), or answers for another model.
        """
        self.check_sampling(request.sampling)
        path, body = asked(request, self.endpoint)
        if streamed := self.streams(request):
            body |= STREAMED
        data, timeout = msgspec.json.encode(body), self.timeout(streamed)
        posted = Posted(request=request, url=self.url(path), data=data, timeout=timeout)
        try:
            completion, seconds = await self.attempt(posted, listener)
        except Transient as error:
            completion, seconds = await self.persist(error, posted, listener)
        return response(request, completion, self.endpoint, seconds, self.honoured)

    def streams(self, request: Request) -> bool:
        engine = self.endpoint.engine
        able = engine.streams_token_ids or not wants_tokens(request, self.endpoint)
        return able and self.endpoint.streams(request.sampling.max_tokens)

    def timeout(self, streamed: bool) -> aiohttp.ClientTimeout:
        silence = self.longest_silence
        if silence is None:
            silence = LONGEST_SILENCE if streamed else 0.0
        return aiohttp.ClientTimeout(total=None, sock_connect=30, sock_read=silence or None)

    def url(self, path: str) -> URL:
        return self.urls.setdefault(path, URL(f"{self.endpoint.base_url}{path}"))

    async def attempt(self, posted: Posted, listener: Listener) -> tuple[Completion, float]:
        """The completion, and the seconds that it took. Raises as `post` does."""
        await self.turn()
        if self.failures > self.vouched and self.made_from:
            await self.vouch()
        listener.begin()
        started = time.monotonic()
        completion = await self.post(posted, listener)
        seconds = time.monotonic() - started
        if self.wary:
            self.examine(completion, posted)
        return completion, seconds

    def examine(self, completion: Completion, posted: Posted) -> None:
        """Raises Flawed where the completion cannot be, or may not be and no other was like it."""
        if found := flaw(completion, posted.request, self.endpoint, self.counted):
            raise Flawed(found)
        found = doubt(completion, posted.request, self.endpoint)
        if found and found not in posted.doubts:
            posted.doubts.add(found)
            raise Flawed(found)
        if is_cut_off(completion, posted.request) and not self.told_limit:
            self.told_limit = True
            self.say(own_limit(completion.usage.completion_tokens, posted.request.sampling.max_tokens))

    async def persist(self, first: Transient, posted: Posted, listener: Listener) -> tuple[Completion, float]:
        """Tries again after a failure, with growing pauses. Raises Unreachable where it does not heal, and
        Unsound where it is the answers that do not."""
        failed: Transient | None = first
        try:
            async for attempt in AsyncRetrying(
                retry=retry_if_exception_type(Transient),
                wait=pause,
                stop=Patience(self.patience),
                before_sleep=lambda state: self.on_retry(),
                reraise=True,
            ):
                with attempt:
                    if failed is not None:
                        known, failed = failed, None
                        raise known
                    return await self.attempt(posted, listener)
        except Flawed as error:
            raise Unsound(str(error), error.remedy) from error
        except Transient as error:
            raise Unreachable(f"{self.endpoint.label} keeps failing: {error}", error.remedy) from error
        raise AssertionError("unreachable")

    async def turn(self) -> None:
        """Waits while the server has asked for quiet: one that is busy is not pressed by the others."""
        if self.quiet_until and (left := self.quiet_until - time.monotonic()) > 0:
            await asyncio.sleep(left)

    async def vouch(self) -> None:
        """Raises ServerError where a server that was away is back with another checkpoint, Transient where it
        is not back. What fails while it is asked is not vouched for."""
        known = self.failures
        limit = aiohttp.ClientTimeout(total=PATIENCE_FOR_A_LIST)
        try:
            async with self.session.get(self.url("/models"), timeout=limit) as answer:
                if answer.status != 200:
                    raise Transient(f"{answer.status} of {answer.url.path}", away=True)
                data = await read_whole(answer, self.endpoint)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Transient(f"{type(error).__name__}: {error}", away=True) from error
        check_origin(self.made_from, listed(data, self.endpoint), self.endpoint)
        self.vouched = max(self.vouched, known)

    async def post(self, posted: Posted, listener: Listener) -> Completion:
        """One attempt. Raises Transient where another may succeed, else ServerError."""
        content = BytesPayload(posted.data, content_type=JSON)
        try:
            async with self.session.post(posted.url, data=content, timeout=posted.timeout) as answer:
                if answer.status == 200 and answer.headers.get("Content-Type", "").startswith(EVENT_STREAM):
                    return accepted(await self.listened(answer, listener), self.endpoint)
                body = masked_bytes(await read_whole(answer, self.endpoint), self.endpoint.api_key)
                if answer.status != 200:
                    raise self.failed(answer, body)
        except BrokenStream as error:
            self.failures += 1  # a proxy ends the stream in good order where the server behind it was killed
            raise Transient(str(error)) from error
        except Uncounted as error:
            if self.wary and self.counted:
                raise Flawed(error.message) from error
            raise
        except aiohttp.SocketTimeoutError as error:
            self.failures += 1
            silence = f"nothing came of an answer for {posted.timeout.sock_read:,.0f} s"
            raise Transient(silence, remedy=SILENT) from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self.failures += 1
            raise Transient(f"{type(error).__name__}: {error}", away=True) from error
        return understood(body, self.endpoint)

    async def listened(self, answer: aiohttp.ClientResponse, listener: Listener) -> Completion:
        """A streamed answer, without the key where the server sends it back."""
        key = self.endpoint.api_key
        if not key:
            return await listened(answer.content.iter_any(), listener)
        try:
            return without(key, await listened(answer.content.iter_any(), Keyless(listener, key)))
        except BrokenStream as error:
            raise BrokenStream(hidden(str(error), [key])) from None

    def failed(self, answer: aiohttp.ClientResponse, data: bytes) -> Exception:
        """What an answer other than 200 means. Where the server is busy, nobody asks until it wishes."""
        error = failure(answer.status, data, answer.headers, self.endpoint)
        self.failures += answer.status >= 500
        if isinstance(error, Transient) and error.wait:
            self.quiet_until = max(self.quiet_until, time.monotonic() + error.wait)
        return error

    async def healthy(self, seconds: float) -> bool:
        """Whether the server says within `seconds` that it is well."""
        limit = aiohttp.ClientTimeout(total=seconds)
        try:
            async with self.session.get(self.endpoint.health_url, timeout=limit) as answer:
                return answer.status < 500
        except (aiohttp.ClientError, TimeoutError, OSError):
            return False

    def check_sampling(self, sampling: Sampling) -> None:
        """Raises ServerError where the server was started with another sampling than is asked for."""
        fixed = self.endpoint.sampling
        for name in SAMPLING_AT_START if fixed is not None else ():
            if getattr(fixed, name) != getattr(sampling, name):
                raise ServerError(
                    f"{self.endpoint.label} was started with {name}={getattr(fixed, name)} and is asked "
                    f"for {name}={getattr(sampling, name)}; this engine samples as it was started",
                    "acquire a server for each sampling setting",
                )


class Keyless:
    """A listener that hears everything but the key that the server was sent."""

    def __init__(self, listener: Listener, key: str) -> None:
        self.listener, self.masking = listener, Masking(key)

    def begin(self) -> None:
        self.listener.begin()

    def hear(self, text: str) -> None:
        if told := self.masking.of(text):
            self.listener.hear(told)


def without(key: str, completion: Completion) -> Completion:
    """The completion without the key in its texts."""
    for choice in completion.choices:
        choice.text = choice.text and masked(choice.text, key, SURELY)
        if (message := choice.message) is not None:
            message.content = message.content and masked(message.content, key, SURELY)
            message.reasoning = message.reasoning and masked(message.reasoning, key, SURELY)
    return completion


def understood(data: bytes, endpoint: Endpoint) -> Completion:
    """The completion in a 200 answer.

    Raises Transient where it holds none, or the server gave the request up: proxies answer 200 to what went
    wrong behind them. Raises ServerError where it is another model's.
    """
    try:
        completion = msgspec.json.decode(data, type=Completion)
    except UNREADABLE as error:
        raise Transient(
            f"{endpoint.label} answered no OpenAI completion ({error}): {excerpt(data)}",
            remedy=f"check that {endpoint.model} is served by an OpenAI-compatible server; {GO_ON}",
        ) from error
    return accepted(completion, endpoint)


async def read_whole(answer: aiohttp.ClientResponse, endpoint: Endpoint) -> bytes:
    """The body. Raises ServerError where it is longer than any answer: whoever sends it may never end."""
    pieces, size = [], 0
    async for piece in answer.content.iter_any():
        pieces.append(piece)
        size += len(piece)
        if size > LARGEST_ANSWER:
            raise ServerError(
                f"{endpoint.label} serving {endpoint.model} sent more than {LARGEST_ANSWER:,} bytes",
                "check what answers at its URL",
            )
    return b"".join(pieces)


def accepted(completion: Completion, endpoint: Endpoint) -> Completion:
    """The completion, where it is one of this model's. Raises as `understood` does."""
    if not endpoint.engine.is_model(endpoint.model, completion.model):
        raise ServerError(
            f"{endpoint.label} was asked for the model {endpoint.model!r} and answered "
            f"for the model {completion.model!r}",
            "stop the other server, or name the model as the server does: the same command goes on then",
        )
    if not completion.choices:
        raise Transient(f"{endpoint.label} answered without a choice")
    if completion.choices[0].finish_reason in GAVE_UP:
        raise Transient(f"the server gave up ({completion.choices[0].finish_reason})")
    return completion


def failure(status: int, data: bytes, headers: Mapping[str, str], endpoint: Endpoint) -> Exception:
    """What an answer other than 200 means: Transient where it can heal, else ServerError."""
    said = excerpt(data)
    wish = seconds_to_wait(headers.get("Retry-After"), headers.get("Date"))
    if status == 429:
        return Transient(f"429: {said}", wish, ATTEMPTS_WHEN_BUSY)
    if status >= 500 or status == 408:
        return Transient(f"{status}: {said}", wish, away=True)
    remedies = {
        401: "set the environment variable that engines.remote.api_key_env names",
        403: "set the environment variable that engines.remote.api_key_env names",
        404: f"does the server serve {endpoint.model!r}, and does its URL end in /v1?",
    }
    remedy = remedies.get(status, "shorten the prompt or lower max_tokens" if "context" in said else "")
    kind = Refused if status in REFUSALS else ServerError
    return kind(f"{endpoint.label} refused a request for {endpoint.model!r} with {status}: {said}", remedy)


def proxy_for(url: str) -> str | None:
    """The proxy that the environment names for a URL, None where it names none. Looked up once a session:
    aiohttp's own `trust_env` asks the environment in a thread for every request."""
    target = URL(url)
    if urllib.request.proxy_bypass(target.host or ""):
        return None
    return urllib.request.getproxies().get(target.scheme)


def excerpt(data: bytes) -> str:
    """The server's own words, on one line of at most 400 characters."""
    return " ".join(data[:2000].decode("utf-8", errors="replace").split())[:400]


def kept_alive(address: AddrInfoType) -> socket.socket:
    """A socket that notices within minutes that nobody is at its other end: an answer may take hours."""
    family, kind, protocol, _, _ = address
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if family in (socket.AF_INET, socket.AF_INET6):
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 20)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 6)
    return made
