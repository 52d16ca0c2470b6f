"""Raw requests: what a preflight must see of an answer that a row does not keep."""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

import aiohttp
import msgspec
from tenacity import AsyncRetrying, retry_if_exception_type

from harness import completion
from harness.asking import Request, asked
from harness.client import Client, Unreachable, excerpt, failure
from harness.endpoint import Endpoint
from harness.files import UNREADABLE
from harness.patience import Patience, Transient, pause
from harness.types import Message, Sampling

ATTEMPTS_WHEN_UNWELL = 2
"""At a 5xx, or a 200 that is no JSON: some servers answer so to a parameter that they do not know, and always
will."""
Read = TypeVar("Read")


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """An answer other than 200, in the server's words."""

    status: int
    said: str

    def __str__(self) -> str:
        return f"refused with {self.status}"


class Choice(completion.Choice):
    prompt_token_ids: list[int] | None = None
    prompt_logprobs: list[Any] | None = None


class Answer(msgspec.Struct):
    """A completion of either kind, with what engines add."""

    choices: list[Choice]
    model: str = ""
    usage: completion.Usage = msgspec.field(default_factory=completion.Usage)
    prompt_token_ids: list[int] | None = None

    @property
    def choice(self) -> Choice:
        return self.choices[0]

    @property
    def prompt_ids(self) -> list[int] | None:
        """vLLM tells those of a chat beside the choices, everything else within."""
        return self.prompt_token_ids or self.choice.prompt_token_ids

    @property
    def text(self) -> str:
        return self.choice.whole_text


class Likely(msgspec.Struct):
    logprob: float
    top_logprobs: list["Likely"] = []


class RankedLogprobs(msgspec.Struct):
    content: list[Likely] | None = None
    token_logprobs: list[float | None] | None = None
    top_logprobs: list[dict[str, float] | None] | None = None


class RankedChoice(msgspec.Struct):
    logprobs: RankedLogprobs | None = None


class Ranked(msgspec.Struct):
    """A completion's sampled tokens beside the likeliest ones."""

    choices: list[RankedChoice]

    @property
    def places(self) -> list["Place"]:
        """One place a sampled token; none where the server does not tell the likeliest."""
        found = self.choices[0].logprobs if self.choices else None
        if found is None:
            return []
        if found.content is not None:
            return [
                place(each.logprob, (top.logprob for top in each.top_logprobs), chat=True)
                for each in found.content
            ]
        pairs = zip(found.token_logprobs or [], found.top_logprobs or [], strict=False)
        return [place(own, tops.values()) for own, tops in pairs if own is not None and tops is not None]


@dataclass(frozen=True, kw_only=True)
class Place:
    """Log-probabilities at one place of a text: of the token drawn, and of the likeliest, falling.

    In a chat the token drawn may stand among these in place of the last of them (vLLM); in a text it
    comes on top.
    """

    own: float
    likeliest: list[float]
    chat: bool = False


def place(own: float, tops: Iterable[float], chat: bool = False) -> Place:
    return Place(own=own, likeliest=sorted(tops, reverse=True), chat=chat)


class Card(msgspec.Struct):
    """One entry of /v1/models. The last three are other servers' words for the context."""

    id: str = ""
    root: str | None = None
    max_model_len: int | None = None
    context_length: int | None = None
    context_window: int | None = None
    max_context_length: int | None = None

    @property
    def context(self) -> int | None:
        return self.max_model_len or self.context_length or self.context_window or self.max_context_length


class Cards(msgspec.Struct):
    data: list[Card]


class Tokenized(msgspec.Struct):
    tokens: list[int]


class Wire:
    """One endpoint, asked through the session of a Client."""

    def __init__(self, client: Client) -> None:
        self.client = client

    @property
    def endpoint(self) -> Endpoint:
        return self.client.endpoint

    async def cards(self) -> list[Card]:
        """The models that the server lists; none where it lists none in a way that can be read."""
        found = await self.call("GET", f"{self.endpoint.base_url}/models", None, Cards)
        return [] if isinstance(found, Refusal) else found.data

    async def tokenized(self, body: dict[str, Any]) -> list[int] | None:
        """Token ids as vLLM's and SGLang's /tokenize tells them; None where there is no such thing."""
        url = self.endpoint.base_url.removesuffix("/v1") + "/tokenize"
        found = await self.call("POST", url, {"model": self.endpoint.model, **body}, Tokenized)
        return None if isinstance(found, Refusal) else found.tokens

    async def ask(self, request: Request, without: tuple[str, ...] = (), **changes: Any) -> Answer | Refusal:
        """The answer to a request, worded as the run's own are, but for `changes` and what is left out."""
        return await self.ask_for(Answer, request, without, **changes)

    async def ask_for(
        self, kind: type[Read], request: Request, without: tuple[str, ...] = (), **changes: Any
    ) -> Read | Refusal:
        path, body = asked(request, self.endpoint)
        kept = {name: value for name, value in body.items() if name not in without}
        return await self.call("POST", f"{self.endpoint.base_url}{path}", {**kept, **changes}, kind)

    async def call(self, method: str, url: str, body: Any, kind: type[Read]) -> Read | Refusal:
        """Raises Unreachable where there is no answer at all, with the end of the server's log if it died."""
        data = await self.persist(lambda number: self.attempt(method, url, body, number))
        return data if isinstance(data, Refusal) else read(data, kind)

    async def persist(self, attempt: Callable[[int], Awaitable[bytes | Refusal]]) -> bytes | Refusal:
        """Tries again what can heal. Raises Unreachable where it does not."""
        data: bytes | Refusal = b""
        try:
            async for turn in AsyncRetrying(
                retry=retry_if_exception_type(Transient), wait=pause, stop=Patience(), reraise=True
            ):
                with turn:
                    data = await attempt(turn.retry_state.attempt_number)
        except Transient as error:
            self.endpoint.check()
            raise Unreachable(f"{self.endpoint.label} keeps failing: {error}") from error
        return data

    async def attempt(
        self, method: str, url: str, body: Any, number: int, *, begin: bool = False
    ) -> bytes | Refusal:
        """One attempt. With `begin` the answer is hung up on as soon as it begins."""
        try:
            async with self.client.session.request(method, url, json=body) as answer:
                data = b"" if begin and answer.status == 200 else await answer.read()
                status, headers = answer.status, answer.headers
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Transient(f"{type(error).__name__}: {error}") from error
        if status == 200:
            if number < ATTEMPTS_WHEN_UNWELL and not (begin or is_json(data)):
                raise Transient(f"200, and no JSON: {excerpt(data)}")
            return data
        meant = failure(status, data, headers, self.endpoint)
        if isinstance(meant, Transient) and (status < 500 or number < ATTEMPTS_WHEN_UNWELL):
            raise meant
        return Refusal(status=status, said=excerpt(data))

    async def accepts(self, request: Request) -> Refusal | None:
        """Whether the server begins to answer; it is hung up on at once, so that hardly a token is spent."""
        path, body = asked(request, self.endpoint)
        url, streamed = f"{self.endpoint.base_url}{path}", {**body, "stream": True}
        found = await self.persist(lambda number: self.attempt("POST", url, streamed, number, begin=True))
        return found if isinstance(found, Refusal) else None


def is_json(data: bytes) -> bool:
    try:
        msgspec.json.decode(data)
    except UNREADABLE:
        return False
    return True


def read(data: bytes, kind: type[Read]) -> Read | Refusal:
    """The answer, or a Refusal where a 200 is not what was asked for."""
    try:
        found = msgspec.json.decode(data, type=kind)
    except UNREADABLE:
        return Refusal(status=200, said=excerpt(data))
    empty = isinstance(found, Answer) and not found.choices
    return Refusal(status=200, said=excerpt(data)) if empty else found


def probe(
    prompt: str, sampling: Sampling, seed: int = 1, system: str | None = None, logprobs: bool = False
) -> Request:
    """A short conversation as a request."""
    user = Message(role="user", content=prompt)
    messages = (user,) if system is None else (Message(role="system", content=system), user)
    return Request(
        question="preflight", draw=seed, messages=messages, sampling=sampling, seed=seed, logprobs=logprobs
    )
