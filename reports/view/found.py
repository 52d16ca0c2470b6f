"""Which evaluations a run has, and in which files their rows and verdicts stand.

More forgiving than `harness.runs`: whoever looks at samples may have another version's questions, and may
look while the run is under way.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from harness.discover import suggestion
from harness.errors import DataError, UsageError
from harness.files import UNREADABLE
from harness.runs import identity_of, known_runs, order_of
from harness.store import LABELS, RunStore


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """One row's answers to one benchmark. `asked` and `marked` are the identities of the two stages.

    Both files grow while the run is under way, and either may not be there yet.
    """

    run: str
    row: str
    benchmark: str
    rows: Path
    grades: Path
    asked: dict[str, Any] = field(compare=False, repr=False)
    marked: dict[str, Any] = field(compare=False, repr=False)

    @property
    def runs_programs(self) -> bool:
        """Whether the answers are programs: only their graders have a setting for standard input."""
        return "stdin" in self.marked.get("grading", {})

    @property
    def engine_file(self) -> Path:
        return self.rows.with_name("session.json")


def find_evaluations(store: RunStore, text: str) -> list[Evaluation]:
    """The evaluations that `RUN` or `RUN/ROW` names, finished ones and those under way, in report order.

    Raises UsageError where there is no such run or row.
    """
    run, _, row = text.partition("/")
    home = store.root / run
    folders = {**under_way(store, run), **finished(home)}
    found = [evaluation(store, run, label, folder) for label, folder in folders.items()]
    if not found:
        known = {*known_runs(store), *(path.parent.name for path in store.root.glob(f"*/{LABELS}"))}
        raise UsageError(f"no run {run!r} with evaluations in {store.root}. {suggestion(run, known)}")
    if row and row not in (rows := {one.row for one in found}):
        raise UsageError(f"{run} has no row {row!r}. {suggestion(row, rows)}")
    order = order_of(home)
    found.sort(key=lambda one: order.get(f"eval/{one.row}/{one.benchmark}", len(order)))
    return [one for one in found if row in ("", one.row)]


def finished(home: Path) -> dict[str, Path]:
    """Label → folder of the verdicts, of those that the run links to."""
    links = sorted((home / "eval").glob("*/*"))
    return {f"eval/{link.parent.name}/{link.name}": link.resolve() for link in links if link.is_symlink()}


def under_way(store: RunStore, run: str) -> dict[str, Path]:
    """Label → folder of the verdicts, of those that were begun."""
    try:
        told = msgspec.json.decode((store.root / run / LABELS).read_bytes(), type=dict[str, str])
    except (OSError, *UNREADABLE):
        return {}
    begun = {label: store.stages / key for label, key in told.items() if label.startswith("eval/")}
    return {label: folder for label, folder in begun.items() if (folder / "identity.json").exists()}


def evaluation(store: RunStore, run: str, label: str, marks: Path) -> Evaluation:
    """The evaluation `eval/ROW/BENCHMARK` whose verdicts stand in `marks`.

    Raises DataError where the stages' folders do not say what they are."""
    marked = identity_of(marks)
    if not isinstance(marked.get("asked"), str):
        raise DataError(f"{marks} does not say which answers it grades", "Was the folder moved in part?")
    answers = store.stages / marked["asked"]
    _, row, benchmark = label.split("/")
    return Evaluation(
        run=run,
        row=row,
        benchmark=benchmark,
        rows=answers / "generations.jsonl",
        grades=marks / "grades.jsonl",
        asked=identity_of(answers),
        marked=marked,
    )


def partners(ours: Sequence[Evaluation], theirs: Sequence[Evaluation]) -> Iterator[tuple[int, int]]:
    """Which evaluations of two runs belong together: by row and benchmark; by benchmark alone where each
    side has one row."""
    single = len({one.row for one in ours}) == len({one.row for one in theirs}) == 1
    for a, own in enumerate(ours):
        for b, other in enumerate(theirs):
            if own.benchmark == other.benchmark and (single or own.row == other.row):
                yield a, b
