"""The JSON of OpenAI-compatible answers, as far as it is read. Fields that are not read are skipped."""

from typing import Annotated

import msgspec
from msgspec import Meta

Spelling = bytes  # the field of this name hides it below
Count = Annotated[int, Meta(ge=0, lt=2**31)]


class Usage(msgspec.Struct):
    prompt_tokens: Count = 0
    completion_tokens: Count = 0


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
