"""Files of training data: parquet, Arrow and JSON lines from the Hub (first byte p, a, or anything else)."""

from harness.errors import HarnessError
from pipeline.tables import present, read_rows
from tests.fuzz.folder import folder

REFUSALS = (HarnessError,)
WORDS = (
    b"PAR1", b"ARROW1\x00\x00", b"\xff\xff\xff\xff", b"\x00\x00\x00\x00", b"\xff\xff\xff\x7f", b"\x15\x04",
    b'{"messages":[{"content":"', b'"}]}\n', b"null", b"[]", b"{}", b"9" * 40, b"NaN", b"\\ud800",
)  # fmt: skip
SUFFIXES = {b"p": "parquet", b"a": "arrow"}


def read(data: bytes) -> None:
    path = folder() / f"rows.{SUFFIXES.get(data[:1], 'jsonl')}"
    path.write_bytes(data[1:])
    there = present(path)
    for row in read_rows(path, [name.partition(".")[0].partition("[")[0] for name in there]):
        assert isinstance(row, dict)
