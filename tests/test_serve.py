"""Servers: coming up, failing to, being kept warm, and leaving nothing behind."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from harness.client import Client
from harness.engines import Engine
from harness.engines.remote import remote
from harness.errors import ServerError, UsageError
from harness.machine import EngineSettings, Machine
from harness.serve import MARK, ServerPool, free_port, server_environment, temporary
from harness.types import Sampling
from tests.fakes.engine import WARM, FakeEngine, FakeFixedEngine, checkpoint, running

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return checkpoint(tmp_path / "model")


@pytest.fixture
def pool() -> Iterator[ServerPool]:
    with ServerPool(Machine()) as pool:
        yield pool


def alive(process: int) -> bool:
    """Whether the process runs; a zombie does not."""
    try:
        return Path("/proc", str(process), "stat").read_bytes().rpartition(b")")[2].split()[0] != b"Z"
    except FileNotFoundError:
        return False


def gone(processes: list[int], seconds: float = 30.0) -> bool:
    """Whether all of them end in time."""
    deadline = time.monotonic() + seconds
    while any(alive(each) for each in processes) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not any(alive(each) for each in processes)


def emptied(folder: Path, seconds: float = 30.0) -> bool:
    """Whether nothing is left in a folder, in time."""
    deadline = time.monotonic() + seconds
    while any(folder.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not any(folder.iterdir())


def written_pids(file: Path) -> list[int]:
    deadline = time.monotonic() + 60
    while not file.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    return [int(each) for each in file.read_text().split()]


def test_a_server_that_is_ready_answers_for_its_model(pool: ServerPool, model: Path, tmp_path: Path) -> None:
    endpoint = pool.acquire(FakeEngine(switches=("--warm-up", "0.5")), model, "a/b", WARM, tmp_path / "s.log")
    assert endpoint.model == "a/b"
    assert endpoint.fingerprint == {
        "engine": "fake",
        "version": "1.0",
        "dtype": "float32",
        "tensor_parallel": "1",
        "model": "a/b",
    }
    assert "fake server on port" in (tmp_path / "s.log").read_text()
    assert "127.0.0.1" in endpoint.base_url


def test_a_server_that_dies_at_the_start_shows_its_log(pool: ServerPool, model: Path, tmp_path: Path) -> None:
    with pytest.raises(ServerError, match=r"died with exit code 1(.|\n)*not enough memory"):
        pool.acquire(FakeEngine(switches=("--refuse-to-start",)), model, "m", WARM, tmp_path / "s.log")


def test_a_log_of_an_earlier_server_is_not_blamed_on_this_one(
    pool: ServerPool, model: Path, tmp_path: Path
) -> None:
    log = tmp_path / "s.log"
    log.write_text("an old story\n")
    with pytest.raises(ServerError) as caught:
        pool.acquire(FakeEngine(switches=("--refuse-to-start",)), model, "m", WARM, log)
    assert "an old story" not in str(caught.value)
    assert "an old story" in log.read_text()


def test_a_server_that_never_comes_up_is_given_up_and_stopped(model: Path, tmp_path: Path) -> None:
    machine = Machine(engines={"fake": EngineSettings(start_timeout=1.5)})
    engine = FakeEngine(switches=("--never-up", "--pids", str(tmp_path / "pids")))
    with (
        ServerPool(machine) as pool,
        pytest.raises(ServerError, match=r"did not come up in 2 s(.|\n)*fake server"),
    ):
        pool.acquire(engine, model, "m", WARM, tmp_path / "s.log")
    assert gone(written_pids(tmp_path / "pids"))


def test_a_server_that_answers_for_another_model_is_refused_before_the_stage(
    pool: ServerPool, model: Path, tmp_path: Path
) -> None:
    with pytest.raises(ServerError, match="'impostor'"):
        pool.acquire(
            FakeEngine(switches=("--answer-model", "impostor")), model, "m", WARM, tmp_path / "s.log"
        )


def test_a_port_that_was_taken_in_between_is_given_up_for_another(
    pool: ServerPool, model: Path, tmp_path: Path
) -> None:
    engine = FakeEngine(switches=("--port-taken", str(tmp_path / "tried")))
    assert pool.acquire(engine, model, "m", WARM, tmp_path / "s.log").model == "m"
    assert (tmp_path / "s.log").read_text().count("fake server on port") == 2


def test_a_configured_port_that_is_busy_is_not_fought_for() -> None:
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        taken = busy.getsockname()[1]
        assert free_port(taken) != taken
    assert free_port(taken) == taken


def test_an_interpreter_that_is_missing_is_an_error(pool: ServerPool, model: Path, tmp_path: Path) -> None:
    class Nowhere(FakeEngine):
        def command(self, model: Path, served_as: str, port: int, machine: Machine) -> list[str]:
            return ["/nowhere/python"]

    with pytest.raises(ServerError, match=r"exit code 127(.|\n)*cannot start /nowhere/python"):
        pool.acquire(Nowhere(), model, "m", WARM, tmp_path / "s.log")


def test_the_same_model_is_kept_warm_whatever_the_sampling(
    pool: ServerPool, model: Path, tmp_path: Path
) -> None:
    first = pool.acquire(FakeEngine(), model, "m", WARM, tmp_path / "s.log")
    again = pool.acquire(
        FakeEngine(), model, "m", Sampling(temperature=0.6, max_tokens=9), tmp_path / "s.log"
    )
    assert again.base_url == first.base_url
    assert pool.started == 1


def test_an_engine_with_one_sampling_gets_a_server_for_each(
    pool: ServerPool, model: Path, tmp_path: Path
) -> None:
    engine, log = FakeFixedEngine(), tmp_path / "s.log"
    first = pool.acquire(engine, model, "m", WARM, log)
    pool.acquire(engine, model, "m", replace(WARM, max_tokens=7, seed=5, draws=3), log)
    assert pool.started == 1
    second = pool.acquire(engine, model, "m", Sampling(temperature=0.6, max_tokens=9), log)
    assert pool.started == 2
    assert first.sampling != second.sampling


def test_another_model_stops_the_server_before(pool: ServerPool, model: Path, tmp_path: Path) -> None:
    engine = FakeEngine(switches=("--pids", str(tmp_path / "pids")))
    pool.acquire(engine, model, "m", WARM, tmp_path / "s.log")
    old = written_pids(tmp_path / "pids")
    pool.acquire(engine, checkpoint(tmp_path / "other"), "n", WARM, tmp_path / "s.log")
    assert gone(old, seconds=1)


def test_a_server_that_died_while_idle_is_started_again(
    pool: ServerPool, model: Path, tmp_path: Path
) -> None:
    engine = FakeEngine(switches=("--pids", str(tmp_path / "pids")))
    endpoint = pool.acquire(engine, model, "m", WARM, tmp_path / "s.log")
    process = written_pids(tmp_path / "pids")[0]
    os.kill(process, signal.SIGKILL)
    assert gone([process])
    time.sleep(1.0)
    with pytest.raises(ServerError, match="died with exit code 137"):
        endpoint.check()
    assert pool.acquire(engine, model, "m", WARM, tmp_path / "s.log").base_url != ""
    assert pool.started == 2


def test_a_server_that_was_killed_is_started_again_while_its_children_are_still_being_ended(
    pool: ServerPool, model: Path, tmp_path: Path
) -> None:
    """Its supervisor gives a child that ignores SIGTERM five seconds."""
    engine = FakeEngine(switches=("--pids", str(tmp_path / "pids"), "--child"))
    pool.acquire(engine, model, "m", WARM, tmp_path / "s.log")
    server, child = written_pids(tmp_path / "pids")
    os.kill(server, signal.SIGKILL)
    assert gone([server])
    assert alive(child)
    pool.acquire(engine, model, "m", WARM, tmp_path / "s.log").check()
    assert pool.started == 2
    assert not alive(child)


def test_fetching_ahead_returns_at_once_and_is_what_acquire_takes(
    pool: ServerPool, model: Path, tmp_path: Path
) -> None:
    other = checkpoint(tmp_path / "other")
    first = pool.acquire(FakeEngine(), model, "m", WARM, tmp_path / "a.log")
    pool.prefetch(FakeEngine(switches=("--warm-up", "1")), other, "n", WARM, tmp_path / "b.log")
    assert pool.acquire(FakeEngine(), model, "m", WARM, tmp_path / "a.log") == first
    pool.prefetch(FakeEngine(switches=("--warm-up", "1")), other, "n", WARM, tmp_path / "b.log")
    second = pool.acquire(FakeEngine(switches=("--warm-up", "1")), other, "n", WARM, tmp_path / "b.log")
    assert second.model == "n"
    assert pool.started == 2


def test_the_server_after_the_next_does_not_end_the_one_that_is_on_its_way(
    pool: ServerPool, model: Path, tmp_path: Path
) -> None:
    slow = FakeEngine(switches=("--warm-up", "1"))
    for name in ("b", "c"):
        pool.prefetch(slow, checkpoint(tmp_path / name), name, WARM, tmp_path / f"{name}.log")
    for name in ("b", "c"):
        assert pool.acquire(slow, tmp_path / name, name, WARM, tmp_path / f"{name}.log").model == name
    assert pool.started == 2


def test_a_fetch_ahead_that_failed_is_tried_again_by_acquire(
    pool: ServerPool, model: Path, tmp_path: Path
) -> None:
    engine = FakeEngine(switches=("--port-taken", str(tmp_path / "tried")))
    pool.prefetch(engine, model, "m", WARM, tmp_path / "s.log")
    assert pool.coming is not None
    while pool.coming.alive():
        time.sleep(0.05)
    assert pool.acquire(engine, model, "m", WARM, tmp_path / "s.log").model == "m"


def test_nothing_is_fetched_ahead_where_two_servers_would_not_fit_a_gpu(model: Path, tmp_path: Path) -> None:
    with ServerPool(Machine(gpus=1)) as pool:
        pool.prefetch(FakeEngine(), model, "m", WARM, tmp_path / "s.log")
        assert pool.started == 0


@pytest.mark.parametrize("gpus", [0, 1])
def test_a_warm_server_makes_room_on_a_gpu_and_only_there(model: Path, tmp_path: Path, gpus: int) -> None:
    with ServerPool(Machine(gpus=gpus)) as pool:
        pool.acquire(FakeEngine(), model, "m", WARM, tmp_path / "s.log")
        assert pool.current is not None
        server = pool.current
        pool.free_gpus()
        assert server.alive() == (not gpus)
        pool.acquire(FakeEngine(), model, "m", WARM, tmp_path / "s.log")
        assert pool.started == 1 + gpus


def test_closing_ends_children_in_sessions_of_their_own_that_ignore_sigterm(
    model: Path, tmp_path: Path
) -> None:
    with ServerPool(Machine()) as pool:
        engine = FakeEngine(switches=("--child", "--pids", str(tmp_path / "pids")))
        pool.acquire(engine, model, "m", WARM, tmp_path / "s.log")
        processes = written_pids(tmp_path / "pids")
        assert len(processes) == 2
        assert all(alive(each) for each in processes)
    assert not any(alive(each) for each in processes)


HARNESS = """
import signal, sys, time
from pathlib import Path
from harness.machine import Machine
from harness.serve import ServerPool
from tests.fakes.engine import WARM, FakeEngine
folder = Path(sys.argv[1])
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background
with ServerPool(Machine()) as pool:
    engine = FakeEngine(switches=("--child", "--pids", str(folder / "pids"), *sys.argv[2:]))
    pool.acquire(engine, folder / "model", "m", WARM, folder / "s.log")
    print("ready", flush=True)
    time.sleep(600)
"""


def harness(folder: Path, *switches: str) -> "subprocess.Popen[str]":
    """A harness that serves and waits, as a process that a test can kill."""
    (folder / "scratch").mkdir(exist_ok=True)
    return subprocess.Popen(
        [sys.executable, "-c", HARNESS, str(folder), *switches],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(folder / "scratch")},
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_process_outlives_a_harness_that_is_killed(
    how: signal.Signals, model: Path, tmp_path: Path
) -> None:
    process = harness(tmp_path)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    servers = written_pids(tmp_path / "pids")
    process.send_signal(how)
    process.wait()
    assert gone(servers)
    assert emptied(tmp_path / "scratch")


def test_no_process_outlives_a_harness_that_is_killed_while_the_server_starts(
    model: Path, tmp_path: Path
) -> None:
    process = harness(tmp_path, "--never-up")
    servers = written_pids(tmp_path / "pids")
    process.kill()
    process.wait()
    assert gone(servers)


def test_what_a_server_leaves_in_its_folders_goes_when_it_has_died_or_is_stopped(
    pool: ServerPool, model: Path, tmp_path: Path
) -> None:
    pool.acquire(
        FakeEngine(switches=("--pids", str(tmp_path / "pids"))), model, "m", WARM, tmp_path / "s.log"
    )
    first = pool.scratch
    assert first is not None
    [folder] = first.iterdir()
    (folder / "socket").touch()
    for process in written_pids(tmp_path / "pids"):
        os.kill(process, signal.SIGKILL)
    assert gone(written_pids(tmp_path / "pids"))
    pool.acquire(FakeEngine(), model, "m", WARM, tmp_path / "s.log")
    assert folder not in list(first.iterdir())


def test_temporary_files_of_a_server_lie_in_its_folder_and_compiled_kernels_do_not() -> None:
    told = temporary(Path("/tmp/short"))
    assert told["TMPDIR"] == "/tmp/short"
    assert "torchinductor" in told["TORCHINDUCTOR_CACHE_DIR"]
    assert "/tmp/short" not in told["TORCHINDUCTOR_CACHE_DIR"]
    assert temporary(Path("/tmp") / ("x" * 70)) == {}


def test_a_supervisor_that_is_killed_takes_the_server_along(
    pool: ServerPool, model: Path, tmp_path: Path
) -> None:
    engine = FakeEngine(switches=("--child", "--pids", str(tmp_path / "pids")))
    pool.acquire(engine, model, "m", WARM, tmp_path / "s.log")
    assert pool.current is not None
    server = pool.current
    assert server.process is not None
    server.process.kill()
    server.process.wait()
    pool.close()
    assert gone(written_pids(tmp_path / "pids"))


def test_a_server_learns_neither_our_packages_nor_the_key_of_a_remote(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    for name in ("OPENAI_API_KEY", "BATCH_KEY", "HARNESS_API_KEY", "VLLM_API_KEY", "RAY_AUTH_TOKEN"):
        monkeypatch.setenv(name, "sk-secret")
    machine = Machine(engines={"batch": EngineSettings(api_key_env="BATCH_KEY")})
    environment = server_environment(FakeEngine(), machine, "mark")
    assert environment[MARK] == "mark"
    assert "PYTHONPATH" not in environment
    assert "sk-secret" not in environment.values()


def remote_machine(base_url: str) -> Machine:
    return Machine(engines={"remote": EngineSettings(base_url=base_url, api_key_env="FAKE_KEY")})


def test_a_remote_that_takes_every_parameter_is_sent_every_parameter(model: Path, tmp_path: Path) -> None:
    with running() as somewhere, ServerPool(remote_machine(somewhere.base_url)) as pool:
        endpoint = pool.acquire(remote, model, "tiny", WARM, tmp_path / "s.log")
    assert "top_k" in endpoint.accepts
    assert somewhere.base_url not in endpoint.fingerprint.values()


def test_a_remote_that_knows_openai_parameters_only_is_sent_those(model: Path, tmp_path: Path) -> None:
    with running("--openai-only") as somewhere, ServerPool(remote_machine(somewhere.base_url)) as pool:
        endpoint = pool.acquire(remote, model, "tiny", WARM, tmp_path / "s.log")
        assert endpoint.accepts == ("temperature", "top_p")
        with pytest.raises(ServerError, match="unknown parameter"):
            pool.acquire(remote, model, "tiny", replace(WARM, top_k=20), tmp_path / "s.log")


def test_a_remote_that_serves_another_model_says_so(model: Path, tmp_path: Path) -> None:
    with (
        running() as somewhere,
        ServerPool(remote_machine(somewhere.base_url)) as pool,
        pytest.raises(ServerError, match="giant"),
    ):
        pool.acquire(remote, model, "giant", WARM, tmp_path / "s.log")


def test_a_remote_without_a_url_says_what_to_set(pool: ServerPool, model: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="base_url"):
        pool.acquire(remote, model, "m", WARM, tmp_path / "s.log")


def test_the_key_of_a_remote_is_sent_and_shown_nowhere(
    monkeypatch: pytest.MonkeyPatch, model: Path, tmp_path: Path
) -> None:
    monkeypatch.setenv("FAKE_KEY", "sk-secret")
    with running() as somewhere, ServerPool(remote_machine(somewhere.base_url)) as pool:
        endpoint = pool.acquire(remote, model, "tiny", WARM, tmp_path / "s.log")
    assert endpoint.api_key == "sk-secret"
    assert "sk-secret" not in repr(endpoint) + repr(Client(endpoint))
    assert isinstance(endpoint.engine, Engine)
