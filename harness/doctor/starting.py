"""What `--deep` adds: each environment is imported, each engine serves a small model and answers."""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from harness.discover import engines
from harness.doctor.environments import provided
from harness.doctor.finding import Finding
from harness.errors import HarnessError
from harness.machine import Machine
from harness.secrets import without_secrets
from harness.serve import ServerPool
from harness.setup import environment_python
from harness.types import Sampling

IMPORT_SECONDS = 300.0
SERVED_AS = "doctor"


def started(name: str, machine: Machine, model: Path) -> Iterator[Finding]:
    """The engine serves `model` and answers; a trainer is imported. Raises HarnessError where that fails."""
    engine = engines().get(name)
    if engine is None:
        imported(environment_python(name, machine), name)
        told = "is imported"
    else:
        sampling = Sampling(temperature=1.0, max_tokens=8)
        with tempfile.TemporaryDirectory(prefix="dasd-harness-") as folder, ServerPool(machine) as pool:
            pool.acquire(engine, model, SERVED_AS, sampling, Path(folder) / "server.log")
        told = "starts and answers"
    yield Finding(area="engines", name=f"{name} at work", state="ok", found=told, provides=(provided(name),))


def imported(python: Path, module: str) -> None:
    """Raises HarnessError unless the environment's Python imports the module."""
    try:
        done = subprocess.run(
            [str(python), "-c", f"import {module}"], env=without_secrets(os.environ),
            capture_output=True, text=True, check=False, timeout=IMPORT_SECONDS, cwd="/",
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise HarnessError(f"importing {module} takes longer than {IMPORT_SECONDS:.0f} s") from error
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise HarnessError(f"{module} cannot be imported: {last}", f"harness setup {module}")
