"""`harness evaluate` against a faulty server, as processes, and its rows beside those of an undisturbed run.

    site = Site(folder=folder)
    with site.serving("--fault", "reset", "--after", "30", "--strikes", "2") as server:
        found = site.evaluate(server.url)

The answers of the healthy server are a function of prompt and seed, so rows are compared word for word.
"""

import contextlib
import functools
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.serve import answers, free_port, supervised
from harness.supervise import descendants
from tests.faults.fault import Outcome
from tests.faults.struck import HARNESS, ROOT

MODEL, QUESTIONS, DRAWS, LIMIT, CONCURRENCY = "tiny", 10, 4, 40, 4
HEALTHY = ("--model", MODEL, "--sums", "0.5", "--delay", "0.01")
OWN_REQUESTS = "Compute "
"""What only micro_math's prompts have: the run's own requests, and a few of the preflight's."""
SLOWED = ("--fault", "slow", "--seconds", "0.2", "--only", OWN_REQUESTS)
"""Switches of a server that takes some seconds for the run's own requests: it can be struck on the way."""
PATIENCE = 900.0
POLL = 0.02
FILES = ("generations", "grades")
CHANGING = ("latency", "request_id", "honoured")
"""What differs between two undisturbed runs, or says only which preflight there was."""

Key = tuple[str, int]
Rows = dict[str, dict[Key, dict[str, Any]]]


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a command ended: its exit code, and all that a user reads."""

    code: int
    text: str

    def says(self, pattern: str) -> bool:
        return re.search(pattern, " ".join(self.text.split())) is not None

    @property
    def last(self) -> str:
        """The message at the end, on one line."""
        found = " ".join(self.text.split())
        return found[max(found.rfind("Error"), found.rfind("error:"), len(found) - 400) :][:400]


class Faulty:
    """A running faulty server."""

    def __init__(self, port: int, process: subprocess.Popen[bytes]) -> None:
        self.port, self.process = port, process

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def told(self) -> dict[str, Any]:
        with urllib.request.urlopen(f"{self.url}/told", timeout=60) as answer:
            found: dict[str, Any] = json.load(answer)
            return found

    def becomes(self, fault: str, **moments: int) -> None:
        data = json.dumps({"fault": fault, **moments}).encode()
        urllib.request.urlopen(f"{self.url}/fault", data=data, timeout=60).close()

    @property
    def below(self) -> list[int]:
        """The processes below the supervisor: the server and the healthy one behind it."""
        return descendants(self.process.pid)

    def stop(self) -> None:
        """Stops it, as a suspended machine stops."""
        for process in self.below:
            os.kill(process, signal.SIGSTOP)

    def go_on(self) -> None:
        for process in self.below:
            os.kill(process, signal.SIGCONT)


@dataclass(frozen=True, kw_only=True)
class Site:
    """One fault's folder. `streamed` lets every answer be streamed; `patience` is how many seconds a server
    that fails has to come back; `variables` go into the environment of the command."""

    folder: Path
    streamed: bool = False
    patience: int = 60
    variables: Mapping[str, str] = field(default_factory=dict)

    @property
    def runs(self) -> Path:
        return self.folder / "runs"

    @contextlib.contextmanager
    def serving(self, *switches: str, port: int = 0, healthy: tuple[str, ...] = HEALTHY) -> Iterator[Faulty]:
        """A faulty server with these switches, ready to answer."""
        port = port or free_port(0)
        command = [
            sys.executable,
            "-m",
            "tests.faults.server",
            "--port",
            str(port),
            *switches,
            "--",
            *healthy,
        ]
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "server.log").open("ab") as log:
            process = subprocess.Popen(
                supervised(command, grace=0.0),
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
            )
        assert process.stdin is not None
        found = Faulty(port, process)
        try:
            while not answers(f"{found.url}/told"):
                if process.poll() is not None:
                    raise RuntimeError((self.folder / "server.log").read_text()[-2000:])
                time.sleep(0.02)
            yield found
        finally:
            process.stdin.close()
            process.wait()

    def command(self, url: str) -> list[str]:
        machine = self.folder / "machine.toml"
        self.folder.mkdir(parents=True, exist_ok=True)
        machine.write_text(
            f"concurrency = {CONCURRENCY}\nstream_from = {int(self.streamed)}\npatience = {self.patience}\n"
        )
        asked = ["-b", f"micro_math:{DRAWS}", "--limit", str(QUESTIONS), "--max-tokens", str(LIMIT)]
        place = ["--base-url", f"{url}/v1", "--runs", str(self.runs), "--machine", str(machine)]
        return [*HARNESS, "evaluate", MODEL, *asked, *place]

    def start(self, url: str) -> subprocess.Popen[str]:
        return self.begin(self.command(url))

    def begin(self, command: list[str]) -> subprocess.Popen[str]:
        """The command, in a process group of its own."""
        return subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, "COLUMNS": "400", **self.variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def evaluate(self, url: str) -> Ended:
        return ended(self.start(url))

    def rows(self) -> Rows:
        """The rows that are there, by file. Raises AssertionError where one is there twice."""
        return {
            name: rows_of(path) for name in FILES for path in sorted(self.runs.glob(f"stages/*/{name}.jsonl"))
        }

    def kept(self) -> int:
        return len(self.rows().get("generations", {}))

    def under_way(self, process: subprocess.Popen[str], rows: int) -> bool:
        """Waits until the command has so many rows, and not all. False where it has, or has ended."""
        return under_way(self.runs, process, rows) and self.kept() < QUESTIONS * DRAWS


def ended(process: subprocess.Popen[str]) -> Ended:
    try:
        text, _ = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        text = f"{process.communicate()[0]}\nnot ended after {PATIENCE:.0f} s"
    return Ended(code=process.returncode, text=text)


def under_way(runs: Path, process: subprocess.Popen[str], rows: int) -> bool:
    """Waits until there are so many rows below a runs folder; False where the command ended before."""
    while process.poll() is None:
        files = runs.glob("stages/*/generations.jsonl")
        if sum(path.read_bytes().count(b"\n") for path in files) >= rows:
            return True
        time.sleep(POLL)
    return False


def rows_of(path: Path) -> dict[Key, dict[str, Any]]:
    found: dict[Key, dict[str, Any]] = {}
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            if not line.endswith("\n"):
                break
            row = json.loads(line)
            key = row["question"], row["draw"]
            assert key not in found, f"{key} is there twice"
            found[key] = {name: value for name, value in row.items() if name not in CHANGING}
    return found


@functools.cache
def undisturbed() -> Rows:
    """The rows of a run that nothing happened to, made once a process."""
    with tempfile.TemporaryDirectory(prefix="undisturbed-") as folder:
        site = Site(folder=Path(folder))
        with site.serving() as server:
            found = site.evaluate(server.url)
        assert found.code == 0, found.text
        return site.rows()


def wrong(rows: Rows, whole: bool) -> Outcome | None:
    """What is lost or wrong of the rows; None where nothing is. `whole`: all of them must be there."""
    for name, expected in undisturbed().items():
        there = rows.get(name, {})
        for key, row in there.items():
            known = expected.get(key, {})
            if row != known:
                seen = {field: value for field, value in row.items() if value != known.get(field)}
                return Outcome(ending="wrongly graded", note=f"{name} {key} has {seen}")
        if whole and expected.keys() != there.keys():
            return lost(f"{len(expected) - len(there)} rows of {name} are missing")
    return None


def lost(note: str) -> Outcome:
    return Outcome(ending="lost", note=note)
