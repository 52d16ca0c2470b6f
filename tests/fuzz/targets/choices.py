"""The letter of a multiple-choice answer."""

from harness.grading.choices import LETTERS, lenient_letter, strict_letter

REFUSALS = ()
WORDS = (
    b"Answer: ", b"answer", b"ANSWER", b"**", b"\\boxed{", b"\\text{", b"\\fbox", b'"answer": "',
    b"the answer is ", b"option would be", b"choice must be", b"(C)", b"A", b"D", b"$", b"`", b":",
    b"\\boxed\\boxed", b"' ",
)  # fmt: skip


def read(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    strict = strict_letter(text)
    assert strict is None or strict in LETTERS
    assert strict is None or lenient_letter(text) == strict
    assert lenient_letter(text) in (None, *LETTERS)
