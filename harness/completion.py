"""The JSON of OpenAI-compatible answers, as far as it is read. Fields that are not read are skipped."""

from typing import Annotated

import msgspec
from msgspec import Meta

from harness.files import UNREADABLE

Spelling = bytes  # the field of this name hides it below
Count = Annotated[int, Meta(ge=0, lt=2**31)]
ENDS = ("stop", "length")
"""By the model or by its limit. What a filter or a tool call ended, providers neither fill nor count."""
GAVE_UP = ("abort", "error", "insufficient_system_resource")
"""Why an answer ended that its server broke off: vLLM's and SGLang's words, proxies', DeepSeek's."""


class Details(msgspec.Struct):
    reasoning_tokens: Count = 0


class Usage(msgspec.Struct):
    prompt_tokens: Count = 0
    completion_tokens: Count = 0
    completion_tokens_details: msgspec.Raw = msgspec.Raw()
    """Providers' shapes differ, and none makes an answer unreadable."""

    @property
    def reasoning_tokens(self) -> int:
        """How many of the tokens are of a reasoning; 0 where that is not told."""
        try:
            return msgspec.json.decode(self.completion_tokens_details, type=Details).reasoning_tokens
        except UNREADABLE:
            return 0

    @property
    def sampled(self) -> int:
        """All tokens. Those of a reasoning are among the completion's but where they are more: such a
        provider counts them apart."""
        thought = self.reasoning_tokens
        return self.completion_tokens + (thought if thought > self.completion_tokens else 0)


class TokenLogprob(msgspec.Struct):
    token: str
    logprob: float
    bytes: list[int] | None = None

    @property
    def spelt(self) -> Spelling:
        """The token's bytes; those of its text where none were sent, or numbers that are no bytes."""
        try:
            return self.token.encode() if self.bytes is None else Spelling(self.bytes)
        except ValueError:
            return self.token.encode()


class Logprobs(msgspec.Struct):
    """Of a chat answer (`content`) or of a text completion (the two lists)."""

    content: list[TokenLogprob] | None = None
    tokens: list[str] | None = None
    token_logprobs: list[float | None] | None = None


class AnswerMessage(msgspec.Struct):
    """`refusal` is what OpenAI's models say in place of content."""

    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: msgspec.Raw = msgspec.Raw()


class Choice(msgspec.Struct):
    text: str | None = None
    message: AnswerMessage | None = None
    finish_reason: str | None = None
    logprobs: Logprobs | None = None
    token_ids: list[int] | None = None

    @property
    def answer(self) -> str:
        """The response without a reasoning that came apart from it."""
        if self.message is None:
            return self.text or ""
        return self.message.content or self.message.refusal or ""

    @property
    def calls_tools(self) -> bool:
        return self.message is not None and bytes(self.message.tool_calls) not in (b"", b"null", b"[]")

    @property
    def whole_text(self) -> str:
        """The response with its reasoning, which a server's own parser may have cut out."""
        content = self.answer
        if self.message is None:
            return content
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
            return [(each.spelt, each.logprob) for each in found.content]
        if found.tokens is None or found.token_logprobs is None:
            return None
        if len(found.tokens) != len(found.token_logprobs):
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
