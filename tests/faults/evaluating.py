"""`harness evaluate` against a faulty server, as processes, and its rows beside those of an undisturbed run.

    with Site(folder).serving("reset", after=30, strikes=2):
        ended = site.evaluate()

The answers of the healthy server are a function of prompt and seed, so rows are compared word for word.
"""

import contextlib
import functools
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.serve import answers, supervised
from harness.supervise import descendants
from tests.faults.fault import Outcome

ROOT = Path(__file__).resolve().parents[2]
HARNESS = [sys.executable, "-m", "harness.cli"]
MODEL, QUESTIONS, DRAWS, LIMIT = "tiny", 10, 4, 40
HEALTHY = ("--model", MODEL, "--sums", "0.5", "--delay", "0.01")
ALL_REQUESTS = 130
"""No more than come in an undisturbed run: of these about 95 before the first row is asked for."""
OWN = (12, 40)
"""Of those that hold OWN_REQUESTS, the numbers of which the first are the run's and the last leave some."""
GO_ON = r"same command (goes on|asks again|again)|kept|Run it again|go on"
"""What to do, as messages word it."""
OWN_REQUESTS = "Compute "
"""What only micro_math's prompts have: the run's own requests, and a few of the preflight's."""
PATIENCE = 900.0
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


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


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
        port = port or free_port()
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
                supervised([*command, *healthy], grace=0.0),
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
            f"concurrency = 4\nstream_from = {int(self.streamed)}\npatience = {self.patience}\n"
        )
        asked = ["-b", f"micro_math:{DRAWS}", "--limit", str(QUESTIONS), "--max-tokens", str(LIMIT)]
        place = ["--base-url", f"{url}/v1", "--runs", str(self.runs), "--machine", str(machine)]
        return [*HARNESS, "evaluate", MODEL, *asked, *place]

    def start(self, url: str) -> subprocess.Popen[str]:
        """The command, in a process group of its own."""
        return subprocess.Popen(
            self.command(url),
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
            name: rows_of(path)
            for name in ("generations", "grades")
            for path in sorted(self.runs.glob(f"stages/*/{name}.jsonl"))
        }

    def kept(self) -> int:
        return len(self.rows().get("generations", {}))

    def stage(self) -> dict[str, Any]:
        """The record of the stage that asks; nothing while it is not complete."""
        for path in self.runs.glob("stages/ask-*/stage.json"):
            found: dict[str, Any] = json.loads(path.read_text())
            return found
        return {}


def ended(process: subprocess.Popen[str]) -> Ended:
    try:
        text, _ = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        text = f"{process.communicate()[0]}\nnot ended after {PATIENCE:.0f} s"
    return Ended(code=process.returncode, text=text)


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


def lost(note: str, strikes: int = 1) -> Outcome:
    return Outcome(ending="lost", note=note, strikes=strikes)


def strikes_of(seed: int, name: str, first: int, last: int) -> tuple[int, int]:
    """The number of the first request that is struck, and how many are."""
    chooser = random.Random(f"{seed}:{name}:0")
    return chooser.randint(first, last), chooser.randint(1, 4)


def heals(folder: Path, seed: int, fault: str, *, streamed: bool = False, burst: int = 0) -> Outcome:
    """A fault that passes: the run goes on by itself. Where it met the preflight the run may end instead,
    with words to that effect, and must be whole when it is run again.

    A `burst` strikes so many of the run's own requests, where a few strike any.
    """
    site, name = Site(folder=folder, streamed=streamed), f"{fault} {streamed}"
    first, many = strikes_of(seed, name, *(OWN if burst else (1, ALL_REQUESTS)))
    moments = ("--after", str(first), "--strikes", str(burst or many))
    only = ("--only", OWN_REQUESTS) if burst else ()
    with site.serving("--fault", fault, *moments, *only) as server:
        found = site.evaluate(server.url)
        told, early = server.told(), not site.kept()
        if not told["struck"]:
            return lost(f"not struck: {told['asked']} requests came, {first} was to be the first")
        if found.code and not (early and found.says(GO_ON)):
            return lost(f"ended with {found.code}: {found.last}")
        if found.code and (bad := wrong(site.rows(), whole=False)):
            return bad
        again = site.evaluate(server.url) if found.code else found
    if again.code:
        return lost(f"run again, it ended with {again.code}: {again.last}")
    note = f"the preflight met it: {found.last}" if found.code else "went on by itself"
    return wrong(site.rows(), whole=True) or Outcome(
        ending="survived", note=note, strikes=len(told["struck"])
    )


def lasts(folder: Path, seed: int, fault: str, says: str, *, streamed: bool = False) -> Outcome:
    """A fault that stays, from the middle of the run on: the run ends and says why, keeps no wrong row, and
    is whole when it is run again without the fault."""
    site = Site(folder=folder, streamed=streamed, patience=0)
    first, _ = strikes_of(seed, f"{fault} {streamed}", *OWN)
    moments = ("--only", OWN_REQUESTS, "--after", str(first))
    with site.serving("--fault", fault, *moments) as server:
        found, struck = site.evaluate(server.url), len(server.told()["struck"])
        if bad := wrong(site.rows(), whole=False):
            return bad
        if not found.code or not found.says(says) or not found.says(GO_ON):
            return lost(f"ended with {found.code}, and was to say {says!r}: {found.last}")
        server.becomes("none")
        again = site.evaluate(server.url)
    if again.code:
        return lost(f"run again, it ended with {again.code}: {again.last}")
    return wrong(site.rows(), whole=True) or Outcome(ending="survived", note=found.last, strikes=struck)
