"""Hugging Face `.eval_results/*.yaml`: a model repository's scores, shown on its page and on leaderboards.

    ROW/.eval_results/gpqa_diamond.yaml

The format can say a score and nothing else, so only scores are written: whole, all graded, of the whole
benchmark. Its data set must be one that hosts a leaderboard, and its task one of that data set's
`eval.yaml`; where none is known here, the user names one. Format: huggingface.co/docs/hub/eval-results
(huggingface/hub-docs at 064c754, `docs/hub/eval-results.md`), written by huggingface_hub's own type.
"""

from importlib.metadata import version
from pathlib import Path

from harness.files import write_whole
from reports.exports.source import Evaluation, Source, Written, path_part

TASKS = {"Idavidrein/gpqa": ("Idavidrein/gpqa", "gpqa_diamond")}
"""Data sets of ours that host a leaderboard, with its task, from the same page of the Hub's documentation."""


def write(source: Source, out: Path) -> Written:
    """Writes a file for each score that has a leaderboard."""
    files: dict[Path, str] = {}
    left_out = []
    for one in source.evaluations:
        task = source.hub_tasks.get(one.name) or TASKS.get(one.benchmark.dataset)
        if reasons := refused(one, task):
            left_out.append((one.label, reasons))
            continue
        assert task is not None
        file = out / path_part(one.row) / ".eval_results" / f"{path_part(one.name)}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, result(one, task).encode())
        files[file] = one.row
    return Written(files=files, left_out=tuple(left_out))


def refused(one: Evaluation, task: tuple[str, str] | None) -> str:
    """Why there is nothing to write; nothing where there is."""
    if one.no_score:
        return f"this format can only say a score: {'; '.join(one.no_score)}"
    if task is None:
        return f"no leaderboard on the Hub is known for it: --hub-task {one.name}=ORG/DATASET:TASK names one"
    return ""


def result(one: Evaluation, task: tuple[str, str]) -> str:
    """The YAML of one score, in points."""
    from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml
    from huggingface_hub.utils import yaml_dump  # type: ignore[attr-defined]

    assert one.entry.measured is not None
    dataset, name = task
    own = dataset == one.benchmark.dataset
    entry = EvalResultEntry(
        dataset_id=dataset,
        task_id=name,
        value=round(one.entry.measured, 2),
        dataset_revision=one.dataset_revision if own else None,
        date=f"{one.finished:%Y-%m-%d}",
        notes=notes(one),
    )
    text: str = yaml_dump(eval_result_entries_to_yaml([entry]), sort_keys=False)
    return text


def notes(one: Evaluation) -> str:
    sampling, error = one.sampling, one.entry.se_rerun
    told = [
        f"avg@{one.entry.draws}",
        f"temperature {sampling.temperature:g}, top_p {sampling.top_p:g}, max_tokens {sampling.max_tokens}",
        f"dasd-harness {version('dasd-harness')}",
    ]
    return "; ".join([*told, *([f"standard error over re-runs {error:.2f}"] if error is not None else [])])
