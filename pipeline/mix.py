"""Mix: mixed-policy rows together with rows of the teacher's own (report §5, §6.4.2)."""

import random
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

from harness.cost import Estimator, Volume, Work, some
from harness.errors import StageError
from harness.files import write_rows
from harness.rows import Key, count_rows, read_in_order, read_rows
from harness.stage import Stage
from harness.store import Context
from harness.types import Generation


@dataclass(frozen=True, kw_only=True)
class Mix(Stage):
    """Writes generations.jsonl: all mixed-policy rows, then `off_policy_rows` of the teacher's own.

    Training shuffles. Raises StageError where fewer than `minimum` mixed-policy rows survived the
    filters.
    """

    mixed: Stage
    off_policy: Stage
    off_policy_rows: int
    minimum: int
    seed: int = 0

    def run(self, out: Path, context: Context) -> None:
        mixed, own = (context.path(stage) / "generations.jsonl" for stage in (self.mixed, self.off_policy))
        if (count := count_rows(mixed)) < self.minimum:
            raise StageError(
                f"{count} mixed-policy rows survived the filters, the recipe needs {self.minimum}",
                f"{mixed.with_name('dropped.jsonl')} names the reason of each drop.",
            )
        keys = ((row.question, row.draw) for row in read_rows(own, Key))
        chosen = set(sorted(keys, key=self.place)[: self.off_policy_rows])
        extra = (row for row in read_in_order(own, Generation) if (row.question, row.draw) in chosen)
        write_rows(out / "generations.jsonl", renumbered(chain(read_in_order(mixed, Generation), extra)))

    def place(self, key: tuple[str, int]) -> float:
        """Where a row comes in a random order that is the same whatever the file's."""
        question, draw = key
        return random.Random(f"{self.seed}:mix:{question}:{draw}").random()

    def expected(self, estimator: Estimator) -> Volume:
        return estimator.volume(self.mixed) + some(estimator.volume(self.off_policy), self.off_policy_rows)

    def work(self, estimator: Estimator) -> Work:
        setting = f"all mixed-policy rows, {self.off_policy_rows:,} off-policy"
        return Work(disk=estimator.text_bytes(estimator.volume(self)), setting=setting)


def renumbered(rows: Iterable[Generation]) -> Iterator[Generation]:
    """The rows with draws counted anew by question: a question may have rows of both kinds, and no
    two rows of a file share question and draw. `kept["drawn"]` has the old number."""
    seen: Counter[str] = Counter()
    for row in rows:
        yield replace(row, draw=seen[row.question], kept={**row.kept, "drawn": row.draw})
        seen[row.question] += 1
