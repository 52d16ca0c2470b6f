r"""Grades an integer answer in a box: AIME, and the sums of the micro recipe.

Strict verdict, on the text after the last `</think>`: the last balanced `\boxed{}` (or `\fbox{}`,
`\framebox{}`); an integer rule; and math-verify 0.9 on that box alone, in a process that can be
killed, only where the rule cannot decide. No box is wrong and counted as no answer. A truncated
response never scores.

Lenient verdict, on the whole text: what math-verify says of it, as many harnesses grade.

Why not math-verify alone: given several boxes it merges them ("First \boxed{12}. Wait. \boxed{33}"
becomes {12, 33}), it takes the last number anywhere where no box is, and it misses `33.`, `33°`,
`1\,000` and others that the rule knows.
"""

import atexit
import logging
import multiprocessing
import os
import re
import threading
from concurrent.futures import TimeoutError as TookTooLong
from dataclasses import dataclass, field
from typing import Literal

from pebble import ProcessExpired, ProcessPool

from harness.types import Generation, Grade, Question

LONGEST_BOX = 1_000
LONGEST_INTEGER = 200
UNBALANCED_BOXES = 200

BOXES = ("\\boxed", "\\fbox", "\\framebox")
BOX_START = re.compile(r"\\(?:boxed|fbox|framebox)\s*(?:\[[^\]\n]{0,20}\]\s*){0,2}\{")
BRACE = re.compile(r"\\.|[{}]", re.DOTALL)


def last_box(text: str) -> str | None:
    r"""What stands in the last balanced box, or None: `a \boxed{1} b \boxed{\frac{2}{3}}` → `\frac{2}{3}`.

    Escaped braces do not count. At most 200 unbalanced boxes are passed over, and a box longer than
    10,000 characters is none, so that no text takes long.
    """
    starts = {command: text.rfind(command) for command in BOXES}
    for _ in range(UNBALANCED_BOXES):
        command = max(starts, key=lambda name: starts[name])
        if starts[command] < 0:
            return None
        opened = BOX_START.match(text, starts[command])
        content = balanced(text, opened.end()) if opened else None
        if content is not None:
            return content
        starts[command] = text.rfind(command, 0, starts[command])
    return None


def balanced(text: str, start: int) -> str | None:
    """The text from `start` up to the brace that closes the one before it, or None."""
    depth = 1
    for match in BRACE.finditer(text, start, start + 10 * LONGEST_BOX):
        depth += {"{": 1, "}": -1}.get(match[0], 0)
        if depth == 0:
            return text[start : match.start()]
    return None


# The integer rule ---------------------------------------------------------------------------

INTEGER = re.compile(r"[+-]?\d+")
NUMBER = re.compile(r"([+-]?(?:\d{1,3}(?:,\d{3})+|\d+))(?:\.0*)?")
WRAPPER = re.compile(
    r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mathsf|mathit|boldsymbol|bm|underline|boxed|fbox|framebox)"
    r"\s*\{([^{}]*)\}"
)
COLOURED = re.compile(r"\\(?:color|textcolor)\s*\{[^{}]*\}")
DECORATION = re.compile(
    r"\^\s*\{?\s*\\circ\s*\}?|°|[€£]|\\?%|\\?\$|\\[()\[\]]|\\(?:left|right|displaystyle)\b"
    r"|\\\\|`|\\pmod\s*\{[^{}]*\}|\(?\s*\\?(?:mod|bmod)\s*\d+\s*\)?"
)
SPACE = re.compile(r"\\[,;:! ]|~|\s|\{,\}(?=\d{3})")
GROUPED = re.compile(r"[+-]?\d{1,3}(?:(?:\\[,;:! ]|~|[ ]|\{,\})+\d{3})+")
ASSIGNED = re.compile(r"\\?[A-Za-z]+(?:_\{?\w\}?)?(?:\s*[+-]\s*\\?[A-Za-z]+)*(?:\([\w, ]*\))?\s*=([^=]*)")
NOT_ONE_INTEGER = re.compile(r"\d\s*,\s+\S|_\{?\d|\\\{|^\s*\[")


def integer_in(box: str) -> int | None:
    r"""The integer that a box holds, whatever its dress: `033`, `33^\circ`, `\text{33}`, `1{,}000`, `33.0`.

    None where the rule cannot decide: fractions, sums, words.
    """
    if INTEGER.fullmatch(box):
        return int(box) if len(box) <= LONGEST_INTEGER else None
    if len(box) > LONGEST_INTEGER:
        return None
    assigned = ASSIGNED.fullmatch(box.strip())
    text = undressed(assigned[1] if assigned else box)
    number = NUMBER.fullmatch(text)
    return int(number[1].replace(",", "")) if number else None


def undressed(text: str) -> str:
    """A box without wrappers, signs of degree and per cent, dollars, thin spaces and a full stop."""
    before = None
    while before != text:
        before = text
        text = WRAPPER.sub(r"\1", COLOURED.sub("", text))
    text = DECORATION.sub("", text).strip().rstrip("\\.;,~ ")
    text = text.removeprefix("{").removesuffix("}") if INTEGER.fullmatch(text[1:-1]) else text
    return SPACE.sub("", text) if GROUPED.fullmatch(text) else SPACE.sub(" ", text).strip()


def holds_no_single_integer(box: str) -> bool:
    """Lists, sets and numbers to a base, which math-verify would take for their only member."""
    return bool(NOT_ONE_INTEGER.search(box)) or is_equation(box)


def is_equation(box: str) -> bool:
    """`3x-y+13=0` is not the answer 0: math-verify compares its right side only."""
    left, equals, _ = box.partition("=")
    return bool(equals) and bool(re.search(r"\d\s*[A-Za-z]", left))


# math-verify in processes that can be killed ------------------------------------------------


@dataclass(frozen=True)
class Verification:
    """What math-verify says. `correct` is None where its process died, twice."""

    correct: bool | None
    reason: Literal["", "time limit", "the grading process died"] = ""


@dataclass
class Verifier:
    """A pool of math-verify processes, started at first use and stopped at exit.

    math-verify stops itself after 5 s by an alarm, which C code can hold up; so a process that takes
    `seconds` is killed and the answer counts as wrong. Importing takes seconds: the processes stay.
    """

    workers: int = field(default_factory=lambda: max(1, min(4, (os.cpu_count() or 1) // 2)))
    seconds: float = 12.0
    _pool: ProcessPool | None = field(default=None, repr=False)
    _guard: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def verify(self, gold: str, text: str) -> Verification:
        """Whether `text` (a box, or a whole response) gives the gold answer."""
        for _ in range(2):
            try:
                future = self.pool().schedule(verified, args=(gold, text), timeout=self.seconds)
                return Verification(future.result())
            except TookTooLong:
                return Verification(False, "time limit")
            except ProcessExpired:
                continue
        return Verification(None, "the grading process died")

    def pool(self) -> ProcessPool:
        with self._guard:
            if self._pool is None or not self._pool.active:
                context = multiprocessing.get_context("forkserver")
                context.set_forkserver_preload(["math_verify"])
                self._pool = ProcessPool(self.workers, initializer=prepare_worker, context=context)
                atexit.register(self.close)
            return self._pool

    def close(self) -> None:
        with self._guard:
            if self._pool is not None:
                self._pool.stop()
                self._pool.join()
                self._pool = None


def prepare_worker() -> None:
    """Keeps a worker small, and math-verify from logging whole responses."""
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
    logging.getLogger("math_verify").setLevel(logging.CRITICAL)
    logging.getLogger("latex2sympy2_extended").setLevel(logging.CRITICAL)


def verified(gold: str, text: str) -> bool:
    """math-verify with its defaults; runs in a worker. The gold answer comes first: it is not symmetric."""
    from math_verify import parse, verify

    try:
        return bool(verify(parse(f"${gold}$"), parse(text)))
    except MemoryError:
        return False


VERIFIER = Verifier()


# Verdicts -----------------------------------------------------------------------------------

FINAL_ANSWER = re.compile(r"final answer|answer\s+is", re.IGNORECASE)


def strict_verdict(gold: str, box: str, verifier: Verifier = VERIFIER) -> Verification:
    """Whether a box holds the gold answer. The rule decides for integers, math-verify for the rest."""
    wanted = integer_in(gold)
    found = integer_in(box) if wanted is not None else None
    if found is not None:
        return Verification(found == wanted)
    if len(box) > LONGEST_BOX or (wanted is not None and holds_no_single_integer(box)):
        return Verification(False)
    return verifier.verify(gold, f"$\\boxed{{{box}}}$")


def lenient_verdict(gold: str, text: str, verifier: Verifier = VERIFIER) -> bool | None:
    """What math-verify says of the whole text. One plain box is decided without asking it."""
    wanted = integer_in(gold)
    if wanted is not None and text.count("\\boxed") == 1 and not FINAL_ANSWER.search(text):
        box = last_box(text)
        if box is not None and INTEGER.fullmatch(box) and len(box) <= LONGEST_INTEGER:
            return int(box) == wanted
    if not any(character.isdigit() for character in text):
        return False
    return verifier.verify(gold, text).correct


def grade_answer(question: Question, generation: Generation, verifier: Verifier = VERIFIER) -> Grade:
    """The verdict on one response to a question with an integer answer."""
    lenient = lenient_verdict(question.gold, generation.text, verifier)
    box = None if generation.truncated else last_box(generation.answer)
    if box is None:
        strict = Verification(False)
        reason = "truncated" if generation.truncated else "no answer"
    else:
        strict = strict_verdict(question.gold, box, verifier)
        reason = strict.reason
    return Grade(
        question=question.id,
        draw=generation.draw,
        correct=strict.correct,
        extracted=box,
        truncated=generation.truncated,
        reason=reason,
        lenient=lenient,
    )
