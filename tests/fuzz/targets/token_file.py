"""tokens.arrow, torn or bit-flipped."""

import numpy as np

from harness.errors import HarnessError
from harness.tokens import TokenFile, TokenIndex, encoded, header, tokens
from tests.fuzz.folder import folder

REFUSALS = (HarnessError,)
BATCH = encoded(("q", 0), tokens([1, 2], [-0.1, -0.2], [3, 4]))
WORDS = (
    header(),
    BATCH,
    b"\xff\xff\xff\xff",
    b"\x00\x00\x00\x00",
    b"\xff\xff\xff\x7f",
    b"q",
    b"\x28\xb5\x2f\xfd",
)


def read(data: bytes) -> None:
    path = folder() / "tokens.arrow"
    path.write_bytes(data)
    found = TokenIndex(path)
    for key in found:
        assert isinstance(key[0], str)
        assert isinstance(key[1], int)
        row = found[key]
        assert len(row.logprobs) == len(row.lengths)
        assert row.logprobs.dtype == np.float32
    with TokenFile(path) as file:
        assert file.keys == set(found)
        file.append(("added", 1), tokens([1], [-0.5], [1]))
    assert set(TokenIndex(path)) == {*found, ("added", 1)}
