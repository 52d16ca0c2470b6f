"""every_eval_ever 0.3.0: a JSON file for each row and benchmark, its samples as JSON lines beside it.

    data/BENCHMARK/RUN/ROW/UUID.json and UUID_samples.jsonl

Schemas: evaleval/every_eval_ever, package every-eval-ever 0.3.0 (MIT), `schemas/eval.schema.json` and
`instance_level_eval.schema.json`. Values are shares. The schema demands a number as score and a verdict for
each sample, and the files go into a database that people compare scores from: what is no score is left out.
"""

import hashlib
import json
import uuid
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec

from harness.files import write_json, write_pieces
from reports.exports.source import WITHHELD, Evaluation, Sample, Source, Written, path_part

SCHEMA = "0.3.0"
METRIC = "accuracy"
LINE_ENDS = ("\x85", "\u2028", "\u2029")
"""Ends of lines that JSON does not escape of itself."""


def write(source: Source, out: Path) -> Written:
    """Writes both files of each evaluation that is a score."""
    files: dict[Path, str] = {}
    left_out = []
    for one in source.evaluations:
        if one.no_score:
            left_out.append((one.label, f"the schema has a place for scores only: {'; '.join(one.no_score)}"))
            continue
        identity = uuid_of(one)
        folder = out.joinpath(*place(one))
        folder.mkdir(parents=True, exist_ok=True)
        samples = folder / f"{identity}_samples.jsonl"
        write_pieces(samples, map(as_one_line, lines(one)))
        aggregate = folder / f"{identity}.json"
        write_json(aggregate, described(one, samples, "/".join((*place(one), samples.name))))
        files |= {aggregate: one.row, samples: one.row}
    return Written(files=files, left_out=tuple(left_out))


def uuid_of(one: Evaluation) -> str:
    """A version-4 UUID by its form, the same for the same evaluation."""
    digest = hashlib.sha256(f"{one.run}/{one.label}/{one.mark.key}".encode()).digest()
    return str(uuid.UUID(bytes=digest[:16], version=4))


def model_id(one: Evaluation) -> str:
    """ORG/NAME of the Hub, or RUN/ROW."""
    return "/".join(map(path_part, one.model.split("/", 1)))


def place(one: Evaluation) -> tuple[str, ...]:
    """The folder that the schema wants: data, collection, developer, model."""
    return ("data", path_part(one.name), *model_id(one).split("/"))


def evaluation_id(one: Evaluation) -> str:
    return f"{path_part(one.name)}/{model_id(one)}/{epoch(one)}"


def epoch(one: Evaluation) -> str:
    return str(int(one.finished.timestamp()))


def strings(values: dict[str, Any]) -> dict[str, str]:
    """Details of the schema are all strings; what is unknown is left out."""
    return {name: str(value) for name, value in values.items() if value not in (None, "")}


# The evaluation -----------------------------------------------------------------------------


def described(one: Evaluation, samples: Path, stored_at: str) -> dict[str, Any]:
    """The aggregate record. `retrieved_timestamp` is when the run was graded, so that bytes are the same."""
    return {
        "schema_version": SCHEMA,
        "evaluation_id": evaluation_id(one),
        "evaluation_timestamp": epoch(one),
        "retrieved_timestamp": epoch(one),
        "source_metadata": {
            "source_name": "dasd-harness",
            "source_type": "evaluation_run",
            "source_organization_name": "unspecified",
            "evaluator_relationship": "other",
        },
        "eval_library": {"name": "dasd-harness", "version": version("dasd-harness")},
        "model_info": model_info(one),
        "evaluation_results": [result(one)],
        "detailed_evaluation_results": {
            "format": "jsonl",
            "file_path": stored_at,
            "hash_algorithm": "sha256",
            "checksum": checksum(samples),
            "total_rows": one.entry.questions * one.entry.draws,
        },
    }


def checksum(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def model_info(one: Evaluation) -> dict[str, Any]:
    """The model. Whether a server that was there already is one's own, nobody knows here."""
    engine = one.mark.asked.engine
    started = engine not in ("remote", "batch")
    return {
        "name": one.session.get("model", one.model),
        "id": model_id(one),
        "inference_engine": strings({"name": engine, "version": one.session.get("version")}),
        "additional_details": {
            "deployment_type": "self_deployed" if started else "unknown",
            "model_availability": "open_weights" if one.hub_model else "unknown",
            **strings({"revision": one.checkpoint.get("revision"), "system_prompt": one.mark.asked.system}),
        },
    }


def result(one: Evaluation) -> dict[str, Any]:
    return {
        "evaluation_result_id": result_id(one),
        "evaluation_name": one.name,
        "source_data": source_data(one),
        "evaluation_timestamp": epoch(one),
        "metric_config": {
            "evaluation_description": f"mean accuracy of {one.entry.draws} draws for each question",
            "metric_id": METRIC,
            "metric_name": f"avg@{one.entry.draws}",
            "metric_kind": METRIC,
            "metric_unit": "proportion",
            "metric_parameters": {"draws": one.entry.draws},
            "lower_is_better": False,
            "score_type": "continuous",
            "min_score": 0.0,
            "max_score": 1.0,
        },
        "score_details": score_details(one),
        "generation_config": generation_config(one),
    }


def result_id(one: Evaluation) -> str:
    return f"{evaluation_id(one)}/{METRIC}"


def source_data(one: Evaluation) -> dict[str, Any]:
    """The data set: a Hub id where it is one."""
    details = strings({"revision": one.benchmark.revision, **one.benchmark.protocol()})
    if "/" not in one.benchmark.dataset:
        return {"dataset_name": one.name, "source_type": "other", "additional_details": details}
    return {
        "dataset_name": one.name,
        "source_type": "hf_dataset",
        "hf_repo": one.benchmark.dataset,
        "samples_number": one.entry.questions,
        "sample_ids": list(one.questions),
        "additional_details": details,
    }


def score_details(one: Evaluation) -> dict[str, Any]:
    entry = one.entry
    assert entry.measured is not None
    details = {
        "lenient": shared(entry.lenient),
        "majority": shared(entry.majority),
        "pass_at_draws": shared(entry.any_right),
        "standard_error_questions": shared(entry.se_questions),
        "truncated": entry.truncated,
        "no_answer": entry.no_answer,
    }
    found: dict[str, Any] = {"score": entry.measured / 100, "details": strings(details)}
    if entry.se_rerun is not None:
        error = {"value": entry.se_rerun / 100, "method": "over re-runs, questions fixed"}
        count = entry.questions * entry.draws
        found["uncertainty"] = {"standard_error": error, "num_samples": count}
    return found


def shared(points: float | None) -> float | None:
    return None if points is None else points / 100


def generation_config(one: Evaluation) -> dict[str, Any]:
    sampling = one.sampling
    others = ("min_p", "repetition_penalty", "seed", "draws")
    return {
        "generation_args": {
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "top_k": sampling.top_k if sampling.top_k > 0 else None,
            "max_tokens": sampling.max_tokens,
        },
        "additional_details": strings({name: getattr(sampling, name) for name in others}),
    }


# Samples ------------------------------------------------------------------------------------


def as_one_line(record: dict[str, Any]) -> bytes:
    """JSON without what Python takes for the end of a line: the project's own check splits so."""
    encoded = msgspec.json.encode(record)
    for character in LINE_ENDS:
        encoded = encoded.replace(character.encode(), f"\\u{ord(character):04x}".encode())
    return encoded + b"\n"


def lines(one: Evaluation) -> Iterator[dict[str, Any]]:
    for sample in one.samples():
        yield line(one, sample)


def line(one: Evaluation, sample: Sample) -> dict[str, Any]:
    """One response as an instance of the schema."""
    row, grade = sample.generation, sample.grade
    assert grade.correct is not None, "an evaluation with ungraded responses is left out"
    reference = [sample.target] if sample.target else []
    return {
        "schema_version": SCHEMA,
        "evaluation_id": evaluation_id(one),
        "model_id": model_id(one),
        "evaluation_name": one.name,
        "evaluation_result_id": result_id(one),
        "sample_id": row.question,
        "sample_hash": hash_of(row.prompt, reference) if one.texts else None,
        "interaction_type": "single_turn",
        "input": {"raw": row.prompt, "reference": reference, "choices": sample.options or None},
        "output": {"raw": [row.text], "reasoning_trace": [row.reasoning] if row.reasoning else None},
        "answer_attribution": attribution(grade.extracted),
        "evaluation": {"score": float(grade.correct), "is_correct": grade.correct},
        "token_usage": {
            "input_tokens": row.prompt_tokens,
            "output_tokens": row.completion_tokens,
            "total_tokens": row.prompt_tokens + row.completion_tokens,
        },
        "performance": {"latency_ms": 1_000 * row.latency},
        "metadata": strings(
            {
                "draw": row.draw,
                "seed": row.seed,
                "finish_reason": row.finish_reason,
                "lenient": None if grade.lenient is None else json.dumps(grade.lenient),
                "reason": grade.reason,
                "texts": None if one.texts else WITHHELD,
            }
        ),
    }


def hash_of(raw: str, reference: list[str]) -> str:
    return hashlib.sha256("".join([raw, *reference]).encode()).hexdigest()


def attribution(extracted: str | None) -> list[dict[str, Any]]:
    """What the grader took for the answer; nothing where there was none."""
    if extracted is None:
        return []
    return [
        {
            "turn_idx": 0,
            "source": "output.raw",
            "extracted_value": extracted,
            "extraction_method": "dasd-harness",
            "is_terminal": True,
        }
    ]
