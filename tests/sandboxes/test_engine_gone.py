"""An engine that stops answering: nothing is known about the program then, and nothing is traced back."""

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.errors import SandboxError
from harness.sandboxes import Limits, Program
from harness.sandboxes.docker import DockerSandbox
from tests.sandboxes.conftest import needs, settings

ENGINE = "/var/run/docker.sock"

FORWARDER = f"""
import asyncio, sys
async def copy(reader, writer):
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
    except OSError:
        writer.close()
async def serve(reader, writer):
    engine = await asyncio.open_unix_connection({ENGINE!r})
    await asyncio.gather(copy(reader, engine[1]), copy(engine[0], writer))
    writer.close()
async def main():
    server = await asyncio.start_unix_server(serve, sys.argv[1])
    await server.serve_forever()
asyncio.run(main())
"""


@contextlib.contextmanager
def forwarding(path: Path) -> "Iterator[subprocess.Popen[bytes]]":
    """A socket that passes on to the machine's engine, for as long as its process lives."""
    process = subprocess.Popen([sys.executable, "-c", FORWARDER, str(path)])
    try:
        while not path.exists():
            assert process.poll() is None
            time.sleep(0.05)
        yield process
    finally:
        process.kill()
        process.wait()


def test_an_engine_that_is_gone_is_the_sandbox_s_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the way to it is cut: the machine's engine goes on, and removes the container."""
    needs("docker")
    path = tmp_path / "engine.sock"
    with forwarding(path) as engine:
        monkeypatch.setenv("DOCKER_HOST", f"unix://{path}")
        sandbox = DockerSandbox(settings("docker"), lambda text: None)
        program, limits = Program(code="print(input())"), Limits(seconds=60.0)
        assert sandbox.run(program, ["7\n"], limits).outcomes[0].output == "7\n"
        engine.kill()
        engine.wait()
        with pytest.raises(SandboxError):
            sandbox.run(program, ["8\n"], limits)
        with pytest.raises(SandboxError, match="would not start"):
            sandbox.run(program, ["8\n"], limits)
        sandbox.close()
