"""How long a server is waited for that is away, and one that is silent."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
from tenacity import Retrying, retry_if_exception_type

from harness.client import Client
from harness.endpoint import Endpoint
from harness.eventloop import run
from harness.generate import pace_of
from harness.machine import Machine
from harness.patience import ATTEMPTS, Patience, Transient
from tests.fakes.engine import request, running

HOUR = 3600.0


def attempts(patience: Patience, *, failures: int, away: bool, seconds: float = 0.0) -> int:
    """How often something is tried that fails so many times, each after so many seconds.

    Raises Transient where it is given up.
    """
    tried = 0

    def attempt() -> int:
        nonlocal tried
        tried += 1
        time.sleep(seconds)
        if tried <= failures:
            raise Transient("nobody there", away=away)
        return tried

    return Retrying(stop=patience, retry=retry_if_exception_type(Transient), reraise=True)(attempt)


def test_a_server_that_is_away_has_its_time_to_come_back() -> None:
    assert attempts(Patience(HOUR), failures=3 * ATTEMPTS, away=True) == 3 * ATTEMPTS + 1


def test_a_server_that_is_away_for_longer_is_given_up() -> None:
    with pytest.raises(Transient):
        attempts(Patience(0.0), failures=ATTEMPTS, away=True)


def test_a_server_that_was_there_in_between_has_its_time_again() -> None:
    """Without it the seventh failure, a second after the first, would be one too many."""
    assert attempts(Patience(0.2, held=0.1), failures=ATTEMPTS, away=True, seconds=0.15) == ATTEMPTS + 1


def test_a_request_that_ends_its_server_each_time_is_given_up() -> None:
    with pytest.raises(Transient):
        attempts(Patience(HOUR, held=0.01), failures=2 * ATTEMPTS, away=True, seconds=0.02)


def test_an_answer_that_is_none_is_not_waited_for() -> None:
    with pytest.raises(Transient):
        attempts(Patience(HOUR), failures=ATTEMPTS, away=False)


def test_what_the_machine_says_reaches_the_loop() -> None:
    pace = pace_of(Machine(patience=7.0, longest_silence=8.0))
    assert (pace.patience, pace.longest_silence) == (7.0, 8.0)
    assert pace_of(Machine(patience=3600.0)).hang_after > 3600.0


@contextmanager
def losing_one(endpoint: Endpoint) -> Iterator[Endpoint]:
    """The server behind one that never answers its first request, and all others."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "tests.faults.server", "--port", str(port), "--fault", "stalled"]
    command += ["--strikes", "1", "--upstream", endpoint.base_url.removesuffix("/v1")]
    process = subprocess.Popen(command)
    try:
        while not reachable(port):
            assert process.poll() is None
        yield replace(endpoint, base_url=f"http://127.0.0.1:{port}/v1")
    finally:
        process.kill()
        process.wait()


def reachable(port: int) -> bool:
    with socket.socket() as tried:
        return tried.connect_ex(("127.0.0.1", port)) == 0


def test_a_request_that_is_lost_is_sent_again_after_the_longest_silence() -> None:
    retries: list[int] = []

    async def text(endpoint: Endpoint) -> str:
        async with Client(endpoint, longest_silence=2.0, on_retry=lambda: retries.append(1)) as client:
            return (await client.complete(request())).row.text

    with running() as healthy, losing_one(healthy) as endpoint:
        assert run(text(endpoint)) == run(text(healthy))
    assert len(retries) == 1
