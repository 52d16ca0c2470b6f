"""One tool under one fault: runs it, strikes, runs it again where it stopped, and judges the end."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from harness.serve import free_port
from tests.performance.client import peers
from tests.performance.client.served import ROOT, served
from tests.performance.client.work import write_questions
from tests.performance.peer_faults.faults import KILLED_AT, Fault
from tests.performance.peer_faults.server import MODEL, How, read_log
from tests.performance.peer_faults.tools import MODE, Scored, Tool, environment, prepare

LIMIT = 150.0  # seconds without anything asked or answered, after which a tool that runs on hangs
STARTS_WITHIN = 600.0  # seconds that a tool has until it first asks, and a server until it answers
EVERY = 0.05
QUESTIONS = 30
PLACES = (str(ROOT), str(Path.home()), tempfile.gettempdir())
"""Folders of this computer, which no outcome tells."""
COMPLAINT = re.compile(r"error|warn|fail|exception|null|empty|invalid|retr|cannot|refus", re.IGNORECASE)
MISSING = re.compile(r"(empty|null|no) (response|content|answer)|failed after|not (scored|graded)", re.I)

Ending = Literal["right", "wrong, told", "wrong, untold", "goes on", "begins anew", "hangs", "stops for good"]
"""How a tool ended. Goes on, begins anew: it stopped, and the same command again came to the right score,
the latter asking again for all that had been answered."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run of the command: exit status (None where it hung and was ended), seconds, its score
    where it left one, and how many answers there were of which questions."""

    status: int | None
    seconds: float
    score: float | None
    graded: int
    asked: int
    again: int
    """Requests for what had already been answered whole, in this run or before."""
    answered: int
    """Questions that have been answered whole by the end of this run."""
    complaints: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    tool: str
    fault: str
    ending: Ending
    runs: list[Run]

    def raw(self) -> dict[str, Any]:
        return asdict(self)


@dataclass
class Place:
    """The faulty server of one trial, which may die and come back on its port."""

    folder: Path
    upstream: str
    port: int
    process: subprocess.Popen[bytes] | None = None
    ended: float = 0.0

    @property
    def log(self) -> Path:
        return self.folder / "asked.jsonl"

    @property
    def size(self) -> int:
        """Of the log, which grows whenever something is asked or answered."""
        return self.log.stat().st_size if self.log.exists() else 0

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def start(self, how: How = "", model: str = MODEL, strict: bool = False) -> None:
        self.stop()
        command = [sys.executable, "-m", "tests.performance.peer_faults.server", "--how", how]
        command += ["--questions", str(self.folder / "questions.jsonl"), "--upstream", self.upstream]
        command += ["--log", str(self.log), "--port", str(self.port), "--model", model]
        self.process = subprocess.Popen([*command, *(["--strict"] if strict else [])], cwd=ROOT)
        self.ended = 0.0
        until = time.monotonic() + STARTS_WITHIN
        while not reachable(self.port):
            if self.process.poll() is not None or time.monotonic() > until:
                raise RuntimeError("the faulty server did not start")
            time.sleep(EVERY)

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def come_back(self, fault: Fault) -> None:
        """Starts what takes a dead server's place, once its time has come."""
        if self.process is None or self.process.poll() is None:
            return
        self.ended = self.ended or time.monotonic()
        if time.monotonic() - self.ended >= fault.back_after:
            self.start(model=fault.back_as, strict=fault.strict)


def reachable(port: int) -> bool:
    with socket.socket() as tried:
        return tried.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def placed(folder: Path) -> Iterator[Place]:
    """A place for the faulty server, before a fast one that answers probes."""
    folder.mkdir(parents=True)
    with served(write_questions(folder / "questions.jsonl"), MODE) as fast:
        place = Place(folder=folder, upstream=fast.root, port=free_port(0))
        try:
            yield place
        finally:
            place.stop()


def tried(tool: Tool, fault: Fault, folder: Path, known: Run | None = None, limit: float = LIMIT) -> Outcome:
    """The tool under the fault, in a new folder. `known` is its undisturbed run, None to make that."""
    with placed(folder) as place:
        task = prepare(place.base_url, folder / "task")
        place.start(fault.how)
        runs = [run(tool, task, place, fault, limit)]
        if stopped(runs[0]):
            place.start()
            runs.append(run(tool, task, place, Fault(name="healed", title=""), limit))
    if known is not None:
        runs = [without(each, known.complaints) for each in runs]
    return Outcome(tool=tool.name, fault=fault.name, ending=judged(runs, known or runs[0]), runs=runs)


def run(tool: Tool, task: peers.Task, place: Place, fault: Fault, limit: float) -> Run:
    """One run of the tool's command, while the fault strikes; all that it started has ended after it."""
    before, started = read_log(place.log), time.monotonic()
    output = task.folder / f"output-{len(before)}.log"
    with output.open("wb") as told:
        process = subprocess.Popen(
            tool.command(task),
            stdin=subprocess.DEVNULL,
            stdout=told,
            stderr=subprocess.STDOUT,
            env=environment(task),
            cwd=task.folder,
            start_new_session=True,
        )
        try:
            hung = not ended(process, place, fault, limit)
        finally:
            end_group(process)
    seconds = time.monotonic() - started
    scored = tool.score(task) if process.returncode == 0 else None
    return Run(
        status=None if hung else process.returncode,
        seconds=round(seconds, 1),
        score=None if scored is None else round(scored.score, 2),
        graded=0 if scored is None else scored.graded,
        **counted(before, read_log(place.log)),
        complaints=complaints(output, task.folder, scored),
    )


def ended(process: subprocess.Popen[bytes], place: Place, fault: Fault, limit: float) -> bool:
    """Whether the tool ended by itself or by the fault. Meanwhile a dead server is replaced, and the tool is
    killed where that is the fault."""
    before = seen = place.size
    since = time.monotonic()
    while process.poll() is None:
        if (size := place.size) != seen:
            seen, since = size, time.monotonic()
        if time.monotonic() - since > (STARTS_WITHIN if seen == before else limit):
            return False
        place.come_back(fault)
        if fault.kills_tool and sum(e["event"] == "answered" for e in read_log(place.log)) >= KILLED_AT:
            end_group(process)
        time.sleep(EVERY)
    return True


def end_group(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def counted(before: list[dict[str, str]], after: list[dict[str, str]]) -> dict[str, int]:
    """What the server's log says of one run."""
    answered: Counter[str] = Counter()
    asked = again = 0
    for number, event in enumerate(after):
        if event["event"] == "answered":
            answered[event["question"]] += 1
        if event["event"] == "asked" and number >= len(before):
            asked += 1
            again += answered[event["question"]] > 0
    return {"asked": asked, "again": again, "answered": len(answered)}


def complaints(output: Path, folder: Path, scored: Scored | None) -> list[str]:
    """The lines of the output in which something is wrong, each once and without numbers and this folder."""
    text = output.read_text(encoding="utf-8", errors="replace").replace(str(folder), "FOLDER")
    lines = [plain(line) for line in re.split(r"[\r\n]+", text) if COMPLAINT.search(line)]
    return list(dict.fromkeys(line for line in lines if line))


def plain(line: str) -> str:
    """The line without colours, addresses and times, at most 200 characters of it."""
    line = re.sub(r"\x1b\[[0-9;]*m", "", line)
    line = re.sub(rf"\S*(site-packages|{'|'.join(map(re.escape, PLACES))})\S*", "PATH", line)
    return re.sub(r"\d+", "N", line).strip()[:200]


def without(run: Run, usual: list[str]) -> Run:
    """The run without the complaints that an undisturbed one has, too, and no more than ten."""
    return Run(**{**vars(run), "complaints": [each for each in run.complaints if each not in usual][:10]})


def stopped(run: Run) -> bool:
    return run.status != 0 or run.score is None


def judged(runs: list[Run], known: Run) -> Ending:
    """The ending, from the score of the last run and what was asked for again."""
    first, last = runs[0], runs[-1]
    if first.status is None:
        return "hangs"
    if stopped(last):
        return "stops for good"
    if (last.score, last.graded) != (known.score, known.graded):
        return "wrong, told" if told(last, known) else "wrong, untold"
    if len(runs) == 1:
        return "right"
    return "begins anew" if last.again >= first.answered else "goes on"


def told(run: Run, known: Run) -> bool:
    """Whether a tool with another score says that something is missing: it counts fewer answers, or a line of
    its output says that an answer was none. That something is tried again says no such thing."""
    return run.graded != known.graded or any(MISSING.search(line) for line in run.complaints)


def read_run(raw: dict[str, Any]) -> Run:
    return Run(**raw)


def read_outcome(raw: dict[str, Any]) -> Outcome:
    return Outcome(**{**raw, "runs": [read_run(each) for each in raw["runs"]]})


def write_json(file: Path, value: Any) -> None:
    partial = file.with_suffix(".partial")
    partial.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    partial.rename(file)
