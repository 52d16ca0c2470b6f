"""The JSON of an OpenAI-compatible answer, and what it says by its headers."""

from harness.client import failure, understood
from harness.errors import HarnessError
from harness.patience import Transient, seconds_to_wait
from tests.fuzz.answering import ENDPOINT, kept

REFUSALS = (HarnessError, Transient)
WORDS = (
    b'{"choices":[{', b'"text":"', b'"message":{"content":"', b'"reasoning_content":"',
    b'"finish_reason":"stop"', b'"logprobs":{"content":[{"token":"', b'","logprob":-0.1,"bytes":[',
    b'"tokens":["', b'"token_logprobs":[', b'"token_ids":[', b'"usage":{"completion_tokens":', b'"model":"m"',
    b"}]}", b"null", b"-1", b"300", b"99999999999999999999", b"1e400", b"\\ud83d\\ude00", b"\\udc00",
    b"</think>", b"\xef\xbf\xbd",
)  # fmt: skip


def read(data: bytes) -> None:
    header, parted, body = data.partition(b"\xfe")
    if parted:
        told = header.decode("latin-1")
        waited = seconds_to_wait(told, told[::-1])
        assert waited is None or 0 <= waited <= 3600
        failure(429, body, {"Retry-After": told, "Date": told}, ENDPOINT)
    else:
        body = data
    kept(understood(body, ENDPOINT))
