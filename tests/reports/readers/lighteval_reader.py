"""Run by lighteval's own Python: reads an export by lighteval's own code, and writes what it saw as JSON.

    python lighteval_reader.py OUT.json EXPORT…

The responses go through EvaluationTracker.load_details_datasets, lighteval's loader of stored responses, and
become its ModelResponse and Doc.
"""

import json
import sys
from pathlib import Path

from lighteval.logging.evaluation_tracker import EvaluationTracker
from lighteval.models.abstract_model import ModelConfig
from lighteval.models.model_output import ModelResponse
from lighteval.tasks.lighteval_task import LightevalTaskConfig
from lighteval.tasks.requests import Doc
from lighteval.utils.utils import make_results_table

RESULTS = {"config_general", "results", "versions", "config_tasks", "summary_tasks", "summary_general"}


def read(export: Path, file: Path) -> dict:
    """One file of results with the details that belong to it."""
    results = json.loads(file.read_text())
    assert set(results) == RESULTS, set(results)
    name, date = results["config_general"]["model_name"], file.stem.removeprefix("results_")
    assert file.parent == export / "results" / name
    model = ModelConfig(**results["config_general"]["model_config"])
    fields = set(LightevalTaskConfig.__dataclass_fields__)
    for task, config in results["config_tasks"].items():
        assert set(config) <= fields, set(config) - fields
        assert task == f"{config['name']}|{config['num_fewshots']}"
    tracker = EvaluationTracker(str(export))
    tracker.general_config_logger.model_name = name
    tasks = [config["name"] for config in results["config_tasks"].values()]
    details = tracker.load_details_datasets(date, tasks)
    return {
        "name": name,
        "results": results,
        "temperature": model.generation_parameters.temperature,
        "table": make_results_table(results),
        "details": {task: [sample(row) for row in rows] for task, rows in details.items()},
    }


def sample(row: dict) -> dict:
    response, doc = ModelResponse(**row["model_response"]), Doc(**row["doc"])
    (text,), (answer,), (reasoning,) = response.text, response.final_text, response.reasonings
    return {
        "question": doc.specific["question"],
        "draw": doc.specific["draw"],
        "prompt": doc.query,
        "gold": doc.get_golds(),
        "text": text,
        "answer": answer,
        "reasoning": reasoning,
        "finish_reason": doc.specific["finish_reason"],
        "tokens": [doc.specific["prompt_tokens"], doc.specific["completion_tokens"]],
        "extracted": doc.specific["extracted"],
        "metric": row["metric"],
    }


def read_all(export: Path) -> list[dict]:
    return [read(export, file) for file in sorted(export.glob("results/*/*/results_*.json"))]


if __name__ == "__main__":
    out, *exports = map(Path, sys.argv[1:])
    out.write_text(json.dumps([read_all(export) for export in exports]))
