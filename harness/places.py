"""Where each row of a file ends: `generations.jsonl.places`, appended to after the rows themselves.

    ["2024-I-1",3,204812,2817334126,993402115]

A help: with it, what eight gigabytes of rows hold is known in a moment. It may lack the last rows, and where
it is damaged (each line has a checksum of what it says, the last number but one) or its last place is not
that of its row it counts for nothing: what it does not tell is read from them. The other places are compared
as their rows are read (`rows.read_spans`).

The last number is the CRC-32 of the row itself: a row of which a bit has flipped is found out when it is
read. The file may be removed at any time; the rows are then believed, and written down as they stand.
"""

import zlib
from collections.abc import Iterable
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import msgspec

from harness.files import UNREADABLE, write_pieces

UNKNOWN = -1


class Place(msgspec.Struct, frozen=True, array_like=True):
    """A row's key, the byte after its line feed, and the CRC-32 of its bytes: UNKNOWN where an earlier
    version wrote the place."""

    question: str
    draw: int
    end: int
    content: int = UNKNOWN


class Line(msgspec.Struct, frozen=True, array_like=True):
    """A place as it is written, with its checksum."""

    question: str
    draw: int
    end: int
    check: int
    content: int = UNKNOWN


class Keyed(msgspec.Struct):
    question: str
    draw: int


def file_of(rows: Path) -> Path:
    return rows.with_name(f"{rows.name}.places")


def lines(places: Iterable[Place]) -> bytes:
    return b"".join(
        msgspec.json.encode(Line(place.question, place.draw, place.end, checksum(place), place.content))
        + b"\n"
        for place in places
    )


def checksum(place: Place | Line) -> int:
    told = f"{place.question}\n{place.draw}\n{place.end}"
    return zlib.crc32((told if place.content == UNKNOWN else f"{told}\n{place.content}").encode())


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
    other rows, or one from which a line was taken, has another row there, or none. Where the last row alone
    is damaged, the one before it tells that the file is the same.
    """
    found = written(file_of(rows))
    size = rows.stat().st_size if found else 0
    while found and found[-1].end > size:
        found.pop()
    rising = all(before < after for before, after in pairwise([0, *(place.end for place in found)]))
    return found if found and rising and (stands(found, rows) or goes_on(found, rows)) else []


def written(file: Path) -> list[Place]:
    """The places of a file, but for a torn last line; none where it cannot be read or is damaged."""
    decoder = msgspec.json.Decoder(Line)
    try:
        found = [decoder.decode(line) for line in file.read_bytes().split(b"\n")[:-1]]
    except (OSError, *UNREADABLE):
        return []
    if any(checksum(line) != line.check for line in found):
        return []
    return [Place(line.question, line.draw, line.end, line.content) for line in found]


def stands(places: list[Place], rows: Path) -> bool:
    """Whether the last place is that of a whole row with its key."""
    last, line = places[-1], line_at(places, len(places) - 1, rows)
    try:
        key = msgspec.json.decode(line, type=Keyed)
    except UNREADABLE:
        return False
    return is_line(line) and (key.question, key.draw) == (last.question, last.draw)


def goes_on(places: list[Place], rows: Path) -> bool:
    """Whether the last row but one is the very one that was told, and one line stands after it."""
    if len(places) < 2 or (content := places[-2].content) == UNKNOWN:
        return False
    same = content_of(line_at(places, len(places) - 2, rows)) == content
    return same and is_line(line_at(places, len(places) - 1, rows))


def line_at(places: list[Place], number: int, rows: Path) -> bytes:
    """What stands at a place, counted from 0."""
    start = places[number - 1].end if number else 0
    with rows.open("rb") as file:
        file.seek(start)
        return file.read(places[number].end - start)


def is_line(row: bytes) -> bool:
    """Whether bytes are one line with its line feed."""
    return row.endswith(b"\n") and row.count(b"\n") == 1


def content_of(row: bytes | bytearray) -> int:
    """The checksum of a row with its line feed."""
    return zlib.crc32(row)
