"""Inspect's `.eval`: a log for each row and benchmark, which `inspect view` opens.

    2026-01-31T12-00-00+00-00_micro-math_8673efda.eval
        header.json  summaries.json  reductions.json  _journal/start.json  samples/QUESTION_epoch_N.json

A ZIP of JSON in the shape of `inspect_ai.log.EvalLog`, format version 2 (inspect_ai 0.3.285, MIT). Epoch N is
draw N - 1. `strict` is our verdict and `lenient` that on the whole text. An ungraded response has an error
and no score. While one is left, or where it is no score of the benchmark, there is no `accuracy`.
"""

import hashlib
import shutil
import tempfile
import zipfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

import msgspec

from harness.types import FinishReason, Generation
from reports.exports.aside import whole
from reports.exports.source import WITHHELD, Evaluation, Sample, Source, Written, path_part

FORMAT = 2
STRICT, LENIENT = "strict", "lenient"
PLAIN_IN_NAMES = " !#$&'()+,;=@[]{}^~*"
SHOWN = 1_024
"""Characters of a summary's texts: Inspect keeps as many."""

STOPPED: dict[FinishReason, str] = {"stop": "stop", "length": "max_tokens", "other": "unknown"}
VALUES = {True: "C", False: "I"}


def write(source: Source, out: Path) -> Written:
    """Writes one log for each evaluation, a sample at a time."""
    files: dict[Path, str] = {}
    for one in source.evaluations:
        name = path_part(one.name).replace("_", "-")
        when = f"{one.finished:%Y-%m-%dT%H-%M-%S}+00-00"
        file = out / f"{when}_{name}_{short(one.run, one.label, one.mark.key)}.eval"
        with whole(file) as aside, aside.open("wb") as content:
            write_log(one, content)
        files[file] = one.row
    return Written(files=files)


def short(*parts: object) -> str:
    """Twenty-two characters that stand for these parts."""
    return hashlib.sha256("\n".join(map(str, parts)).encode()).hexdigest()[:22]


def write_log(one: Evaluation, content: IO[bytes]) -> None:
    """The log. Summaries wait in a file beside it, so that no number of samples is held in memory."""
    means: dict[str, dict[str, list[bool]]] = {name: defaultdict(list) for name in (STRICT, LENIENT)}
    tokens: Counter[str] = Counter()
    with zipfile.ZipFile(content, "w") as log, tempfile.TemporaryFile() as summaries:
        add(log, one, "_journal/start.json", {"version": FORMAT, "eval": spec(one), "plan": plan(one)})
        for sample in one.samples():
            written = sample_of(one, sample)
            add(log, one, f"samples/{written['id']}_epoch_{written['epoch']}.json", written)
            separator = b"," if summaries.tell() else b"["
            summaries.write(separator + msgspec.json.encode(summary(written)))
            tokens.update(usage(sample.generation))
            for name, verdict in verdicts(sample):
                means[name][written["id"]].append(verdict)
        summaries.write(b"]" if summaries.tell() else b"[]")
        summaries.seek(0)
        with log.open(member(one, "summaries.json"), "w") as entry:
            shutil.copyfileobj(summaries, entry)
        add(log, one, "reductions.json", [reduction(name, own) for name, own in means.items()])
        add(log, one, "header.json", header(one, tokens))


def member(one: Evaluation, name: str) -> zipfile.ZipInfo:
    """An entry of the archive that is the same whenever and wherever it is written."""
    info = zipfile.ZipInfo(name, one.finished.timetuple()[:6])
    info.compress_type = zipfile.ZIP_DEFLATED
    info.create_system = 3
    info.external_attr = 0o644 << 16
    return info


def add(log: zipfile.ZipFile, one: Evaluation, name: str, value: object) -> None:
    log.writestr(member(one, name), msgspec.json.encode(value))


def verdicts(sample: Sample) -> Iterator[tuple[str, bool]]:
    """What is graded of a sample, by scorer."""
    grade = sample.grade
    if grade.correct is not None:
        yield STRICT, grade.correct
        if grade.lenient is not None:
            yield LENIENT, grade.lenient


# The log ------------------------------------------------------------------------------------


def header(one: Evaluation, tokens: Mapping[str, int]) -> dict[str, Any]:
    return {
        "version": FORMAT,
        "status": "success",
        "eval": spec(one),
        "plan": plan(one),
        "results": results(one),
        "stats": {
            "started_at": when(one, one.seconds),
            "completed_at": when(one),
            "model_usage": {one.model: tokens},
        },
    }


def when(one: Evaluation, before: float = 0.0) -> str:
    return (one.finished - timedelta(seconds=round(before))).isoformat()


def spec(one: Evaluation) -> dict[str, Any]:
    """What was evaluated, and how."""
    benchmark, asked = one.benchmark, one.mark.asked
    return {
        "eval_id": short(one.run, one.label, one.mark.key, "eval"),
        "run_id": short(one.run),
        "created": when(one, one.seconds),
        "task": one.name,
        "task_id": short(one.run, one.label, one.mark.key),
        "task_version": benchmark.version,
        "tags": [one.run, one.row],
        "dataset": {
            "name": one.name,
            "location": f"{benchmark.dataset}@{benchmark.revision}",
            "samples": one.entry.questions,
            "sample_ids": [safe_id(name) for name in one.questions],
            "shuffled": False,
        },
        "model": one.model,
        "model_generate_config": generate_config(one),
        "config": {"epochs": one.sampling.draws, "epochs_reducer": ["mean"], "limit": asked.limit},
        "packages": {"dasd-harness": version("dasd-harness")},
        "metadata": {
            "run": one.run,
            "row": one.row,
            "engine": dict(one.session),
            "protocol": one.entry.protocol,
            "not_a_score": list(one.no_score),
            **({} if one.texts else {"texts": WITHHELD}),
        },
        "scorers": [{"name": STRICT}, {"name": LENIENT}],
    }


def generate_config(one: Evaluation) -> dict[str, Any]:
    sampling = one.sampling
    return {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "max_tokens": sampling.max_tokens,
        "seed": sampling.seed,
        **({"top_k": sampling.top_k} if sampling.top_k > 0 else {}),
        **({"system_message": one.mark.asked.system} if one.mark.asked.system else {}),
    }


def plan(one: Evaluation) -> dict[str, Any]:
    return {"name": "plan", "steps": [{"solver": "generate", "params": {}}], "config": generate_config(one)}


def results(one: Evaluation) -> dict[str, Any]:
    entry = one.entry
    total = entry.questions * entry.draws - entry.short
    graded = total - entry.ungraded
    return {
        "total_samples": entry.questions * entry.draws,
        "completed_samples": graded,
        "scores": [
            {
                "name": name,
                "scorer": name,
                "reducer": "mean",
                "scored_samples": graded,
                "unscored_samples": entry.ungraded,
                "params": {},
                "metrics": {metric: {"name": metric, "value": value} for metric, value in values.items()},
            }
            for name, values in ((STRICT, strict_metrics(one)), (LENIENT, lenient_metrics(one)))
        ],
    }


def strict_metrics(one: Evaluation) -> dict[str, float]:
    """`accuracy` for a score alone; else bounds, or the number under a name that says what it is."""
    entry = one.entry
    if entry.ungraded or entry.short:
        return shares({"lowest": entry.lowest, "highest": entry.highest})
    if one.no_score:
        return shares({"not_a_score": entry.measured})
    errors = {"stderr": entry.se_rerun, "stderr_questions": entry.se_questions}
    return shares({"accuracy": entry.measured, **errors})


def lenient_metrics(one: Evaluation) -> dict[str, float]:
    return shares({"not_a_score" if one.no_score else "accuracy": one.entry.lenient})


def shares(points: dict[str, float | None]) -> dict[str, float]:
    return {name: value / 100 for name, value in points.items() if value is not None}


def reduction(scorer: str, graded: dict[str, list[bool]]) -> dict[str, Any]:
    """Each question's mean over its graded draws."""
    means = [{"sample_id": name, "value": sum(own) / len(own)} for name, own in graded.items()]
    return {"scorer": scorer, "reducer": "mean", "samples": means}


# Samples ------------------------------------------------------------------------------------


def safe_id(question: str) -> str:
    """A question's id as it may stand in the name of an archive's entry: percent-coded where it holds a
    separator or a control character."""
    plain = question.isprintable() and not set(question) & set("/\\%")
    return question if plain else quote(question, safe=PLAIN_IN_NAMES)


def sample_of(one: Evaluation, sample: Sample) -> dict[str, Any]:
    """One response as Inspect's EvalSample."""
    row, grade = sample.generation, sample.grade
    asked = prompt_messages(one, row)
    answer = assistant(one, row)
    written: dict[str, Any] = {
        "id": safe_id(row.question),
        "epoch": row.draw + 1,
        "input": asked if len(asked) > 1 else row.prompt,
        "target": sample.target,
        "messages": [*asked, answer],
        "output": {
            "model": row.model,
            "choices": [{"message": answer, "stop_reason": STOPPED[row.finish_reason]}],
            "completion": row.answer,
            "usage": usage(row),
            "time": row.latency,
        },
        "scores": scores(sample),
        "metadata": metadata(sample),
        "store": {},
        "events": [],
        "model_usage": {one.model: usage(row)},
        "total_time": row.latency,
        "working_time": row.latency,
        "uuid": short(one.run, one.label, one.mark.key, row.question, row.draw),
        "attachments": {},
    }
    if sample.options:
        written["choices"] = sample.options
    if grade.correct is None:
        message = grade.reason or "not graded"
        written["error"] = {"message": message, "traceback": message, "traceback_ansi": message}
    return written


def prompt_messages(one: Evaluation, row: Generation) -> list[dict[str, Any]]:
    system = one.mark.asked.system
    first = [{"role": "system", "content": system}] if system else []
    return [*first, {"role": "user", "content": row.prompt, "source": "input"}]


def assistant(one: Evaluation, row: Generation) -> dict[str, Any]:
    """The response: its thinking as reasoning content, then the answer."""
    thought = [{"type": "reasoning", "reasoning": row.reasoning}] if row.reasoning else []
    content = [*thought, {"type": "text", "text": row.answer}]
    return {"role": "assistant", "source": "generate", "model": row.model, "content": content}


def usage(row: Generation) -> dict[str, int]:
    total = row.prompt_tokens + row.completion_tokens
    return {"input_tokens": row.prompt_tokens, "output_tokens": row.completion_tokens, "total_tokens": total}


def scores(sample: Sample) -> dict[str, Any]:
    """Both verdicts; none where the response is not graded."""
    grade = sample.grade
    told = {"answer": grade.extracted, "explanation": grade.reason or None}
    return {
        name: {"value": VALUES[verdict], **(told if name == STRICT else {})}
        for name, verdict in verdicts(sample)
    }


def metadata(sample: Sample) -> dict[str, Any]:
    row, grade = sample.generation, sample.grade
    return {
        "question": row.question,
        "draw": row.draw,
        "seed": row.seed,
        "finish_reason": row.finish_reason,
        "truncated": grade.truncated,
        "engine": row.engine,
    }


def summary(written: dict[str, Any]) -> dict[str, Any]:
    """What the viewer lists of a sample: Inspect's EvalSampleSummary, its texts shortened."""
    same = ("id", "epoch", "target", "metadata", "model_usage", "total_time", "working_time", "uuid")
    asked = written["input"]
    return {
        **{name: written[name] for name in same},
        "input": asked[-1]["content"][:SHOWN] if isinstance(asked, list) else asked[:SHOWN],
        "target": written["target"][:SHOWN],
        "scores": {
            name: {key: value[:SHOWN] if value else value for key, value in score.items()}
            for name, score in written["scores"].items()
        },
        "completed": True,
        "message_count": len(written["messages"]),
        **({"error": written["error"]["message"]} if "error" in written else {}),
    }
