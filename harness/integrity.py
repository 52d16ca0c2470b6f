"""What a finished stage holds, written down with it: the size and SHA-256 of each file, in stage.json.

A bit that a disk or a memory changes is found out before what it changed is graded, trained on, served or
reported. Stages that an earlier version finished say nothing of their files, and are believed.
"""

import hashlib
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from harness import places
from harness.errors import DataError
from harness.files import UNREADABLE, read_json
from harness.stage import Json, key_of_identity

MANIFEST, IDENTITY = "stage.json", "identity.json"
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
UNFINISHED = ("unfinished", "interrupted")
HELPS = (".log", ".places", ".about", ".damaged")


class Sealed(msgspec.Struct, frozen=True):
    """A file as it was when its stage was finished."""

    bytes: int
    sha256: str


class Told(msgspec.Struct):
    """What is read of stage.json here."""

    files: dict[str, Sealed] = {}


Wish = Callable[[Path, Sealed], bool]
"""Which files of a stage are compared with what was written."""


# Writing ------------------------------------------------------------------------------------


def sealed_files(folder: Path) -> dict[str, Json]:
    """Each file of a stage's folder with its size and SHA-256, by its path below the folder.

    Left out are logs, links, and helps that may be removed at any time.
    """
    return {
        str(file.relative_to(folder)): {"bytes": file.stat().st_size, "sha256": sha256(file)}
        for file in sorted(folder.rglob("*"))
        if is_kept(file.relative_to(folder)) and file.is_file() and not file.is_symlink()
    }


def is_kept(path: Path) -> bool:
    """Whether a file of a stage's folder has to stay as it is."""
    if str(path) == MANIFEST or path.name.endswith(HELPS) or path.name == "log.txt":
        return False
    return path.parts[0] not in UNFINISHED and not any(part.startswith(".") for part in path.parts)


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
    if "check" in manifest and manifest["check"] != check_of(manifest):
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


def sealed(manifest: Mapping[str, Any]) -> dict[str, Sealed]:
    """The files that a stage.json tells; none where an earlier version wrote it. Raises DataError where it
    cannot be understood."""
    try:
        return msgspec.convert(manifest, Told).files
    except msgspec.ValidationError as error:
        raise DataError(f"{MANIFEST} cannot be understood: {error}", DAMAGED) from error


def check_files(folder: Path, wanted: Wish, say: Callable[[str], None] = lambda text: None) -> None:
    """Compares the wanted files of a finished stage with what was written.

    Raises DataError where one is another.
    """
    told = sealed(read_manifest(folder))
    chosen = {name: was for name, was in told.items() if wanted(folder / name, was)}
    if (size := sum(was.bytes for was in chosen.values())) > 16 * SMALL:
        say(f"  {folder.name}: {size / 1e9:.1f} GB are compared with what was written")
    for name, what in differing(folder, chosen):
        raise DataError(f"{folder / name} {what}", MENDED.format(folder / MANIFEST))


def differing(folder: Path, told: Mapping[str, Sealed]) -> Iterator[tuple[str, str]]:
    """The files that are not what they were, each with what is wrong with it."""
    for name, was in told.items():
        if what := difference(folder / name, was):
            yield name, what


def difference(file: Path, was: Sealed) -> str:
    """What is wrong with a file, as the end of a sentence; empty where nothing is."""
    try:
        size = file.stat().st_size
        if size != was.bytes:
            return f"is not what its stage wrote: it has {size:,} bytes and had {was.bytes:,}"
        found = sha256(file)
    except FileNotFoundError:
        return f"is gone: its stage wrote {was.bytes:,} bytes"
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    if found != was.sha256:
        return f"is not what its stage wrote: its SHA-256 is {found[:12]}… and was {was.sha256[:12]}…"
    return ""


def of_an_input(file: Path, was: Sealed) -> bool:
    """Which files of an input are compared: all but those of whose rows each is compared as it is read."""
    return was.bytes <= SMALL or not places.file_of(file).exists()


def of_a_report(file: Path, was: Sealed) -> bool:
    """Which files are compared that a report reads: small ones that are there. Responses may be removed."""
    return was.bytes <= SMALL and file.exists()
