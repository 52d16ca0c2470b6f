"""Errors that a user can act on. Each says what happened, what was expected and what to do.

The command line prints `message` and `remedy`, never a traceback, and exits with `exit_code`. Neither holds a
secret: what a server or a library said may be part of them.
"""

from typing import ClassVar

from harness.secrets import hidden


class HarnessError(Exception):
    """Something that the user can mend; everything finished so far is kept."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, remedy: str = "") -> None:
        self.message = hidden(message)
        self.remedy = hidden(remedy)
        super().__init__(self.message)

    def __str__(self) -> str:
        return f"{self.message}\n{self.remedy}" if self.remedy else self.message


class UsageError(HarnessError):
    """An unknown name or an impossible option."""

    exit_code: ClassVar[int] = 64


class DataError(HarnessError):
    """Data that is missing, or rows that are not the pinned ones."""


class ServerError(HarnessError):
    """A model server that did not start, died, hangs or answers for another model."""


class SandboxError(HarnessError):
    """The sandbox failed, so nothing is known about the program. Never a wrong answer."""


class StageError(HarnessError):
    """A stage ran and its result is not fit for what follows."""
