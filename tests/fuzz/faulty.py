"""A reader with every fault that is looked for."""

import os

REFUSALS = (ValueError,)
WORDS = (b"refused", b"error", b"memory", b"hang", b"abort", b"other error")


def read(data: bytes) -> None:
    match data[:5]:
        case b"refus":
            raise ValueError("not a fault")
        case b"error":
            raise KeyError("nobody expects this")
        case b"other":
            raise IndexError("nor this")
        case b"memor":
            assert len(bytearray(b"x") * (300 << 20))
        case b"hang" | b"hangh":
            while True:
                pass
        case b"abort":
            os.abort()
