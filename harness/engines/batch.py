"""Offline batch files in OpenAI's batch format, for providers that answer them at a lower price.

Nothing is served. The requests are written to files beside the rows; with `[engines.batch] base_url` in
machine.toml the harness submits them itself and fetches the answers (`api_key_env` names the variable
that holds the key), else whoever runs it does so by hand and runs the same command again.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from harness.engines import Engine
from harness.machine import Machine


@dataclass(frozen=True, kw_only=True)
class Batch(Engine):
    """Starts nothing. What answers is unknown, so version, dtype and parallelism are."""

    name: ClassVar[str] = "batch"
    local: ClassVar[bool] = False
    health: ClassVar[str] = ""

    def fingerprint(self, machine: Machine, model: Path | None = None) -> dict[str, str]:
        return {"engine": self.name, "version": "unknown", "dtype": "unknown", "tensor_parallel": "unknown"}

    def is_model(self, served_as: str, answered: str) -> bool:
        """Providers answer with the dated name of what they call by a short one."""
        return answered == served_as or answered.startswith(f"{served_as}-")


batch = Batch()
