"""Rows of a data set, JSON lines from the Hub, and the questions that the benchmarks make of them."""

from contextlib import suppress

from benchmarks.aime import question as aime_question
from benchmarks.livecodebench import question
from harness.errors import HarnessError
from harness.hub import read_jsonl
from tests.fuzz.folder import folder

REFUSALS = (HarnessError,)
WORDS = (
    b'"question_id":"', b'"question_content":"', b'"contest_date":"', b'"metadata":"{}"', b'"starter_code":"',
    b'"public_test_cases":"[]"', b'"private_test_cases":"', b'"platform":"', b'"difficulty":"',
    b'"func_name"', b"null", b"NaN", b"Infinity", b"{", b"}", b"[", b"]", b"\xef\xbb\xbf", b"\xe2\x80\xa8",
    b'"problem":"', b'"answer":', b'"solution":"\\\\boxed{',
)  # fmt: skip


def read(data: bytes) -> None:
    path = folder() / "rows.jsonl"
    path.write_bytes(data)
    for row in read_jsonl(path):
        with suppress(HarnessError):
            aime_question(row, "2024")
        question(row, "prompt")
