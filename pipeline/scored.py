"""What scoring leaves of each response: its tokens, or why it has none.

tokens.arrow      ids, log-probabilities and lengths of those that were scored
unscored.jsonl    question, draw and reason of the others; not there where there are none
"""

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from harness import progress
from harness.errors import StageError
from harness.generate import SILENT
from harness.rows import drop_torn_line, read_rows
from harness.tokens import NAME, Key, TokenFile, tokens
from pipeline.logprobs import Encoded, Unscorable

UNSCORED = "unscored.jsonl"
SHARE = 0.01  # of the responses may be left out; beyond it something else is wrong than odd rows


@dataclass(frozen=True, kw_only=True)
class Unscored:
    """A response without scores. `reason` is what such rows have in common, `detail` this one's."""

    question: str
    draw: int
    reason: str
    detail: str


class ScoreFiles:
    """The two files of a stage that scores `total` responses; the only writer while it is open.

    `keys` are those of both. Raises StageError, when it is opened and at each row that is left out, as
    soon as more than SHARE of the rows are.
    """

    def __init__(self, out: Path, total: int) -> None:
        self.tokens = TokenFile(out / NAME)
        self.path = out / UNSCORED
        self.total = total
        self.counter: progress.Counter = SILENT

    def __enter__(self) -> "ScoreFiles":
        if self.path.exists():
            drop_torn_line(self.path)
        self.unscored = read_unscored(self.path)
        self.check()
        self.tokens.__enter__()
        self.keys: set[Key] = self.tokens.keys | {(one.question, one.draw) for one in self.unscored}
        return self

    def __exit__(self, *failure: object) -> None:
        self.tokens.__exit__(*failure)

    def save(self, row: Encoded, logprobs: NDArray[np.float32]) -> None:
        """Appends a row's tokens, unless the row is there."""
        if row.key not in self.keys:
            self.tokens.append(row.key, tokens(row.response, logprobs, row.lengths))
            self.keys.add(row.key)
            self.counter.advance(tokens=len(row.response))

    def leave(self, fault: Unscorable) -> None:
        """Notes a row that cannot be scored, unless the row is there."""
        if fault.key in self.keys:
            return
        question, draw = fault.key
        one = Unscored(question=question, draw=draw, reason=fault.reason, detail=fault.message)
        with self.path.open("ab", buffering=0) as file:
            os.write(file.fileno(), msgspec.json.encode(one) + b"\n")
        self.unscored.append(one)
        self.keys.add(fault.key)
        self.counter.advance(failures=1)
        self.check()

    def check(self) -> None:
        if len(self.unscored) > SHARE * self.total:
            raise StageError(
                f"{summary(self.unscored)} of {self.total:,}; at most {SHARE:.0%} may be left out",
                f"{self.path} lists them. Filter such responses out before, or mend the cause, remove that "
                "file, and run the same command again: what was scored is kept.",
            )


def read_unscored(path: Path) -> list[Unscored]:
    return list(read_rows(path, Unscored)) if path.exists() else []


def summary(unscored: list[Unscored]) -> str:
    """How many were left out, the commonest reason, and an example of it."""
    reason, count = Counter(one.reason for one in unscored).most_common(1)[0]
    example = next(one.detail for one in unscored if one.reason == reason)
    return f"{len(unscored):,} responses were not scored, {count:,} because {reason} ({example})"
