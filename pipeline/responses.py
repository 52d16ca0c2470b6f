"""Responses to be scored: where they stand in their file, and batches of about one length."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import msgspec

from harness.rows import decode
from harness.tokens import Key

BATCH_BYTES = 16_384  # about 4K tokens, which keep a GPU busy; a longer response goes alone

Batch = list["Place"]


class Kept(msgspec.Struct):
    prompt: str


class Response(msgspec.Struct):
    """What scoring reads of a Generation."""

    question: str
    draw: int
    text: str
    kept: Kept

    @property
    def key(self) -> Key:
        return self.question, self.draw


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where a response stands in its file, and the UTF-8 length of its prompt and text."""

    key: Key
    start: int
    line: int
    size: int


class Responses:
    """A file of responses of which only the places are held: its texts may take 40 GB."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.decoder = msgspec.json.Decoder(Response)
        self.places = list(self.found())

    def found(self) -> Iterator[Place]:
        start = 0
        with self.path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                row = decode(self.decoder, line, self.path, number)
                size = len(row.text.encode()) + len(row.kept.prompt.encode())
                yield Place(key=row.key, start=start, line=number, size=size)
                start += len(line)

    def read(self, place: Place) -> Response:
        with self.path.open("rb") as file:
            file.seek(place.start)
            return decode(self.decoder, file.readline(), self.path, place.line)

    def batches(self, without: Iterable[Key] = ()) -> list[Batch]:
        """The batches of which a row is missing in `without`."""
        held = set(without)
        return [batch for batch in batches(self.places) if any(place.key not in held for place in batch)]


def batches(places: Iterable[Place]) -> Iterator[Batch]:
    """Responses of about one length together, the longest first: if memory is short, it is at once."""
    ordered = iter(sorted(places, key=lambda place: (-place.size, place.key)))
    for first in ordered:
        yield [first, *islice(ordered, max(0, BATCH_BYTES // max(first.size, 1) - 1))]
