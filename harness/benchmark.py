"""Benchmark: can load questions, word the prompt of a draw, and grade an answer."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from harness.sandboxes import Sandbox
from harness.types import Generation, Grade, Question, Sampling


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """One file of `benchmarks/` holds one benchmark (or one family).

    `version` goes up when questions or prompts change, `grader` when verdicts change: a new grader
    re-marks stored generations and asks nothing. `dataset` is a Hub id, `revision` a commit or
    "unpinned"; `sampling` the protocol's setting.
    """

    version: ClassVar[int] = 1
    grader: ClassVar[int] = 1
    needs_sandbox: ClassVar[bool] = False

    name: str
    dataset: str
    revision: str
    sampling: Sampling

    def load(self, data: Path | None) -> list[Question]:
        """All questions, in the data set's order, from the folder `data` or the pinned Hub revision.

        Raises DataError where the data cannot be found or a row is not the pinned one.
        """
        raise NotImplementedError

    def render(self, question: Question, draw: int) -> tuple[str, dict[str, Any]]:
        """The user prompt of one draw, and what must be kept to grade it (an option order, say)."""
        return question.prompt, {}

    def grade(self, question: Question, generation: Generation, sandbox: Sandbox | None) -> Grade:
        """The verdict on one response. Pure but for the sandbox.

        Raises SandboxError where the sandbox failed; the caller turns that into `correct=None`.
        """
        raise NotImplementedError
