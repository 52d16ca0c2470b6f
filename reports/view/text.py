"""What strangers wrote, made fit for a page: escaped, with what cannot be seen made visible."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)
"""Control characters but tab and line feed, what changes the direction of text or takes no room, halves of
surrogate pairs, and tags."""

SHORT = (
    "NUL", "SOH", "STX", "ETX", "EOT", "ENQ", "ACK", "BEL", "BS", "HT", "LF", "VT", "FF", "CR", "SO", "SI",
    "DLE", "DC1", "DC2", "DC3", "DC4", "NAK", "SYN", "ETB", "CAN", "EM", "SUB", "ESC", "FS", "GS", "RS", "US",
)  # fmt: skip
"""What the first control characters are called; fonts seldom have their pictures."""

LONGEST = 1_000_000
LONGEST_CELL = 60
MOST_LINES = 5_000


def visible(text: str) -> Markup:
    """The text escaped, with each unseen character as a mark that names it: none of them takes effect."""
    return Markup(UNSEEN.sub(marked, str(escape(text))))  # noqa: S704 (escaped right here)


def marked(found: re.Match[str]) -> str:
    code = ord(found[0])
    name = SHORT[code] if code < len(SHORT) else f"U+{code:04X}"
    return f'<span class="named" title="U+{code:04X}">{name}</span>'


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A text as a page shows it: `left_out` characters in the middle are not there."""

    start: str
    end: str = ""
    left_out: int = 0
    characters: int


def whole_or_ends(text: str, longest: int = LONGEST) -> Shown:
    """The text, or its two ends where it is longer than a browser shows well."""
    if len(text) <= longest:
        return Shown(start=text, characters=len(text))
    half = longest // 2
    return Shown(start=text[:half], end=text[-half:], left_out=len(text) - 2 * half, characters=len(text))


def in_a_cell(text: str | None) -> str:
    """One line of a table: a program as its number of lines, other text cut."""
    if text is None:
        return ""
    if "\n" in text.strip():
        return f"{text.strip().count(chr(10)) + 1} lines"
    return text if len(text) <= LONGEST_CELL else f"{text[: LONGEST_CELL - 1]}…"


def lines_of(text: str) -> Sequence[str]:
    """The lines of a program, at most MOST_LINES, each with the line feed that ends it."""
    return [f"{line}\n" for line in text.split("\n")[:MOST_LINES]]
