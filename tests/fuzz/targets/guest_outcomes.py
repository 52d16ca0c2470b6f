"""What a hostile program writes to the pipe on which its results come: whatever it is, its verdict is kept.

The byte 0xfe parts what comes in one piece from what comes in the next.
"""

import msgspec

from harness.grading.code import CodeTest, judged, verdict_of
from harness.sandboxes import Limits, Outcome, Program
from harness.sandboxes.pool import Conversation, End, unreported

REFUSALS = ()
HEAD = b'{"status":"ok","message":"","seconds":0.1,"alarmed":false}'
WORDS = (
    b"\x00\x00\x00", bytes((0, 0, 0, len(HEAD), 0, 0, 0, 1)), HEAD, b"\xfe", b'"status":"runtime_error"',
    b'"message":"\\ud800"', b'"seconds":1e400', b'"seconds":NaN', b'"alarmed":true', b'"output_limit"',
    b"[1,2]", b"\xed\xa0\x80", b'{"dict":[]}', b"99999999999999999999", b"\x00\x00\x00\x00",
)  # fmt: skip
TEST = CodeTest(input="1", output="1")
PROGRAMS = (Program(code="", function="f"), Program(code=""))
ENDED = End(exit=1, reason="", out_of_memory=False, dirty="")


class Deaf:
    """A channel to nobody."""

    def send(self, data: bytes) -> None:
        return None

    def receive(self, size: int, seconds: float) -> bytes:
        raise EOFError

    def close(self) -> None:
        return None


def read(data: bytes) -> None:
    for program in PROGRAMS:
        verdicts: list[bool | int] = [True]

        def accept(index: int, outcome: Outcome) -> bool:
            verdicts.append(judged(program, outcome, TEST))  # noqa: B023 called within this round
            return verdicts[-1] is True  # noqa: B023

        talk = Conversation(channel=Deaf(), program=program, inputs=["1"] * 3, limits=Limits())
        for piece in data.split(b"\xfe"):
            talk.take(piece, accept)
        assert len(talk.outcomes) <= 3
        found = verdict_of(talk.ended(unreported(ENDED)), verdicts[-1])
        msgspec.json.encode(found)
