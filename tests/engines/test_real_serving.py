"""`harness serve` with real engines: one server start each, of dasd-micro's embedded teacher.

They need `harness setup vllm` and `harness setup transformers`.
"""

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from harness.chat import load_template
from harness.presented import with_default_system
from harness.supervise import descendants
from harness.types import Message
from tests.test_serve import alive, gone

ROOT = Path(__file__).resolve().parents[2]
TEACHER = ROOT / "pipeline" / "micro" / "teacher"
KEY = "open-sesame"
SYSTEM = 'Say "yes" \\ or {% no %}: é 😀\nand stop.'
QUESTION = "What is 17 + 4?"

pytestmark = pytest.mark.engine


@contextmanager
def served(tmp_path: Path, *arguments: str) -> Iterator[tuple[dict[str, Any], "subprocess.Popen[str]"]]:
    """The command with its line of JSON, and the process."""
    script = (
        "import signal, sys\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from harness.cli import main\nmain()"
    )
    words = ("dasd-micro/teacher", "--json", "--port", "0", "--runs", str(tmp_path / "runs"))
    process = subprocess.Popen(
        [sys.executable, "-c", script, "serve", *words, *arguments],
        cwd=ROOT,
        env={**os.environ, "HARNESS_API_KEY": KEY},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line, "it did not start"
        yield json.loads(line), process
    finally:
        process.kill()
        process.wait()


def stopped(process: "subprocess.Popen[str]") -> bool:
    """Ctrl-C: whether it exits 0 and no process that it had started is left."""
    below = descendants(process.pid)
    assert all(map(alive, below))
    assert len(below) > 1
    process.send_signal(signal.SIGINT)
    return process.wait(timeout=60) == 0 and gone(below)


def status(url: str, key: str = "", body: dict[str, Any] | None = None) -> tuple[int, str]:
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
    data = json.dumps(body).encode() if body is not None else None
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=120) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def chat(ready: dict[str, Any], *messages: tuple[str, str], **settings: Any) -> dict[str, Any]:
    body = {
        "model": ready["model"],
        "messages": [{"role": role, "content": content} for role, content in messages],
        "max_tokens": 100,
        "temperature": 0,
        **settings,
    }
    code, text = status(f"{ready['url']}/chat/completions", KEY, body)
    assert code == 200, text
    found: dict[str, Any] = json.loads(text)
    return found


def rendering(*messages: tuple[str, str]) -> str:
    """Our own rendering of the template that the server was given."""
    own = load_template(TEACHER)
    assert own is not None
    asked = tuple(Message(role=role, content=content) for role, content in messages)  # type: ignore[arg-type]
    return type(own)(source=with_default_system(own.source, SYSTEM), tokens=own.tokens).render(asked)


def prompt_ids(ready: dict[str, Any], prompt: str) -> list[int]:
    """The token ids of a rendered prompt, as the server's own tokenizer has them."""
    body = {"model": ready["model"], "prompt": prompt, "add_special_tokens": False}
    code, text = status(f"{ready['url'].removesuffix('/v1')}/tokenize", KEY, body)
    assert code == 200, text
    ids: list[int] = json.loads(text)["tokens"]
    return ids


def test_vllm_serves_a_row_with_its_prompt_parser_and_key_and_leaves_no_process(tmp_path: Path) -> None:
    options = ("--system", SYSTEM, "--reasoning-parser", "qwen3", "--replicas", "2")
    with served(tmp_path, "--engine", "vllm", *options) as (ready, process):
        root = ready["url"].removesuffix("/v1")
        assert (ready["context"], ready["reasoning_parser"], ready["replicas"]) == (512, "qwen3", 2)
        assert status(ready["health"])[0] == 200
        assert "vllm:" in status(ready["metrics"])[1]
        body = {"model": ready["model"], "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2}
        for path in ("/v1/chat/completions", "/invocations"):
            assert status(root + path, "", body)[0] == 401
            assert status(root + path, "wrong", body)[0] == 401
            assert status(root + path, KEY, body)[0] == 200
        user, own = ("user", QUESTION), ("system", "Mine.")
        asked = chat(ready, user, return_token_ids=True)
        assert asked["prompt_token_ids"] == prompt_ids(ready, rendering(("system", SYSTEM), user))
        brought = chat(ready, own, user, return_token_ids=True)
        assert brought["prompt_token_ids"] == prompt_ids(ready, rendering(own, user))
        answer = asked["choices"][0]["message"]
        assert answer["reasoning"]
        assert "<think>" not in str(answer["content"])
        log = Path(ready["log"]).read_text()
        assert KEY not in log
        assert stopped(process)


def test_transformers_serves_a_row_with_its_prompt_and_each_request_its_temperature(tmp_path: Path) -> None:
    options = ("--engine", "transformers", "--no-api-key", "--system", SYSTEM)
    with served(tmp_path, *options) as (ready, process):
        assert (ready["metrics"], ready["reasoning_parser"]) == (None, None)
        assert status(ready["health"])[0] == 200
        user, own = ("user", QUESTION), ("system", SYSTEM)
        greedy = [chat(ready, *messages) for messages in ((user,), (own, user), (user,))]
        texts = [each["choices"][0]["message"]["content"] for each in greedy]
        tokens = [each["usage"]["prompt_tokens"] for each in greedy]
        assert len(set(texts)) == len(set(tokens)) == 1
        without = chat(ready, ("system", "Mine."), user)["usage"]["prompt_tokens"]
        assert without < tokens[0]
        drawn = {json.dumps(chat(ready, user, temperature=1.0)["choices"][0]["message"]) for _ in range(6)}
        assert len(drawn) > 1
        assert stopped(process)
