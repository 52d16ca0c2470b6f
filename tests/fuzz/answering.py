"""What a server's answer goes through until it is a row on disk, without a server."""

import msgspec

from harness.answering import Response, response
from harness.asking import Request
from harness.completion import Completion
from harness.endpoint import Endpoint
from harness.engines.remote import remote
from harness.tokens import encoded
from harness.types import Generation, Message, Sampling

ENDPOINT = Endpoint(
    base_url="http://127.0.0.1:1/v1",
    model="m",
    engine=remote,
    fingerprint={"engine": "remote", "version": "1"},
    accepts=("temperature",),
    folder=None,
)
REQUEST = Request(
    question="q", draw=0, messages=(Message(role="user", content="?"),), seed=1, logprobs=True,
    sampling=Sampling(temperature=1.0, max_tokens=10),
)  # fmt: skip
DECODER = msgspec.json.Decoder(Generation)


def kept(completion: Completion) -> Response:
    """The response of a completion, which must be fit to be written, and be read again as it was."""
    found = response(REQUEST, completion, ENDPOINT, 0.0)
    line = msgspec.json.encode(found.row)
    assert b"\n" not in line
    assert DECODER.decode(line) == found.row
    if found.tokens is not None:
        assert int(found.tokens.lengths.sum()) == len(found.row.text.encode())
        encoded(("q", 0), found.tokens)
    return found
