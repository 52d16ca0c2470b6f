"""Loads a benchmark in a process that has no Hub, and returns what it says."""

import os
import subprocess
import sys
from pathlib import Path

LOAD = """
import sys
from dataclasses import replace
from pathlib import Path
from harness.errors import HarnessError
from benchmarks.{module} import {name} as benchmark
try:
    replace(benchmark, revision={revision!r}).load(Path(sys.argv[1]))
except HarnessError as error:
    print(type(error).__name__, error)
"""


def complaint(module: str, name: str, revision: str, data: Path) -> str:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    code = LOAD.format(module=module, name=name, revision=revision)
    command = [sys.executable, "-c", code, str(data)]
    done = subprocess.run(command, cwd=data, env=environment, capture_output=True, text=True, check=True)
    return done.stdout
