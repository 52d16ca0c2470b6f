"""Secrets planted in every place that one may come from, and a search for them in everything that is left.

Each place has a value of its own, so that what is found says where it came from. A value is looked for as it
is, quoted for URLs, in base64, escaped as JSON does, and backwards.
"""

import base64
import bz2
import gzip
import io
import json
import lzma
import os
import threading
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import pyarrow.parquet

VARIABLES = (
    "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HARNESS_API_KEY", "OPENAI_API_KEY", "MODELSCOPE_API_TOKEN",
    "VLLM_API_KEY", "RAY_AUTH_TOKEN", "WANDB_API_KEY", "AWS_SECRET_ACCESS_KEY", "GITHUB_PAT", "NOTIFY_TOKEN",
    "DOCKER_AUTH_CONFIG",
)  # fmt: skip
NAMED = "PROVIDER_LOGIN"
"""The key's variable that machine.toml names; nothing in this name says that it holds a secret."""
PROXIES = ("HTTP_PROXY", "https_proxy", "ALL_PROXY")
FILES = ("stored Hub token", ".netrc", "Docker's config.json")
ADDRESSES = ("password in base_url", "query of base_url")
PLACES = (*VARIABLES, NAMED, *PROXIES, *FILES, *ADDRESSES)
POLL = 0.01


def value_of(place: str) -> str:
    """The secret that is planted there: letters, digits, and what has to be quoted in a URL or JSON."""
    return f"sK7{base64.b32encode(place.encode()).decode().rstrip('=').lower()[:24]}+Zq9"


def planted(home: Path) -> dict[str, str]:
    """Writes the files below `home` and returns the environment to work in."""
    (home / "hub").mkdir(parents=True)
    (home / ".docker").mkdir()
    stored, netrc, docker = map(value_of, FILES)
    (home / "hub" / "token").write_text(stored)
    (home / ".netrc").write_text(f"machine 127.0.0.1 login me password {netrc}\n")
    (home / ".netrc").chmod(0o600)
    auth = base64.b64encode(f"me:{docker}".encode()).decode()
    (home / ".docker" / "config.json").write_text(json.dumps({"auths": {"example.org": {"auth": auth}}}))
    proxies = {name: f"http://me:{quote(value_of(name))}@127.0.0.1:9" for name in PROXIES}
    caches = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return {
        **os.environ,
        **{name: value_of(name) for name in (*VARIABLES, NAMED)},
        **proxies,
        **dict.fromkeys(("NO_PROXY", "no_proxy"), "127.0.0.1,localhost"),
        "HOME": str(home),
        "HF_HOME": str(home / "hub"),
        "HF_HUB_OFFLINE": "1",
        "XDG_CACHE_HOME": caches,
    }


def spellings(secret: str) -> set[bytes]:
    """The ways in which a secret is looked for."""
    encoded = base64.b64encode(secret.encode()).decode().rstrip("=")
    escaped = json.dumps(secret)[1:-1].replace("+", "\\u002b")
    forms = {
        secret,
        quote(secret, safe=""),
        encoded,
        base64.urlsafe_b64encode(secret.encode()).decode(),
        escaped,
    }
    return {form.encode() for form in forms} | {form[::-1].encode() for form in forms}


SPELLINGS = {place: spellings(value_of(place)) for place in PLACES}


def found_in(data: bytes) -> set[str]:
    """The places whose secrets are in the data."""
    return {place for place, forms in SPELLINGS.items() if any(form in data for form in forms)}


def unpacked(name: str, data: bytes) -> Iterator[bytes]:
    """The bytes of a file, and what is packed in it."""
    yield data
    if data.startswith(b"PK\x03\x04"):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for member in archive.namelist():
                yield from unpacked(member, archive.read(member))
    elif data.startswith(b"PAR1"):
        table = pyarrow.parquet.read_table(io.BytesIO(data))
        yield repr(table.to_pylist()).encode()
        yield repr(table.schema.metadata).encode()
    elif data.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ")):
        opener = {b"\x1f": gzip, b"B": bz2, b"\xfd": lzma}[data[:1]]
        yield from unpacked(name, opener.decompress(data))  # type: ignore[attr-defined]


def searched(folders: Iterable[Path]) -> tuple[Counter[str], int, list[str]]:
    """By place how many files hold its secret, how many bytes were read, and which files those are."""
    hits: Counter[str] = Counter()
    size, where = 0, []
    for folder in folders:
        for file in sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()):
            found = found_in(os.fsencode(file.name))
            for data in unpacked(file.name, file.read_bytes()):
                size += len(data)
                found |= found_in(data)
            hits.update(found)
            where += [f"{place}: {file.relative_to(folder.parent)}" for place in sorted(found)]
    return hits, size, where


@dataclass
class Watcher:
    """Looks at all processes of the machine while a command runs: at every command line, and at the
    environment of what the command starts.

    A process of the harness itself has what it was given; one that is started has its environment until it
    becomes another program, so it counts from when its command line is its own. `meant` are programs (part of
    a command line) that a secret is for, with its place.
    """

    root: int
    meant: dict[str, set[str]] = field(default_factory=dict)
    lines: Counter[str] = field(default_factory=Counter)
    environments: Counter[str] = field(default_factory=Counter)
    where: list[str] = field(default_factory=list)
    looks: int = 0
    programs: set[bytes] = field(default_factory=set)

    def __enter__(self) -> "Watcher":
        self.ended = threading.Event()
        self.seen: set[tuple[int, bytes]] = set()
        self.thread = threading.Thread(target=self.watch, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.ended.set()
        self.thread.join()

    def watch(self) -> None:
        while not self.ended.wait(POLL):
            self.look()

    def look(self) -> None:
        self.looks += 1
        below, own = {self.root}, read(self.root, "cmdline")
        for process, parent in sorted(parents().items()):
            line = read(process, "cmdline")
            if parent in below:
                below.add(process)
            if line and (process, line) not in self.seen:
                self.seen.add((process, line))
                self.keep(self.lines, found_in(line), f"command line {line[:80]!r}")
                if process in below and line != own and line == read(process, "cmdline"):
                    self.programs.add(line.split(b"\0")[0])
                    found = found_in(read(process, "environ")) - self.allowed(line)
                    self.keep(self.environments, found, f"environment of {line[:80]!r}")

    def keep(self, counts: Counter[str], found: set[str], where: str) -> None:
        counts.update(found)
        self.where += [f"{place}: {where}" for place in found]

    def allowed(self, line: bytes) -> set[str]:
        return set().union(*(places for part, places in self.meant.items() if part.encode() in line))


def read(process: int, file: str) -> bytes:
    try:
        return Path("/proc", str(process), file).read_bytes()
    except OSError:
        return b""


def parents() -> dict[int, int]:
    """Process id → parent's id."""
    found = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (stat := read(int(entry), "stat")):
            found[int(entry)] = int(stat.rpartition(b")")[2].split()[1])
    return found
