"""What math-verify is asked: a gold answer and a response, on the first line and after it.

It works in processes that the kernel ends after five seconds, as it does wherever answers are graded. So
its own lines are not seen here, and the time is that of asking.
"""

import atexit

from harness.grading.answers import Verifier, answer_in, lenient_verdict, strict_verdict

REFUSALS = ()
WORDS = (
    b"\\boxed{", b"}", b"\\frac{", b"\\sqrt{", b"^{", b"_", b"\\sum_{", b"\\int", b"\\begin{pmatrix}",
    b"\\end{pmatrix}", b"\\{", b"\\}", b"\\cup", b"\\infty", b"99999", b"!", b"\\binom{", b"x=", b"$",
    b"\\le", b"\\text{", b"%", b"10^{", b"\\pi", b"(1,2)", b"[0,1)", b"answer is", b"\n",
)  # fmt: skip

VERIFIER = Verifier(workers=1)
atexit.register(VERIFIER.close)


def read(data: bytes) -> None:
    gold, _, text = data.decode("utf-8", "replace").partition("\n")
    assert isinstance(lenient_verdict(gold, text, VERIFIER).correct, bool)
    box = answer_in(gold, text)
    if box is not None:
        assert isinstance(strict_verdict(gold, box, VERIFIER).correct, bool)
