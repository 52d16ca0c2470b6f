"""Files of rows: JSON Lines keyed by `(question, draw)`, appended to and never rewritten while they grow.

A torn last line is not there yet: whoever appends next drops it.
"""

import functools
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

import msgspec

from harness import places, tokens
from harness.errors import DataError
from harness.files import UNREADABLE
from harness.places import Place
from harness.tokens import TokenFile

if TYPE_CHECKING:
    from harness.answering import Response

T = TypeVar("T")
Row = TypeVar("Row", bound="Keyed")
Wanted = Callable[[tuple[str, int]], bool]

READ_AT_ONCE = 1 << 20
"""Bytes. Python's own 8 KB are 25 reads for a row of 200 KB, each of which may wait for other threads."""

LOOKED_AGAIN = 0.2
"""Seconds after which a file that another thread writes is looked at again."""


ASIDE = (
    "`harness verify --mend` puts such rows of a stage aside; in another file remove the line. Then run the "
    "same command again"
)


class FlippedError(DataError):
    """A row that is not the one that was written: a disk or a memory has changed it."""


class Key(msgspec.Struct):
    question: str
    draw: int


class Keyed(Protocol):
    """What a row of any kind has."""

    @property
    def question(self) -> str: ...

    @property
    def draw(self) -> int: ...


class Span(NamedTuple):
    """A row's key, its bytes from `start` to `end`, the number of its line, and the checksum that it had
    when it was written."""

    question: str
    draw: int
    start: int
    end: int
    number: int
    content: int


class RowFile:
    """The append-only file of generations, with the places of its rows, and tokens.arrow beside it where
    tokens come with them.

    The only writer of all three while it is open. Once a write has failed nothing more is written: what
    came after it would not stand where it seems to.
    """

    failure: BaseException | None = None

    def __init__(self, path: Path) -> None:
        self.path = path
        self.encoder = msgspec.json.Encoder()

    def __enter__(self) -> "RowFile":
        self.path.touch()
        drop_torn_line(self.path)
        spans = list(spans_of(self.path))
        self.keys = set(map(key_of, spans))
        self.end = spans[-1].end if spans else 0
        told = (Place(one.question, one.draw, one.end, one.content) for one in spans)
        written = places.write(self.path, told)
        self.opened = ExitStack()
        self.descriptor, self.places = (
            os.open(file, os.O_WRONLY | os.O_APPEND) for file in (self.path, written)
        )
        self.opened.callback(os.close, self.descriptor)
        self.opened.callback(os.close, self.places)
        if self.path.with_name(tokens.NAME).exists():
            _ = self.tokens  # its index is read now, not while answers wait
        return self

    def __exit__(self, *failure: object) -> None:
        self.opened.close()

    @functools.cached_property
    def tokens(self) -> TokenFile:
        return self.opened.enter_context(TokenFile(self.path.with_name(tokens.NAME)))

    def claim(self, key: tuple[str, int]) -> bool:
        """Whether this key is neither in the file nor being asked for; it is taken from now on."""
        if key in self.keys:
            return False
        self.keys.add(key)
        return True

    def append(self, responses: "Iterable[Response]") -> None:
        """Writes rows and hands them to the system at once, so that they outlive this process.

        Their tokens go first, their places last: of a row that is there nothing is missing, and no place
        is told that is not there. Where writing fails, the torn row is cut off, and the same error is raised
        for all that is appended later.
        """
        if self.failure is not None:
            raise self.failure
        try:
            self._write(responses)
        except BaseException as error:
            self.failure = error
            with suppress(OSError):  # whoever opens the file next cuts it off
                drop_torn_line(self.path)
            raise

    def _write(self, responses: "Iterable[Response]") -> None:
        rows, ends = bytearray(), []
        for response in responses:
            if response.tokens is not None:
                self.tokens.append(key_of(response.row), response.tokens)
            start = len(rows)
            self.encoder.encode_into(response.row, rows, start)
            rows += b"\n"
            content = places.content_of(rows[start:])
            ends.append(Place(*key_of(response.row), self.end + len(rows), content))
        write_all(self.descriptor, rows)
        self.end += len(rows)
        try:
            write_all(self.places, places.lines(ends))
        except BaseException:
            places.forget(self.path)
            raise


def write_all(descriptor: int, content: bytes | bytearray) -> None:
    """Writes all of it: the system may take a part at a time, and does where a disk becomes full."""
    left = memoryview(content)
    while left:
        left = left[os.write(descriptor, left) :]


def keys_of(rows: Path) -> frozenset[tuple[str, int]]:
    """The keys that a file holds; none where there is no file. What it holds is not asked again."""
    return frozenset(map(key_of, spans_of(rows))) if rows.exists() else frozenset()


def spans_of(rows: Path) -> Iterator[Span]:
    """Where each row of a file stands, in the file's order: as is written down, then as it is read.

    Reading takes a second for each gigabyte. Raises DataError as `read_rows` does.
    """
    return spans_after(rows, places.told(rows))


def spans_after(rows: Path, known: list[Place]) -> Iterator[Span]:
    """The rows that stand at the known places, then those that follow them, which are read."""
    start = 0
    for number, place in enumerate(known, start=1):
        yield Span(sys.intern(place.question), place.draw, start, place.end, number, place.content)
        start = place.end
    decoder = msgspec.json.Decoder(Key)
    for number, line in enumerate(lines_from(rows, start), start=len(known) + 1):
        key = decode(decoder, line, rows, number)
        content, end = places.content_of(line), start + len(line)
        yield Span(sys.intern(key.question), key.draw, start, end, number, content)
        start = end


def count_rows(rows: Path) -> int:
    """The whole rows of a file; 0 where there is none. No row is looked into."""
    if not rows.exists():
        return 0
    known = places.told(rows)
    with rows.open("rb", buffering=0) as file:
        file.seek(known[-1].end if known else 0)
        pieces = iter(functools.partial(file.read, READ_AT_ONCE), b"")
        return len(known) + sum(piece.count(b"\n") for piece in pieces)


def drop_torn_line(path: Path) -> None:
    """Cuts off what follows the last line feed: a row whose writing was interrupted."""
    with path.open("rb+") as file:
        size = file.seek(0, os.SEEK_END)
        end = size
        while end > 0:
            start = max(0, end - 65_536)
            file.seek(start)
            found = file.read(end - start).rfind(b"\n")
            if found >= 0:
                end = start + found + 1
                break
            end = start
        if end < size:
            file.truncate(end)


def read_rows(path: Path, kind: type[T]) -> Iterator[T]:
    """The rows of a JSONL file, one at a time. A last line without a line feed is not there yet.

    Raises DataError, with the line's number, where a whole line is not a row of this kind, or is not the one
    that was written.
    """
    decoder, compare = msgspec.json.Decoder(kind), Written(path)
    for number, line in enumerate(lines_from(path), start=1):
        compare(number, line)
        yield decode(decoder, line, path, number)


def lines_from(path: Path, start: int = 0) -> Iterator[bytes]:
    """The whole lines from a byte on. They end at line feeds only: text may hold U+2028, which
    `str.splitlines` takes for one."""
    with path.open("rb", buffering=READ_AT_ONCE) as file:
        file.seek(start)
        for line in file:
            if not line.endswith(b"\n"):
                return
            yield line


def read_wanted(path: Path, kind: type[Row], wanted: Wanted) -> Iterator[Row]:
    """The rows whose keys are wanted, in the file's order.

    Raises DataError as `read_rows` does.
    """
    return read_spans(path, kind, lambda spans: (span for span in spans if wanted(key_of(span))))


def read_in_order(path: Path, kind: type[Row]) -> Iterator[Row]:
    """The rows by question and draw, whatever the order in which they came; one in memory.

    Raises DataError as `read_rows` does.
    """
    return read_spans(path, kind, sorted)


def read_spans(
    path: Path, kind: type[Row], choose: Callable[[Iterator[Span]], Iterable[Span]]
) -> Iterator[Row]:
    """The rows of the chosen spans, in their order.

    Where another row stands at one of them, the places are removed, and what was not given yet is found
    by reading the file. Raises FlippedError where a row is not the one that was written.
    """
    given = set[tuple[str, int]]()
    try:
        for row in rows_at(path, kind, choose(spans_of(path))):
            given.add(key_of(row))
            yield row
        return
    except FlippedError:
        raise
    except DataError:
        if not places.told(path):
            raise
    places.forget(path)
    rest = choose(spans_after(path, []))
    yield from rows_at(path, kind, (span for span in rest if key_of(span) not in given))


def rows_at(path: Path, kind: type[Row], spans: Iterable[Span]) -> Iterator[Row]:
    decoder = msgspec.json.Decoder(kind)
    with path.open("rb") as file:
        for span in spans:
            file.seek(span.start)
            line = file.read(span.end - span.start)
            same = is_row(line, span.content, path, span.number)
            row = decode(decoder, line, path, span.number)
            if not same or key_of(row) != key_of(span):
                raise DataError(f"{path}, line {span.number}: not the row of {key_of(span)}", ASIDE)
            yield row


def follow_rows(
    path: Path, kind: type[T], written: threading.Event, wanted: Wanted | None = None
) -> Iterator[T | None]:
    """The rows of a file that another thread appends to, as they come, until all is `written`.

    Only those whose keys are wanted, where that is told. None says that there is nothing new at the
    moment. The file may not be there at first, and what follows its last line feed is not read, so that
    its writer may cut a torn line off. Raises DataError as `read_rows` does: rows that were there before are
    compared with what was written.
    """
    keys, rows, compare = msgspec.json.Decoder(Key), msgspec.json.Decoder(kind), Written(path)
    place = number = 0
    while True:
        last = written.is_set()  # asked before reading: nothing comes after what is read now
        for line in lines_from(path, place) if last or path.exists() else ():
            place, number = place + len(line), number + 1
            compare(number, line)
            if wanted is None or wanted(key_of(decode(keys, line, path, number))):
                yield decode(rows, line, path, number)
        if last:
            return
        yield None
        written.wait(LOOKED_AGAIN)


class Written:
    """Compares the lines of a file, read one after the other, with what is told of those that were written.

    Where the two are out of step nothing is compared: the places are those of another file.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.end = path, 0
        self.known = places.told(path) if path.exists() else []

    def __call__(self, number: int, line: bytes) -> None:
        """Raises FlippedError where the line is not the one that was written."""
        self.end += len(line)
        if number > len(self.known) or self.known[number - 1].end != self.end:
            return
        if not is_row(line, self.known[number - 1].content, self.path, number):
            self.known = []


def is_row(line: bytes, content: int, path: Path, number: int) -> bool:
    """Whether a line is the row that was written there.

    It may be another one: the file's rows were put in another order. Raises FlippedError where it is none.
    """
    if content == places.UNKNOWN or (found := places.content_of(line)) == content:
        return True
    if not places.is_line(line) or reordered(path):
        return False
    raise FlippedError(
        f"{path}, line {number}: this is not the row that was written (its checksum is {found:08x} and "
        f"was {content:08x})",
        f"{ASIDE}. If it was changed on purpose, remove {places.file_of(path).name}.",
    )


def reordered(path: Path) -> bool:
    """Whether a file has exactly the rows that were written, in whatever order."""
    return sorted(map(places.content_of, lines_from(path))) == sorted(
        one.content for one in places.told(path)
    )


def key_of(row: Keyed) -> tuple[str, int]:
    return row.question, row.draw


def decode(decoder: msgspec.json.Decoder[T], line: bytes, path: Path, number: int) -> T:
    try:
        return decoder.decode(line)
    except UNREADABLE as error:
        raise DataError(
            f"{path}, line {number}: not a {decoder.type.__name__} ({error})",
            ASIDE,
        ) from error
