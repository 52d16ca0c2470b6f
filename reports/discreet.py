"""Text that a report may hold: without keys, passwords in addresses, and the name of somebody's home."""

import re
import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path

ADDRESS = re.compile(
    r"\b([a-z][\w+.-]*://)(?:[^\s/?#@]*@)?([^\s/?#]*)([^\s?#]*)(?:\?[^\s#]*)?(?:#\S*)?", re.I
)
SWITCH = re.compile(r"((?:^|\s)--?[\w-]*(?:keys?|token|secret|password))([= ])(\S+)", re.IGNORECASE)
SETTING = re.compile(
    r"""([\w-]*(?:key|token|secret|password)(?:=|["']\s*[=:])\s*)("[^"]*"|'[^']*'|[^\s"',;&}]+)""",
    re.IGNORECASE,
)
HEADER = re.compile(r"\b(Authorization\W+\w+|Bearer)(\s+)([\w.~+/=-]{8,})", re.IGNORECASE)
TOKEN = re.compile(r"\b(?:hf_|sk-|gh[opsu]_|github_pat_)[\w-]{8,}")
GONE = "…"
SERVERS = ("--base-url",)
SERVER = "URL"
"""Stands for the address of a server: its path may hold a secret, its host may be of an inner network."""


def discreet(text: str) -> str:
    """The text without what nobody else should read.

    Of an address its user, password, query and fragment go; of a switch, variable or setting called after a
    key, token, secret or password its value; of an Authorization header what authorises; tokens of the shapes
    that hubs and providers give out; of a path below the home of whoever runs this, the home.
    """
    text = ADDRESS.sub(r"\1\2\3", text)
    text = SWITCH.sub(rf"\1\2{GONE}", text)
    text = HEADER.sub(rf"\1\2{GONE}", text)
    text = SETTING.sub(rf"\1{GONE}", text)
    text = TOKEN.sub(GONE, text)
    home = str(Path.home())
    return re.sub(rf"{re.escape(home)}(?=/|\s|$)", "~", text) if len(home) > 1 else text


def command_line(words: Iterable[str]) -> str:
    """The words as a shell takes them, without the addresses of servers.

    A path below `~` keeps its tilde unquoted, so that it is one.
    """
    told = without_servers(words)
    return " ".join(f"~/{quoted(word[2:])}" if word.startswith("~/") else quoted(word) for word in told)


def without_servers(words: Iterable[str]) -> Iterator[str]:
    """The words of a command with `URL` for the address of each server."""
    before = ""
    for word in words:
        name, given, _ = word.partition("=")
        yield SERVER if before in SERVERS else f"{name}={SERVER}" if given and name in SERVERS else word
        before = word


def quoted(word: str) -> str:
    return shlex.quote(word)
