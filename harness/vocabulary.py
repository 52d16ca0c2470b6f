"""The bytes that each token id stands for, from a checkpoint's tokenizer.json."""

import functools
import re
from pathlib import Path
from typing import Any

import msgspec

from harness.errors import DataError
from harness.files import UNREADABLE

BYTE = re.compile(r"<0x([0-9A-F]{2})>")
SPACE = "\u2581"


class Vocabulary:
    """Token ids as bytes. Special tokens are known apart: they are no text of a response."""

    def __init__(self, tokenizer: Path) -> None:
        """Raises DataError where the file is missing or is not what `tokenizers` writes."""
        try:
            content = msgspec.json.decode(tokenizer.read_bytes(), type=dict[str, Any])
            vocabulary: dict[str, int] = content["model"]["vocab"]
            added: list[dict[str, Any]] = content.get("added_tokens") or []
            spell = spelling(content)
            self.bytes = {number: spell(token) for token, number in vocabulary.items()}
            self.bytes |= {int(each["id"]): str(each["content"]).encode() for each in added}
            self.special = {int(each["id"]) for each in added if each.get("special")}
        except (OSError, *UNREADABLE, KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(
                f"{tokenizer} is not a tokenizer with a vocabulary ({error!r})",
                "Give the checkpoint folder of the model that wrote the tokens.",
            ) from error

    def plain(self, ids: list[int]) -> list[bytes]:
        """The bytes of each token in a text that shows no special token."""
        return [b"" if number in self.special else self.bytes[number] for number in ids]

    def knows(self, ids: list[int]) -> bool:
        """Whether all ids are tokens of this vocabulary."""
        return all(number in self.bytes for number in ids)

    def spelt(self, ids: list[int]) -> list[bytes]:
        """The bytes of each token, all of them known ones."""
        return [self.bytes[number] for number in ids]


@functools.cache
def vocabulary_of(model: Path) -> Vocabulary | None:
    """The vocabulary of a checkpoint's folder; None where it has no tokenizer.json."""
    return Vocabulary(model / "tokenizer.json") if (model / "tokenizer.json").exists() else None


def spelling(content: dict[str, Any]) -> Any:
    """How this tokenizer writes bytes: one character a byte (GPT-2's way), or UTF-8 with ▁ for a space."""
    parts = [content.get("decoder") or {}, *((content.get("decoder") or {}).get("decoders") or [])]
    if any(part.get("type") == "ByteLevel" for part in parts):
        table = byte_of_character()
        return lambda token: bytes(table[character] for character in token)
    return plain


def plain(token: str) -> bytes:
    found = BYTE.fullmatch(token)
    return bytes([int(found[1], 16)]) if found else token.replace(SPACE, " ").encode()


def byte_of_character() -> dict[str, int]:
    """GPT-2's alphabet: printable bytes stand for themselves, the others for U+0100 and up, in order."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + n): byte for n, byte in enumerate(others)}
