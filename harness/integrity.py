"""What a finished stage holds, written down with it: the size and SHA-256 of each file, in stage.json.

A bit that a disk or a memory changes is found out before what it changed is graded, trained on, served or
reported. Stages that an earlier version finished say nothing of their files, and are believed.

A checksum is no signature: who writes a stage.json can name any file in it. Names that lead out of the
stage's folder are refused, and what is no ordinary file is not opened.
"""

import errno
import hashlib
import stat
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import msgspec

from harness import places
from harness.errors import DataError
from harness.files import UNREADABLE, read_json, write_json
from harness.stage import Json, key_of_identity

MANIFEST, IDENTITY = "stage.json", "identity.json"
MEASURED = ".measured"
"""The folder beside the stages for what is known of them and can be found out again."""

SMALL = 64 << 20
"""Bytes up to which a file is looked at whenever it is read: a tenth of a second."""

DAMAGED = (
    "`harness verify --mend` puts it aside: the stage is then gone through again, and what its folder holds "
    "is kept."
)
MENDED = (
    "`harness verify --mend` puts it aside; then run the same command again. If it was changed on purpose, "
    "remove {}: the stage is then gone through again."
)
PASSING = ("unfinished", "interrupted", "batch")
"""Folders of what a finished stage needs no more."""
HELPS = (".log", ".places", ".about", ".damaged")


class Sealed(msgspec.Struct, frozen=True):
    """A file as it was when its stage was finished."""

    bytes: int
    sha256: str


class Told(msgspec.Struct):
    """What is read of stage.json here."""

    files: dict[str, Sealed] = {}


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A file that is not what it was; `what` is the end of a sentence. What was not `read` may be whole."""

    name: str
    what: str
    read: bool = True


Say = Callable[[str], None]
Wish = Callable[[Path, Sealed], bool]
"""Which files of a stage are compared with what was written."""


def quiet(text: str) -> None:
    """Says nothing."""


# Writing ------------------------------------------------------------------------------------


def sealed_files(folder: Path, say: Say = quiet) -> dict[str, Json]:
    """Each file of a stage's folder with its size and SHA-256, by its path below the folder.

    Left out are logs, links, and helps that may be removed at any time.
    """
    files = [
        file
        for file in sorted(folder.rglob("*"))
        if is_kept(file.relative_to(folder)) and file.is_file() and not file.is_symlink()
    ]
    announce(folder, sum(file.stat().st_size for file in files), "written down", say)
    return {
        str(file.relative_to(folder)): {"bytes": file.stat().st_size, "sha256": sha256(file)}
        for file in files
    }


def announce(folder: Path, size: int, what: str, say: Say) -> None:
    """Tells of hashing that takes more than some seconds."""
    if size > 16 * SMALL:
        say(f"  {folder.name}: {size / 1e9:.1f} GB are {what}")


def is_kept(path: PurePath) -> bool:
    """Whether a file of a stage's folder has to stay as it is."""
    if str(path) == MANIFEST or path.name.endswith(HELPS) or path.name == "log.txt" or not is_below(path):
        return False
    return path.parts[0] not in PASSING and not any(part.startswith(".") for part in path.parts)


def is_below(path: PurePath) -> bool:
    """Whether a path names a file below a folder, in letters that a terminal may be given."""
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts and str(path).isprintable()


def sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def with_check(manifest: Mapping[str, Json]) -> dict[str, Json]:
    """stage.json with a checksum of what it says."""
    return {**manifest, "check": check_of(manifest)}


def check_of(manifest: Mapping[str, Json]) -> int:
    rest = {name: value for name, value in manifest.items() if name != "check"}
    return zlib.crc32(msgspec.json.encode(msgspec.to_builtins(rest), order="sorted"))


# Reading ------------------------------------------------------------------------------------


def read_manifest(folder: Path) -> dict[str, Any]:
    """What stage.json of a finished stage says. Raises DataError where it is damaged."""
    file = folder / MANIFEST
    manifest = read_json(file, dict[str, Any], DAMAGED)
    checked = "check" in manifest or "files" in manifest
    if checked and manifest.get("check") != check_of(manifest):
        raise DataError(f"{file} is not what was written: its checksum is another", DAMAGED)
    return manifest


def told_identity(folder: Path) -> dict[str, Json] | None:
    """The identity that a stage's folder tells; None where there is none, or not the one that the folder is
    named after."""
    try:
        told = msgspec.json.decode((folder / IDENTITY).read_bytes(), type=dict[str, Json])
    except (OSError, *UNREADABLE):
        return None
    return told if is_of(told, folder.name) else None


def is_of(identity: Mapping[str, Json], key: str) -> bool:
    """Whether a stage of this identity has this key."""
    return key_of_identity(key.rpartition("-")[0], identity) == key


def sealed(folder: Path, manifest: Mapping[str, Any]) -> dict[str, Sealed]:
    """The files that a stage.json tells and that have to stay; none where an earlier version wrote it.

    Raises DataError where it cannot be understood, or names what is not below the stage's folder.
    """
    try:
        told = msgspec.convert(manifest, Told).files
    except msgspec.ValidationError as error:
        raise DataError(f"{folder / MANIFEST} cannot be understood: {error}", DAMAGED) from error
    if wrong := next((name for name in told if not is_below(PurePath(name))), None):
        raise DataError(f"{folder / MANIFEST} names {wrong!a}, which is no file of its folder", DAMAGED)
    return {name: was for name, was in told.items() if is_kept(PurePath(name))}


def check_files(folder: Path, wanted: Wish, say: Say = quiet) -> None:
    """Compares the wanted files of a finished stage with what was written.

    A large file that was found whole is hashed again only where its times, size or inode changed. Raises
    DataError where a file is another.
    """
    told, known = sealed(folder, read_manifest(folder)), known_whole(folder)
    marks = {name: mark_of(folder / name, was) for name, was in told.items() if was.bytes > SMALL}
    chosen = {
        name: was
        for name, was in told.items()
        if wanted(folder / name, was) and not (marks.get(name) and marks[name] == known.get(name))
    }
    announce(folder, sum(was.bytes for was in chosen.values()), "compared with what was written", say)
    for one in differing(folder, chosen):
        raise DataError(f"{folder / one.name} {one.what}", MENDED.format(folder / MANIFEST))
    if new := {name: marks[name] for name in chosen if name in marks}:
        with suppress(OSError):  # runs may belong to others, too
            known_file(folder).parent.mkdir(exist_ok=True)
            write_json(known_file(folder), {**known, **new})


def known_file(folder: Path) -> Path:
    return folder.parent / MEASURED / f"{folder.name}.whole.json"


def known_whole(folder: Path) -> dict[str, str]:
    """The mark of each large file of a stage as it was when it was last found whole."""
    try:
        return msgspec.json.decode(known_file(folder).read_bytes(), type=dict[str, str])
    except (OSError, *UNREADABLE):
        return {}


def mark_of(file: Path, was: Sealed) -> str:
    """What changes whenever somebody writes a file; empty where there is none."""
    try:
        now = file.lstat()
    except OSError:
        return ""
    return f"{was.sha256} {now.st_size} {now.st_ino} {now.st_mtime_ns} {now.st_ctime_ns}"


def differing(folder: Path, told: Mapping[str, Sealed]) -> Iterator[Difference]:
    """The files that are not what they were."""
    for name, was in told.items():
        try:
            what = difference(folder, name, was)
        except FileNotFoundError:
            what = f"is gone: its stage wrote {was.bytes:,} bytes"
        except OSError as error:
            yield Difference(name=name, what=f"cannot be read: {error.strerror}", read=False)
            continue
        if what:
            yield Difference(name=name, what=what)


def difference(folder: Path, name: str, was: Sealed) -> str:
    """What is wrong with a file, as the end of a sentence; empty where nothing is.

    Raises OSError where it cannot be read, or is not a file of its own in the stage's folder.
    """
    file = folder / name
    if not stat.S_ISREG(file.lstat().st_mode) or not file.resolve().is_relative_to(folder.resolve()):
        raise OSError(errno.EINVAL, "it is a link, or no file")
    size = file.stat().st_size
    if size != was.bytes:
        return f"is not what its stage wrote: it has {size:,} bytes and had {was.bytes:,}"
    if (found := sha256(file)) != was.sha256:
        return f"is not what its stage wrote: its SHA-256 is {found[:12]}… and was {was.sha256[:12]}…"
    return ""


def of_an_input(file: Path, was: Sealed) -> bool:
    """Which files of an input are compared: all but those of whose rows each is compared as it is read."""
    return was.bytes <= SMALL or not places.file_of(file).exists()


def of_a_report(file: Path, was: Sealed) -> bool:
    """Which files are compared that a report reads: small ones that are there. Responses may be removed."""
    return was.bytes <= SMALL and file.exists()
