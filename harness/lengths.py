"""How long each response of an Ask is, kept beside the stages: `.measured/ask-1aa92b17.lengths.json`.

Eight gigabytes of responses are a quarter of a minute to read, and a report wants no more of them than two
numbers a row. Whoever grades sees every row anyway and writes the lengths down; of an Ask that was graded
otherwise (in two goes, or by an earlier version) they are read once and then kept. A help, never the truth:
the file counts only for rows of the very size it was made from, and may be removed at any time.
"""

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import msgspec

from harness.cost import MEASURED
from harness.files import UNREADABLE, write_whole
from harness.rows import read_rows
from harness.types import FinishReason

ROWS = "generations.jsonl"


class Length(msgspec.Struct, frozen=True, array_like=True):
    """A response's key, the tokens of its prompt and its own, and how it ended."""

    question: str
    draw: int
    prompt: int
    completion: int
    finish: FinishReason


class Lengths(msgspec.Struct, frozen=True):
    """The lengths of all rows of a file of so many bytes."""

    bytes: int
    rows: list[Length]


class Row(msgspec.Struct):
    """What is read of a Generation: texts are skipped undecoded."""

    question: str
    draw: int
    prompt_tokens: int
    completion_tokens: int
    finish_reason: FinishReason


class Sized(Protocol):
    """What a row of either kind has."""

    @property
    def question(self) -> str: ...
    @property
    def draw(self) -> int: ...
    @property
    def prompt_tokens(self) -> int: ...
    @property
    def completion_tokens(self) -> int: ...
    @property
    def finish_reason(self) -> FinishReason: ...


def file_of(stages: Path, asked: str) -> Path:
    return stages / MEASURED / f"{asked}.lengths.json"


def lengths(stages: Path, asked: str) -> list[Length]:
    """Of every response of a finished Ask, in the order in which they came; none where the responses were
    removed. Raises DataError as `read_rows` does, where they must be read.
    """
    rows = stages / asked / ROWS
    if not rows.exists():
        return []
    with suppress(OSError, *UNREADABLE):
        told = msgspec.json.decode(file_of(stages, asked).read_bytes(), type=Lengths)
        if told.bytes == rows.stat().st_size:
            return told.rows
    found = list(map(length_of, read_rows(rows, Row)))
    keep(stages, asked, found)
    return found


def keep(stages: Path, asked: str, found: Iterable[Length]) -> None:
    """Writes down the lengths of all rows, where that is allowed: reports are made of others' runs, too."""
    with suppress(OSError):
        told = Lengths(bytes=(stages / asked / ROWS).stat().st_size, rows=list(found))
        file_of(stages, asked).parent.mkdir(exist_ok=True)
        write_whole(file_of(stages, asked), msgspec.json.encode(told))


def length_of(row: Sized) -> Length:
    return Length(row.question, row.draw, row.prompt_tokens, row.completion_tokens, row.finish_reason)
