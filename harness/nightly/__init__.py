"""The nightly regression gate: tonight's score against our own history, never against a published value.

`config` is what a person writes, `night` what is asked tonight and what came of it, `gate` the
statistics, `history` the SQLite file, `retention` and `notification` what happens afterwards.
"""

from typing import ClassVar

from harness.errors import HarnessError
from harness.nightly.gate import Outcome

EXIT_CODES: dict[Outcome, int] = {"pass": 0, "regression": 1, "inconclusive": 2}


class Undecided(HarnessError):
    """A night that came to no end. Its exit code is that of `inconclusive`: what breaks on the way is no
    regression, and any other error's exit code would say so."""

    exit_code: ClassVar[int] = EXIT_CODES["inconclusive"]
