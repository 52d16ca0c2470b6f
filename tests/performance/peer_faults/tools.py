"""How each tool is run under the faults, and where its score stands.

Each is set as is best for it here: its documented retries and limits of time, and what makes a second run
of the same command go on with the first one's answers. Answers are greedy where that matters for this.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.performance.client import peers
from tests.performance.client.served import ROOT, Mode
from tests.performance.client.work import MODEL, write_data
from tests.performance.peer_faults.server import MAX_TOKENS

TASKS = Path(__file__).with_name("tasks")
MODE = Mode(name="faults", concurrency=4, max_tokens=MAX_TOKENS)
SECONDS = 30  # after which a request is given up, where that can be set


@dataclass(frozen=True, kw_only=True)
class Scored:
    """A tool's score in percent, of so many answers, and what it says beside it of any that are missing."""

    score: float
    graded: int
    said: str = ""


@dataclass(frozen=True, kw_only=True)
class Tool:
    """`command` is the same for the first run and for a second one in the same folder. `score` reads what
    it wrote, None where it wrote none. `options` says what was set."""

    name: str
    version: str
    options: str
    command: Callable[[peers.Task], list[str]]
    score: Callable[[peers.Task], Scored | None]

    @property
    def peer(self) -> peers.Peer | None:
        return peers.PEERS.get(self.name)


def prepare(base_url: str, folder: Path) -> peers.Task:
    """A new folder with every tool's task files, the questions, and the harness's data and settings."""
    task = peers.prepare(base_url, MODE, folder)
    shutil.copytree(TASKS, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    write_data(folder / "data")
    settings = f"concurrency = {MODE.concurrency}\nlongest_silence = {SECONDS}\n"
    (folder / "machine.toml").write_text(settings, encoding="utf-8")
    return task


def environment(task: peers.Task) -> dict[str, str]:
    return {**os.environ, **peers.environment(task), "PYTHONPATH": str(ROOT), "COLUMNS": "200"}


def newest(folder: Path, pattern: str) -> Path | None:
    """The file that matches and was written last, None where there is none."""
    return max(folder.glob(pattern), key=lambda file: file.stat().st_mtime, default=None)


def read_newest(folder: Path, pattern: str) -> Any:
    file = newest(folder, pattern)
    return None if file is None else json.loads(file.read_bytes())


def harness_command(task: peers.Task) -> list[str]:
    return [
        *(sys.executable, "-m", "harness.cli", "evaluate", MODEL, "-b", "aime24:1"),
        *("--base-url", task.base_url, "--max-tokens", str(task.mode.max_tokens)),
        *("--data", str(task.folder / "data"), "--runs", str(task.folder / "runs")),
        *("--machine", str(task.folder / "machine.toml")),
    ]


def harness_score(task: peers.Task) -> Scored | None:
    report = read_newest(task.folder, f"runs/{MODEL}/report.json")
    if report is None:
        return None
    (entry,) = report["entries"]
    if entry["measured"] is None:
        return None
    graded = entry["questions"] * entry["draws"] - entry["ungraded"]
    return Scored(score=entry["measured"], graded=graded)


def lm_eval_command(task: peers.Task) -> list[str]:
    settings = {
        "model": MODEL,
        "base_url": f"{task.base_url}/chat/completions",
        "num_concurrent": task.mode.concurrency,
        "max_retries": 8,
        "timeout": SECONDS,
        "tokenizer_backend": None,
    }
    return [
        *(str(peers.lm_eval.programs / "lm_eval"), "run", "--model", "local-chat-completions"),
        *("--model_args", ",".join(f"{name}={value}" for name, value in settings.items())),
        *("--tasks", "faults", "--include_path", str(task.folder), "--apply_chat_template"),
        *("--gen_kwargs", f"max_gen_toks={task.mode.max_tokens}"),
        *("--use_cache", str(task.folder / "cache" / "lm_eval")),
        *("--log_samples", "--output_path", str(task.out)),
    ]


def lm_eval_score(task: peers.Task) -> Scored | None:
    found = read_newest(task.out, "**/results_*.json")
    if found is None:
        return None
    (result,) = found["results"].values()
    values = {name.partition(",")[0]: value for name, value in result.items()}
    return Scored(score=100 * values["accuracy"], graded=round(values["graded"] * values["sample_len"]))


def lighteval_command(task: peers.Task) -> list[str]:
    settings = {
        "model_name": f"openai/{MODEL}",
        "base_url": task.base_url,
        "api_key": "none",
        "concurrent_requests": task.mode.concurrency,
        "max_model_length": 131_072,
        "timeout": SECONDS,
        "generation_parameters": f"{{temperature:0.0,max_new_tokens:{task.mode.max_tokens}}}",
    }
    return [
        *(str(peers.lighteval.programs / "lighteval"), "endpoint", "litellm"),
        *(",".join(f"{name}={value}" for name, value in settings.items()), "faults"),
        *("--custom-tasks", str(task.folder / "lighteval_faults.py")),
        *("--output-dir", str(task.out), "--save-details"),
    ]


def lighteval_score(task: peers.Task) -> Scored | None:
    found = read_newest(task.out, "results/**/results_*.json")
    if found is None:
        return None
    return Scored(score=100 * found["results"]["faults|0"]["accuracy"], graded=30)


def inspect_command(task: peers.Task) -> list[str]:
    at_once = str(task.mode.concurrency)
    return [
        *(str(peers.inspect_ai.programs / "inspect"), "eval-set", "inspect_speed.py"),
        *("--model", f"openai-api/local/{MODEL}", "--log-dir", str(task.out), "--id", "faults"),
        *("--max-connections", at_once, "--max-samples", at_once, "--temperature", "0"),
        *("--max-tokens", str(task.mode.max_tokens), "--attempt-timeout", str(SECONDS)),
        *("--retry-on-error=3", "--retry-attempts", "3", "--display", "plain"),
    ]


def inspect_score(task: peers.Task) -> Scored | None:
    log = newest(task.out, "*.eval")
    if log is None:
        return None
    told = subprocess.run(
        [str(peers.inspect_ai.programs / "inspect"), "log", "dump", "--header-only", str(log)],
        check=False,
        capture_output=True,
        env=environment(task),
    )
    header = json.loads(told.stdout) if told.returncode == 0 else {}
    if header.get("status") != "success" or not header["results"]["scores"]:
        return None
    results = header["results"]
    return Scored(
        score=100 * results["scores"][0]["metrics"]["accuracy"]["value"], graded=results["completed_samples"]
    )


def evalscope_command(task: peers.Task) -> list[str]:
    script = str(task.folder / "evalscope_faults.py")
    python = str(peers.evalscope.programs / "python")
    return [python, script, task.base_url, str(task.mode.concurrency), str(task.out)]


def evalscope_score(task: peers.Task) -> Scored | None:
    found = read_newest(task.out, f"reports/{MODEL}/speed.json")
    if found is None:
        return None
    (metric,) = found["metrics"]
    return Scored(score=100 * metric["score"], graded=found["num"])


def installed(name: str) -> str:
    """A peer's name with its version, without extras and other packages."""
    package, _, version = peers.PEERS[name].packages[0].partition("==")
    return f"{package.partition('[')[0]} {version}"


TOOLS = {
    each.name: each
    for each in (
        Tool(
            name="harness",
            version="dasd-harness",
            options="longest_silence = 30, patience = 60 (its default)",
            command=harness_command,
            score=harness_score,
        ),
        Tool(
            name="lm-eval",
            version=installed("lm-eval"),
            options="local-chat-completions, max_retries=8, timeout=30, --use_cache, do_sample false",
            command=lm_eval_command,
            score=lm_eval_score,
        ),
        Tool(
            name="lighteval",
            version=installed("lighteval"),
            options="endpoint litellm, timeout=30, api_max_retry=8 (its default), temperature 0, its cache "
            "kept",
            command=lighteval_command,
            score=lighteval_score,
        ),
        Tool(
            name="inspect-ai",
            version=installed("inspect-ai"),
            options="eval-set with one log folder, --attempt-timeout 30, --retry-on-error=3, "
            "--retry-attempts 3, model retries unlimited (its default)",
            command=inspect_command,
            score=inspect_score,
        ),
        Tool(
            name="evalscope",
            version=installed("evalscope"),
            options="timeout 30, retries 8, retry_interval 2, use_cache on the first run's folder",
            command=evalscope_command,
            score=evalscope_score,
        ),
    )
}
