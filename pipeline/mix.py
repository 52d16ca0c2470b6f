"""Mix: mixed-policy rows together with rows of the teacher's own (report §5, §6.4.2)."""

import random
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

from harness.errors import StageError
from harness.files import write_rows
from harness.generate import read_rows
from harness.stage import Stage
from harness.store import Context
from harness.types import Generation


@dataclass(frozen=True, kw_only=True)
class Mix(Stage):
    """Writes generations.jsonl: all mixed-policy rows and `off_policy_rows` of the teacher's own.

    Raises StageError where fewer than `minimum` mixed-policy rows survived the filters.
    """

    mixed: Stage
    off_policy: Stage
    off_policy_rows: int
    minimum: int
    seed: int = 0

    def run(self, out: Path, context: Context) -> None:
        mixed = list(read_rows(context.path(self.mixed) / "generations.jsonl", Generation))
        if len(mixed) < self.minimum:
            raise StageError(
                f"{len(mixed)} mixed-policy rows survived the filters, the recipe needs {self.minimum}",
                f"{context.path(self.mixed) / 'dropped.jsonl'} names the reason of each drop.",
            )
        own = list(read_rows(context.path(self.off_policy) / "generations.jsonl", Generation))
        rng = random.Random(f"{self.seed}:mix")
        extra = rng.sample(own, min(self.off_policy_rows, len(own)))
        rows = renumbered([*mixed, *extra])
        write_rows(out / "generations.jsonl", rng.sample(rows, len(rows)))


def renumbered(rows: list[Generation]) -> list[Generation]:
    """The rows with draws counted anew by question: a question may have rows of both kinds, and no
    two rows of a file share question and draw. `kept["drawn"]` has the old number."""
    seen: Counter[str] = Counter()
    numbered = []
    for row in rows:
        numbered.append(replace(row, draw=seen[row.question], kept={**row.kept, "drawn": row.draw}))
        seen[row.question] += 1
    return numbered
