"""The processes of a soak: the long-lived harness, the faulty wire, and commands that come and go."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.serve import answers, free_port, supervised
from tests.soak.driver import tokens
from tests.soak.samples import MARK

ROOT = Path(__file__).resolve().parents[2]
CHECKPOINT = ROOT / "pipeline" / "micro" / "teacher"


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much a round evaluates: questions of each benchmark, and draws of each question."""

    math: int
    code: int
    draws: int


@dataclass(frozen=True, kw_only=True)
class Site:
    """A folder in which everything of one soak happens. `real` asks vLLM instead of a fake server."""

    folder: Path
    size: Size
    real: bool
    port: int
    mark: str

    @property
    def runs(self) -> Path:
        return self.folder / "runs"

    @property
    def temporary(self) -> Path:
        return self.folder / "t"

    @property
    def environment(self) -> dict[str, str]:
        """Of every process: its mark, and a temporary folder that nobody else has."""
        return {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "TMPDIR": str(self.temporary),
            MARK: self.mark,
        }

    def prepare(self) -> None:
        """Folders, and machine.toml for the driver and for commands: these start the fake server always."""
        for folder in (self.runs / "driver", self.runs / "command", self.temporary):
            folder.mkdir(parents=True)
        interpreter = self.folder / "interpreter"
        interpreter.write_text(f'#!/bin/sh\nexec {sys.executable} {ROOT}/tests/soak/interpreter.py "$@"\n')
        interpreter.chmod(0o755)
        fake = f'[engines.vllm]\npython = "{interpreter}"\n'
        common = "gpus = 0\nconcurrency = 32\n"
        own = f"{common}port = {self.port}\n"
        (self.folder / "driver.toml").write_text(own + ("" if self.real else fake))
        (self.folder / "command.toml").write_text(common + fake)

    @contextlib.contextmanager
    def driver(self) -> Iterator[subprocess.Popen[str]]:
        """The long-lived harness; it is asked to leave at the end."""
        told = [str(self.runs / "driver"), str(self.folder / "driver.toml"), str(CHECKPOINT)]
        numbers = [str(self.size.math), str(self.size.code), str(self.size.draws)]
        with (self.folder / "driver.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.soak.driver", *told, *numbers],
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        try:
            yield process
        finally:
            assert process.stdin is not None
            process.stdin.close()
            try:
                process.wait(timeout=120)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    @contextlib.contextmanager
    def wire(self) -> Iterator[str]:
        """A proxy before the driver's server that can be told to misbehave; its URL."""
        port = free_port(0)
        upstream = f"http://127.0.0.1:{self.port}"
        command = [sys.executable, "-m", "tests.faults.server", "--port", str(port), "--upstream", upstream]
        with (self.folder / "wire.log").open("wb") as log:
            process = subprocess.Popen(
                supervised(command, grace=0.0),
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                stdin=subprocess.PIPE,
                stderr=log,
            )
        assert process.stdin is not None
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            process.stdin.close()
            process.wait()

    def command(self, number: int, served: tuple[str, str] | None) -> "subprocess.Popen[bytes]":
        """`harness evaluate` of the round: of a model that is `served` at a URL under a name, else with a
        server of its own."""
        of = [served[1], "--base-url", f"{served[0]}/v1"] if served else [str(CHECKPOINT)]
        benchmarks = [f"micro_math:{self.size.draws}", f"micro_code:{self.size.draws}"]
        limits = ["--limit", str(self.size.code), "--max-tokens", str(tokens(number))]
        places = ["--runs", str(self.runs / "command"), "--machine", str(self.folder / "command.toml")]
        asked = [word for name in benchmarks for word in ("-b", name)]
        with (self.folder / "command.log").open("wb") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "harness.cli", "evaluate", *of, *asked, *limits, *places],
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def served(self, url: str) -> tuple[str, str] | None:
        """What the driver's server is reached at and called; None where it is down."""
        if not answers(f"{url}/v1/models"):
            return None
        with urllib.request.urlopen(f"{url}/v1/models", timeout=60) as answer:
            return url, json.load(answer)["data"][0]["id"]

    def clean(self, who: str) -> None:
        """Removes what is finished, as a user would. Logs that a server still writes are emptied."""
        for entry in (self.runs / who).iterdir():
            if entry.name == "logs":
                for log in entry.iterdir():
                    os.truncate(log, 0)
            else:
                shutil.rmtree(entry)


def told_fault(url: str, fault: str, **moments: int) -> dict[str, Any]:
    """Tells the wire how to misbehave from now on, and returns how often it did before."""
    with urllib.request.urlopen(f"{url}/told", timeout=60) as answer:
        before: dict[str, Any] = json.load(answer)
    data = json.dumps({"fault": fault, **moments}).encode()
    urllib.request.urlopen(f"{url}/fault", data=data, timeout=60).close()
    return before
