"""Exports: a run's scores and samples in the formats of other projects, one file a format.

Each writes only what its format can say: what is no score is marked as such or left out with the reason,
and texts of gated data sets are not in any. The same run gives the same bytes.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

from harness.discover import pick
from harness.errors import UsageError
from harness.evaluate import Mark
from harness.stage import Stage
from harness.store import RunStore
from reports.exports import every_eval_ever, hub_results, inspect_log, lighteval, spreadsheet
from reports.exports.renewed import renew
from reports.exports.source import Evaluation, Source, Written, evaluation
from reports.table import Entry

__all__ = ["EVERY", "FORMATS", "Source", "Writer", "Written", "chosen", "finished", "hub_tasks", "renew"]

Writer = Callable[[Source, Path], Written]

FORMATS: dict[str, Writer] = {
    "lighteval": lighteval.write,
    "inspect": inspect_log.write,
    "every-eval-ever": every_eval_ever.write,
    "hf-eval-results": hub_results.write,
    "csv": spreadsheet.write,
}
EVERY = "all"


def chosen(names: tuple[str, ...]) -> dict[str, Writer]:
    """The formats of these names, `all` for every one. Raises UsageError for an unknown one."""
    known = {**FORMATS, EVERY: lighteval.write}
    for name in names:
        pick("format", name, known)
    return FORMATS if EVERY in names else {name: FORMATS[name] for name in dict.fromkeys(names)}


def finished(
    store: RunStore,
    run: str,
    entries: list[Entry],
    marks: Mapping[str, Stage],
    data: Path | None,
    gated_texts: bool,
) -> list[Evaluation]:
    """The evaluations `eval/ROW/BENCHMARK` of a run that are done and graded."""
    by_label = {f"eval/{entry.row}/{entry.benchmark}": entry for entry in reversed(entries)}
    return [
        evaluation(store, run, by_label[label], mark, data, gated_texts)
        for label, mark in marks.items()
        if isinstance(mark, Mark) and label in by_label and store.state(mark) == "done"
    ]


def hub_tasks(texts: tuple[str, ...]) -> dict[str, tuple[str, str]]:
    """`BENCHMARK=ORG/DATASET:TASK` texts as a table. Raises UsageError for another form."""
    found = {}
    for text in texts:
        name, _, place = text.partition("=")
        dataset, _, task = place.partition(":")
        if not name or not task or dataset.count("/") != 1:
            raise UsageError(f"--hub-task {text}: BENCHMARK=ORG/DATASET:TASK is expected")
        found[name] = (dataset, task)
    return found
