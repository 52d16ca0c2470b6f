"""Harmony, the response format of gpt-oss, rewritten to `<think>…</think>` and an answer.

    <|channel|>analysis<|message|>2 + 2 is 4.<|end|><|start|>assistant<|channel|>final<|message|>4<|return|>

becomes `<think>\n2 + 2 is 4.\n</think>\n\n4`. Messages on the channel `final` are the answer, all
others are thinking. A message addressed to a tool (`to=functions.…`) is a function call. The format is
OpenAI's (github openai/harmony, docs/format.md); the report rewrites it in the same way (§6.3) and does
not say which white space surrounds the tags: it is what Qwen3's own chat template writes.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from harness.chat import CLOSE, OPEN, ChatTemplate

Part = Literal["nothing", "thinking", "answer"]

MARKER = re.compile(r"(<\|(?:start|channel|message|constrain|end|return|call)\|>)")
START, MESSAGE = "<|start|>", "<|message|>"
ENDS = ("<|end|>", "<|return|>", "<|call|>")
STOP = ["<|call|>"]  # the end of a call is no end-of-text token of every configuration
OPENING, CLOSING, BETWEEN = f"{OPEN}\n", f"\n{CLOSE}\n\n", "\n\n"


def speaks_harmony(template: ChatTemplate | None) -> bool:
    """Whether a checkpoint's chat template is gpt-oss's."""
    return template is not None and "<|channel|>" in template.source and MESSAGE in template.source


@dataclass(kw_only=True)
class Reading:
    """A response read so far. `text` is its rewritten form; `part` is what was written last.

    `lengths` has for each piece that was read the bytes that it became in `text`: 0 for a header, those
    of the tags for the marker that opens a message. `encoding` is that of the pieces.
    """

    part: Part = "nothing"
    in_message: bool = False
    header: str = ""
    text: list[str] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    function_call: bool = False
    encoding: str = "utf-8"

    @property
    def whole(self) -> str:
        """The rewritten text."""
        joined = "".join(self.text)
        return joined.encode(self.encoding).decode("utf-8", "replace") if self.encoding != "utf-8" else joined

    def read(self, piece: str) -> None:
        """One token of the response, or one piece between markers."""
        written = self.message(piece) if self.in_message else self.heading(piece)
        self.text.append(written)
        self.lengths.append(len(written.encode(self.encoding)))

    def heading(self, piece: str) -> str:
        if piece != MESSAGE:
            self.header += piece
            return ""
        self.function_call |= "to=" in self.header
        final = self.header.rpartition("<|channel|>")[2].split()[:1] == ["final"]
        self.in_message, self.header = True, ""
        return self.turn_to("answer" if final else "thinking")

    def turn_to(self, part: Part) -> str:
        """What stands between the part before and this one. After an answer nothing is thinking."""
        before, self.part = self.part, "answer" if self.part == "answer" else part
        match before, self.part:
            case "nothing", "thinking":
                return OPENING
            case "thinking", "answer":
                return CLOSING
            case "nothing", _:
                return ""
        return BETWEEN

    def message(self, piece: str) -> str:
        if piece in ENDS or piece == START:
            self.in_message = False
            return ""
        return piece


def read(pieces: Iterable[str], prefix: str = "") -> Reading:
    """The response that the pieces make. A marker must be a piece of its own.

    `prefix` is text in the rewritten form that the response goes on from: see `continued`.
    """
    return reading(Reading(), pieces, prefix)


def read_bytes(tokens: Iterable[bytes], prefix: str = "") -> Reading:
    """As `read`, from the bytes of tokens, one of which may end inside a character."""
    return reading(Reading(encoding="latin-1"), (token.decode("latin-1") for token in tokens), prefix)


def reading(found: Reading, pieces: Iterable[str], prefix: str) -> Reading:
    if prefix:
        found.in_message, found.part = True, "answer" if answers(prefix) else "thinking"
    for piece in pieces:
        found.read(piece)
    return found


def split(raw: str) -> list[str]:
    """A raw response as markers and what stands between them, for an engine that gives no tokens."""
    return [piece for piece in MARKER.split(raw) if piece]


def answers(prefix: str) -> bool:
    """Whether a rewritten text has left its thinking behind, or never had any."""
    return CLOSE in prefix or not prefix.startswith(OPEN)


def continued(prefix: str) -> str:
    """Rewritten text in harmony's own form, left open at its end, so that the model goes on from it.

    It follows a prompt that ends in `<|start|>assistant`.
    """
    thinking, closed, answer = prefix.removeprefix(OPEN).removeprefix("\n").partition(CLOSE)
    if not answers(prefix):
        return f"<|channel|>analysis<|message|>{thinking}"
    if not closed:
        return f"<|channel|>final<|message|>{prefix}"
    analysis = f"<|channel|>analysis<|message|>{thinking.removesuffix(chr(10))}<|end|>{START}assistant"
    return f"{analysis}<|channel|>final<|message|>{answer.removeprefix(chr(10)).removeprefix(chr(10))}"
