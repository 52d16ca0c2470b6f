"""Pinned data sets and models: a local folder first, else the Hugging Face Hub.

A folder (`--data DIR`, HARNESS_DATA) may be laid out in three ways, tried in this order:

    aime/aime24.jsonl                                    the benchmark's own name for the file
    ORG/NAME/train.jsonl                                 a clone of the Hub repository
    datasets--ORG--NAME/snapshots/REVISION/train.jsonl   the Hub's cache

The Hub is asked for a commit, never for a branch. "unpinned" is resolved once, at the first
download, and written into `harness.lock`; from then on that commit is the pin.
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from filelock import FileLock

from harness.errors import DataError, UsageError
from harness.files import write_json, write_whole
from harness.stage import Json, Stage, described

if TYPE_CHECKING:
    from harness.store import Context

Kind = Literal["dataset", "model"]

UNPINNED = "unpinned"
LOCK = Path("harness.lock")
COMMIT = re.compile(r"[0-9a-f]{40}")
REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")


def check_revision(repo: str, revision: str) -> None:
    """Raises UsageError unless the revision is a full commit or "unpinned"."""
    if revision == UNPINNED or COMMIT.fullmatch(revision):
        return
    raise UsageError(
        f"{repo}: revision {revision!r} is not a commit of 40 hex digits",
        'A branch or a tag can move. Give the commit, or "unpinned" to pin it at the first download.',
    )


# Rows ---------------------------------------------------------------------------------------


def row_hash(row: Mapping[str, Any]) -> str:
    """Sixteen hex digits of the SHA-256 of a row as canonical JSON."""
    canonical = json.dumps(row, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(canonical.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def check_rows(name: str, rows: Mapping[str, str], pinned: Mapping[str, str], where: str) -> None:
    """Compares row hashes by row id. Raises DataError that names the first row that differs."""
    for row, expected in pinned.items():
        if row not in rows:
            raise DataError(f"{name}: row {row!r} is missing in {where}", f"{len(pinned)} rows are expected.")
        if rows[row] != expected:
            raise DataError(
                f"{name}: row {row!r} in {where} is not the pinned one (hash {rows[row]}, not {expected})",
                "Take the data set's pinned copy; a changed question or answer changes the score.",
            )
    for row in rows:
        if row not in pinned:
            raise DataError(f"{name}: row {row!r} in {where} is not part of the pinned data set")


def read_jsonl(path: Path) -> Iterable[dict[str, Any]]:
    """The objects of a JSON-lines file. Raises DataError that names the broken line."""
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                yield json.loads(line)
            except ValueError as error:
                raise DataError(f"{path}, line {number}: not JSON ({error})") from error


# The lock file ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Lock:
    """`harness.lock`: for each unpinned repository its commit and the hashes of the rows read."""

    path: Path = LOCK

    def read(self) -> dict[str, dict[str, Any]]:
        if not self.path.exists():
            return {}
        loaded: dict[str, dict[str, Any]] = json.loads(self.path.read_bytes())
        return loaded

    def revision(self, repo: str) -> str | None:
        found: str | None = self.read().get(repo, {}).get("revision")
        return found

    def add(self, repo: str, entry: str, value: Json) -> None:
        """Writes one value, once: what is locked stays."""
        with FileLock(f"{self.path}.guard"):
            content = self.read()
            content.setdefault(repo, {}).setdefault(entry, value)
            text = json.dumps(content, indent=1, sort_keys=True) + "\n"
            write_whole(self.path, text.encode())

    def check_rows(self, repo: str, name: str, rows: Mapping[str, str]) -> None:
        """Locks the rows' hashes at the first call; raises DataError where they differ later."""
        entry = f"rows of {name}"
        self.add(repo, entry, dict(rows))
        check_rows(name, rows, self.read()[repo][entry], f"{repo} ({self.path})")


# Finding ------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Found:
    """A file, and where it came from: "local", or the Hub commit."""

    path: Path
    origin: str


def find_file(
    repo: str,
    revision: str,
    names: Iterable[str],
    data: Path | None,
    aliases: Iterable[str] = (),
    lock: Lock = Lock(),
    terms: str = "",
) -> Found:
    """The first of `names` in a data set's repository, from the folder `data` or the Hub.

    `aliases` are the file's names relative to `data`; `terms` is what a gated data set asks for.
    Raises DataError that says what was looked for, where, and how to get it.
    """
    check_revision(repo, revision)
    wanted, known = list(names), list(aliases)
    places = list(local_places(repo, revision, wanted, data, known, "dataset"))
    local = next((place for place in places if place.is_file()), None)
    if local is not None:
        return Found(path=local, origin="local")
    try:
        commit = resolve(repo, revision, "dataset", lock)
        return Found(path=download_file(repo, commit, wanted, "dataset"), origin=commit)
    except HubFailure as failure:
        raise not_found(repo, revision, wanted, known, places, failure, terms) from failure


def find_local(
    repo: str, revision: str, names: Iterable[str], data: Path | None, aliases: Iterable[str] = ()
) -> Path | None:
    """The first of `names` in the data folder alone."""
    check_revision(repo, revision)
    places = local_places(repo, revision, list(names), data, list(aliases), "dataset")
    return next((place for place in places if place.is_file()), None)


def local_places(
    repo: str, revision: str, names: list[str], data: Path | None, aliases: list[str], kind: Kind
) -> Iterable[Path]:
    """Where a file may stand in the data folder, in the order of the module's docstring."""
    if data is None:
        return
    yield from (data / alias for alias in aliases)
    for folder in local_folders(repo, revision, data, kind):
        yield from (folder / name for name in names)


def local_folders(repo: str, revision: str, data: Path, kind: Kind) -> Iterable[Path]:
    """Folders that may hold a repository: a clone, then the Hub cache's snapshots."""
    yield data / repo
    snapshots = data / f"{kind}s--{repo.replace('/', '--')}" / "snapshots"
    if revision != UNPINNED:
        yield snapshots / revision
        return
    present = sorted(snapshots.iterdir()) if snapshots.is_dir() else []
    if len(present) > 1:
        raise DataError(
            f"{repo} is unpinned and {snapshots} holds {len(present)} revisions",
            "Pin the commit, or leave one snapshot there.",
        )
    yield from present


class HubFailure(Exception):
    """The Hub did not give what was asked for; `gated` where its terms must be accepted first."""

    def __init__(self, message: str, gated: bool = False) -> None:
        super().__init__(message)
        self.gated = gated


def not_found(
    repo: str,
    revision: str,
    names: list[str],
    aliases: list[str],
    places: list[Path],
    failure: HubFailure,
    terms: str,
) -> DataError:
    """The error for data that is neither in the folder nor to be had from the Hub."""
    looked = ", ".join(map(str, places)) or "no data folder was given"
    local = aliases[0] if aliases else f"{repo}/{names[0]}"
    remedy = f"Put it at {local} under the data folder (--data DIR or HARNESS_DATA), or connect to the Hub."
    if failure.gated or terms:
        remedy = f"{terms or 'The data set is gated.'} Then `hf auth login`. {remedy}"
    return DataError(
        f"{repo} at revision {revision}: {' or '.join(names)} not found. "
        f"Looked in: {looked}; the Hub: {failure}",
        remedy.strip(),
    )


def resolve(repo: str, revision: str, kind: Kind, lock: Lock) -> str:
    """The commit to download: the pin, the locked one, or the newest, which is then locked."""
    if revision != UNPINNED:
        return revision
    locked = lock.revision(repo)
    if locked:
        return locked
    commit = newest_commit(repo, kind)
    lock.add(repo, "revision", commit)
    return commit


def newest_commit(repo: str, kind: Kind) -> str:
    from huggingface_hub import HfApi

    with HubFailures():
        commit = HfApi().repo_info(repo, repo_type=kind).sha
    if not commit:
        raise HubFailure(f"no commit is named for {repo}")
    return commit


def download_file(repo: str, commit: str, names: list[str], kind: Kind) -> Path:
    """The first of `names` that the repository has at this commit."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    for name in names:
        try:
            with HubFailures(let=EntryNotFoundError, but=LocalEntryNotFoundError):
                return Path(hf_hub_download(repo, name, repo_type=kind, revision=commit))
        except EntryNotFoundError:
            continue
    raise HubFailure(f"commit {commit} has none of {', '.join(names)}")


def download_model(repo: str, commit: str) -> Path:
    from huggingface_hub import snapshot_download

    with HubFailures():
        return Path(snapshot_download(repo, revision=commit, allow_patterns=list(MODEL_FILES)))


class HubFailures:
    """A context that turns the Hub client's errors into HubFailure, except for `let` that is no `but`."""

    def __init__(self, let: type[Exception] | None = None, but: type[Exception] | None = None) -> None:
        self.let, self.but = let, but

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        from huggingface_hub.errors import GatedRepoError, HfHubHTTPError

        http_error = HfHubHTTPError.__bases__[0]  # of httpx or httpx2, as the Hub client's version has it
        if not isinstance(error, (http_error, OSError, ValueError)):
            return
        if self.let and isinstance(error, self.let) and not (self.but and isinstance(error, self.but)):
            return
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise HubFailure(first, gated=isinstance(error, GatedRepoError)) from error


# Checkpoints --------------------------------------------------------------------------------

MODEL_FILES = ("*.safetensors", "*.json", "*.txt", "*.jinja", "*.model", "*.tiktoken")


def model_files(folder: Path) -> list[Path]:
    """Weights, configuration and tokenizer of a checkpoint folder, sorted by name."""
    return sorted({file for pattern in MODEL_FILES for file in folder.glob(pattern) if file.is_file()})


def checkpoint_hash(folder: Path) -> str:
    """SHA-256 over names and contents of the checkpoint's files. Raises DataError where it is none."""
    check_checkpoint(folder)
    total = hashlib.sha256()
    for file in model_files(folder):
        with file.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
        total.update(f"{file.name}\0{digest}\n".encode())
    return total.hexdigest()


def check_checkpoint(folder: Path) -> None:
    """Raises DataError unless the folder holds a configuration and all of its weights."""
    names = {file.name for file in model_files(folder)} if folder.is_dir() else set()
    if "config.json" not in names or not any(name.endswith(".safetensors") for name in names):
        raise DataError(
            f"{folder} is not a checkpoint: config.json and *.safetensors are expected",
            "Give the folder that transformers' save_pretrained wrote.",
        )
    index = folder / "model.safetensors.index.json"
    shards = set(json.loads(index.read_bytes())["weight_map"].values()) if index.exists() else set()
    if missing := sorted(shards - names):
        raise DataError(f"{folder}: shard {missing[0]} is missing", "Copy or download the checkpoint again.")


@dataclass(frozen=True, kw_only=True)
class Checkpoint(Stage):
    """A model that exists already; its directory is `model` below this stage's.

    From the Hub: `source` is the repository, `revision` the commit or "unpinned". From a folder:
    `source` is a label, `sha256` its content (`checkpoint_hash`), and `path` where it stands; the
    path is no part of the identity.
    """

    source: str
    revision: str = ""
    sha256: str = ""
    path: Path | None = field(default=None, compare=False)

    @property
    def identity(self) -> dict[str, Json]:
        identity: dict[str, Json] = described(
            Checkpoint(source=self.source, revision=self.revision, sha256=self.sha256)
        )
        del identity["path"]
        return identity

    def run(self, out: Path, context: "Context") -> None:
        folder, origin = self.find(context.machine.data)
        check_checkpoint(folder)
        if self.sha256 and (found := checkpoint_hash(folder)) != self.sha256:
            raise DataError(
                f"{folder} is not the checkpoint {self.source!r}: its hash is {found}, not {self.sha256}",
                "It changed since the recipe was read; run again, or restore it.",
            )
        copy_files(model_files(folder), out / "model", link=origin != "local")
        write_json(out / "source.json", {"source": self.source, "origin": origin, "sha256": self.sha256})

    def find(self, data: Path | None) -> tuple[Path, str]:
        """The checkpoint's folder, and its origin: "local" or the Hub commit."""
        if self.path is not None:
            return self.path, "local"
        check_revision(self.source, self.revision)
        folders = list(local_folders(self.source, self.revision, data, "model")) if data else []
        for folder in folders:
            if folder.is_dir():
                return folder, "local"
        try:
            commit = resolve(self.source, self.revision, "model", Lock())
            return download_model(self.source, commit), commit
        except HubFailure as failure:
            wanted = (["the checkpoint"], [self.source], folders)
            raise not_found(self.source, self.revision, *wanted, failure, "") from failure


def copy_files(files: list[Path], folder: Path, link: bool) -> None:
    """Copies, or hard links where the files are a Hub cache's, which nobody edits in place."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in files:
        target = folder / file.name
        target.unlink(missing_ok=True)
        if link:
            with suppress(OSError):
                os.link(file.resolve(), target)
                continue
        shutil.copyfile(file, target)


def local_checkpoint(path: Path, source: str = "") -> Checkpoint:
    """The checkpoint in a folder, identified by its content. `source` is a label for the report."""
    return Checkpoint(source=source or path.resolve().name, sha256=checkpoint_hash(path), path=path.resolve())


def checkpoint(model: str) -> Checkpoint:
    """The checkpoint that a command line names: a folder, `ORG/NAME@COMMIT`, or `ORG/NAME` (unpinned)."""
    if Path(model).is_dir():
        return local_checkpoint(Path(model))
    repo, _, revision = model.partition("@")
    if not REPOSITORY.fullmatch(repo) or model.startswith((".", "/", "~")):
        raise UsageError(
            f"{model!r} is neither a folder nor a Hub name", "Give a folder or ORG/NAME[@COMMIT]."
        )
    check_revision(repo, revision or UNPINNED)
    return Checkpoint(source=repo, revision=revision or UNPINNED)


@dataclass(frozen=True, kw_only=True)
class Served(Stage):
    """A model that somebody else serves, by the name that the server knows.

    The URL counts by its hash: it may hold a secret, and identities are written to disk.
    """

    name: str
    base_url: str = field(repr=False)

    @property
    def identity(self) -> dict[str, Json]:
        digest = hashlib.sha256(self.base_url.rstrip("/").encode()).hexdigest()[:12]
        return {"class": type(self).__name__, "version": self.version, "name": self.name, "endpoint": digest}

    def run(self, out: Path, context: "Context") -> None:
        (out / "model").mkdir(exist_ok=True)
