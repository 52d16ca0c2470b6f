"""Benchmark: can load questions, word the prompt of a draw, and grade an answer."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from harness.grading.code import CodeTest
from harness.sandboxes import Sandbox
from harness.stage import Json, encoded
from harness.types import Generation, Grade, Question, Sampling

T = TypeVar("T")
GRADING = "grading"


def grading_setting(default: T) -> T:
    """A field of a benchmark that only its grader reads: another value re-marks and asks nothing."""
    setting: T = field(default=default, metadata={GRADING: True})
    return setting


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """One file of `benchmarks/` holds one benchmark (or one family).

    `version` goes up when questions or prompts change, `grader` when verdicts change: a new grader
    re-marks stored generations and asks nothing. `voted`: draws can give the same answer, so that a
    majority means something; two programs are hardly ever the same. `gated`: its terms forbid showing
    its texts in public, so exports leave them out. `dataset` is a Hub id, `revision` a commit or
    "unpinned"; `sampling` the protocol's setting.
    """

    version: ClassVar[int] = 1
    grader: ClassVar[int] = 1
    needs_sandbox: ClassVar[bool] = False
    voted: ClassVar[bool] = True
    gated: ClassVar[bool] = False

    name: str
    dataset: str
    revision: str
    sampling: Sampling

    @property
    def grading(self) -> dict[str, Json]:
        """The grading settings by name: part of what a Mark is, not of what is asked."""
        return {
            each.name: encoded(getattr(self, each.name))
            for each in dataclasses.fields(self)
            if each.metadata.get(GRADING)
        }

    def load(self, data: Path | None) -> list[Question]:
        """All questions, in the data set's order, from the folder `data` or the pinned Hub revision.

        Raises DataError where the data cannot be found or a row is not the pinned one.
        """
        raise NotImplementedError

    def render(self, question: Question, draw: int) -> tuple[str, dict[str, Any]]:
        """The user prompt of one draw, and what must be kept to grade it (an option order, say)."""
        return question.prompt, {}

    def public(self, question: Question) -> Question | None:
        """The question as anybody may be shown it: of a gated benchmark with placeholders for its texts, or
        none."""
        return None if self.gated else question

    def grade(self, question: Question, generation: Generation, sandbox: Sandbox | None) -> Grade:
        """The verdict on one response. Pure but for the sandbox.

        Raises SandboxError where the sandbox failed; the caller turns that into `correct=None`.
        """
        raise NotImplementedError

    def tests(self, question: Question) -> tuple[list[CodeTest], str | None]:
        """The tests of a code question, and the function that they call (None: stdin to stdout).

        Raises DataError where they cannot be read.
        """
        raise NotImplementedError

    def timed_out(self, grade: Grade) -> bool:
        """Whether a busy machine may be to blame for a verdict, which then counts only once it was
        reached again with nothing else being graded."""
        return False

    def protocol(self) -> dict[str, str]:
        """What a reader of the score must know about questions, prompt and grader, in words."""
        return {"dataset": f"{self.dataset} {self.revision}"}

    def variations(self) -> "tuple[Variation, ...]":
        """The other readings of an underspecified protocol that stored generations allow."""
        return (Variation(ambiguity="answer-extraction", name="lenient: whole text", lenient=True),)


@dataclass(frozen=True, kw_only=True)
class Variation:
    """One alternative that needs no new generation. `ambiguity` is its id in the register.

    `benchmark` grades otherwise; `holds` takes only some questions, of the `of` that the reading has;
    `lenient` takes the verdicts on the whole text.
    """

    ambiguity: str
    name: str
    benchmark: Benchmark | None = None
    holds: Callable[[Question], bool] | None = None
    of: int = 0
    lenient: bool = False
