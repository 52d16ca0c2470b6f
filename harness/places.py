"""Where each row of a file ends: `generations.jsonl.places`, appended to after the rows themselves.

    ["2024-I-1",3,204812,2817334126]

A help, never the truth: with it, what eight gigabytes of rows hold is known in a moment. It may lack the
last rows, and where it is damaged (each line ends in a checksum of what it says) or its last place is not
that of its row it counts for nothing: what it does not tell is read from them. The other places are compared
as their rows are read (`rows.read_spans`). It may be removed at any time.
"""

import zlib
from collections.abc import Iterable
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import msgspec

from harness.files import UNREADABLE, write_pieces


class Place(msgspec.Struct, frozen=True, array_like=True):
    """A row's key, and the byte after its line feed."""

    question: str
    draw: int
    end: int


class Line(msgspec.Struct, frozen=True, array_like=True):
    """A place as it is written, with its checksum."""

    question: str
    draw: int
    end: int
    check: int


class Keyed(msgspec.Struct):
    question: str
    draw: int


def file_of(rows: Path) -> Path:
    return rows.with_name(f"{rows.name}.places")


def lines(places: Iterable[Place]) -> bytes:
    return b"".join(
        msgspec.json.encode(Line(place.question, place.draw, place.end, checksum(place))) + b"\n"
        for place in places
    )


def checksum(place: Place | Line) -> int:
    return zlib.crc32(f"{place.question}\n{place.draw}\n{place.end}".encode())


def write(rows: Path, places: Iterable[Place]) -> Path:
    """Writes all places anew; returns the file."""
    write_pieces(file_of(rows), (lines((place,)) for place in places))
    return file_of(rows)


def forget(rows: Path) -> None:
    """Removes the places, where that is allowed: they are written anew with the next rows."""
    with suppress(OSError):
        file_of(rows).unlink()


def told(rows: Path) -> list[Place]:
    """The places that are written down, as far as they fit the rows; none where that is not sure.

    They fit where they go up, and where the last of them that the rows reach is that of a row: a file of
    other rows, or one from which a line was taken, has another row there, or none.
    """
    found = written(file_of(rows))
    size = rows.stat().st_size if found else 0
    while found and found[-1].end > size:
        found.pop()
    rising = all(before < after for before, after in pairwise([0, *(place.end for place in found)]))
    return found if found and rising and stands(found, rows) else []


def written(file: Path) -> list[Place]:
    """The places of a file, but for a torn last line; none where it cannot be read or is damaged."""
    decoder = msgspec.json.Decoder(Line)
    try:
        found = [decoder.decode(line) for line in file.read_bytes().split(b"\n")[:-1]]
    except (OSError, *UNREADABLE):
        return []
    if any(checksum(line) != line.check for line in found):
        return []
    return [Place(line.question, line.draw, line.end) for line in found]


def stands(places: list[Place], rows: Path) -> bool:
    """Whether the last place is that of a whole row with its key."""
    last, start = places[-1], places[-2].end if len(places) > 1 else 0
    with rows.open("rb") as file:
        file.seek(start)
        line = file.read(last.end - start)
    try:
        key = msgspec.json.decode(line, type=Keyed)
    except UNREADABLE:
        return False
    return line.find(b"\n") == len(line) - 1 and (key.question, key.draw) == (last.question, last.draw)
