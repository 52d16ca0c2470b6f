"""`harness evaluate --until-resolved` as a process against the fake server, and what it left behind."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

from harness.endpoint import Endpoint

DRAWS = 64
QUESTIONS = 40
SPEED = ("request_id", "latency", "sampling")
"""What two runs of the same draw may differ in; of the sampling, the number of draws."""

Rows = dict[tuple[str, int], dict[str, Any]]


def command(endpoint: Endpoint, runs: Path, *options: str, draws: int = DRAWS) -> list[str]:
    """Forty sums of dasd-micro, set beside the reference values of its final student."""
    return [
        sys.executable, "-m", "harness.cli", "evaluate", endpoint.model, "--base-url", endpoint.base_url,
        "-b", f"micro_math:{draws}", "--claims", "dasd-micro/final", "--runs", str(runs), *options,
    ]  # fmt: skip


def evaluate(endpoint: Endpoint, runs: Path, *options: str, draws: int = DRAWS) -> str:
    """Runs the command to its end; returns what it printed."""
    done = subprocess.run(
        command(endpoint, runs, *options, draws=draws), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


def killed_after_a_round(endpoint: Endpoint, runs: Path) -> None:
    """Starts the command with --until-resolved and kills it once its first round is graded."""
    process = subprocess.Popen(
        command(endpoint, runs, "--until-resolved"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while not any(runs.glob("stages/mark-*/stage.json")):
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()


def entry(runs: Path, run: str = "tiny") -> dict[str, Any]:
    """The one line of the run's report."""
    [found] = json.loads((runs / run / "report.json").read_bytes())["entries"]
    return dict(found)


def rows_of(stage: Path) -> Rows:
    with (stage / "generations.jsonl").open(encoding="utf-8") as lines:
        rows = list(map(json.loads, lines))
    found = {(row["question"], row["draw"]): row for row in rows}
    assert len(found) == len(rows), f"{stage} holds a row twice"
    return found


def reported(runs: Path) -> Path:
    """The Ask behind the report's line."""
    mark = (runs / "tiny" / "eval" / "final" / "micro_math").resolve()
    asked: str = json.loads((mark / "identity.json").read_bytes())["asked"]
    return runs / "stages" / asked


def without_speed(rows: Rows) -> Rows:
    return {key: {name: row[name] for name in row if name not in SPEED} for key, row in rows.items()}


def every_row(runs: Path) -> Rows:
    """All rows of all Asks of a runs folder, whether they are complete or not."""
    found: Rows = {}
    for file in runs.glob("stages/ask-*/generations.jsonl"):
        for line in file.read_bytes().split(b"\n")[:-1]:
            row = json.loads(line)
            found[row["question"], row["draw"]] = row
    return found


def asked(endpoint: Endpoint) -> list[tuple[str, int]]:
    """Prompt and seed of every request that the server has had."""
    with urllib.request.urlopen(endpoint.base_url.removesuffix("/v1") + "/asked") as reply:
        bodies = json.load(reply)["asked"]
    return [(body["messages"][-1]["content"], body.get("seed", 0)) for body in bodies if body.get("messages")]


def asked_for(rows: Rows) -> set[tuple[str, int]]:
    return {(row["prompt"], row["seed"]) for row in rows.values()}
