"""Both sandboxes, really running. In CI one that cannot run is a failure, elsewhere a skip."""

from collections.abc import Iterator

import pytest

from harness.machine import Machine, SandboxSettings
from harness.sandboxes import Sandbox, bubblewrap, docker, in_ci, open_sandbox

MEMORY_MB = 512
PROCESSES = 32


def settings(name: str, workers: int = 1) -> Machine:
    return Machine(
        sandbox=SandboxSettings(
            name=name,
            workers=workers,
            memory_mb=MEMORY_MB,
            processes=PROCESSES,
        )
    )


def needs(name: str) -> None:
    trouble = (docker if name == "docker" else bubblewrap).trouble()
    if trouble and not in_ci():
        pytest.skip(f"{name} cannot run here: {trouble}")


@pytest.fixture(scope="session", params=["docker", "bubblewrap"])
def sandbox(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    needs(request.param)
    opened = open_sandbox(settings(request.param), print)
    yield opened
    opened.close()
