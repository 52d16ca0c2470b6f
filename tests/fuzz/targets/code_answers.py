"""A program in a response, and what it printed or returned beside what was expected.

The first byte says which of the three is read; output and expectation are parted by the byte 0xfe.
"""

from harness.errors import DataError
from harness.grading.code import Unjudgeable, extract_code, judge_stdin, judge_value

REFUSALS = (DataError, Unjudgeable)
WORDS = (
    b"```", b"```python\n", b"\n", b"\xfe", b'{"dict":[[', b'{"int":"', b'{"float":"', b'{"decimal":"',
    b'{"fraction":["', b'{"complex":["', b'{"numpy":["', b'{"numpy":["<i8",[2],[1,2]]}', b"nan", b"inf",
    b"1e999999", b"0x", b"sNaN", b"NaN", b"Infinity", b"1_0", b"\xd9\xa3", b"-0", b"999999999", b"null",
    b"]}",
)  # fmt: skip


def read(data: bytes) -> None:
    kind, rest = data[:1], data[1:]
    ours, _, theirs = (part.decode("utf-8", "surrogateescape") for part in rest.partition(b"\xfe"))
    match kind:
        case b"v":
            judge_value(ours, theirs)
        case b"s":
            assert judge_stdin(ours, theirs) == judge_stdin(theirs, ours)
            assert judge_stdin(ours, ours)
        case _:
            code = extract_code(ours)
            assert code in ours
