"""The Docker sandbox for programs. In CI one that cannot run is a failure, elsewhere a skip."""

from collections.abc import Iterator
from contextlib import closing

import pytest

from harness.sandboxes import Sandbox, docker, in_ci
from tests.grading import programs


@pytest.fixture(scope="session")
def sandbox() -> Iterator[Sandbox]:
    trouble = docker.trouble()
    if trouble and not in_ci():
        pytest.skip(f"Docker cannot run here: {trouble}")
    with closing(programs.docker_sandbox()) as opened:
        yield opened
