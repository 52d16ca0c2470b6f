"""Run by a Python that has inspect_ai: reads an export by Inspect's own code, and writes what it saw as JSON.

    python inspect_reader.py OUT.json EXPORT…

The log as a whole, its header alone, its summaries, and each sample by id and epoch must tell the same.
"""

import json
import sys
from pathlib import Path

from inspect_ai.log import (
    list_eval_logs,
    read_eval_log,
    read_eval_log_sample,
    read_eval_log_sample_summaries,
)


def read(file: str) -> dict:
    log, header = read_eval_log(file), read_eval_log(file, header_only=True)
    assert header.samples is None
    assert header.results == log.results
    summaries = {(one.id, one.epoch): one for one in read_eval_log_sample_summaries(file)}
    assert len(summaries) == len(log.samples)
    for one in log.samples:
        again = read_eval_log_sample(file, one.id, one.epoch)
        assert again.messages[-1].text == one.messages[-1].text
        short = summaries[one.id, one.epoch]
        assert (short.scores or {}).keys() == (one.scores or {}).keys()
        assert (short.error is None) == (one.error is None)
    (usage,) = log.stats.model_usage.values()
    return {
        "status": log.status,
        "task": log.eval.task,
        "model": log.eval.model,
        "limit": log.eval.config.limit,
        "epochs": log.eval.config.epochs,
        "metadata": log.eval.metadata,
        "counts": [log.results.total_samples, log.results.completed_samples],
        "scores": {
            one.name: {key: each.value for key, each in one.metrics.items()} for one in log.results.scores
        },
        "reductions": {one.scorer: len(one.samples) for one in log.reductions},
        "usage": [usage.input_tokens, usage.output_tokens],
        "samples": [sample(one) for one in log.samples],
    }


def sample(one) -> dict:
    answer = one.output.choices[0]
    content = answer.message.content
    (usage,) = one.model_usage.values()
    return {
        "id": one.id,
        "question": one.metadata["question"],
        "draw": one.epoch - 1,
        "prompt": one.input if isinstance(one.input, str) else one.input[-1].text,
        "roles": [message.role for message in one.messages],
        "target": one.target,
        "choices": one.choices,
        "answer": one.output.completion,
        "reasoning": "".join(part.reasoning for part in content if part.type == "reasoning"),
        "stop": answer.stop_reason,
        "tokens": [usage.input_tokens, usage.output_tokens],
        "error": one.error.message if one.error else None,
        "scores": {name: score.value for name, score in (one.scores or {}).items()},
        "extracted": one.scores["strict"].answer if one.scores else None,
    }


def read_all(export: Path) -> list[dict]:
    return [read(name) for name in sorted(info.name for info in list_eval_logs(str(export)))]


if __name__ == "__main__":
    out, *exports = map(Path, sys.argv[1:])
    out.write_text(json.dumps([read_all(export) for export in exports]))
