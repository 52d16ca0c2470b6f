"""Text that a report may hold: without keys, passwords in addresses, and the name of somebody's home."""

import re
import shlex
from collections.abc import Iterable
from pathlib import Path

ADDRESS = re.compile(
    r"\b([a-z][\w+.-]*://)(?:[^\s/?#@]*@)?([^\s/?#]*)([^\s?#]*)(?:\?[^\s#]*)?(?:#\S*)?", re.I
)
SECRET = re.compile(r"((?:^|\s)--?[\w-]*(?:keys?|token|secret|password))([= ])(\S+)", re.IGNORECASE)
GONE = "…"


def discreet(text: str) -> str:
    """The text without what nobody else should read.

    Of an address its user, password, query and fragment go; of a switch called after a key, token, secret or
    password its value; of a path below the home of whoever runs this, the home.
    """
    text = ADDRESS.sub(r"\1\2\3", text)
    text = SECRET.sub(rf"\1\2{GONE}", text)
    home = str(Path.home())
    return re.sub(rf"{re.escape(home)}(?=/|\s|$)", "~", text) if len(home) > 1 else text


def command_line(words: Iterable[str]) -> str:
    """The words as a shell takes them. A path below `~` keeps its tilde unquoted, so that it is one."""
    return " ".join(f"~/{quoted(word[2:])}" if word.startswith("~/") else quoted(word) for word in words)


def quoted(word: str) -> str:
    return shlex.quote(word)
