"""Responses made to hang, crash or confuse a grader. Shared by a test and the acceptance script."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from harness.grading.answers import Verification, Verifier

LOOPS = (
    "1 ", r"\boxed{", r"\[", r"\(", r"\boxed{5}", r"\boxed{}", r"\boxed{{}", r"\boxed {",
    r"\boxed{ {{{{{{{{{{", "{", "}", "\\", "$", "$5$ ", "(", "-", "^", "1,", "1+", "9^{", "9^{9^{9}} ",
    "100!!! ", r"\frac{", r"\frac12 ", r"\sqrt", r"\text{", "<think>", "</think>", "\n", " ", "\u2028", "é",
    "A ", "option is ",
    "the answer is ", "final answer is 5 ", "Answer: ", "Answer: (", "**Answer:** ", '"answer": ',
    "answer:          ", "x=", "a=1, ",
)  # fmt: skip
"""Each is repeated until the text is long enough."""

ONE_LINE = ("x", "1", "1 ", "A ", " ", "{", r"\boxed{", "Answer: ", "x1=2 ")

BOXES = (
    "9^{9^{9^{9}}}", "9^{9^9}", "2^{10^{50}}", r"\dfrac{5^{5^{5^{5^5}}-4}-5}{16}",
    r"2^{2^{2^{2^{2^{2^{2}}}}}}", "10!!!", "100000!", "((((10!)!)!)!)", r"\binom{10^9}{10^8}",
    "(x+y+z+w)^{200}", "(1+x)^{10^6}",
    r"\sum_{k=1}^{10^9} k^k", r"\prod_{k=1}^{10^7} k", r"\int_0^1 x^{x^{x^x}} dx", r"\sqrt[10^9]{10^{10^9}}",
    "9^{" * 200 + "9" + "}" * 200, r"\frac{1}{" * 100 + "2" + "}" * 100, r"\sqrt{" * 200 + "4" + "}" * 200,
    "(" * 500 + "1" + ")" * 500, "1+" * 900 + "1", "9" * 1_900, "-" * 500 + "1", "{" * 600 + "33" + "}" * 600,
    r"\begin{pmatrix}" + "1&" * 400 + r"1\end{pmatrix}", r"\{" + "1," * 800 + r"1\}",
)  # fmt: skip
"""Towers of powers, factorials, and other boxes that look like an answer to be computed."""


@dataclass(frozen=True)
class Hostile:
    """One hostile response and a name for it."""

    name: str
    text: str


def repeated(loop: str, size: int) -> str:
    return loop * (size // len(loop))


def hostile(size: int, line: int) -> Iterator[Hostile]:
    """All of them: loops of `size` characters, single lines of `line`, and boxes after a short text."""
    for loop in LOOPS:
        yield Hostile(f"{loop!r} repeated, {size:,} characters", repeated(loop, size))
        yield Hostile(f"{loop!r} repeated, then a right box", repeated(loop, size) + r" so \boxed{33}")
    for loop in ONE_LINE:
        yield Hostile(f"one line of {loop!r}, {line:,} characters", repeated(loop, line))
    for box in BOXES:
        yield Hostile(f"box {box[:40]}", f"We find $\\boxed{{{box}}}$.")


@dataclass
class WatchedVerifier(Verifier):
    """A verifier that notes what it was asked and what came back."""

    asked: list[Verification] = field(default_factory=list)

    def verify(self, gold: str, text: str) -> Verification:
        found = super().verify(gold, text)
        self.asked.append(found)
        return found
