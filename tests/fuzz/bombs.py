"""Inputs of 64 KB that are made to be slow: words of a format, repeated, nested and left open.

An expression or a loop that reads a text again at every place takes the square of its length, and these are
long enough for that to show.
"""

from collections.abc import Iterator
from itertools import islice, product

from tests.fuzz.watch import LARGEST

PLAIN = (b"[", b'{"a":', b"(", b"9", b"-", b"a", b" ", b"\n", b"\\", b"\x00", b"\xff", b"\xed\xa0\x80", b"\r")


def bombs(words: tuple[bytes, ...], most: int) -> Iterator[bytes]:
    """At most so many: each word alone, as a prefix of what others are repeated after, and in pairs."""
    return (bomb[:LARGEST] for bomb in islice(every(words), most))


def every(words: tuple[bytes, ...]) -> Iterator[bytes]:
    own = [word for word in words if word]
    for word in (*own, *PLAIN):
        yield word * (LARGEST // len(word))
    for one, other in product(own, PLAIN):
        yield one + other * (LARGEST // len(other))
    for one, other in product(own, own):
        yield (one + other) * (LARGEST // len(one + other))
    for one, other in product(own, PLAIN):
        yield (one + other) * (LARGEST // len(one + other))
    for one, other in product(own, own):
        half = LARGEST // 2
        yield one * (half // len(one)) + other * (half // len(other))
