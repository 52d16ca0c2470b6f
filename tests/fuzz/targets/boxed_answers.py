"""The last box of a response and the integer in it: the rules that come before math-verify."""

from harness.grading.answers import (
    LONGEST_BOX,
    announced,
    answer_in,
    boxes,
    joined_boxes,
    last_box,
    plain_answer,
)  # fmt: skip
from harness.grading.integers import LONGEST_INTEGER, holds_no_single_integer, integer_in, undressed
from harness.statistics import canonical

REFUSALS = ()
WORDS = (
    b"\\boxed{", b"\\boxed", b"\\fbox{", b"\\framebox[", b"}", b"{", b"\\}", b"\\text{", b"\\textbf{",
    b"\\color{", b"\\quad", b"\\frac{1}{2}", b"^\\circ", b"\\,", b"{,}", b"1,000", b" and ", b" or ", b"=",
    b"33", b"\\pmod{", b" mod 7", b"the answer is", b"final answer", b"\xd9\xa3", b"\xc2\xb2", b"minutes",
    b"\\\\", b"$", b"**",
)  # fmt: skip


def read(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    last = last_box(text)
    assert last is None or (len(last) <= LONGEST_BOX and last in text)
    for found in boxes(text):
        assert text[found.start : found.end].endswith(found.content)
    assert (joined_boxes(text) is None) == (last is None)
    answer_in("33", text)
    answer_in("x+1", text)
    plain, number = plain_answer(text), integer_in(text)
    assert plain is None or plain == integer_in(last or "")
    assert number is None or integer_in(str(number)) == number
    announced(text)
    for part in (text[:LONGEST_INTEGER], last or ""):
        integer_in(part)
        if len(part) <= LONGEST_INTEGER:
            undressed(part)
    holds_no_single_integer(text[:LONGEST_BOX])
    canonical(text[:LONGEST_BOX])
