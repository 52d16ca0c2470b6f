"""A raw response of gpt-oss, as text and as the bytes of tokens: what is read has the length that is told."""

from harness.harmony import answers, continued, read_bytes, split
from harness.harmony import read as read_pieces

REFUSALS = ()
WORDS = (
    b"<|start|>", b"<|channel|>", b"<|message|>", b"<|constrain|>", b"<|end|>", b"<|return|>", b"<|call|>",
    b"analysis", b"final", b"commentary", b" to=functions.f", b"<think>", b"</think>", b"assistant",
    b"\xf0\x9f",
)  # fmt: skip


def read(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    for prefix in ("", "<think>\nso", "<think>\nso\n</think>\n\nFour"):
        found = read_pieces(split(text), prefix)
        assert sum(found.lengths) == len(found.whole.encode())
        tokens = [piece.encode() for piece in split(text)]
        assert read_bytes(tokens, prefix).whole == found.whole
    cut = [data[start : start + 3] for start in range(0, len(data), 3)]
    read_bytes(cut).whole.encode()
    answers(text)
    continued(text)
