"""The CSV file of a multiple-choice benchmark."""

from benchmarks.gpqa import check_file, question, read_rows
from harness.errors import HarnessError
from tests.fuzz.folder import folder

REFUSALS = (HarnessError,)
WORDS = (
    b"Record ID", b"Question", b"Correct Answer", b"Incorrect Answer 1", b"Incorrect Answer 2",
    b"Incorrect Answer 3", b"High-level domain", b"Canary String", b",", b'"', b'""', b"\r\n", b"\r", b"\x00",
    b"\xef\xbb\xbf",
)  # fmt: skip


def read(data: bytes) -> None:
    path = folder() / "rows.csv"
    path.write_bytes(data)
    rows = read_rows(path)
    check_file(rows, [question(row) for row in rows], path)
