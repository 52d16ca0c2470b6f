r"""Grades an integer answer in a box: AIME, and the sums of the micro recipe.

Strict verdict, on the text after the last `</think>`: the last balanced `\boxed{}` (or `\fbox{}`,
`\framebox{}`); an integer rule; and math-verify 0.9 on that box alone, in a process that can be
killed, only where the rule cannot decide. No box is wrong and counted as no answer. A truncated
response never scores.

Lenient verdict, on the whole text: what math-verify says of it, as many harnesses grade.

Why not math-verify alone: given several boxes it merges them ("First \boxed{12}. Wait. \boxed{33}"
becomes {12, 33}), it takes the last number anywhere where no box is, and it misses `33.`, `33°`,
`1\,000` and others that the rule knows. docs/answers.md lists the traps.
"""

import atexit
import logging
import multiprocessing
import os
import re
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import TimeoutError as TookTooLong
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from itertools import islice
from multiprocessing import forkserver
from typing import Any, Literal

from pebble import ProcessExpired, ProcessPool

from harness.errors import SandboxError
from harness.grading.integers import INTEGER, LONGEST_INTEGER, holds_no_single_integer, integer_in
from harness.grading.scan import last_first
from harness.scratch import SOCKET_PATH, scratch
from harness.types import Generation, Grade, Question

LONGEST_BOX = 2_000
UNBALANCED_BOXES = 50

BOXES = ("\\boxed", "\\fbox", "\\framebox")
BOX_START = re.compile(r"\\(?:boxed|fbox|framebox)\s*(?:\[[^\]\n]{0,20}\]\s*){0,2}\{")
BRACE = re.compile(r"\\.|[{}]", re.DOTALL)


@dataclass(frozen=True)
class Box:
    """A balanced box: where its command starts, where its content ends, and the content."""

    start: int
    end: int
    content: str


def last_box(text: str) -> str | None:
    r"""What stands in the last balanced box, or None: `a \boxed{1} b \boxed{\frac{2}{3}}` → `\frac{2}{3}`.

    Escaped braces do not count. At most 50 unbalanced boxes are passed over, and a box longer than
    2,000 characters is none, so that no text takes long.
    """
    found = next(boxes(text), None)
    return found.content if found else None


def boxes(text: str) -> Iterator[Box]:
    """The balanced boxes from the last one on.

    A box that stays open cannot be inside one that closes, so nothing is read twice.
    """
    limit = len(text)
    for start in last_first(text, BOXES, UNBALANCED_BOXES):
        opened = BOX_START.match(text, start)
        if not opened:
            continue
        end = closing_brace(text, opened.end(), min(limit, opened.end() + LONGEST_BOX + 1))
        if end is None:
            limit = start
        else:
            yield Box(start, end, text[opened.end() : end])


def closing_brace(text: str, start: int, limit: int) -> int | None:
    """Where the brace stands that closes the one before `start`, or None before `limit`."""
    depth = 1
    for match in BRACE.finditer(text, start, limit):
        depth += {"{": 1, "}": -1}.get(match[0], 0)
        if depth == 0:
            return match.start()
    return None


MOST_JOINED = 10
GAP = re.compile(r"[^.?!\n]{0,70}")
JOINT = re.compile(r"[,;]|\b(?:and|or)\b")


def joined_boxes(text: str) -> str | None:
    r"""The last boxes as one answer: `\boxed{1}, \boxed{2} and \boxed{3}` → `1, 2, 3`; or None.

    Only for gold answers that are no integer, where one answer may stand in several boxes.
    """
    run: list[Box] = []
    for box in islice(boxes(text), MOST_JOINED):
        if run:
            gap = text[box.end + 1 : run[-1].start]
            if box.end >= run[-1].start or not GAP.fullmatch(gap) or not JOINT.search(gap):
                break
        run.append(box)
    return ", ".join(box.content for box in reversed(run)) if run else None


# math-verify in processes that can be killed ------------------------------------------------

Reason = Literal["", "time limit", "math-verify crashed", "the grading process died"]


@dataclass(frozen=True)
class Verification:
    """What math-verify says. `correct` is None where its process was killed by somebody else, twice."""

    correct: bool | None
    reason: Reason = ""


TRIES = 2
POOLS = 10
"""Pools that may break under one answer before it is left ungraded: none of them may be its own fault."""
CRASHES = (-signal.SIGSEGV, -signal.SIGABRT, -signal.SIGBUS, -signal.SIGFPE, -signal.SIGILL)


@dataclass
class Verifier:
    """A pool of math-verify processes, started at first use and stopped at exit.

    math-verify stops itself by an alarm, which C code holds up and a busy machine brings forward. So
    its alarm is off, and the kernel ends a process that has computed for `cpu_seconds`: the answer
    counts as wrong, however busy the machine. A crash counts as wrong when it happens again. Importing
    takes seconds: the processes stay.
    """

    workers: int = field(default_factory=lambda: max(1, min(4, (os.cpu_count() or 1) // 2)))
    cpu_seconds: float = 5.0
    wall_seconds: float = 600.0
    _pool: ProcessPool | None = field(default=None, repr=False)
    _guard: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def verify(self, gold: str, text: str) -> Verification:
        """Whether `text` (a box, or a whole response) gives the gold answer."""
        return self.outcome(verified, (gold, text, self.cpu_seconds))

    def outcome(self, task: Callable[..., bool], arguments: tuple[object, ...]) -> Verification:
        """What a task comes to in a worker; a worker that died is replaced, and the task tried once more.

        One that dies while it has nothing to do takes the pool along, and with it what others work at.
        """
        ends: list[int] = []
        broken = 0
        while len(ends) < TRIES and broken < POOLS:
            try:
                return Verification(self.pool().schedule(task, arguments, timeout=self.wall_seconds).result())
            except TookTooLong:
                ends.append(0)
            except ProcessExpired as died:
                if died.exitcode == -signal.SIGPROF:
                    return Verification(False, "time limit")
                ends.append(died.exitcode)
            except BrokenProcessPool:
                broken += 1
            remove_dead_sockets()
        if len(ends) == TRIES and all(end in CRASHES for end in ends):
            return Verification(False, "math-verify crashed")
        return Verification(None, "the grading process died")

    def pool(self) -> ProcessPool:
        with self._guard:
            if self._pool is not None and not self._pool.active:
                self._pool.stop()
                self._pool.join()
                self._pool = None
            if self._pool is None:
                context = multiprocessing.get_context("forkserver")
                keep_sockets_in_scratch()
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


def keep_sockets_in_scratch() -> None:
    """The fork server's socket lies in this process's scratch folder, where its path is not too long for one:
    Python leaves it in /tmp where a process is killed. It has no public way to say so."""
    folder = scratch()
    if len(os.fsencode(folder)) + len("/listener-01234567") < SOCKET_PATH:
        multiprocessing.current_process()._config.setdefault("tempdir", str(folder))  # type: ignore[attr-defined]


def remove_dead_sockets() -> None:
    """Python leaves the socket of a fork server that was killed where it starts another one. Its lock is
    held, as the address of one that is being started is not told yet."""
    server: Any = forkserver._forkserver
    with server._lock:
        for socket in scratch().glob("listener-*") if server._forkserver_address else ():
            if str(socket) != server._forkserver_address:
                socket.unlink(missing_ok=True)


def prepare_worker() -> None:
    """Keeps a worker small, and math-verify from logging whole responses."""
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
    logging.getLogger("math_verify").setLevel(logging.CRITICAL)
    logging.getLogger("latex2sympy2_extended").setLevel(logging.CRITICAL)


def verified(gold: str, text: str, cpu_seconds: float) -> bool:
    """math-verify with its defaults; runs in a worker. The gold answer comes first: it is not symmetric."""
    from math_verify import parse, verify

    signal.setitimer(signal.ITIMER_PROF, cpu_seconds)
    try:
        wanted, found = parse(marked(gold), parsing_timeout=None), parse(text, parsing_timeout=None)
        return bool(verify(wanted, found, timeout_seconds=None))
    except (MemoryError, RecursionError):
        return False
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def marked(gold: str) -> str:
    """A gold answer as LaTeX: without dollars math-verify reads nothing in `\\dfrac{9}{7}`."""
    return gold if any(mark in gold for mark in ("$", "\\boxed", "\\[", "\\(")) else f"${gold}$"


VERIFIER = Verifier()


# Verdicts -----------------------------------------------------------------------------------

ANSWER_IS = re.compile(r"answer\s+is")
LONGEST_PLAIN = 200_000
HOLDS_MATHS = (*"0123456789", "\\", "$")


def strict_verdict(gold: str, box: str, verifier: Verifier = VERIFIER) -> Verification:
    """Whether a box holds the gold answer. The rule decides for integers, math-verify for the rest."""
    wanted = integer_in(gold)
    found = integer_in(box) if wanted is not None else None
    if found is not None:
        return Verification(found == wanted)
    if len(box) > LONGEST_BOX or (wanted is not None and holds_no_single_integer(box)):
        return Verification(False)
    return verifier.verify(gold, f"$\\boxed{{{box}}}$")


def lenient_verdict(gold: str, text: str, verifier: Verifier = VERIFIER) -> Verification:
    """What math-verify says of the whole text. Where that is plain to see, it is not asked."""
    wanted = integer_in(gold)
    if wanted is not None and not any(mark in text for mark in HOLDS_MATHS):
        return Verification(False)
    if wanted is not None and (found := plain_answer(text)) is not None:
        return Verification(found == wanted)
    return verifier.verify(gold, text)


def plain_answer(text: str) -> int | None:
    """The integer of a text's only box, where nothing else in it could be taken for the answer."""
    if len(text) > LONGEST_PLAIN or text.count("\\boxed") != 1 or announced(text):
        return None
    box = last_box(text)
    return int(box) if box is not None and len(box) <= LONGEST_INTEGER and INTEGER.fullmatch(box) else None


def announced(text: str) -> bool:
    """Whether "final answer" or "answer is" stands in a text, in capitals or not.

    In a folded copy: a search that ignores case takes ten times as long, and more than all else here.
    """
    folded = text.casefold()
    return "final answer" in folded or ANSWER_IS.search(folded) is not None


def answer_in(gold: str, text: str) -> str | None:
    """The box that is graded, or the last boxes where the gold answer is no integer; None without one."""
    return last_box(text) if integer_in(gold) is not None else joined_boxes(text)


def grade_answer(question: Question, generation: Generation, verifier: Verifier = VERIFIER) -> Grade:
    """The verdict on one response to a question with an answer in a box.

    Raises SandboxError where something ended the process that grades it: that is no wrong answer.
    """
    lenient = lenient_verdict(question.gold, generation.text, verifier)
    box = None if generation.truncated else answer_in(question.gold, generation.answer)
    if box is None:
        strict = Verification(False)
        reason = "truncated" if generation.truncated else "no answer"
    else:
        strict = strict_verdict(question.gold, box, verifier)
        reason = strict.reason
    if strict.correct is None:
        raise SandboxError(
            f"math-verify gave no verdict, twice: {strict.reason}",
            "Something killed its process (short of memory?); run the same command again.",
        )
    return Grade(
        question=question.id,
        draw=generation.draw,
        correct=strict.correct,
        extracted=box,
        truncated=generation.truncated,
        reason=reason,
        lenient=lenient.correct,
        detail={"lenient_reason": lenient.reason} if lenient.reason else {},
    )
