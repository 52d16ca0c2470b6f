"""The ready files and our own workflow: they are valid, and every command in them is a real one."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from harness.cli.nightly import nightly
from harness.nightly.config import load_nightly
from harness.nightly.gate import Outcome

ROOT = Path(__file__).resolve().parents[1]
READY = ROOT / "docs" / "nightly"
OURS = ROOT / ".github" / "workflows" / "nightly.yml"
PAGE = (ROOT / "docs" / "nightly.md").read_text(encoding="utf-8")
FILES = [OURS, *sorted(file for file in READY.iterdir() if file.suffix != ".toml")]


def commands(text: str) -> list[str]:
    """The lines that run `harness nightly`, from that word to the next redirection or operator."""
    return [found[1].strip() for found in re.finditer(r"harness nightly((?: [\w./-]+)+)", text)]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_every_command_in_the_files_takes_the_options_that_it_is_given(file: Path) -> None:
    if file.suffix == ".timer":
        assert "harness-nightly" in file.name
        return
    found = commands(file.read_text(encoding="utf-8"))
    assert found
    for arguments in found:
        assert_parses(arguments)


def test_every_command_on_the_page_takes_the_options_that_it_is_given() -> None:
    found = commands(PAGE)
    assert len(found) >= 5
    for arguments in found:
        assert_parses(arguments)


def assert_parses(arguments: str) -> None:
    words = [word for word in arguments.split() if word not in ("||", "2")]
    context = nightly.make_context("nightly", words)
    assert isinstance(context, click.Context)
    assert str(context.params["config"]).endswith("nightly.toml")


def test_the_configurations_are_valid_and_so_is_each_setting_that_is_commented_out(tmp_path: Path) -> None:
    assert load_nightly(ROOT / ".github" / "nightly.toml").name == "micro"
    text = (READY / "nightly.toml").read_text(encoding="utf-8")
    assert len(load_nightly(READY / "nightly.toml").checkpoints) == 1
    every = re.sub(r"^# (?=\[|\w+ = )", "", text, flags=re.MULTILINE)
    (tmp_path / "every.toml").write_text(
        every.replace('# engine = "vllm"', "").replace('engine = "vllm"', "")
    )
    found = load_nightly(tmp_path / "every.toml")
    assert found.gate.k == 3.0
    assert found.notify.command == ("./tell-us",)
    assert found.checkpoints[0].claims == "dasd-4b/released"
    for block in re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL):
        whole = block if "[[checkpoints]]" in block else text + block
        (tmp_path / "page.toml").write_text(whole)
        load_nightly(tmp_path / "page.toml")


def test_the_example_of_five_lines_has_no_more() -> None:
    (first, *_) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    assert len(first.splitlines()) <= 5


@pytest.mark.parametrize("file", [OURS, READY / "github-actions.yml"], ids=["ours", "ready"])
def test_the_workflows_run_nightly_end_in_time_and_warn_of_what_is_inconclusive(file: Path) -> None:
    workflow: dict[Any, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
    on = workflow.get("on") or workflow[True]  # YAML 1.1 reads a bare `on` as true
    (scheduled,) = on["schedule"]
    assert re.fullmatch(r"\d+ \d+ \* \* \*", scheduled["cron"])
    assert workflow["permissions"] == {"contents": "read"}
    assert workflow["concurrency"]["cancel-in-progress"] is False
    for job in workflow["jobs"].values():
        assert job["timeout-minutes"] > 0
        (gate,) = [step for step in job["steps"] if step.get("name") == "The gate"]
        assert gate_code(gate["run"], 0) == gate_code(gate["run"], 2) == 0
        assert gate_code(gate["run"], 1) == 1
        assert gate_code(gate["run"], 64) == 64
        assert all(step.get("if", "").startswith("always()") for step in job["steps"] if is_kept(step))


def is_kept(step: dict[str, Any]) -> bool:
    return str(step.get("uses", "")).startswith(("actions/upload-artifact", "actions/cache/save"))


def gate_code(script: str, code: int) -> int:
    """The exit code of the step where `harness nightly` ends with `code`, as GitHub's bash runs it."""
    stood_in = re.sub(r"\S*/harness nightly \S+", f"(exit {code})", script)
    assert "(exit" in stood_in
    stood_in = "\n".join(
        line for line in stood_in.splitlines() if not line.startswith(("cd ", "mkdir ", "cp "))
    )
    return subprocess.run(["bash", "-e", "-c", stood_in], capture_output=True, check=False).returncode


def test_the_history_that_our_workflow_keeps_is_where_the_command_writes_it() -> None:
    steps = yaml.safe_load(OURS.read_text(encoding="utf-8"))["jobs"]["micro"]["steps"]
    paths = {step["with"]["path"] for step in steps if "actions/cache" in str(step.get("uses", ""))}
    assert paths == {f"runs/{load_nightly(ROOT / '.github' / 'nightly.toml').name}/history.sqlite"}
    keys = [step["with"]["key"] for step in steps if "actions/cache" in str(step.get("uses", ""))]
    assert keys[0] == keys[1]
    (restored,) = [step for step in steps if "cache/restore" in str(step.get("uses", ""))]
    assert keys[0].startswith(restored["with"]["restore-keys"])


def test_systemd_takes_the_units(tmp_path: Path) -> None:
    """With this Python in the place of the command, which must exist for systemd-analyze."""
    if shutil.which("systemd-analyze") is None:
        pytest.fail("systemd-analyze is missing: apt-get install systemd")
    for name in ("harness-nightly.service", "harness-nightly.timer"):
        text = (READY / name).read_text(encoding="utf-8")
        text = text.replace("/srv/harness/.venv/bin/harness", sys.executable).replace("/srv/harness", "/tmp")
        (tmp_path / name).write_text(text.replace("User=harness", "User=root"))
    done = subprocess.run(
        ["systemd-analyze", "verify", *map(str, tmp_path.iterdir())],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not [line for line in done.stderr.splitlines() if "harness-nightly" in line], done.stderr


def test_the_crontab_has_one_entry_without_a_percent_sign_which_cron_reads_as_a_line_break() -> None:
    lines = (READY / "crontab").read_text(encoding="utf-8").splitlines()
    (entry,) = [line for line in lines if line and not line.startswith(("#", "MAILTO="))]
    assert re.match(r"\d+ \d+ \* \* \* cd ", entry)
    assert "%" not in entry


def test_the_page_names_every_outcome_and_every_setting() -> None:
    for outcome in Outcome.__args__:  # type: ignore[attr-defined]
        assert f"| {outcome} |" in PAGE
    settings = (READY / "nightly.toml").read_text(encoding="utf-8")
    for name in ("minimum_history", "maximum_history", "keep_rows", "drop", "alpha", "claims"):
        assert f"`{name}" in PAGE
        assert name in settings
