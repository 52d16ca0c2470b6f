"""Files that are either whole or absent: written aside, then renamed into place."""

import fcntl
import glob
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import msgspec

from harness.errors import DataError

T = TypeVar("T")

ANOTHER_COPY = "Copy or download the checkpoint again."
UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for bytes that are not what they should be. Bad UTF-8 in a string is no MsgspecError,
nor is nesting without end."""


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file so that a reader, or a crash, sees the old content or the new, never a part."""
    write_pieces(path, (content,))


def write_rows(path: Path, rows: Iterable[object]) -> int:
    """Writes records as JSON lines, all or nothing. Returns their number; holds one at a time."""
    count = 0

    def lines() -> Iterator[bytes]:
        nonlocal count
        for count, row in enumerate(rows, 1):  # noqa: B007
            yield msgspec.json.encode(row) + b"\n"

    write_pieces(path, lines())
    return count


def write_pieces(path: Path, pieces: Iterable[bytes]) -> None:
    """As `write_whole`, for content that need not fit into memory."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with opened_aside(aside) as file:
            remove_abandoned(path, but=aside)
            for piece in pieces:
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
            aside.rename(path)  # while it is locked: else another writer takes it for abandoned
    finally:
        aside.unlink(missing_ok=True)


def opened_aside(aside: Path) -> BinaryIO:
    """The file to be written, locked for as long as it is open: so others see that somebody writes it."""
    while True:
        file = aside.open("wb")
        with suppress(OSError):  # not every file system has locks
            fcntl.flock(file, fcntl.LOCK_EX)
        if aside.exists():
            return file
        file.close()


def remove_abandoned(path: Path, but: Path) -> None:
    """Removes what processes that were killed had begun to write for `path`: nobody holds it locked."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.*"):
        if left != but and left.suffix[1:].isdigit():
            with suppress(OSError), left.open("rb+") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.path.samestat(os.fstat(file.fileno()), left.stat()):  # it may have been renamed since
                    left.unlink()


def read_json(path: Path, kind: type[T], remedy: str) -> T:
    """The JSON document of a file that somebody may have changed, cut or moved.

    Raises DataError, with the remedy, where it is none of this kind, and OSError where it cannot be read.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except UNREADABLE as error:
        raise DataError(f"{path} cannot be understood: {error}", remedy) from error


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object of a checkpoint's file, in which NaN and Infinity may stand for numbers.

    Raises DataError where it is none, and OSError where it cannot be read.
    """
    try:
        found = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is no JSON: {error}", ANOTHER_COPY) from error
    if not isinstance(found, dict):
        raise DataError(f"{path} holds no JSON object", ANOTHER_COPY)
    return found


def write_json(path: Path, value: object) -> None:
    """Writes one JSON document, indented, for machines and people."""
    write_whole(path, msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n")
