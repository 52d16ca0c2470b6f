"""Secrets: which environment variables hold one, texts without them, and what child processes are told.

A secret is known by its variable's name (HF_TOKEN, OPENAI_API_KEY, …), as the password of an address, or as
the Hub's stored token. Every HarnessError and every traceback of the command line is written without them;
what a server sends is read without the key that it was sent. Against a server that hides a key on purpose,
spelling it backwards, nothing here helps: it has the key.
"""

import base64
import json
import os
import re
import resource
import sys
import threading
import traceback
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from urllib.parse import quote, unquote, urlsplit

SECRET_NAMES = (  # a pattern, no secret
    "TOKENS?(_|$)|SECRET|PASSWORD|PASSWD|CREDENTIAL|API_?KEY|ACCESS_?KEY|PRIVATE_?KEY|_KEY$|_PAT$"  # noqa: S105
    "|_AUTH(_CONFIG)?$"
)
"""Of variables that hold a secret, in any case. A POSIX extended expression, by which a shell can grep."""

MASK = "***"
SHORTEST = 6
"""Characters of what is cut out of messages. Whoever writes `key` where none is needed keeps that word."""
SURELY = 12
"""Characters of what is cut out of a model's text: every real key is longer, and words are shorter."""

NAMED = re.compile(SECRET_NAMES, re.IGNORECASE)
ADDRESS = re.compile(r"\b([a-z][\w+.-]*://)[^\s/?#@\"'<>]*:[^\s/?#@\"'<>]*@", re.IGNORECASE)
QUERY = re.compile(r"\b([a-z][\w+.-]*://[^\s?#\"'<>]*)\?[^\s\"'<>)]+", re.IGNORECASE)


declared: set[str] = set()
"""Variables that machine.toml names for keys, whatever they are called. For the whole process: an error that
is raised anywhere must be without their values."""


def declare(names: Iterable[str]) -> None:
    """Says that these variables hold secrets."""
    declared.update(name for name in names if name)


def is_secret(name: str, value: str) -> bool:
    """Whether a variable holds a secret: its name says so, or it is an address with a password."""
    return name in declared or bool(NAMED.search(name)) or bool(ADDRESS.search(value))


def without_secrets(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that a process may have that needs no secret."""
    return {name: value for name, value in environment.items() if not is_secret(name, value)}


def known_secrets(environment: Mapping[str, str] = os.environ) -> set[str]:
    """The secrets' values, as the environment and the Hub's token file have them."""
    found = {stored_token(environment)}
    for name, value in environment.items():
        if name in declared or NAMED.search(name):
            found.add(value.strip())
        if ADDRESS.search(value):
            found |= set(passwords(value))
    return {value for value in found if len(value) >= SHORTEST}


def passwords(address: str) -> Iterator[str]:
    """The password of an address, and what an Authorization header would make of it."""
    try:
        parts = urlsplit(address.strip())
    except ValueError:
        return
    if parts.password:
        user, password = unquote(parts.username or ""), unquote(parts.password)
        yield password
        yield base64.b64encode(f"{user}:{password}".encode()).decode()


def stored_token(environment: Mapping[str, str]) -> str:
    """What `hf auth login` has stored; empty where it has not."""
    home = environment.get("HF_HOME") or Path(
        environment.get("XDG_CACHE_HOME") or Path.home() / ".cache", "huggingface"
    )
    file = Path(environment.get("HF_TOKEN_PATH") or Path(home, "token"))
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def forms(secret: str) -> list[str]:
    """A secret as texts may carry it, the longest first: itself, quoted for a URL or JSON, in base64."""
    encoded = base64.b64encode(secret.encode("utf-8", "surrogateescape")).decode()
    escaped = json.dumps(secret)[1:-1]
    found = {
        secret,
        quote(secret, safe=""),
        escaped,
        escaped.replace("/", "\\/"),
        encoded,
        encoded.rstrip("="),
    }
    return sorted(found, key=len, reverse=True)


def hidden(text: str, also: Iterable[str] = ()) -> str:
    """The text without secrets: those of the environment, those of `also`, and of any address its password
    and its query."""
    text = QUERY.sub(r"\1", ADDRESS.sub(rf"\1{MASK}@", text))
    for secret in sorted({*known_secrets(), *also}, key=len, reverse=True):
        text = masked(text, secret)
    return text


def masked(text: str, secret: str, shortest: int = SHORTEST) -> str:
    """The text without one secret."""
    if len(secret) >= shortest:
        for form in forms(secret):
            text = text.replace(form, MASK)
    return text


def masked_bytes(data: bytes, secret: str) -> bytes:
    """What a server sent, which may hold a model's text, without one secret."""
    if len(secret) >= SURELY:
        for form in forms(secret):
            data = data.replace(form.encode("utf-8", "surrogateescape"), MASK.encode())
    return data


class Masking:
    """Text that comes in pieces, without one secret, wherever the pieces are cut."""

    def __init__(self, secret: str) -> None:
        self.secret, self.held = secret, ""

    def of(self, piece: str) -> str:
        """What can be passed on by now. The beginning of the secret is held back."""
        if len(self.secret) < SURELY:
            return piece
        whole = (self.held + piece).replace(self.secret, MASK)
        longest = min(len(whole), len(self.secret) - 1)
        kept = next((size for size in range(longest, 0, -1) if whole.endswith(self.secret[:size])), 0)
        self.held = whole[len(whole) - kept :]
        return whole[: len(whole) - kept]

    def rest(self) -> str:
        """What was held back, at the end."""
        held, self.held = self.held, ""
        return held


def keep_crashes_quiet() -> None:
    """For a whole process and its children: tracebacks without secrets, and no dump of their memory.

    The kernel writes no dump that is limited to one byte, and gives none to a program of
    /proc/sys/kernel/core_pattern, which a limit of 0 would not stop (core(5); fs/coredump.c).
    """
    _, most = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (min(1, most) if most >= 0 else 1, most))
    sys.excepthook = tell_crash
    threading.excepthook = tell_thread_crash


def tell_crash(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    sys.stderr.write(hidden("".join(traceback.format_exception(kind, error, trace))))


def tell_thread_crash(crash: threading.ExceptHookArgs) -> None:
    if crash.exc_value is not None:
        tell_crash(crash.exc_type, crash.exc_value, crash.exc_traceback)
