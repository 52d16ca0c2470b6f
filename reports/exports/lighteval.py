"""lighteval 0.13: `results/RUN/ROW/results_DATE.json` and a details file for each benchmark.

    details/RUN/ROW/DATE/details_harness:aime24|0_DATE.parquet      doc, model_response, metric

Tasks, metric and the order of samples are those of our tasks for lighteval (benchmarks/lighteval_tasks):
`harness:NAME|0`, `avg@n`, a document for each draw. lighteval's own loader of details reads them. Values are
shares, as everywhere in lighteval.

What is no score has no `avg@n`: it stands under `not_a_score:avg@n`, and with ungraded responses under
`lowest:avg@n` and `highest:avg@n`. A limited run has `max_samples`, as in lighteval.
"""

import json
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.files import write_json
from reports.exports.aside import whole
from reports.exports.source import WITHHELD, Evaluation, Sample, Source, Written, path_part

if TYPE_CHECKING:
    import pyarrow

METRIC, LENIENT = "avg@n", "lenient@n"
GROUP_BYTES = 4 << 20
GROUP_ROWS = 1_000


def write(source: Source, out: Path) -> Written:
    """Writes one file of results for each row of the run, and its details."""
    files: dict[Path, str] = {}
    for row, evaluations in source.by_row.items():
        parts = (path_part(source.run), path_part(row))
        date = f"{max(one.finished for one in evaluations):%Y-%m-%dT%H-%M-%S}"
        results = out.joinpath("results", *parts, f"results_{date}.json")
        results.parent.mkdir(parents=True, exist_ok=True)
        write_json(results, results_of("/".join(parts), evaluations))
        files[results] = row
        for one in evaluations:
            details = out.joinpath("details", *parts, date, f"details_{task(one)}_{date}.parquet")
            write_details(one, details)
            files[details] = row
    return Written(files=files)


def task(one: Evaluation) -> str:
    return f"harness:{path_part(one.name)}|0"


# Results ------------------------------------------------------------------------------------


def results_of(name: str, evaluations: list[Evaluation]) -> dict[str, Any]:
    """The document that lighteval's EvaluationTracker saves."""
    values = {task(one): metrics(one) for one in evaluations}
    return {
        "config_general": config_general(name, evaluations),
        "results": {**values, **average(values.values())},
        "versions": {task(one): one.benchmark.version for one in evaluations},
        "config_tasks": {task(one): config_task(one) for one in evaluations},
        "summary_tasks": {task(one): summary() for one in evaluations},
        "summary_general": summary(),
    }


def metrics(one: Evaluation) -> dict[str, float]:
    """The values of one task; only a score has the metric's own name."""
    entry = one.entry
    if entry.ungraded or entry.short:
        found = {f"lowest:{METRIC}": entry.lowest, f"highest:{METRIC}": entry.highest}
    else:
        name = f"not_a_score:{METRIC}" if one.no_score else METRIC
        found = {name: entry.measured, f"{name}_stderr": entry.se_rerun}
    if not one.no_score:
        found[LENIENT] = entry.lenient
    counts = {"truncated": entry.truncated, "no_answer": entry.no_answer, "ungraded": entry.ungraded}
    return {name: value / 100 for name, value in found.items() if value is not None} | counts


def average(values: Iterable[dict[str, float]]) -> dict[str, dict[str, float]]:
    """lighteval's `all`, over the tasks that have a score."""
    scores = [found[METRIC] for found in values if METRIC in found]
    return {"all": {METRIC: sum(scores) / len(scores)}} if scores else {}


def config_general(name: str, evaluations: list[Evaluation]) -> dict[str, Any]:
    """lighteval's general part, and under `harness` what it has no place for.

    lighteval has one set of settings for all tasks: one that they do not share is not in it, and stands with
    each task under `harness`.
    """
    end = max(one.finished for one in evaluations).timestamp()
    seconds = sum(one.seconds for one in evaluations)
    return {
        "lighteval_sha": "?",
        "num_fewshot_seeds": 1,
        "max_samples": shared([{"limit": one.mark.asked.limit} for one in evaluations]).get("limit"),
        "job_id": 0,
        "start_time": end - seconds,
        "end_time": end,
        "total_evaluation_time_secondes": str(seconds),
        "model_config": model_config(name, evaluations),
        "model_name": name,
        "harness": {
            "version": version("dasd-harness"),
            "model": evaluations[0].model,
            "tasks": {task(one): settings(one) for one in evaluations},
            "not_a_score": {task(one): list(one.no_score) for one in evaluations if one.no_score},
            "texts": {task(one): WITHHELD for one in evaluations if not one.texts},
        },
    }


def model_config(name: str, evaluations: list[Evaluation]) -> dict[str, Any]:
    return {
        "model_name": name,
        "generation_parameters": shared([generation_parameters(one) for one in evaluations]),
        **shared([{"system_prompt": one.mark.asked.system} for one in evaluations]),
    }


def shared(settings: list[dict[str, Any]]) -> dict[str, Any]:
    """The settings that all have with the same value."""
    first, *others = settings
    return {name: value for name, value in first.items() if all(one[name] == value for one in others)}


def settings(one: Evaluation) -> dict[str, Any]:
    """How one task was asked."""
    return {
        "max_samples": one.mark.asked.limit,
        "generation_parameters": generation_parameters(one),
        "system_prompt": one.mark.asked.system,
        "engine": dict(one.session),
    }


def generation_parameters(one: Evaluation) -> dict[str, Any]:
    sampling = one.sampling
    return {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k if sampling.top_k > 0 else None,
        "min_p": sampling.min_p,
        "repetition_penalty": sampling.repetition_penalty,
        "max_new_tokens": sampling.max_tokens,
        "seed": sampling.seed,
    }


def config_task(one: Evaluation) -> dict[str, Any]:
    """The task in the fields of lighteval's configuration."""
    return {
        "name": f"harness:{path_part(one.name)}",
        "prompt_function": type(one.benchmark).__name__,
        "hf_repo": one.benchmark.dataset,
        "hf_subset": "default",
        "hf_revision": one.dataset_revision,
        "metrics": [{"metric_name": METRIC, "higher_is_better": True, "category": "GENERATIVE"}],
        "generation_size": one.sampling.max_tokens,
        "num_samples": [one.sampling.draws],
        "num_fewshots": 0,
        "original_num_docs": one.entry.questions * one.entry.draws,
        "effective_num_docs": one.entry.questions * one.entry.draws,
        "version": one.benchmark.version,
    }


def summary() -> dict[str, Any]:
    """lighteval counts here what it cut from prompts; nothing was."""
    return {"hashes": {}, "truncated": 0, "non_truncated": 0, "padded": 0, "non_padded": 0}


# Details ------------------------------------------------------------------------------------


def write_details(one: Evaluation, path: Path) -> None:
    """The samples as Parquet, a few megabytes of them in memory."""
    import pyarrow
    import pyarrow.parquet

    columns = schema()
    with whole(path) as aside, pyarrow.parquet.ParquetWriter(aside, columns) as writer:
        for group in groups(one):
            writer.write_table(pyarrow.Table.from_pylist(group, schema=columns))


def groups(one: Evaluation) -> Iterator[list[dict[str, Any]]]:
    """The details in groups of at most so many rows and bytes of text."""
    group: list[dict[str, Any]] = []
    held = 0
    for sample in one.samples():
        group.append(detail(one, sample))
        held += len(sample.generation.text) + len(sample.generation.prompt)
        if held >= GROUP_BYTES or len(group) >= GROUP_ROWS:
            yield group
            group, held = [], 0
    if group:
        yield group


def detail(one: Evaluation, sample: Sample) -> dict[str, Any]:
    """A sample as lighteval's Doc, ModelResponse and metrics."""
    row, grade = sample.generation, sample.grade
    verdicts = ((METRIC, grade.correct), (LENIENT, grade.lenient))
    return {
        "doc": {
            "query": row.prompt,
            "choices": [sample.target],
            "gold_index": 0,
            "instruction": one.mark.asked.system,
            "specific": specific(sample),
            "original_query": sample.question.prompt,
            "id": row.question,
            "task_name": task(one),
            "fewshot_samples": [],
            "sampling_methods": ["GENERATIVE"],
            "generation_size": row.sampling.max_tokens,
            "stop_sequences": [],
            "use_logits": False,
            "num_samples": 1,
        },
        "metric": {name: None if correct is None else float(correct) for name, correct in verdicts},
        "model_response": {
            "input": row.prompt,
            "text": [row.text],
            "text_post_processed": [row.answer],
            "reasonings": [row.reasoning or None],
            "input_tokens": [],
            "output_tokens": [],
            "logprobs": [],
            "argmax_logits_eq_gold": [],
            "truncated_tokens_count": 0,
            "padded_tokens_count": 0,
        },
    }


def specific(sample: Sample) -> dict[str, Any]:
    """What our task keeps of a document, and what lighteval has no place for."""
    row, grade = sample.generation, sample.grade
    return {
        "question": row.question,
        "draw": row.draw,
        "prompt": row.prompt,
        "kept": json.dumps(row.kept, ensure_ascii=False),
        "finish_reason": row.finish_reason,
        "prompt_tokens": row.prompt_tokens,
        "completion_tokens": row.completion_tokens,
        "latency": row.latency,
        "seed": row.seed,
        "extracted": grade.extracted,
        "reason": grade.reason,
        "truncated": grade.truncated,
    }


def schema() -> "pyarrow.Schema":
    """The columns as lighteval's own files have them."""
    import pyarrow as pa

    text, texts, number, numbers = pa.string(), pa.list_(pa.string()), pa.int64(), pa.list_(pa.int64())
    kept = {
        **dict.fromkeys(("question", "prompt", "kept", "finish_reason", "extracted", "reason"), text),
        **dict.fromkeys(("draw", "prompt_tokens", "completion_tokens", "seed"), number),
        "latency": pa.float64(),
        "truncated": pa.bool_(),
    }
    doc = {
        "query": text,
        "choices": texts,
        "gold_index": number,
        "instruction": text,
        "images": pa.null(),
        "specific": pa.struct(list(kept.items())),
        "unconditioned_query": text,
        "original_query": text,
        "id": text,
        "task_name": text,
        "fewshot_samples": texts,
        "sampling_methods": texts,
        "fewshot_sorting_class": text,
        "generation_size": number,
        "stop_sequences": texts,
        "use_logits": pa.bool_(),
        "num_samples": number,
        "generation_grammar": pa.null(),
    }
    response = {
        "input": text,
        "input_tokens": numbers,
        "text": texts,
        "output_tokens": pa.list_(numbers),
        "text_post_processed": texts,
        "reasonings": texts,
        "logprobs": pa.list_(pa.float64()),
        "argmax_logits_eq_gold": pa.list_(pa.bool_()),
        "logits": pa.null(),
        "unconditioned_logprobs": pa.null(),
        "truncated_tokens_count": number,
        "padded_tokens_count": number,
    }
    metric = {METRIC: pa.float64(), LENIENT: pa.float64()}
    parts = (("doc", doc), ("metric", metric), ("model_response", response))
    return pa.schema([(name, pa.struct(list(fields.items()))) for name, fields in parts])
