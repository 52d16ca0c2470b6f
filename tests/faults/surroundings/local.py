"""Servers that the harness starts itself end in the middle of a run: the fake vLLM, and the real one."""

import os
import random
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from harness.engines.vllm import vllm
from harness.errors import UsageError
from harness.machine import Machine
from harness.supervise import descendants
from tests.faults.evaluating import FILES, Ended, Rows, ended, lost, rows_of, under_way
from tests.faults.fault import Fault, Outcome
from tests.faults.struck import HARNESS, ROOT

KIND = "servers"
FAKE = ROOT / "tests" / "fakes" / "vllm_cli.py"
BASE, TEACHER = (ROOT / "pipeline" / "micro" / name for name in ("base", "teacher"))
SERVER, ENGINE_CORE = "openai_server.py", "EngineCore"
LIMIT = 64 * 2**20
"""Bytes of address space: less than the process has, so that all it asks for from now on is refused."""
KEPT = r"died with exit code .*its log ends.*everything generated so far is kept"


@dataclass(frozen=True, kw_only=True)
class Local:
    """A folder in which `harness evaluate` starts its server: the embedded vLLM where `real`, or the fake."""

    folder: Path
    real: bool = False

    def evaluate(self, name: str) -> subprocess.Popen[str]:
        self.folder.mkdir(parents=True, exist_ok=True)
        settings = "gpus = 0\nconcurrency = 4\n"
        if not self.real:
            settings += f'[engines.vllm]\npython = "{self.stand_in()}"\n'
        machine = self.folder / "machine.toml"
        machine.write_text(settings)
        model, tokens = (TEACHER, 96) if self.real else (BASE, 40)
        asked = ["-b", "micro_math:4", "--limit", "20" if self.real else "10", "--max-tokens", str(tokens)]
        place = ["--runs", str(self.folder / name), "--machine", str(machine), "--name", "local"]
        return subprocess.Popen(
            [*HARNESS, "evaluate", str(model), "--engine", "vllm", *asked, *place],
            cwd=ROOT,
            env={**os.environ, "COLUMNS": "400"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def stand_in(self) -> Path:
        """What stands for vLLM's interpreter."""
        script = self.folder / "python"
        notes = self.folder / "notes.json"
        script.write_text(
            f'#!/bin/sh\nexec {sys.executable} {FAKE} {notes} --sums 0.5 --delay 0.05 -- "$@"\n'
        )
        script.chmod(0o755)
        return script

    def rows(self, name: str) -> Rows:
        return {
            kind: rows_of(path)
            for kind in FILES
            for path in sorted((self.folder / name).glob(f"stages/*/{kind}.jsonl"))
        }


def below(process: subprocess.Popen[str], word: str) -> list[int]:
    """The processes below the command whose command line holds a word."""
    found = []
    for pid in descendants(process.pid):
        with suppress(OSError):
            line = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
            if word in line and "supervise.py" not in line:
                found.append(pid)
    return found


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def take_memory(pid: int) -> None:
    """No more memory for this process, as at a limit that it has reached."""
    resource.prlimit(pid, resource.RLIMIT_AS, (LIMIT, LIMIT))


def strike(folder: Path, seed: int, deed: Callable[[int], None], word: str, real: bool = False) -> Outcome:
    local = Local(folder=folder, real=real)
    calm = ended(local.evaluate("calm"))
    if calm.code:
        return lost(f"the undisturbed run ended with {calm.code}: {calm.last}")
    process = local.evaluate("disturbed")
    if not under_way(folder / "disturbed", process, random.Random(f"{seed}:{word}:0").randint(1, 20)):
        return lost(f"ended before it could be struck: {ended(process).last}")
    for pid in below(process, word):
        deed(pid)
    return judged(local, ended(process))


def judged(local: Local, found: Ended) -> Outcome:
    expected = local.rows("calm")
    for kind, rows in local.rows("disturbed").items():
        if any(row != expected[kind].get(key) for key, row in rows.items()):
            return Outcome(ending="wrongly graded", note=f"{kind} are others than those of a calm run")
    if not found.code or not found.says(KEPT):
        return lost(f"ended with {found.code}: {found.last}")
    again = ended(local.evaluate("disturbed"))
    if again.code:
        return lost(f"run again, it ended with {again.code}: {again.last}")
    if local.rows("disturbed") != expected:
        return lost("rows are missing")
    return Outcome(ending="survived", note=found.last)


def lacking() -> str:
    try:
        python = vllm.python(Machine())
    except UsageError as error:
        return error.message
    return "" if python.exists() else "vLLM is not set up: harness setup vllm"


killed = Fault(name="servers: started here, killed", kind=KIND, run=partial(strike, deed=kill, word=SERVER))
killed_core = Fault(
    name="servers: the real vLLM's engine killed",
    kind=KIND,
    run=partial(strike, deed=kill, word=ENGINE_CORE, real=True),
    slow=True,
    needs=lacking,
)
out_of_memory = Fault(
    name="servers: the real vLLM's engine out of memory",
    kind=KIND,
    run=partial(strike, deed=take_memory, word=ENGINE_CORE, real=True),
    slow=True,
    needs=lacking,
)
