"""Token files: ids and log-probabilities of a response's tokens, by (question, draw).

    tokens.arrow    an Arrow IPC stream of one record batch a response, its columns compressed

Nearly forty billion tokens are sampled for the report's data: as JSON lists they would take several
times the room. A file only grows; a batch whose writing was interrupted is cut off when it is opened.
"""

import functools
import io
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from harness.errors import DataError
from harness.files import write_whole

if TYPE_CHECKING:
    import pyarrow as pa

NAME = "tokens.arrow"
REMOVE = "Remove it and run again."
Key = tuple[str, int]


@dataclass(frozen=True, kw_only=True, eq=False)
class Tokens:
    """The tokens of one response: three arrays of one length.

    `logprobs` are natural logarithms at temperature 1; `lengths` the UTF-8 length of each token in
    the response's text, adding up to the text's own; `ids` are empty where the engine gives none.
    """

    ids: NDArray[np.int32]
    logprobs: NDArray[np.float32]
    lengths: NDArray[np.int32]


def tokens(ids: Iterable[int], logprobs: Iterable[float], lengths: Iterable[int]) -> Tokens:
    """The record of three plain sequences. Raises ValueError where their lengths differ."""
    return even(
        Tokens(
            ids=np.fromiter(ids, np.int32),
            logprobs=np.fromiter(logprobs, np.float32),
            lengths=np.fromiter(lengths, np.int32),
        )
    )


def even(found: Tokens) -> Tokens:
    """The record. Raises ValueError where its lists are not of one length: ids alone may be none."""
    if len(found.logprobs) != len(found.lengths) or len(found.ids) not in (0, len(found.logprobs)):
        raise ValueError(
            f"{len(found.ids)} ids, {len(found.logprobs)} logprobs, {len(found.lengths)} lengths"
        )
    return found


def schema() -> "pa.Schema":
    import pyarrow as pa

    return pa.schema(
        [
            ("question", pa.string()),
            ("draw", pa.int32()),
            ("ids", pa.list_(pa.int32())),
            ("logprobs", pa.list_(pa.float32())),
            ("lengths", pa.list_(pa.int32())),
        ]
    )


def encoded(key: Key, row: Tokens) -> bytes:
    """One record batch as it stands in the file."""
    import pyarrow as pa

    question, draw = key
    arrays = (row.ids, row.logprobs, row.lengths)
    columns = [pa.array([question]), pa.array([draw], pa.int32())]
    for array in arrays:
        offsets = pa.array([0, len(array)], pa.int32())
        columns.append(pa.ListArray.from_arrays(offsets, pa.array(array)))
    stream = io.BytesIO()
    writer = pa.ipc.new_stream(stream, schema(), options=pa.ipc.IpcWriteOptions(compression="zstd"))
    writer.write_batch(pa.record_batch(columns, schema=schema()))
    whole = stream.getvalue()
    writer.close()
    if not whole.startswith(header()):
        raise AssertionError("pyarrow writes its schema in another way than it serializes it")
    return whole[len(header()) :]


def decoded(batch: Any) -> Tokens:
    """Raises ValueError as `tokens` does."""

    def array(name: str) -> Any:
        return batch.column(name).flatten().to_numpy(zero_copy_only=False)

    return even(Tokens(ids=array("ids"), logprobs=array("logprobs"), lengths=array("lengths")))


class TokenFile:
    """A token file that grows. The only writer of its path while it is open. `keys` are those it holds."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> "TokenFile":
        if not self.path.exists() or self.path.stat().st_size < len(header()):
            write_whole(self.path, header())
        found = TokenIndex(self.path)
        if found.end < self.path.stat().st_size:
            os.truncate(self.path, found.end)
        self.keys = set(found)
        self.descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND)
        return self

    def __exit__(self, *failure: object) -> None:
        os.close(self.descriptor)

    def append(self, key: Key, row: Tokens) -> None:
        """Writes one response's tokens. Of two with one key the later counts."""
        data = encoded(key, row)
        while data:
            data = data[os.write(self.descriptor, data) :]
        self.keys.add(key)


@functools.cache
def header() -> bytes:
    """What a file of no response holds: the schema."""
    packed: bytes = schema().serialize().to_pybytes()
    return packed


class TokenIndex(Mapping[Key, Tokens]):
    """A token file to read from: where each response stands, read when it is asked for.

    Reading the index passes over the whole file once, unpacks the keys alone, and holds no tokens. A
    torn end counts as not there; `end` is where the whole batches end. Raises DataError where it is no
    token file.
    """

    def __init__(self, path: Path) -> None:
        import pyarrow as pa

        self.path = path
        self.offsets: dict[Key, int] = {}
        keys_alone = pa.ipc.IpcReadOptions(included_fields=[0, 1])
        with path.open("rb") as file, pa.PythonFile(file, mode="r") as stream:
            try:
                batches = pa.ipc.open_stream(stream, options=keys_alone)
                same = path_schema(path) == schema()
            except damaged() as error:
                raise DataError(f"{path} is no token file ({error})", REMOVE) from error
            if not same:
                raise DataError(f"{path} holds other columns than token files have", REMOVE)
            self.end = file.tell()
            for key in whole_batches(batches):
                self.offsets[key] = self.end
                self.end = file.tell()

    def __getitem__(self, key: Key) -> Tokens:
        import pyarrow as pa

        with self.path.open("rb") as file:
            file.seek(self.offsets[key])
            with pa.PythonFile(file, mode="r") as stream:
                try:
                    batch = pa.ipc.read_record_batch(pa.ipc.read_message(stream), schema())
                    batch.validate(full=True)
                    return decoded(batch)
                except damaged() as error:
                    raise DataError(
                        f"{self.path}: the tokens of {key} are damaged ({error})", REMOVE
                    ) from error

    def __iter__(self) -> Iterator[Key]:
        return iter(self.offsets)

    def __len__(self) -> int:
        return len(self.offsets)


def path_schema(path: Path) -> "pa.Schema":
    import pyarrow as pa

    with path.open("rb") as file, pa.PythonFile(file, mode="r") as stream:
        return pa.ipc.read_schema(pa.ipc.read_message(stream))


def whole_batches(batches: Any) -> Iterator[Key]:
    """The keys of a stream of which no token is read, up to a torn end."""
    ends: tuple[type[Exception], ...] = (*damaged(), StopIteration, IndexError)
    while True:
        try:
            batch = batches.read_next_batch()
            batch.validate(full=True)
            question, draw = (batch.column(name)[0].as_py() for name in ("question", "draw"))
        except ends:
            return
        if question is None or draw is None:
            return
        yield question, draw


@functools.cache
def damaged() -> tuple[type[Exception], ...]:
    """What pyarrow raises for bytes that it did not write. ValueError is bad UTF-8, too."""
    import pyarrow as pa

    return pa.ArrowException, EOFError, OSError, ValueError, MemoryError, OverflowError
