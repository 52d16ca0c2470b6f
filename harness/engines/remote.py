"""Any OpenAI-compatible endpoint that somebody else runs.

machine.toml names it: `[engines.remote] base_url = "https://…/v1"`, and `api_key_env`, the name of
the environment variable that holds the key. The key itself is never written or logged.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from harness.engines import Engine
from harness.errors import UsageError
from harness.machine import Machine


@dataclass(frozen=True, kw_only=True)
class Remote(Engine):
    """Starts nothing. What runs behind the URL is unknown, so version, dtype and parallelism are."""

    name: ClassVar[str] = "remote"
    local: ClassVar[bool] = False
    health: ClassVar[str] = ""

    def base_url(self, machine: Machine) -> str:
        """The endpoint, ending in the version path. Raises UsageError where none is configured."""
        url = machine.engine(self.name).base_url.rstrip("/")
        if not url:
            raise UsageError("the remote engine has no URL", "give --base-url, or engines.remote.base_url")
        return without_login(url, self.name)

    def fingerprint(self, machine: Machine, model: Path | None = None) -> dict[str, str]:
        """The URL counts by its hash: it may name a private host, and rows are published."""
        digest = hashlib.sha256(self.base_url(machine).encode()).hexdigest()[:12]
        return {
            "engine": self.name,
            "version": "unknown",
            "dtype": "unknown",
            "tensor_parallel": "unknown",
            "endpoint": digest,
        }


def without_login(url: str, engine: str) -> str:
    """The URL. Raises UsageError where it carries a user, a password or a query, which may be a key: a URL
    stands in process lists and files, and a server would get two kinds of login at once."""
    if "@" in url.partition("://")[2].partition("/")[0] or "?" in url or "#" in url:
        raise UsageError(
            f"the base URL of the engine {engine} carries a user, a password or a query",
            f"Leave them out. The variable that engines.{engine}.api_key_env names holds the key, "
            "which is sent as `Authorization: Bearer`.",
        )
    return url


remote = Remote()
