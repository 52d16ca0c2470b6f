"""Asynchronous client of OpenAI-compatible servers: one request in, one Response out.

Tries again only what can heal: a connection that failed, 429, 5xx, an answer that the server itself
gave up. There is no time limit on a generation: a client that gives up restarts an hour's work.
"""

import email.utils
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import aiohttp
import msgspec
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_random_exponential

from harness import harmony
from harness.chat import OPEN, ChatTemplate, opens_thinking, split_reasoning
from harness.engines import Engine
from harness.errors import ServerError
from harness.harmony import speaks_harmony
from harness.tokens import Tokens, tokens
from harness.types import FinishReason, Generation, Message, Sampling
from harness.vocabulary import Vocabulary, vocabulary_of

ATTEMPTS = 6
ATTEMPTS_WHEN_BUSY = 30
LONGEST_WAIT = 300.0
KEEP_ALIVE = 2.0  # below uvicorn's 5 s: a connection that the server is closing would cost a retry
REPLACEMENT = "\ufffd".encode()
SAMPLING_AT_START = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")

backoff = wait_random_exponential(multiplier=0.25, max=20)


class Watched(Protocol):
    """A server process that can be asked whether it is still there."""

    def check(self) -> None: ...

    def tail(self) -> str: ...


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """A model that answers, and all that a client must know to ask it.

    `base_url` ends in the version path. `sampling` is set where the server fixed it at start-up:
    then no other can be asked for. `server` and `folder`, the checkpoint's, are None where somebody else
    runs it. `replicas` are further servers of the same checkpoint, engine and settings: the generation
    loop spreads its requests over all of them, everything else asks this one.
    """

    base_url: str
    model: str
    engine: Engine
    fingerprint: dict[str, str]
    accepts: tuple[str, ...]
    api_key: str = field(default="", repr=False)
    template: ChatTemplate | None = None
    sampling: Sampling | None = None
    server: "Watched | None" = None
    folder: Path | None = None
    replicas: "tuple[Endpoint, ...]" = ()

    @property
    def vocabulary(self) -> Vocabulary | None:
        """The checkpoint's vocabulary; None where its folder is not at hand."""
        return vocabulary_of(self.folder) if self.folder is not None else None

    @property
    def health_url(self) -> str:
        """Answers 200 while the server is well."""
        if not self.engine.health:
            return f"{self.base_url}/models"
        return self.base_url.removesuffix("/v1") + self.engine.health

    @property
    def label(self) -> str:
        """Engine and version, as rows carry it."""
        return f"{self.engine.name} {self.fingerprint['version']}"

    def check(self) -> None:
        """Raises ServerError, with the end of its log, where the server's process has ended."""
        if self.server is not None:
            self.server.check()


@dataclass(frozen=True, kw_only=True)
class Request:
    """One response to ask for. `(question, draw)` is its key.

    `prefix` is assistant text that the model continues exactly; the Generation's `text` is then the
    continuation alone, its `reasoning` and `answer` those of prefix and continuation together.
    `kept` goes into the row untouched. `effort` is the reasoning effort of models that know one, `date`
    the day that a template which tells the day tells. `logprobs` asks for the tokens as well. `tagged`
    lets the text begin with `<think>` also where the template wrote that.
    """

    question: str
    draw: int
    messages: tuple[Message, ...]
    sampling: Sampling
    seed: int
    prefix: str = ""
    kept: dict[str, Any] = field(default_factory=dict)
    logprobs: bool = False
    effort: str = ""
    date: str = ""
    tagged: bool = False

    @property
    def key(self) -> tuple[str, int]:
        return self.question, self.draw


@dataclass(frozen=True, kw_only=True)
class Response:
    """What came back for one request: the row, and its tokens where they were asked for and sent."""

    row: Generation
    tokens: Tokens | None = None


class Refused(ServerError):
    """The server says that the request itself is wrong; asking again would not help."""


class Unreachable(ServerError):
    """The server kept failing until every attempt was used up."""


class Transient(Exception):
    """A failure that can heal. `wait` is the server's own wish in seconds, `attempts` when to give up."""

    def __init__(self, message: str, wait: float | None = None, attempts: int = ATTEMPTS) -> None:
        super().__init__(message)
        self.wait = wait
        self.attempts = attempts


class Client:
    """Asks one endpoint over one connection pool. `on_retry` is called at every repeated attempt.

    `honoured` goes into every row: what `prove_sampling` found.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        connections: int = 64,
        honoured: tuple[str, ...] = (),
        on_retry: Callable[[], None] = lambda: None,
    ) -> None:
        self.endpoint = endpoint
        self.connections = connections
        self.honoured = honoured
        self.on_retry = on_retry

    async def __aenter__(self) -> Self:
        key = self.endpoint.api_key
        self.session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self.connections + 1, keepalive_timeout=KEEP_ALIVE),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=30),
            headers={"Authorization": f"Bearer {key}"} if key else {},
            trust_env=not self.endpoint.engine.local,
            json_serialize=lambda value: msgspec.json.encode(value).decode(),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.session.close()

    async def complete(self, request: Request) -> Response:
        """The response to one request.

        Raises ServerError where the server refuses it (Refused), keeps failing (Unreachable), answers
        something else than a completion, or answers for another model.
        """
        self.check_sampling(request.sampling)
        path, body = asked(request, self.endpoint)
        started = time.monotonic()
        try:
            async for attempt in AsyncRetrying(
                retry=retry_if_exception_type(Transient),
                wait=pause,
                stop=exhausted,
                before_sleep=lambda state: self.on_retry(),
                reraise=True,
            ):
                with attempt:
                    started = time.monotonic()
                    completion = await self.post(path, body)
        except Transient as error:
            raise Unreachable(
                f"{self.endpoint.label} keeps failing: {error}",
                "everything generated so far is kept; the same command goes on once the server is well",
            ) from error
        return self.response(request, completion, time.monotonic() - started)

    async def post(self, path: str, body: dict[str, Any]) -> "Completion":
        """One attempt. Raises Transient where another may succeed, else ServerError."""
        try:
            async with self.session.post(f"{self.endpoint.base_url}{path}", json=body) as answer:
                data = await answer.read()
                if answer.status != 200:
                    raise failure(answer.status, data, answer.headers.get("Retry-After"), self.endpoint)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Transient(f"{type(error).__name__}: {error}") from error
        return understood(data, self.endpoint)

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

    def response(self, request: Request, completion: "Completion", latency: float) -> Response:
        choice = completion.choices[0]
        read = understood_text(choice, request, self.endpoint)
        finish = reason(choice.finish_reason)
        opened = prompt_opens_thinking(request, self.endpoint.template)
        reasoning, answer = split_reasoning(request.prefix + read.text, finish, opened)
        row = Generation(
            question=request.question,
            draw=request.draw,
            prompt=next((each.content for each in reversed(request.messages) if each.role == "user"), ""),
            text=read.text,
            reasoning=reasoning,
            answer=answer,
            finish_reason=finish,
            prompt_tokens=completion.usage.prompt_tokens,
            completion_tokens=completion.usage.completion_tokens,
            latency=round(latency, 4),
            seed=request.seed,
            sampling=request.sampling,
            request_id=completion.id,
            model=self.endpoint.model,
            engine=self.endpoint.label,
            honoured=self.honoured,
            kept={**request.kept, **read.kept},
        )
        return Response(row=row, tokens=tokens_of(choice, read.lengths) if request.logprobs else None)


@dataclass(frozen=True, kw_only=True)
class Text:
    """A response's text as rows carry it, and the UTF-8 length in it of each sampled token.

    `lengths` is None where the server sent no tokens, or such as the text cannot be made of. `kept` is
    what the text itself no longer tells.
    """

    text: str
    lengths: list[int] | None
    kept: dict[str, Any] = field(default_factory=dict)


def understood_text(choice: "Choice", request: Request, endpoint: Endpoint) -> Text:
    """The response with its reasoning in tags, whatever format the model speaks.

    Tokens are spelt by the checkpoint's own vocabulary where their ids came with them: servers show a
    token that ends inside a character in ways of their own.
    """
    raw, shown = choice.whole_text, choice.tokens
    ids = known_ids(choice, endpoint)
    if is_rendered(request, endpoint) and speaks_harmony(endpoint.template):
        return understood_harmony(raw, shown, ids, request, endpoint)
    lengths = None if shown is None else byte_lengths([token for token, _ in shown], raw)
    if ids is not None and endpoint.vocabulary is not None:
        lengths = byte_lengths(endpoint.vocabulary.plain(ids), raw) or lengths
    opened = request.tagged and prompt_opens_thinking(request, endpoint.template)
    return with_tag(raw, lengths) if opened else Text(text=raw, lengths=lengths)


def understood_harmony(
    raw: str,
    shown: list[tuple[bytes, float]] | None,
    ids: list[int] | None,
    request: Request,
    endpoint: Endpoint,
) -> Text:
    """The response's channels as thinking and answer."""
    lengths = None if shown is None else byte_lengths([token for token, _ in shown], raw)
    if ids is not None and endpoint.vocabulary is not None:
        found = harmony.read_bytes(endpoint.vocabulary.spelt(ids), request.prefix)
    else:
        found = harmony.read(harmony.split(raw) if lengths is None else cut(raw, lengths), request.prefix)
    exact = ids is not None or lengths is not None
    return Text(
        text=found.whole,
        lengths=found.lengths if exact else None,
        kept={"function_call": True} if found.function_call else {},
    )


def known_ids(choice: "Choice", endpoint: Endpoint) -> list[int] | None:
    """The ids of the sampled tokens, where they came and are the checkpoint's."""
    ids, vocabulary = choice.token_ids, endpoint.vocabulary
    return ids if ids and vocabulary is not None and vocabulary.knows(ids) else None


def with_tag(text: str, lengths: list[int] | None) -> Text:
    """The text behind the tag that the template wrote; the tag's bytes count for the first token."""
    tag = f"{OPEN}\n"
    if text.startswith(OPEN):
        return Text(text=text, lengths=lengths)
    return Text(text=tag + text, lengths=lengths and [lengths[0] + len(tag), *lengths[1:]])


def cut(text: str, lengths: list[int]) -> list[str]:
    """The text in pieces of these UTF-8 lengths."""
    whole, ends = text.encode(), list(accumulate(lengths, initial=0))
    return [whole[start:end].decode("utf-8", "replace") for start, end in itertools.pairwise(ends)]


def tokens_of(choice: "Choice", lengths: list[int] | None) -> Tokens | None:
    """Ids, log-probabilities and lengths of the sampled tokens; None where the server sent too little."""
    found = choice.tokens
    if found is None or lengths is None:
        return None
    ids = choice.token_ids or ()
    return tokens(ids if len(ids) == len(found) else (), (logprob for _, logprob in found), lengths)


def is_rendered(request: Request, endpoint: Endpoint) -> bool:
    """Whether the harness renders the prompt itself and asks /v1/completions.

    Harmony is never left to the server's own parser, which keeps neither the tokens' borders nor, in
    every engine, their log-probabilities. A prefix is rendered where the template is at hand, because
    templates rewrite earlier reasoning; elsewhere the server's `continue_final_message` must do.
    """
    if not endpoint.engine.chat:
        return True
    return endpoint.template is not None and (bool(request.prefix) or speaks_harmony(endpoint.template))


def asked(request: Request, endpoint: Endpoint) -> tuple[str, dict[str, Any]]:
    """Path and body of a request: every sampling parameter that the engine accepts, and the seed.

    Raises ServerError where a model without a chat template is to be asked at /v1/completions.
    """
    body: dict[str, Any] = {
        "model": endpoint.model,
        "max_tokens": request.sampling.max_tokens,
        "seed": request.seed,
        **{name: getattr(request.sampling, name) for name in endpoint.accepts},
    }
    if is_rendered(request, endpoint):
        return "/completions", {**body, **text_body(request, endpoint)}
    return "/chat/completions", {**body, **chat_body(request, endpoint)}


def text_body(request: Request, endpoint: Endpoint) -> dict[str, Any]:
    template = endpoint.template
    if template is None:
        raise ServerError(
            f"{endpoint.model} has no chat template, and {endpoint.engine.name} is asked with rendered text",
            "add chat_template.jinja to the checkpoint",
        )
    prompt = rendered(request, template)
    logprobs = {"logprobs": 1, **endpoint.engine.token_ids} if wants_tokens(request, endpoint) else {}
    if speaks_harmony(template):
        markers: dict[str, Any] = {"skip_special_tokens": False, "stop": harmony.STOP}
        prompt += harmony.continued(request.prefix) if request.prefix else ""
        return {"prompt": prompt, **endpoint.engine.raw_prompt, **logprobs, **markers}
    prompt += own_part(request.prefix, prompt)
    return {"prompt": prompt, **endpoint.engine.raw_prompt, **logprobs}


def own_part(prefix: str, prompt: str) -> str:
    """The prefix without a tag that the template has written already."""
    return prefix.removeprefix(OPEN).removeprefix("\n") if opens_thinking(prompt) else prefix


def rendered(request: Request, template: ChatTemplate) -> str:
    """The prompt. Raises ServerError where the template does not pass the reasoning effort on."""
    prompt = template.render(request.messages, effort=request.effort, date=request.date)
    if request.effort and f"Reasoning: {request.effort}" not in prompt:
        raise ServerError(
            f"reasoning effort {request.effort!r} is asked for, and the checkpoint's chat template does not "
            "say it in the prompt",
            "take a checkpoint whose template knows reasoning_effort, or ask for no effort",
        )
    return prompt


def wants_tokens(request: Request, endpoint: Endpoint) -> bool:
    return request.logprobs and endpoint.engine.logprobs


def chat_body(request: Request, endpoint: Endpoint) -> dict[str, Any]:
    messages = [{"role": each.role, "content": each.content} for each in request.messages]
    extra: dict[str, Any] = {"reasoning_effort": request.effort} if request.effort else {}
    if request.prefix:
        messages.append({"role": "assistant", "content": request.prefix})
        extra |= {"add_generation_prompt": False, "continue_final_message": True}
    if wants_tokens(request, endpoint):
        extra |= {"logprobs": True, "top_logprobs": 0, **endpoint.engine.token_ids}
    return {"messages": messages, **extra}


def prompt_opens_thinking(request: Request, template: ChatTemplate | None) -> bool:
    """Whether the template itself opens the reasoning block that the response continues."""
    return template is not None and opens_thinking(template.render(request.messages))


def reason(finish: str | None) -> FinishReason:
    match finish:
        case "stop" | "length":
            return finish
    return "other"


class Usage(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class TokenLogprob(msgspec.Struct):
    token: str
    logprob: float
    bytes: list[int] | None = None


class Logprobs(msgspec.Struct):
    """Of a chat answer (`content`) or of a text completion (the two lists)."""

    content: list[TokenLogprob] | None = None
    tokens: list[str] | None = None
    token_logprobs: list[float | None] | None = None


class AnswerMessage(msgspec.Struct):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None


class Choice(msgspec.Struct):
    text: str | None = None
    message: AnswerMessage | None = None
    finish_reason: str | None = None
    logprobs: Logprobs | None = None
    token_ids: list[int] | None = None

    @property
    def whole_text(self) -> str:
        """The response with its reasoning, which a server's own parser may have cut out."""
        if self.message is None:
            return self.text or ""
        content = self.message.content or ""
        thought = self.message.reasoning_content or self.message.reasoning or ""
        if not thought:
            return content
        closed = "</think>" if content or self.finish_reason == "stop" else ""
        return f"<think>{thought}{closed}{content}"

    @property
    def tokens(self) -> list[tuple[bytes, float]] | None:
        """Bytes and log probability of each sampled token; None where the server sent none."""
        found = self.logprobs
        if found is None:
            return None
        if found.content is not None:
            return [
                (each.token.encode() if each.bytes is None else bytes(each.bytes), each.logprob)
                for each in found.content
            ]
        if found.tokens is None or found.token_logprobs is None:
            return None
        return [
            (token.encode(), logprob or 0.0)
            for token, logprob in zip(found.tokens, found.token_logprobs, strict=True)
        ]


class Completion(msgspec.Struct):
    choices: list[Choice]
    id: str = ""
    model: str = ""
    usage: Usage = msgspec.field(default_factory=Usage)


def byte_lengths(tokens: list[bytes], text: str) -> list[int] | None:
    """UTF-8 length of each token in `text`, adding up to it; None where they cannot be made to.

    A special token (the final `<|im_end|>`) is sampled but not in the text: its length is 0. Bytes
    that make no character come as empty tokens and stand in the text as U+FFFD, which is counted for
    the token before it.
    """
    whole, position = text.encode(), 0
    lengths: list[int] = []
    for token in tokens:
        broken = broken_before(token, whole, position)
        if broken and lengths:
            lengths[-1] += broken
            position += broken
        lengths.append(len(token) if whole.startswith(token, position) else 0)
        position += lengths[-1]
    rest = whole[position:]
    if lengths and not rest.replace(REPLACEMENT, b""):
        lengths[-1] += len(rest)
        return lengths
    return None if rest else lengths


def broken_before(token: bytes, whole: bytes, position: int) -> int:
    """Bytes of the U+FFFD that stand between `position` and `token`; 0 where something else does."""
    start = position
    while token and whole.startswith(REPLACEMENT, start) and not whole.startswith(token, start):
        start += len(REPLACEMENT)
    return start - position if whole.startswith(token, start) else 0


def understood(data: bytes, endpoint: Endpoint) -> Completion:
    """The completion in a 200 answer. Raises Transient where the server gave the request up."""
    try:
        completion = msgspec.json.decode(data, type=Completion)
    except msgspec.MsgspecError as error:
        raise ServerError(
            f"{endpoint.label} answered no OpenAI completion ({error}): {excerpt(data)}",
            f"check that {endpoint.model} is served by an OpenAI-compatible server",
        ) from error
    if not endpoint.engine.is_model(endpoint.model, completion.model):
        raise ServerError(
            f"{endpoint.label} was asked for the model {endpoint.model!r} and answered "
            f"for the model {completion.model!r}",
            "stop the other server, or name the model as the server does",
        )
    if not completion.choices:
        raise ServerError(f"{endpoint.label} answered without a choice: {excerpt(data)}")
    if completion.choices[0].finish_reason in ("abort", "error"):
        raise Transient(f"the server gave up ({completion.choices[0].finish_reason})")
    return completion


def failure(status: int, data: bytes, retry_after: str | None, endpoint: Endpoint) -> Exception:
    """What an answer other than 200 means: Transient where it can heal, else ServerError."""
    said = excerpt(data)
    if status == 429:
        return Transient(f"429: {said}", seconds_to_wait(retry_after), ATTEMPTS_WHEN_BUSY)
    if status >= 500 or status == 408:
        return Transient(f"{status}: {said}", seconds_to_wait(retry_after))
    remedies = {
        401: "set the environment variable that engines.remote.api_key_env names",
        403: "set the environment variable that engines.remote.api_key_env names",
        404: f"does the server serve {endpoint.model!r}, and does its URL end in /v1?",
    }
    remedy = remedies.get(status, "shorten the prompt or lower max_tokens" if "context" in said else "")
    return Refused(f"{endpoint.label} refused a request for {endpoint.model!r} with {status}: {said}", remedy)


def excerpt(data: bytes) -> str:
    """The server's own words, on one line of at most 400 characters."""
    return " ".join(data[:2000].decode("utf-8", errors="replace").split())[:400]


def seconds_to_wait(header: str | None) -> float | None:
    """Retry-After, which is a number of seconds or a date."""
    if not header:
        return None
    if header.strip().isdigit():
        return min(float(header), LONGEST_WAIT)
    try:
        moment = email.utils.parsedate_to_datetime(header)
    except ValueError:
        return None
    return min(max(moment.timestamp() - time.time(), 0.0), LONGEST_WAIT)


def pause(state: RetryCallState) -> float:
    """Seconds before the next attempt: the server's wish where it has one, else a growing random time."""
    error = state.outcome.exception() if state.outcome is not None else None
    wish = error.wait if isinstance(error, Transient) else None
    return backoff(state) if wish is None else wish


def exhausted(state: RetryCallState) -> bool:
    error = state.outcome.exception() if state.outcome is not None else None
    return state.attempt_number >= (error.attempts if isinstance(error, Transient) else ATTEMPTS)
