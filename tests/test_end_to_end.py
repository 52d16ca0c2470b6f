"""The main job on real input: dasd-micro from questions to report, killed once on the way."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

COMMAND = [sys.executable, "-m", "harness.cli", "reproduce", "dasd-micro", "--runs"]
ROWS = ("generations.jsonl", "grades.jsonl")


def keys(file: Path) -> list[tuple[str, int]]:
    with file.open(encoding="utf-8") as lines:
        return [(row["question"], row["draw"]) for row in map(json.loads, lines)]


def kill_while_sampling(runs: Path) -> None:
    """Starts the command and kills it, by SIGKILL, once the teacher's first rows are there."""
    with (runs / "log").open("wb") as log:
        command = subprocess.Popen([*COMMAND, str(runs)], stdout=log, stderr=log)
    while not any(len(file.read_bytes()) for file in runs.glob("stages/sample-*/generations.jsonl")):
        assert command.poll() is None, (runs / "log").read_text()[-2000:]
        time.sleep(0.05)
    os.kill(command.pid, signal.SIGKILL)
    command.wait()


@pytest.mark.engine
@pytest.mark.timeout(1800)
def test_dasd_micro_survives_a_kill_and_reaches_its_report_with_a_better_student(tmp_path: Path) -> None:
    kill_while_sampling(tmp_path)
    done = subprocess.run([*COMMAND, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    for file in (file for name in ROWS for file in tmp_path.glob(f"stages/*/{name}")):
        assert len(keys(file)) == len(set(keys(file))), f"{file} holds a row twice"
    home = tmp_path / "dasd-micro"
    entries = json.loads((home / "report.json").read_text())["entries"]
    assert len(entries) == 15
    assert all(entry["verdict"] and entry["se_rerun"] is not None for entry in entries)
    assert sum(entry["ungraded"] + entry["short"] for entry in entries) == 0
    average = {
        name: sum(entry["measured"] for entry in entries if entry["row"] == name) / 3
        for name in ("base", "stage1", "stage2", "final", "teacher")
    }
    assert average["base"] < average["stage1"] < average["stage2"] < average["teacher"]
    assert (home / "report.html").read_text().count("</table>") >= 1
    again = subprocess.run([*COMMAND, str(tmp_path)], capture_output=True, text=True, check=True)
    assert "→" not in again.stdout
