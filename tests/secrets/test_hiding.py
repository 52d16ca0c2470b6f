"""Texts without secrets: what is cut out, in which forms, and what must stay."""

import asyncio
import base64
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import quote

import pytest

from harness.client import Client
from harness.endpoint import Endpoint
from harness.engines import OPENAI_PARAMETERS
from harness.engines.remote import remote
from harness.errors import ServerError
from harness.machine import EngineSettings, Machine
from harness.secrets import Masking, hidden, is_secret, without_secrets
from harness.serve import server_environment
from harness.types import Message, Sampling

ROOT = Path(__file__).resolve().parents[2]
KEY = "sk-Pl4nted/Key+With=Signs"


@pytest.mark.parametrize(
    "name",
    [
        "HF_TOKEN",
        "hf_token",
        "OPENAI_API_KEY",
        "AWS_ACCESS_KEY_ID",
        "GITHUB_PAT",
        "DB_PASSWORD",
        "NPM_TOKENS",
    ],
)
def test_a_variable_is_a_secret_by_its_name_in_any_case(name: str) -> None:
    assert is_secret(name, "x")


@pytest.mark.parametrize("name", ["TOKENIZERS_PARALLELISM", "KEYBOARD", "MONKEY", "PATH", "MAX_TOKENIZED"])
def test_a_name_that_only_sounds_alike_is_kept(name: str) -> None:
    assert without_secrets({name: "x"}) == {name: "x"}


def test_a_proxy_with_a_password_is_a_secret_and_one_without_is_not() -> None:
    found = without_secrets({"https_proxy": "http://me:pass@proxy:3128", "http_proxy": "http://proxy:3128"})
    assert found == {"http_proxy": "http://proxy:3128"}


@pytest.mark.parametrize(
    "form",
    [
        KEY,
        quote(KEY, safe=""),
        json.dumps(KEY),
        KEY.replace("/", "\\/"),
        base64.b64encode(KEY.encode()).decode(),
    ],
)
def test_a_secret_is_cut_out_in_every_form(form: str) -> None:
    assert hidden(f"the server said: {form}.", [KEY]).replace('"', "") == "the server said: ***."


def test_an_address_loses_its_password_and_query_and_keeps_the_rest() -> None:
    text = "http://me:pw@host:8000/v1?key=abc failed; does http://host/v1? exist"
    assert hidden(text) == "http://***@host:8000/v1 failed; does http://host/v1? exist"


def test_a_word_that_stands_for_no_key_is_not_cut_out() -> None:
    assert hidden("the key of it, none", ["key", "none"]) == "the key of it, none"


def test_pieces_hide_a_secret_wherever_they_are_cut() -> None:
    text = f"a{KEY}b{KEY[:5]}{KEY}{KEY[:9]}"
    for size in range(1, len(text)):
        masking = Masking(KEY)
        told = "".join(masking.of(text[start : start + size]) for start in range(0, len(text), size))
        assert told + masking.rest() == text.replace(KEY, "***")


def test_every_error_is_without_the_secrets_of_the_environment() -> None:
    script = (
        "from harness.errors import HarnessError as E; e = E('a "
        + KEY
        + "', 'b "
        + KEY
        + "'); print(e, repr(e))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env={**os.environ, "SOME_API_KEY": KEY},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert KEY not in done.stdout
    assert done.stdout.count("***") == 3


def test_a_server_gets_no_secret_but_what_machine_toml_gives_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.engines.vllm import vllm

    for name in ("HF_TOKEN", "OPENAI_API_KEY", "WANDB_API_KEY", "MY_PROVIDER", "VLLM_API_KEY", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://u:{name}@h" if name == "ALL_PROXY" else KEY)
    settings = {
        "remote": EngineSettings(api_key_env="MY_PROVIDER"),
        "vllm": EngineSettings(environment={"GIVEN_TOKEN": "meant"}),
    }
    found = server_environment(vllm, Machine(gpus=0, engines=settings), "mark")
    assert KEY not in found.values()
    assert "ALL_PROXY" not in found
    assert found["GIVEN_TOKEN"] == "meant"
    assert found["PATH"] == os.environ["PATH"]


class Echo(BaseHTTPRequestHandler):
    """Sends the Authorization header back: as an error, a model's text, or a stream of letters."""

    def log_message(self, format: str, *arguments: object) -> None:
        return None

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        said, kind = self.headers["Authorization"], self.path.split("/")[1]
        if kind == "error":
            self.answer(401, "application/json", json.dumps({"error": {"message": f"bad header {said}"}}))
        elif kind == "text":
            choice = {"message": {"content": f"You are {said}."}, "finish_reason": "stop"}
            usage = {"prompt_tokens": 1, "completion_tokens": 2}
            self.answer(
                200, "application/json", json.dumps({"model": "m", "choices": [choice], "usage": usage})
            )
        else:
            events = [
                {"choices": [{"delta": {"content": letter}}], "model": "m"} for letter in f"I am {said}."
            ]
            events += [
                {"choices": [{"delta": {}, "finish_reason": "stop"}], "usage": {"completion_tokens": 2}}
            ]
            lines = "".join(f"data: {json.dumps(event)}\n\n" for event in events)
            self.answer(200, "text/event-stream", lines + "data: [DONE]\n\n")

    def answer(self, status: int, kind: str, body: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body.encode())))
        self.end_headers()
        self.wfile.write(body.encode())


@pytest.fixture
def echo() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


class Heard:
    def __init__(self) -> None:
        self.text = ""

    def begin(self) -> None:
        return None

    def hear(self, text: str) -> None:
        self.text += text


def asked(url: str, heard: Heard) -> str:
    from harness.asking import Request

    endpoint = Endpoint(
        base_url=url, model="m", engine=remote, accepts=OPENAI_PARAMETERS, api_key=KEY, stream_from=1,
        fingerprint={"engine": "remote", "version": "unknown"},
    )  # fmt: skip
    sampling = Sampling(temperature=0.0, max_tokens=9)
    request = Request(
        question="q", draw=0, messages=(Message(role="user", content="Who?"),), sampling=sampling, seed=0
    )

    async def ask() -> str:
        async with Client(endpoint) as client:
            return (await client.complete(request, heard)).row.text

    return asyncio.run(ask())


def test_a_server_that_sends_the_key_back_as_an_error_is_quoted_without_it(echo: str) -> None:
    with pytest.raises(ServerError) as caught:
        asked(f"{echo}/error", Heard())
    assert "bad header Bearer ***" in str(caught.value)
    assert KEY not in repr(caught.value) + str(caught.value)


@pytest.mark.parametrize("kind", ["text", "stream"])
def test_a_model_whose_text_is_the_key_leaves_no_key_in_rows_nor_in_what_is_kept_of_a_stream(
    echo: str, kind: str
) -> None:
    heard = Heard()
    assert "Bearer ***." in asked(f"{echo}/{kind}", heard)
    assert KEY not in heard.text
    assert heard.text == ("" if kind == "text" else "I am Bearer ***.")


CRASH = """
import sys, threading
from harness.secrets import keep_crashes_quiet
keep_crashes_quiet()
if sys.argv[1] == "thread":
    thread = threading.Thread(target=lambda: int("KEY"))
    thread.start()
    thread.join()
elif sys.argv[1] == "wait":
    print("up", flush=True)
    sys.stdin.read()
else:
    raise RuntimeError("said KEY")
"""


def crashing(how: str, folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", CRASH.replace("KEY", KEY), how], text=True, cwd=folder,
        env={**os.environ, "A_TOKEN": KEY, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


@pytest.mark.parametrize("how", ["main", "thread"])
def test_a_traceback_is_printed_without_secrets(how: str, tmp_path: Path) -> None:
    _, said = crashing(how, tmp_path).communicate()
    assert "Traceback" in said
    assert "***" in said
    assert KEY not in said


def test_a_process_that_is_killed_by_a_fault_leaves_no_dump_of_its_memory(tmp_path: Path) -> None:
    process = crashing("wait", tmp_path)
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    limits = Path(f"/proc/{process.pid}/limits").read_text()
    soft = next(line.split()[4] for line in limits.splitlines() if line.startswith("Max core file size"))
    assert soft in ("0", "1")
    process.send_signal(signal.SIGABRT)
    process.communicate()
    time.sleep(0.2)
    assert list(tmp_path.iterdir()) == []
