"""Tables: rows of somebody else's data set, through the columns that a loader needs.

A `Table` says where a data set is and which of its columns plays which role. Parquet, Arrow (as the
`datasets` library saves it) and JSON lines, compressed or not, are read in a streaming way; nothing in a
data set is ever executed or unpickled.

A column is named by a path: `input`, `info.source`, `messages[0].content`. Paths are compared with every
file before the first row is read. Where a data set names a column otherwise, `machine.toml` says so, and
the recipe stays what it is:

    [columns."nvidia/AceReason-1.1-SFT"]
    question = "problem"
"""

import io
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from harness.discover import suggestion
from harness.errors import DataError, UsageError
from harness.files import UNREADABLE
from harness.hub import FoundFiles, find_files
from harness.machine import Machine

if TYPE_CHECKING:
    import pyarrow as pa

BATCH = 256
COMPRESSIONS = {".zst": "zstd", ".gz": "gzip"}
STEP = re.compile(r"\.?([^.\[\]]+)|\[(\d+)\]")

Row = dict[str, Any]
Step = str | int


@dataclass(frozen=True, kw_only=True)
class Table:
    """A data set on a hub. `files`: patterns of paths, of which the first that matches is meant.

    `columns`: pairs of a role and the path of the column that plays it. The roles in `optional` only some
    of the files need to have.
    """

    repo: str
    revision: str
    files: tuple[str, ...]
    columns: tuple[tuple[str, str], ...]
    optional: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A table whose files were found and whose columns fit them."""

    found: FoundFiles
    columns: dict[str, str]

    def rows(self) -> Iterator[Row]:
        """Each row by role; None where a row has no such value. Holds one batch at a time."""
        wanted = {role: steps(path) for role, path in self.columns.items()}
        tops = sorted({str(path[0]) for path in wanted.values()})
        for path in self.found.paths:
            for row in read_rows(path, tops):
                yield {role: value_at(row, way) for role, way in wanted.items()}


def open_table(table: Table, machine: Machine) -> Opened:
    """The table on this machine. Raises DataError where files or columns are missing."""
    columns = columns_of(table, machine)
    found = find_files(table.repo, table.revision, table.files, machine.data, machine.hub)
    check_files(table, found.paths, columns)
    return Opened(found=found, columns=columns)


def columns_of(table: Table, machine: Machine) -> dict[str, str]:
    """Role → path, with the machine's renamings. Raises UsageError for a role that does not exist."""
    columns = dict(table.columns)
    renamed = machine.columns.get(table.repo, {})
    for role in renamed:
        if role not in columns:
            raise UsageError(
                f"machine.toml renames the column {role!r} of {table.repo}, which no loader asks for. "
                f"{suggestion(role, columns)}"
            )
    return {**columns, **renamed}


def check_files(table: Table, paths: Iterable[Path], columns: dict[str, str]) -> None:
    """Compares the columns with every file. Raises DataError that names the first column that is missing.

    A file of JSON lines without a line has no columns to compare.
    """
    found = {path: there for path in paths if (there := present(path))}
    for path, there in found.items():
        for role, column in columns.items():
            if role not in table.optional and not is_present(column, there):
                raise missing_column(table.repo, role, column, str(path), there)
    for role in table.optional:
        if found and not any(is_present(columns[role], there) for there in found.values()):
            everything = sorted({column for there in found.values() for column in there})
            raise missing_column(table.repo, role, columns[role], "any of the files", everything)


def missing_column(repo: str, role: str, column: str, where: str, there: list[str]) -> DataError:
    """The error that names a column that is missing, what is there, and how to rename it."""
    return DataError(
        f"{repo}: no column {column!r} (the {role}) in {where}. There are: {', '.join(there)}",
        f"If one of them is meant, say so in machine.toml:\n"
        f'[columns."{repo}"]\n{role} = "{nearest(column, there)}"',
    )


def is_present(column: str, there: list[str]) -> bool:
    """Whether a path is among those of a file, whole or as the beginning of one.

    Below a value that is null in the first row, anything may be.
    """
    plain = re.sub(r"\[\d+\]", "[0]", column)
    return any(
        path.removesuffix("?") == plain
        or path.startswith((f"{plain}.", f"{plain}["))
        or (path.endswith("?") and plain.startswith((f"{path[:-1]}.", f"{path[:-1]}[")))
        for path in there
    )


def nearest(column: str, there: list[str]) -> str:
    return next(
        (path for path in there if path.split(".")[-1] == column.split(".")[-1]), there[0] if there else "…"
    )


def read_rows(path: Path, tops: list[str]) -> Iterator[Row]:
    """The rows of a file, with those of the top-level columns `tops` that it has.

    Raises DataError where it is broken.
    """
    match kind_of(path):
        case "jsonl":
            yield from json_rows(path)
        case _:
            with understood(path):
                for batch in record_batches(path, tops):
                    batch.validate(full=True)
                    yield from batch.to_pylist()


def kind_of(path: Path) -> str:
    """The format that the name says: "parquet", "arrow" or "jsonl"."""
    suffixes = [suffix for suffix in path.suffixes if suffix not in COMPRESSIONS]
    match suffixes[-1:]:
        case [".parquet"]:
            return "parquet"
        case [".arrow"]:
            return "arrow"
        case [".jsonl"] | [".json"]:
            return "jsonl"
    raise DataError(f"{path} is neither parquet, arrow nor JSON lines")


@contextmanager
def understood(path: Path) -> Iterator[None]:
    """Turns what pyarrow says of a broken file into DataError."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError, EOFError, UnicodeDecodeError, MemoryError, RecursionError) as error:
        remedy = "Download the file again."
        if "memory" in str(error):
            remedy = (
                f"Its window is too large for this reader: unpack it with `zstd -d --long=31 {path.name}`."
            )
        raise DataError(f"{path}: {error}", remedy) from error


def json_rows(path: Path) -> Iterator[Row]:
    """The objects of a file of JSON lines. Raises DataError that names the broken line.

    pyarrow's own reader takes the types from the first lines and stumbles over a column that is null there.
    """
    decoder = msgspec.json.Decoder(Row)
    with understood(path), lines_of(path) as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                yield decoder.decode(line)
            except UNREADABLE as error:
                raise DataError(f"{path}, line {number}: not a JSON object ({error})") from error


@contextmanager
def lines_of(path: Path) -> Iterator[Iterable[bytes]]:
    import pyarrow as pa

    compression = COMPRESSIONS.get(path.suffix)
    with pa.input_stream(str(path), compression=compression) as stream, io.BufferedReader(stream) as lines:
        yield lines


def record_batches(path: Path, tops: list[str]) -> "Iterator[pa.RecordBatch]":
    import pyarrow.parquet as pq

    if kind_of(path) == "parquet":
        with pq.ParquetFile(path) as file:
            yield from file.iter_batches(batch_size=BATCH, columns=tops)
        return
    with arrow_reader(path) as (_, batches):
        for batch in batches:
            chosen = batch.select([name for name in tops if name in batch.schema.names])
            yield from (chosen.slice(start, BATCH) for start in range(0, chosen.num_rows, BATCH))


@contextmanager
def arrow_reader(path: Path) -> "Iterator[tuple[pa.Schema, Iterable[pa.RecordBatch]]]":
    """Schema and batches of an Arrow file: a stream, as `datasets` saves it, or the file format."""
    import pyarrow as pa

    with pa.memory_map(str(path)) as source:
        if source.read(6) == b"ARROW1":
            file = pa.ipc.open_file(source)
            yield file.schema, (file.get_batch(number) for number in range(file.num_record_batches))
            return
        source.seek(0)
        stream = pa.ipc.open_stream(source)
        yield stream.schema, stream


def steps(path: str) -> tuple[Step, ...]:
    """`messages[0].content` as ("messages", 0, "content"). Raises UsageError for anything else."""
    found = STEP.findall(path)
    if not path or "".join(f".{name}" if name else f"[{index}]" for name, index in found) != f".{path}":
        raise UsageError(
            f"{path!r} is no path of a column",
            "Write NAME, NAME.FIELD or NAME[0].FIELD, as in messages[0].content.",
        )
    return tuple(name or int(index) for name, index in found)


def value_at(row: object, way: tuple[Step, ...]) -> object:
    """The value at the end of a path; None where the row does not go that far."""
    for step in way:
        match row, step:
            case dict(), str():
                row = row.get(step)
            case list(), int() if step < len(row):
                row = row[step]
            case _:
                return None
    return row


def present(path: Path) -> list[str]:
    """The paths of a file's columns, from its schema or, for JSON lines, from the first row.

    One that ends in `?` is null in the first row, so nothing is known of what is below it.
    """
    if kind_of(path) == "jsonl":
        first = next(islice(json_rows(path), 1), None)
        with understood(path):
            return [] if first is None else list(paths_in_value(first, ""))
    with understood(path):
        return list(paths_in_schema(path))


def paths_in_value(value: object, prefix: str) -> Iterator[str]:
    match value:
        case dict() if value:
            for name, inner in value.items():
                yield from paths_in_value(inner, f"{prefix}.{name}" if prefix else name)
        case list() if value:
            yield from paths_in_value(value[0], f"{prefix}[0]")
        case None | {} | []:
            yield f"{prefix}?"
        case _:
            yield prefix


def paths_in_schema(path: Path) -> Iterator[str]:
    import pyarrow.parquet as pq

    if kind_of(path) == "parquet":
        schema = pq.read_schema(path)
    else:
        with arrow_reader(path) as (schema, _):
            pass
    for column in schema:
        yield from paths_in_type(column.type, column.name)


def paths_in_type(kind: "pa.DataType", prefix: str) -> Iterator[str]:
    import pyarrow as pa

    if pa.types.is_struct(kind):
        for number in range(kind.num_fields):
            yield from paths_in_type(kind.field(number).type, f"{prefix}.{kind.field(number).name}")
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
        yield from paths_in_type(kind.value_type, f"{prefix}[0]")
    else:
        yield prefix
