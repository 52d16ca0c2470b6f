"""LiveCodeBench's private tests: base64 of zlib of a pickle of JSON, from a file of the Hub.

The first byte says from which layer on the input is what stands in the file: below it all is well formed.
"""

import base64
import pickle
import zlib

from benchmarks.livecodebench import private_tests

REFUSALS = (ValueError,)
"""What `private_tests` promises; its callers make DataError of it."""

WORDS = (
    b"\x80\x04", b"\x95", b"\x8c", b"X", b"\x8d", b"\x94", b".", b"c", b"R", b"0", b"2", b'{"input":"',
    b'","output":"', b'","testtype":"stdin"}', b"[", b"]", b"\\ud800",
)  # fmt: skip


def read(data: bytes) -> None:
    layer, rest = data[:1], data[1:]
    match layer:
        case b"j":
            rest = base64.b64encode(zlib.compress(pickle.dumps(rest.decode("utf-8", "replace"))))
        case b"p":
            rest = base64.b64encode(zlib.compress(rest))
        case b"z":
            rest = base64.b64encode(rest)
    for test in private_tests(rest.decode("latin-1")):
        assert isinstance(test.input, str)
        assert isinstance(test.output, str)
