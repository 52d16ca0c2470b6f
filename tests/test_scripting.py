"""What scripts rely on: exit codes, one JSON document, no colours in a pipe, pipes that close, signals."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.engine import running

ROOT = Path(__file__).parent.parent
COMMAND = [sys.executable, "-m", "harness.cli"]
COLOUR = re.compile(rb"\x1b\[[0-9;]*3[0-9][0-9;]*m")
REMOTE = ("--base-url", "http://127.0.0.1:9/v1")


def harness(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments],
        capture_output=True, text=True, check=False, cwd=ROOT, env={**os.environ, **environment}, timeout=240,
    )  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, subprocess.CompletedProcess[str]]]:
    """A runs folder with two finished runs, and what `--json` printed of the second."""
    folder = tmp_path_factory.mktemp("runs")
    with running("--sums", "0.5") as endpoint:
        wanted = ("tiny", "--base-url", endpoint.base_url, "-b", "micro_math:2", "--limit", "6")
        for name in ("first", "second"):
            done = harness("evaluate", *wanted, "--name", name, "--runs", str(folder), "--json")
            assert done.returncode == 0, done.stderr
        yield folder, done


def test_a_finished_run_prints_its_report_and_nothing_else(
    runs: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    folder, done = runs
    assert json.loads(done.stdout) == json.loads((folder / "second" / "report.json").read_text())
    assert "report.html" in done.stderr


@pytest.mark.parametrize(
    ("command", "field"),
    [
        (("report", "first"), "entries"),
        (("regrade", "first"), "comparison"),
        (("list",), "recipes"),
        (("plan", "dasd-micro"), "stages"),
        (("doctor", "micro_math", *REMOTE), "findings"),
    ],
)
def test_standard_output_is_one_document(
    command: tuple[str, ...], field: str, runs: tuple[Path, subprocess.CompletedProcess[str]]
) -> None:
    place = () if command[0] == "list" else ("--runs", str(runs[0]))
    done = harness(*command, "--json", *place)
    assert done.returncode == 0, done.stderr
    assert field in json.loads(done.stdout)


def test_a_comparison_holds_every_flip(runs: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    done = harness("compare", "first", "second", "--json", "--runs", str(runs[0]))
    (told,) = json.loads(done.stdout)
    assert (told["benchmark"], told["questions"], told["difference"]) == ("micro_math", 6, 0.0)
    assert told["flips"] == []


def test_data_that_is_missing_is_told_in_the_document_and_by_the_exit_code(tmp_path: Path) -> None:
    away = {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    done = harness("data", "verify", "dasd-released-das", "--json", "--data", str(tmp_path), **away)
    told: list[dict[str, Any]] = json.loads(done.stdout)
    assert done.returncode == 1
    assert not all(one["fine"] for one in told)
    assert {"need", "fine", "told"} == set(told[0])


def test_an_error_leaves_standard_output_empty(tmp_path: Path) -> None:
    done = harness("report", "no-such-run", "--json", "--runs", str(tmp_path))
    assert (done.returncode, done.stdout) == (64, "")
    assert done.stderr.startswith("error: ")


@pytest.mark.parametrize(
    "command", [("list",), ("plan", "dasd-4b"), ("doctor", "micro_math", *REMOTE, "--json")]
)
def test_a_reader_that_goes_away_ends_a_command_without_a_traceback(command: tuple[str, ...]) -> None:
    with subprocess.Popen(
        [*COMMAND, *command], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == ""
        assert process.wait() == 1


def on_a_terminal(*arguments: str, **environment: str) -> bytes:
    """What a command writes to a terminal."""
    ours, theirs = pty.openpty()
    variables = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "120", **environment}
    for name in ("NO_COLOR", "FORCE_COLOR", "CI"):
        if name not in environment:
            variables.pop(name, None)
    with subprocess.Popen([*COMMAND, *arguments], cwd=ROOT, env=variables, stdout=theirs, stderr=theirs):
        os.close(theirs)
        written = b""
        try:
            while chunk := os.read(ours, 1 << 16):
                written += chunk
        except OSError:  # Linux says so where the other side is closed
            pass
    os.close(ours)
    return written


def test_colours_are_for_terminals_whose_owner_has_not_said_no(tmp_path: Path) -> None:
    whole = ("doctor", "micro_math", *REMOTE, "--runs", str(tmp_path))
    assert COLOUR.search(on_a_terminal(*whole))
    assert not COLOUR.search(on_a_terminal(*whole, NO_COLOR="1"))
    piped = harness(*whole)
    assert piped.stdout
    assert "\x1b" not in piped.stdout + piped.stderr


def test_the_help_tells_the_exit_codes() -> None:
    told = harness("--help").stdout
    assert [line.split()[0] for line in told.partition("Exit codes:")[2].splitlines()[1:6]] == [
        "0", "1", "64", "75", "130",
    ]  # fmt: skip
    assert "nightly: 0 pass, 1 regression, 2 inconclusive" in told


def test_each_exit_code_is_what_a_command_ends_with(tmp_path: Path) -> None:
    place = ("--runs", str(tmp_path))
    away = {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    assert harness("list").returncode == 0
    assert harness("doctor", "gpqa_diamond", *REMOTE, *place, **away).returncode == 1
    assert harness("doctor", "no-such-thing", *place).returncode == 64
    batch = ("evaluate", "m", "-b", "micro_math:1", "--engine", "batch", "--limit", "2")
    waiting = harness(*batch, *place)
    assert waiting.returncode == 75, waiting.stderr


@pytest.mark.parametrize(
    ("how", "in_background"), [(signal.SIGINT, False), (signal.SIGTERM, False), (signal.SIGTERM, True)]
)
def test_a_signal_ends_a_run_with_130_and_the_same_command_continues(
    how: signal.Signals, in_background: bool, tmp_path: Path
) -> None:
    """A shell's background jobs ignore SIGINT from the start; SIGTERM must end them all the same."""
    with running("--delay", "0.3") as endpoint:
        command = [
            *COMMAND, "evaluate", "tiny", "--base-url", endpoint.base_url, "-b", "micro_math:4",
            "--limit", "20", "--runs", str(tmp_path),
        ]  # fmt: skip
        ignoring = (lambda: signal.signal(signal.SIGINT, signal.SIG_IGN)) if in_background else None
        (tmp_path / "machine.toml").write_text("concurrency = 2\n")
        process = subprocess.Popen(
            [*command, "--machine", str(tmp_path / "machine.toml")],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=ignoring,
        )  # fmt: skip
        rows = tmp_path / "stages"
        while not any(file.stat().st_size for file in rows.glob("ask-*/generations.jsonl")):
            assert process.poll() is None, process.stderr
            time.sleep(0.05)
        process.send_signal(how)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "interrupted: run the same command again to continue" in said
    assert "Traceback" not in said


SWALLOWING = """
import os, signal, time
from harness.cli.ending import end_on_sigterm

class Finalized:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.1)

end_on_sigterm()
try:
    Finalized()
    time.sleep(60)
except KeyboardInterrupt:
    print("interrupted")
"""


CONVERTING = """
import os, signal, sys, time
import click
from harness.cli import cli, main
@click.command()
def picture():
    try:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(10)
    except KeyboardInterrupt:
        raise TypeError("incompatible function arguments") from None
cli.places = {"picture": "__main__:picture"}
sys.argv = ["harness", "picture"]
main()
"""


def test_a_signal_of_which_a_native_function_makes_another_error_is_still_one() -> None:
    """matplotlib's functions answer an exception in an argument with a TypeError of their own."""
    done = subprocess.run(
        [sys.executable, "-c", CONVERTING], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert (done.returncode, done.stderr) == (130, "interrupted: run the same command again to continue\n")
    without = CONVERTING.replace("os.kill(os.getpid(), signal.SIGTERM)", "raise KeyboardInterrupt")
    failed = subprocess.run(
        [sys.executable, "-c", without], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert failed.returncode == 1
    assert "incompatible function arguments" in failed.stderr


def test_a_signal_that_meets_a_finalizer_is_not_lost() -> None:
    """Python prints what is raised there, and goes on as if nothing had been."""
    done = subprocess.run(
        [sys.executable, "-c", SWALLOWING], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert (done.stdout, done.stderr) == ("interrupted\n", "")
