"""Engines whose server is the fake one, and a context manager that runs it without a harness."""

import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from harness.asking import Request
from harness.endpoint import Endpoint
from harness.engines import ALL_PARAMETERS, OPENAI_PARAMETERS, Engine
from harness.machine import Machine
from harness.serve import answers, supervised
from harness.types import Message, Sampling

SERVER = Path(__file__).with_name("openai_server.py")
WARM = Sampling(temperature=1.0, max_tokens=40)


@dataclass(frozen=True, kw_only=True)
class FakeEngine(Engine):
    """Asked as vLLM is. `switches` are the fake server's command-line switches."""

    name: ClassVar[str] = "fake"
    switches: tuple[str, ...] = ()
    release: str = "1.0"

    def command(self, model: Path, served_as: str, port: int, machine: Machine) -> list[str]:
        return [sys.executable, str(SERVER), "--port", str(port), "--model", served_as, *self.switches]

    def version(self, machine: Machine) -> str:
        return self.release


@dataclass(frozen=True, kw_only=True)
class FakeFixedEngine(FakeEngine):
    """Asked as transformers is: one sampling for a server, prompts rendered here."""

    accepts: ClassVar[tuple[str, ...]] = OPENAI_PARAMETERS
    chat: ClassVar[bool] = False
    per_sampling: ClassVar[bool] = True
    logprobs: ClassVar[bool] = False


def checkpoint(folder: Path, template: str = "{{ messages[-1].content }}") -> Path:
    """A folder that looks like a checkpoint to everything but an engine."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "chat_template.jinja").write_text(template)
    (folder / "tokenizer_config.json").write_text('{"eos_token": "<|im_end|>"}')
    return folder


def request(question: str = "q", draw: int = 0, **changes: object) -> Request:
    fields: dict[str, object] = {
        "question": question,
        "draw": draw,
        "messages": (Message(role="user", content=f"what is {question}?"),),
        "sampling": WARM,
        "seed": draw,
        **changes,
    }
    return Request(**fields)  # type: ignore[arg-type]


@contextlib.contextmanager
def running(
    *switches: str, model: str = "tiny", engine: Engine | None = None, server: Path = SERVER
) -> Iterator[Endpoint]:
    """The fake server as a process of its own, ready to answer. It does not outlive the tests."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, str(server), "--port", str(port), "--model", model, *switches]
    process = subprocess.Popen(supervised(command, grace=0.0), stdin=subprocess.PIPE)
    assert process.stdin is not None
    asked = engine or FakeEngine()
    endpoint = Endpoint(
        base_url=f"http://127.0.0.1:{port}/v1",
        model=model,
        engine=asked,
        fingerprint={"engine": asked.name, "version": "1.0", "model": model},
        accepts=ALL_PARAMETERS,
    )
    try:
        while not answers(f"http://127.0.0.1:{port}/v1/models"):
            assert process.poll() is None
            time.sleep(0.05)
        yield endpoint
    finally:
        process.stdin.close()
        process.wait()
