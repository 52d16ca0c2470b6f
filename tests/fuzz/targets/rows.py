"""The rows of a stage and the places beside them, as a crash or a bad disk may leave them.

What stands before the first byte 0xfe is the file of rows, what follows it that of places.
"""

from harness import places
from harness.errors import DataError
from harness.rows import Key, RowFile, count_rows, key_of, read_in_order, read_rows, spans_of
from harness.types import Grade
from tests.fuzz.folder import folder

REFUSALS = (DataError,)
WRITTEN = places.lines([places.Place("q", 0, 85)])
WORDS = (
    b'{"question":"', b'","draw":', b'"correct":true', b'"extracted":null', b'"truncated":false}', b"\n",
    WRITTEN, b"\xfe", b"18446744073709551616", b"-1", b"1e400", b"\\ud83d", b"\r\n",
)  # fmt: skip


def read(data: bytes) -> None:
    rows, _, sidecar = data.partition(b"\xfe")
    path = folder() / "generations.jsonl"
    path.write_bytes(rows)
    places.file_of(path).write_bytes(sidecar)
    found = {key_of(row) for row in read_in_order(path, Key)}  # places of other rows are found out here
    told = {key_of(span) for span in spans_of(path)}
    assert told == found == set(map(key_of, read_rows(path, Key)))
    with RowFile(path) as file:
        assert told == file.keys
    assert count_rows(path) == rows.count(b"\n")
    for _ in read_rows(path, Grade):
        pass
