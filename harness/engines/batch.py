"""Offline batch files in OpenAI's batch format, for providers that answer them at a lower price.

Nothing is served. The requests are written to files beside the rows; with `[engines.batch] base_url` in
machine.toml the harness submits them itself and fetches the answers (`api_key_env` names the variable
that holds the key), else whoever runs it does so by hand and runs the same command again.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from harness.engines import Engine
from harness.machine import Machine

DATE = re.compile(r"-(\d{4}-\d{2}-\d{2}|\d{8}|\d{4})")
"""What providers put behind a model's name: the day of a snapshot, with the year or (`-0613`) without."""


@dataclass(frozen=True, kw_only=True)
class Batch(Engine):
    """Starts nothing. What answers is unknown, so version, dtype and parallelism are."""

    name: ClassVar[str] = "batch"
    local: ClassVar[bool] = False
    health: ClassVar[str] = ""

    def fingerprint(self, machine: Machine, model: Path | None = None) -> dict[str, str]:
        return {"engine": self.name, "version": "unknown", "dtype": "unknown", "tensor_parallel": "unknown"}

    def is_model(self, served_as: str, answered: str) -> bool:
        """Providers answer with the dated name of what they call by a short one; anything else behind the
        name (`-mini`) is another model."""
        dated = answered.startswith(served_as) and DATE.fullmatch(answered, len(served_as))
        return answered == served_as or bool(dated)


batch = Batch()
