"""Strikes the ten faults at the harness and its peers, and writes how each ended to a JSON file.

python -m tests.performance.peer_faults [FILE]      an hour and more; default docs/reliability/peers.json

PEERS=harness,lm-eval and FAULTS=hang,500s choose some; what the file holds of the others stays. AT_ONCE is
how many are run at a time (default 1), KEEP a folder that keeps what they wrote. Prints the page's tables.
"""

import datetime
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.performance.client import peers
from tests.performance.client.served import ROOT
from tests.performance.client.told import machine
from tests.performance.peer_faults.faults import FAULTS, NOTHING, Fault
from tests.performance.peer_faults.told import FILE, read_results, table, versions
from tests.performance.peer_faults.tools import TOOLS, Tool
from tests.performance.peer_faults.trial import LIMIT, QUESTIONS, Outcome, Run, tried, write_json

Results = dict[str, Any]


def chosen(variable: str, known: list[str]) -> list[str]:
    """The names in the variable, all where it is not set. Raises SystemExit at an unknown one."""
    named = list(filter(None, os.environ.get(variable, "").split(","))) or known
    if unknown := set(named) - set(known):
        raise SystemExit(f"{variable}: {min(unknown)!r} is not known; known: {', '.join(known)}")
    return named


def commit() -> str:
    """The commit that was measured, with a mark where files differ from it."""
    told = ["git", "describe", "--always", "--dirty", "--abbrev=8"]
    done = subprocess.run(told, capture_output=True, text=True, check=False, cwd=ROOT)
    return done.stdout.strip() or os.environ.get("COMMIT", "unknown")


def described(tool: Tool) -> dict[str, str]:
    version = tool.version if tool.peer else f"{tool.version} {commit()}"
    return {"version": version, "options": tool.options}


class Session:
    """Trials that share a file of results."""

    def __init__(self, file: Path, folder: Path) -> None:
        self.file, self.folder = file, folder
        self.results: Results = read_results(file) if file.exists() else {"tools": {}, "outcomes": {}}
        self.writing = threading.Lock()

    def known(self, tool: Tool) -> Run:
        """The tool's undisturbed run, and all that is told of it."""
        outcome = self.tried(tool, NOTHING, None)
        run = outcome.runs[0]
        if outcome.ending != "right" or run.graded != QUESTIONS:
            raise SystemExit(f"{tool.name} does not get through without a fault: {run}")
        return run

    def tried(self, tool: Tool, fault: Fault, known: Run | None) -> Outcome:
        folder = self.folder / f"{tool.name}-{fault.name}"
        shutil.rmtree(folder, ignore_errors=True)
        return tried(tool, fault, folder, known)

    def measure(self, tool: Tool, faults: list[Fault]) -> None:
        if tool.peer:
            peers.set_up(tool.peer)
        known = self.known(tool)
        with self.writing:
            self.results["tools"][tool.name] = {
                **described(tool),
                "date": datetime.date.today().isoformat(),
                "score": known.score,
                "requests": known.asked,
            }
        for fault in faults:
            outcome = self.tried(tool, fault, known)
            print(f"{tool.name:12} {fault.name:20} {outcome.ending}", file=sys.stderr, flush=True)
            with self.writing:
                self.results["outcomes"].setdefault(tool.name, {})[fault.name] = outcome.raw()
                self.results["machine"], self.results["limit_seconds"] = machine(), LIMIT
                write_json(self.file, self.results)


def main() -> None:
    file = Path(sys.argv[1]) if len(sys.argv) > 1 else FILE
    tools = [TOOLS[name] for name in chosen("PEERS", list(TOOLS))]
    faults = [FAULTS[name] for name in chosen("FAULTS", list(FAULTS))]
    at_once = int(os.environ.get("AT_ONCE", "1"))
    with tempfile.TemporaryDirectory(prefix="harness-peers-") as name:
        folder = Path(os.environ.get("KEEP", name))
        session = Session(file, folder)
        with ThreadPoolExecutor(at_once) as pool:
            list(pool.map(lambda tool: session.measure(tool, faults), tools))
    results = read_results(file)
    print(table(results), versions(results), sep="\n\n")


if __name__ == "__main__":
    main()
