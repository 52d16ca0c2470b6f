"""The command line: exit codes, one-line errors, suggestions. Every command runs as a process."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fakes.engine import running

COMMAND = [sys.executable, "-m", "harness.cli"]


def harness(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, env={**os.environ, **environment}, check=False
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("reproduce", "dasd-mircro"), "unknown recipe 'dasd-mircro'. Did you mean 'dasd-micro'"),
        (("reproduce", "dasd-micro", "--until", "stage3"), "unknown stage 'stage3'. Did you mean 'stage"),
        (("reproduce", "dasd-micro", "--engine", "vlm"), "unknown engine 'vlm'. Did you mean 'vllm'?"),
        (("evaluate", "m", "-b", "aime2"), "unknown benchmark 'aime2'. Did you mean 'aime2"),
        (("evaluate", "m", "-b", "aime24:x"), "DRAWS is a number"),
        (("evalute", "m"), "unknown command 'evalute'. Did you mean 'evaluate'"),
        (("setup", "vlm"), "nothing to set up for 'vlm'. Did you mean 'vllm'?"),
        (("evaluate", "no/such/folder", "-b", "aime24"), "neither a folder nor a Hub name"),
        (("evaluate", "org/name@main", "-b", "aime24"), "main"),
        (("plan",), "Missing argument"),
        (("report", "dasd-mico"), "unknown recipe or run 'dasd-mico'. Did you mean 'dasd-micro'"),
        (("regrade", "no-such-run"), "no run 'no-such-run' with evaluations"),
        (("compare", "no-such-run", "nor-this"), "no run 'no-such-run' with evaluations"),
        (("evaluate", "m", "-b", "aime24", "--start", "2024-10-01"), "aime24 has no contest dates"),
        (("evaluate", "m", "-b", "lcb", "--start", "soon"), "'soon' is not a date"),
        (("evaluate", "m", "-b", "lcb", "--set", "prompt"), "NAME=VALUE is expected"),
        (("evaluate", "m", "-b", "lcb", "--set", "promt=qwen"), "Did you mean 'prompt'?"),
    ],
)
def test_bad_usage_exits_64_with_one_line_and_no_traceback(arguments: tuple[str, ...], said: str) -> None:
    done = harness(*arguments)
    assert done.returncode == 64
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_machine_file_with_an_unknown_setting_is_named(tmp_path: Path) -> None:
    machine = tmp_path / "machine.toml"
    machine.write_text("gpu = 8\n")
    done = harness("reproduce", "dasd-micro", "--machine", str(machine), "--runs", str(tmp_path / "runs"))
    assert done.returncode == 64
    assert "unknown setting 'gpu'" in done.stderr


def test_missing_data_says_where_it_looked_and_how_to_get_it(tmp_path: Path) -> None:
    with running() as endpoint:
        done = harness(
            "evaluate", "tiny", "--base-url", endpoint.base_url, "-b", "gpqa_diamond:1",
            "--runs", str(tmp_path),
            HARNESS_DATA=str(tmp_path), HF_HUB_OFFLINE="1",
        )  # fmt: skip
    assert done.returncode == 1
    assert "gpqa" in done.stderr
    assert str(tmp_path) in done.stderr
    assert "Traceback" not in done.stderr


def test_a_limited_run_is_marked_as_no_score_and_rerunning_asks_nothing(tmp_path: Path) -> None:
    with running() as endpoint:
        arguments = (
            "evaluate", "tiny", "--base-url", endpoint.base_url, "-b", "micro_math:2", "--limit", "3",
            "--runs", str(tmp_path),
        )  # fmt: skip
        first = harness(*arguments)
        assert first.returncode == 0, first.stderr
        report = json.loads((tmp_path / "tiny" / "report.json").read_text())
        rows = (tmp_path / "stages").glob("ask-*/generations.jsonl")
        before = [file.read_bytes() for file in rows]
        again = harness(*arguments)
    assert again.returncode == 0
    assert report["not_a_score"] == ["only the first questions were asked (--limit)"]
    assert (report["entries"][0]["questions"], report["entries"][0]["draws"]) == (3, 2)
    assert [file.read_bytes() for file in (tmp_path / "stages").glob("ask-*/generations.jsonl")] == before
    assert "generating" not in again.stdout


def test_a_server_that_answers_for_another_model_is_named(tmp_path: Path) -> None:
    with running() as endpoint:
        done = harness(
            "evaluate",
            "huge",
            "--base-url",
            endpoint.base_url,
            "-b",
            "micro_math:1",
            "--limit",
            "1",
            "--runs",
            str(tmp_path),
        )
    assert done.returncode == 1
    assert "huge" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_plan_knows_done_from_missing_and_names_every_stage(tmp_path: Path) -> None:
    done = harness("plan", "dasd-micro", "--runs", str(tmp_path))
    assert done.returncode == 0
    header, *rows = done.stdout.split("\n\n")[0].splitlines()
    stages = [line for line in rows if line.split()[0] not in ("total", "left")]
    assert header.startswith("state")
    assert all(line.startswith("missing") for line in stages)
    assert any(" 05-stage1 " in line for line in stages)
    assert len([line for line in stages if " eval/" in line]) == 15


def test_a_plan_writes_nothing(tmp_path: Path) -> None:
    harness("plan", "dasd-micro", "--runs", str(tmp_path / "runs"))
    assert not list(tmp_path.iterdir())


def test_a_plan_loads_no_heavy_library(tmp_path: Path) -> None:
    script = (
        "import sys\nfrom harness.cli import cli\n"
        f"cli(['plan', 'dasd-4b', '--runs', {str(tmp_path)!r}], standalone_mode=False)\n"
        "heavy = ('torch', 'transformers', 'trl', 'datasets', 'scipy', 'matplotlib')\n"
        "print([name for name in heavy if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
