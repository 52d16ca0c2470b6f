"""Run by a Python that has every_eval_ever: validates an export by that project's own checks, and writes
what its own types read as JSON.

    python every_eval_ever_reader.py OUT.json EXPORT…
"""

import json
import sys
from pathlib import Path

from every_eval_ever.eval_types import EvaluationLog
from every_eval_ever.instance_level_types import InstanceLevelEvaluationLog
from every_eval_ever.validator.validate import validate_file


def check(export: Path, file: Path) -> None:
    """Schema, paths, companion files and score metadata: all that their command checks."""
    there = {str(one.relative_to(export)) for one in export.rglob("*") if one.is_file()}
    report = validate_file(
        file,
        repo_path=str(file.relative_to(export)),
        available_files=there,
        read_repo_file=lambda name: (export / name).read_text(),
        run_semantic_checks=True,
    )
    assert report.valid, report.errors
    assert not report.warnings, report.warnings


def read(export: Path, file: Path) -> dict:
    log = EvaluationLog.model_validate(json.loads(file.read_text()))
    with (export / log.detailed_evaluation_results.file_path).open() as lines:
        rows = [InstanceLevelEvaluationLog.model_validate(json.loads(line)) for line in lines]
    (result,) = log.evaluation_results
    error = result.score_details.uncertainty
    return {
        "model": log.model_info.id,
        "benchmark": result.evaluation_name,
        "score": result.score_details.score,
        "standard_error": error.standard_error.value if error else None,
        "details": result.score_details.details,
        "samples": [sample(row) for row in rows],
    }


def sample(row) -> dict:
    (text,), usage = row.output.raw, row.token_usage
    extracted = [each.extracted_value for each in row.answer_attribution]
    return {
        "question": row.sample_id,
        "draw": int(row.metadata["draw"]),
        "prompt": row.input.raw,
        "reference": row.input.reference,
        "choices": row.input.choices,
        "text": text,
        "reasoning": (row.output.reasoning_trace or [""])[0],
        "correct": row.evaluation.is_correct,
        "score": row.evaluation.score,
        "tokens": [usage.input_tokens, usage.output_tokens],
        "finish_reason": row.metadata["finish_reason"],
        "extracted": extracted[0] if extracted else None,
    }


def read_all(export: Path) -> list[dict]:
    for each in sorted(export.rglob("*.json*")):
        check(export, each)
    return [read(export, each) for each in sorted(export.rglob("*.json"))]


if __name__ == "__main__":
    out, *exports = map(Path, sys.argv[1:])
    out.write_text(json.dumps([read_all(export) for export in exports]))
