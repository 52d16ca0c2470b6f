"""Pinned data sets and models: a local folder first, else a hub.

A folder (`--data DIR`, HARNESS_DATA) may be laid out in these ways, tried in this order:

    aime/aime24.jsonl                                    the benchmark's own name for the file
    ORG/NAME/train.jsonl                                 a clone of the repository
    datasets--ORG--NAME/snapshots/REVISION/train.jsonl   Hugging Face's cache
    datasets/ORG--NAME/snapshots/REVISION/train.jsonl    ModelScope's cache
    datasets/ORG/NAME/train.jsonl                        ModelScope's cache before 1.38, dots as ___

A hub is asked for a commit, never for a branch. "unpinned" is resolved once, at the first
download, and written into `harness.lock`; from then on that commit is the pin. A commit is one hub's
own: what is unpinned is locked for each hub apart. The lock also keeps the names of a commit's files, so
that a part of a download passes for the whole at no later time, with a network or without. Benchmarks
come from Hugging Face alone, where their pins are from.
"""

import fnmatch
import hashlib
import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from filelock import FileLock

from harness.errors import DataError, UsageError
from harness.files import read_json, write_json, write_whole
from harness.hubs import HubFailure, HubName, HuggingFace, Kind, hub_named
from harness.stage import Json, Stage, described
from harness.weights import SOURCE, check_trust, not_run, refuse_pickles

if TYPE_CHECKING:
    from harness.machine import Machine
    from harness.store import Context

T = TypeVar("T")

UNPINNED = "unpinned"
LOCK = Path("harness.lock")
UNLOCKED = "Restore it, or remove it and run again: what is read then is locked anew."
COMMIT = re.compile(r"[0-9a-f]{40}")
REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")
SHARD = re.compile(r"(.*)-\d{5}-of-(\d{5})\.")
SHOWN = 12


class MissingDataError(DataError):
    """Data that is neither in the data folder nor to be had from the hub."""


def check_revision(repo: str, revision: str) -> None:
    """Raises UsageError unless the revision is a full commit or "unpinned"."""
    if revision == UNPINNED or COMMIT.fullmatch(revision):
        return
    raise UsageError(
        f"{repo}: revision {revision!r} is not a commit of 40 hex digits",
        'A branch or a tag can move. Give the commit, or "unpinned" to pin it at the first download.',
    )


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
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line.decode("utf-8"))
            except (ValueError, RecursionError) as error:
                raise DataError(f"{path}, line {number}: not JSON ({error})") from error
            if not isinstance(row, dict):
                raise DataError(f"{path}, line {number}: not an object but {type(row).__name__}")
            yield row


@dataclass(frozen=True)
class Lock:
    """`harness.lock`: for each repository the commit that "unpinned" became, the names of the files at a
    commit, and the hashes of the rows read."""

    path: Path = LOCK

    def read(self) -> dict[str, dict[str, Any]]:
        if not self.path.exists():
            return {}
        return read_json(self.path, dict[str, dict[str, Any]], UNLOCKED)

    def revision(self, repo: str) -> str | None:
        return self.told(repo, "revision", str)

    def files(self, repo: str, commit: str) -> list[str] | None:
        """The names of all files at a commit; None where they were never listed."""
        return self.told(repo, files_entry(commit), list[str])

    def told(self, repo: str, entry: str, kind: type[T]) -> T | None:
        """One value; None where it is not locked. Raises DataError where it is of another kind."""
        found = self.read().get(repo, {}).get(entry)
        try:
            return None if found is None else msgspec.convert(found, kind)
        except msgspec.ValidationError as error:
            raise DataError(f"{self.path}: {entry!r} of {repo!r}: {error}", UNLOCKED) from error

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
        try:
            check_rows(name, rows, self.told(repo, entry, dict[str, str]) or {}, repo)
        except DataError as error:
            raise DataError(
                error.message,
                f"If the change is meant, remove {entry!r} of {repo!r} from {self.path} and run again: what "
                "is read then is locked anew.",
            ) from error


def files_entry(commit: str) -> str:
    return f"files of {commit}"


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
        return Found(path=HuggingFace().first_of(repo, commit, wanted, "dataset"), origin=commit)
    except HubFailure as failure:
        raise not_found(repo, revision, wanted, known, places, failure, terms) from failure


def find_local(
    repo: str, revision: str, names: Iterable[str], data: Path | None, aliases: Iterable[str] = ()
) -> Path | None:
    """The first of `names` in the data folder alone."""
    check_revision(repo, revision)
    places = local_places(repo, revision, list(names), data, list(aliases), "dataset")
    return next((place for place in places if place.is_file()), None)


@dataclass(frozen=True, kw_only=True)
class FoundFiles:
    """The files of a data set, sorted by path, and where they came from: "local", or the commit."""

    paths: tuple[Path, ...]
    origin: str


def find_files(
    repo: str,
    revision: str,
    patterns: Iterable[str],
    data: Path | None,
    hub: HubName = "huggingface",
    lock: Lock = Lock(),
) -> FoundFiles:
    """All files that match the first of `patterns` that matches any, from the folder `data` or the hub.

    Patterns are of paths in the repository; `*` matches across folders. Raises MissingDataError where
    there are none, and DataError where one of `…-00003-of-00010` is missing.
    """
    check_revision(repo, revision)
    wanted = list(patterns)
    local = find_local_files(repo, revision, wanted, data)
    if local is not None:
        return local
    try:
        commit = resolve(repo, revision, "dataset", lock, hub)
        there = listed(repo, commit, "dataset", hub, lock)
        names = matching(there, wanted)
        if not names:
            raise HubFailure(f"commit {commit} has no file that matches; it has {shown(there)}")
        check_shards(f"{repo} at {commit}", names)
        folder = fetched(repo, commit, names, "dataset", hub)
    except HubFailure as failure:
        # Without a network, what is cached is enough where it is known to be whole.
        if here := find_present(repo, revision, wanted, data, hub, lock):
            return here
        folders = list(local_folders(repo, revision, data, "dataset")) if data else []
        raise not_found(repo, revision, wanted, [], folders, failure, "") from failure
    return FoundFiles(paths=tuple(folder / name for name in names), origin=commit)


def find_local_files(repo: str, revision: str, patterns: list[str], data: Path | None) -> FoundFiles | None:
    """As `find_files`, in the data folder alone; None where it has nothing."""
    for folder in local_folders(repo, revision, data, "dataset") if data else ():
        if names := matching(files_below(folder), patterns):
            check_shards(str(folder), names)
            return FoundFiles(paths=tuple(folder / name for name in names), origin="local")
    return None


def find_present(
    repo: str,
    revision: str,
    patterns: list[str],
    data: Path | None,
    hub: HubName = "huggingface",
    lock: Lock = Lock(),
) -> FoundFiles | None:
    """As `find_files`, of what is on this machine already; None where nothing is."""
    local = find_local_files(repo, revision, patterns, data)
    if local is not None:
        return local
    for pattern in decisive(patterns, known_files(repo, revision, hub, lock)):
        folder = cached(repo, revision, [pattern], "dataset", hub, lock)
        if folder and (names := matching(files_below(folder), [pattern])):
            check_shards(str(folder), names)
            return FoundFiles(paths=tuple(folder / name for name in names), origin=folder.name)
    return None


def cached(
    repo: str, revision: str, patterns: list[str], kind: Kind, hub: HubName, lock: Lock = Lock()
) -> Path | None:
    """Where files of the pinned or locked commit were downloaded to; None where they were not, or not all.

    What is all of them is known from the lock. Where that never listed the commit, Hugging Face's library
    may know it; of ModelScope's nothing counts then.
    """
    commit = revision if revision != UNPINNED else lock.revision(locked_as(repo, hub))
    known = known_files(repo, revision, hub, lock)
    if commit is None or (known is None and hub == "modelscope"):
        return None
    try:
        folder = hub_named(hub).cached(repo, commit, patterns, kind)
    except HubFailure:
        return None
    names = meant(known or files_below(folder), patterns, kind)
    return folder if names and not absent(folder, names) else None


def known_files(repo: str, revision: str, hub: HubName, lock: Lock) -> list[str] | None:
    """The files of the pinned or locked commit as far as the lock has them."""
    entry = locked_as(repo, hub)
    commit = revision if revision != UNPINNED else lock.revision(entry)
    return lock.files(entry, commit) if commit else None


def listed(repo: str, commit: str, kind: Kind, hub: HubName, lock: Lock = Lock()) -> list[str]:
    """The files of a commit as the lock has them, else as the hub tells, which is then locked.

    Raises HubFailure where neither knows.
    """
    entry = locked_as(repo, hub)
    if known := lock.files(entry, commit):
        return known
    told = hub_named(hub).files(repo, commit, kind)
    if not told:
        raise HubFailure(f"commit {commit} has no files")
    lock.add(entry, files_entry(commit), told)
    return told


def fetched(repo: str, commit: str, names: list[str], kind: Kind, hub: HubName) -> Path:
    """The folder that holds all of these files, from before or downloaded: a commit does not change.

    Raises HubFailure where one is missing.
    """
    source = hub_named(hub)
    with suppress(HubFailure):
        folder = source.cached(repo, commit, names, kind)
        if not absent(folder, names):
            return folder
    folder = source.download(repo, commit, names, kind)
    if missing := absent(folder, names):
        raise HubFailure(f"of {len(names)} files {len(missing)} are not here, {missing[0]} among them")
    return folder


def absent(folder: Path, names: Iterable[str]) -> list[str]:
    return [name for name in names if not (folder / name).is_file()]


def decisive(patterns: list[str], known: list[str] | None) -> list[str]:
    """The patterns that may be the first to match: one where the commit's files are known."""
    if known is None:
        return patterns
    return [pattern for pattern in patterns if fnmatch.filter(known, pattern)][:1]


def meant(names: Iterable[str], patterns: list[str], kind: Kind) -> list[str]:
    """Of a data set the files of the first pattern that matches; of a model all that match at its top.

    A model's folders hold the same weights in other formats.
    """
    if kind == "dataset":
        return matching(names, patterns)
    top = [name for name in names if "/" not in name]
    return [name for name in top if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)]


def shown(names: list[str]) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more if names else "no files"


def files_below(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def matching(names: Iterable[str], patterns: Iterable[str]) -> list[str]:
    """The names that match the first pattern that any name matches."""
    present = list(names)
    return next((found for pattern in patterns if (found := fnmatch.filter(present, pattern))), [])


def check_shards(where: str, names: list[str]) -> None:
    """Raises DataError where a set of `…-of-00010` files has not ten."""
    groups = Counter(found.groups() for name in names if (found := SHARD.match(name)))
    for (prefix, expected), present in groups.items():
        if present != int(expected):
            raise DataError(
                f"{where} holds {present} of the {int(expected)} files {prefix}-*-of-{expected}",
                "Download the rest: a part of a data set would pass for the whole.",
            )


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
    """Folders that may hold a repository: a clone, then the hubs' caches."""
    owner, _, name = repo.partition("/")
    yield data / repo
    yield from snapshots_of(repo, revision, data / f"{kind}s--{owner}--{name}" / "snapshots")
    yield from snapshots_of(repo, revision, data / f"{kind}s" / f"{owner}--{name}" / "snapshots")
    yield data / f"{kind}s" / owner / name.replace(".", "___")


def snapshots_of(repo: str, revision: str, snapshots: Path) -> Iterable[Path]:
    """The pinned snapshot of a hub's cache, or the only one."""
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


def not_found(
    repo: str,
    revision: str,
    names: list[str],
    aliases: list[str],
    places: list[Path],
    failure: HubFailure,
    terms: str,
) -> MissingDataError:
    """The error for data that is neither in the folder nor to be had from the Hub."""
    looked = ", ".join(map(described_place, places)) or "no data folder was given"
    local = aliases[0] if aliases else f"{repo}/{names[0]}"
    remedy = f"Put it at {local} under the data folder (--data DIR or HARNESS_DATA), or connect to the hub."
    if failure.gated or terms:
        remedy = f"{terms or 'The data set is gated.'} Then `hf auth login`. {remedy}"
    return MissingDataError(
        f"{repo} at revision {revision}: {' or '.join(names)} not found. "
        f"Looked in: {looked}; the hub: {failure}",
        remedy.strip(),
    )


def described_place(place: Path) -> str:
    return f"{place} (which holds {shown(files_below(place))})" if place.is_dir() else str(place)


def resolve(repo: str, revision: str, kind: Kind, lock: Lock, hub: HubName = "huggingface") -> str:
    """The commit to download: the pin, the locked one, or the newest, which is then locked."""
    if revision != UNPINNED:
        return revision
    entry = locked_as(repo, hub)
    locked = lock.revision(entry)
    if locked:
        return locked
    commit = hub_named(hub).newest_commit(repo, kind)
    lock.add(entry, "revision", commit)
    return commit


def locked_as(repo: str, hub: HubName) -> str:
    """The repository's name in the lock file: commits of two hubs have nothing in common."""
    return repo if hub == "huggingface" else f"{hub}:{repo}"


MODEL_FILES = ("*.safetensors", "*.json", "*.txt", "*.jinja", "*.model", "*.tiktoken")


def model_files(folder: Path) -> list[Path]:
    """Weights, configuration and tokenizer of a checkpoint folder, sorted by name; none of its folders."""
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
    if folder.is_dir():
        refuse_pickles(str(folder), (file.name for file in folder.iterdir()), folder)
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

    From a hub: `source` is the repository, `revision` the commit or "unpinned". From a folder:
    `source` is a label, `sha256` its content (`checkpoint_hash`), and `path` where it stands; the
    path is no part of the identity. `remote_code`: servers run the Python of the pinned commit, where whoever
    runs the harness confirms that (`harness/weights.py`).
    """

    source: str
    revision: str = ""
    sha256: str = ""
    remote_code: bool = False
    path: Path | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if self.remote_code and not COMMIT.fullmatch(self.revision):
            raise UsageError(
                f"{self.source}: remote_code needs the commit that was read, not {self.revision or 'none'}",
                "Give revision, 40 hex digits.",
            )

    @property
    def identity(self) -> dict[str, Json]:
        identity: dict[str, Json] = described(
            Checkpoint(source=self.source, revision=self.revision, sha256=self.sha256)
        )
        del identity["path"], identity["remote_code"]
        return identity | ({"remote_code": True} if self.remote_code else {})

    def run(self, out: Path, context: "Context") -> None:
        if self.remote_code:
            check_trust(self.source, self.revision, context.machine)
        folder, origin = self.find(context.machine)
        check_checkpoint(folder)
        if not self.remote_code and (told := not_run(folder)):
            context.progress.say(f"{self.source}: {told}")
        if self.sha256 and (found := checkpoint_hash(folder)) != self.sha256:
            raise DataError(
                f"{folder} is not the checkpoint {self.source!r}: its hash is {found}, not {self.sha256}",
                "It changed since the recipe was read; run again, or restore it.",
            )
        code = (
            sorted(folder.glob("*.py")) if self.remote_code else []
        )  # of a local folder: as it stands there
        copy_files([*model_files(folder), *code], out / "model", link=origin != "local")
        source = {"source": self.source, "origin": origin, "sha256": self.sha256}
        write_json(out / SOURCE, source | ({"remote_code": True, "commit": self.revision} if code else {}))

    def find(self, machine: "Machine") -> tuple[Path, str]:
        """The checkpoint's folder, and its origin: "local" or the commit."""
        if self.path is not None:
            return self.path, "local"
        check_revision(self.source, self.revision)
        folder, folders = self.find_local(machine.data)
        if folder is not None:
            return folder, "local"
        try:
            commit = resolve(self.source, self.revision, "model", Lock(), machine.hub)
            there = listed(self.source, commit, "model", machine.hub)
            refuse_pickles(self.source, (name for name in there if "/" not in name))
            names = meant(there, self.patterns, "model")
            return fetched(self.source, commit, names, "model", machine.hub), commit
        except HubFailure as failure:
            if here := cached(self.source, self.revision, self.patterns, "model", machine.hub):
                return here, here.name
            wanted = (["the checkpoint"], [self.source], folders)
            raise not_found(self.source, self.revision, *wanted, failure, "") from failure

    @property
    def patterns(self) -> list[str]:
        """The files that are downloaded: no pickle ever."""
        return [*MODEL_FILES, *(("*.py",) if self.remote_code else ())]

    def find_local(self, data: Path | None) -> tuple[Path | None, list[Path]]:
        """The checkpoint's folder below the data folder, and where it may stand there."""
        folders = list(local_folders(self.source, self.revision, data, "model")) if data else []
        return next((folder for folder in folders if folder.is_dir()), None), folders


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
