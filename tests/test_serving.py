"""`harness serve`: what is decided, what is refused, what a client and a process list see."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.micro import micro_math
from harness.benchmark import Benchmark
from harness.engines.sglang import sglang
from harness.engines.transformers import transformers
from harness.engines.vllm import vllm
from harness.engines.vllm_gate import Gate
from harness.errors import HarnessError, ServerError, StageError, UsageError
from harness.files import write_json
from harness.hub import checkpoint as hub_checkpoint
from harness.machine import EngineSettings, Machine
from harness.models import Known, find_model, rows_of
from harness.progress import PlainProgress
from harness.runs import Stored
from harness.serve import ServerPool
from harness.serving import (
    Model,
    Offer,
    Ready,
    Wanted,
    as_json,
    as_text,
    decided,
    free_or_refused,
    is_loopback,
    key_of,
)
from harness.store import Context, RunStore
from pipeline.recipes.dasd_4b import recipe as dasd_4b
from pipeline.recipes.dasd_micro import dasd_micro
from tests.fakes.engine import checkpoint
from tests.test_runs import answered
from tests.test_serve import alive, gone, written_pids

ROOT = Path(__file__).resolve().parents[1]
FAKE = ROOT / "tests" / "fakes" / "vllm_cli.py"
TEACHER = ROOT / "pipeline" / "micro" / "teacher"
SECRET = "not-to-be-seen-anywhere"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = checkpoint(tmp_path / "model")
    (made / "config.json").write_text(json.dumps({"max_position_embeddings": 1024}))
    return made


def offered(folder: Path, engine: Any = vllm, machine: Machine | None = None, **wanted: Any) -> Offer:
    model = Model(folder=folder, name="org/m", system=wanted.pop("row_system", None))
    return decided(model, engine, machine or Machine(gpus=0), Wanted(port=0, **wanted))


def switches(offer: Offer, scratch: Path = Path("/scratch")) -> dict[str, str]:
    words = offer.engine.serving_arguments(offer.serving, scratch)
    return {word: value for word, value in zip(words, [*words[1:], ""], strict=True) if word[:2] == "--"}


def test_the_context_is_never_more_than_the_checkpoint_allows(folder: Path) -> None:
    offer = offered(folder)
    assert offer.context == 1024
    assert "lowered from 262,144 to 1,024" in "".join(offer.notes)
    assert switches(offer)["--max-model-len"] == "auto"
    assert switches(offered(folder, context=100))["--max-model-len"] == "100"
    assert offered(folder, context=100).notes == ()
    (folder / "config.json").write_text(json.dumps({"max_position_embeddings": 1_000_000}))
    assert switches(offered(folder))["--max-model-len"] == "262144"


def test_what_machine_toml_says_of_context_and_parser_holds_where_no_option_does(folder: Path) -> None:
    said = EngineSettings(arguments=("--max-model-len=256", "--reasoning-parser", "deepseek_r1"))
    here = Machine(gpus=0, engines={"vllm": said})
    given = switches(offered(folder, machine=here))
    assert (given["--max-model-len"], given["--reasoning-parser"]) == ("256", "deepseek_r1")
    given = switches(offered(folder, machine=here, context=64, parser="qwen3"))
    assert (given["--max-model-len"], given["--reasoning-parser"]) == ("64", "qwen3")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7", "gpu-node"])
def test_a_host_that_lets_strangers_in_needs_a_key(folder: Path, host: str) -> None:
    with pytest.raises(UsageError, match=r"no API key(.|\n)*HARNESS_API_KEY(.|\n)*--no-api-key"):
        offered(folder, host=host)


def test_a_key_or_the_explicit_wish_opens_the_host(folder: Path) -> None:
    keyed = offered(folder, host="0.0.0.0", key=SECRET, key_variable="MY_KEY")
    assert switches(keyed)["--host"] == "0.0.0.0"
    assert SECRET not in repr(keyed)
    opened = offered(folder, host="0.0.0.0", open_to_all=True)
    assert "whoever reaches 0.0.0.0" in "".join(opened.notes)
    assert opened.url.startswith("http://127.0.0.1:")


def test_loopback_has_several_names() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "127.1.2.3", "::1", "localhost")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "10.0.0.1", "localhost.example.org")))


def test_an_engine_that_would_ignore_the_key_is_refused(folder: Path) -> None:
    with pytest.raises(UsageError, match="knows no API key"):
        offered(folder, transformers, key=SECRET, key_variable="K")


def test_a_named_variable_that_is_empty_is_not_taken_for_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HARNESS_API_KEY", raising=False)
    monkeypatch.setenv("EMPTY", " ")
    assert key_of(None, False) == ("", "HARNESS_API_KEY")
    with pytest.raises(UsageError, match="EMPTY"):
        key_of("EMPTY", False)
    monkeypatch.setenv("HARNESS_API_KEY", "k")
    assert key_of(None, False) == ("k", "HARNESS_API_KEY")
    assert key_of(None, True) == ("", "")
    monkeypatch.setenv("HARNESS_API_KEY", "two words")
    with pytest.raises(UsageError, match="cannot be sent") as caught:
        key_of(None, False)
    assert "two words" not in str(caught.value)
    with pytest.raises(UsageError, match="contradict"):
        key_of("EMPTY", True)


def test_replicas_are_the_engines_own_and_share_the_gpus(folder: Path) -> None:
    eight = Machine(gpus=8)
    assert switches(offered(folder, machine=eight))["--tensor-parallel-size"] == "8"
    four = switches(offered(folder, machine=eight, replicas=4))
    assert (four["--data-parallel-size"], four["--tensor-parallel-size"]) == ("4", "2")
    given = switches(offered(folder, sglang, eight, replicas=2, tensor_parallel=1))
    assert (given["--dp-size"], given["--tensor-parallel-size"]) == ("2", "1")
    toml = EngineSettings(arguments=("--tensor-parallel-size", "2"))
    named = Machine(gpus=8, engines={"vllm": toml})
    assert switches(offered(folder, machine=named))["--tensor-parallel-size"] == "2"


@pytest.mark.parametrize(
    ("gpus", "replicas", "share", "idle"), [(3, 1, 2, 1), (6, 1, 4, 2), (7, 2, 2, 3), (6, 3, 2, 0)]
)
def test_the_default_share_is_a_size_that_a_models_heads_divide_by(
    folder: Path, gpus: int, replicas: int, share: int, idle: int
) -> None:
    offer = offered(folder, machine=Machine(gpus=gpus), replicas=replicas)
    assert switches(offer)["--tensor-parallel-size"] == str(share)
    assert [note for note in offer.notes if "idle" in note][:1] == (
        [f"{idle} of {gpus} GPUs stay idle: --replicas and --tensor-parallel would use them"] if idle else []
    )
    said = offered(folder, machine=Machine(gpus=gpus), tensor_parallel=1)
    assert not any("idle" in note for note in said.notes)


@pytest.mark.parametrize(
    ("engine", "gpus", "wanted", "said"),
    [
        (vllm, 8, {"replicas": 8, "tensor_parallel": 2}, "need 16 GPUs, and there are 8"),
        (vllm, 0, {"tensor_parallel": 2}, "needs GPUs"),
        (transformers, 8, {"replicas": 2}, "one copy on one device"),
        (transformers, 8, {"tensor_parallel": 2}, "one copy on one device"),
        (transformers, 0, {"context": 64}, "cannot limit the context"),
        (transformers, 0, {"parser": "qwen3"}, "no choice of reasoning parsers"),
    ],
)
def test_what_an_engine_or_the_machine_cannot_do_is_refused(
    folder: Path, engine: Any, gpus: int, wanted: dict[str, Any], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        offered(folder, engine, Machine(gpus=gpus), **wanted)


def test_several_replicas_need_no_gpu_where_the_engine_runs_without(folder: Path) -> None:
    assert switches(offered(folder, replicas=2))["--data-parallel-size"] == "2"


def test_the_rows_system_prompt_is_the_default_and_the_option_wins(folder: Path) -> None:
    (folder / "chat_template.jinja").write_text("{% for m in messages %}{{ m.content }}{% endfor %}")
    assert offered(folder, row_system="row's").system == "row's"
    assert offered(folder, row_system="row's", system="mine").system == "mine"
    none = offered(folder, row_system="row's", system="")
    assert (none.system, none.template) == ("", None)


def test_vllm_renders_gpt_oss_itself_so_a_default_system_prompt_would_be_lost(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps({"model_type": "gpt_oss"}))
    (folder / "chat_template.jinja").write_text("{% for m in messages %}{{ m.content }}{% endfor %}")
    with pytest.raises(UsageError, match="renders gpt-oss's prompts itself"):
        offered(folder, system="be brief")
    assert switches(offered(folder))["--reasoning-parser"] == "openai_gptoss"
    assert switches(offered(folder, sglang, system="be brief"))["--reasoning-parser"] == "gpt-oss"


def test_a_checkpoint_without_a_chat_template_is_served_and_says_so(folder: Path) -> None:
    (folder / "chat_template.jinja").unlink()
    offer = offered(folder, row_system="row's")
    assert offer.system == ""
    assert "ask /v1/completions" in "".join(offer.notes)
    with pytest.raises(UsageError, match="no chat template"):
        offered(folder, system="mine")


@pytest.mark.parametrize("name", ["../../elsewhere", "/etc", "a b", "", "a//b", "org/..", "-x"])
def test_a_name_that_would_lead_out_of_the_scratch_folder_is_refused(folder: Path, name: str) -> None:
    with pytest.raises(UsageError, match="--name"):
        decided(Model(folder=folder, name=name), vllm, Machine(gpus=0), Wanted(port=0))


def test_a_port_that_is_taken_is_named_with_what_to_do() -> None:
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        with pytest.raises(ServerError, match=r"Address already in use(.|\n)*--port"):
            free_or_refused("127.0.0.1", busy.getsockname()[1])
    assert free_or_refused("127.0.0.1", 0) > 0


def test_sglang_gets_its_key_from_a_file_that_nobody_else_reads_and_logs_no_arguments(
    folder: Path, tmp_path: Path
) -> None:
    offer = offered(folder, sglang, Machine(gpus=1), key=SECRET, key_variable="K")
    assert sglang.prepare_serving(tmp_path, SECRET) == {}
    given = switches(offer, tmp_path)
    file = Path(given["--config"])
    assert json.loads(file.read_text()) == {"api-key": SECRET}
    assert file.stat().st_mode & 0o777 == 0o600
    assert given["--log-level"] == "warning"
    assert SECRET not in " ".join(offer.engine.serving_arguments(offer.serving, tmp_path))
    assert "--config" not in switches(offered(folder, sglang, Machine(gpus=1)))


def answer_of(path: str, authorization: str, method: str = "GET") -> int:
    """The status that the gate lets a request have; 200 is the server's behind it."""
    sent: list[int] = []

    async def server(scope: Any, receive: Any, send: Any) -> None:
        sent.append(200)

    async def send(event: Any) -> None:
        sent.extend([event["status"]] if "status" in event else [])

    async def receive() -> Any:
        return {}

    headers = [(b"authorization", authorization.encode())] if authorization else []
    scope = {"type": "http", "method": method, "path": path, "headers": headers}
    asyncio.run(Gate(server)(scope, receive, send))
    return sent[0]


@pytest.mark.parametrize("path", ["/v1/models", "/invocations", "/tokenize", "/docs", "/health/../v1"])
def test_the_gate_asks_for_the_key_everywhere_but_at_health_and_metrics(
    monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setenv("VLLM_API_KEY", SECRET)
    assert answer_of(path, "") == 401
    assert answer_of(path, f"Bearer {SECRET}x") == 401
    assert answer_of(path, f"Basic {SECRET}") == 401
    assert answer_of(path, f"bearer {SECRET}") == 200
    assert (answer_of("/health", ""), answer_of("/metrics", "")) == (200, 200)


def test_a_browsers_question_before_the_request_needs_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """It cannot bring one: a preflight has no Authorization. vLLM itself lets OPTIONS pass."""
    monkeypatch.setenv("VLLM_API_KEY", SECRET)
    assert answer_of("/v1/chat/completions", "", "OPTIONS") == 200
    assert answer_of("/v1/chat/completions", "", "POST") == 401


@contextmanager
def known(root: Path) -> Iterator[Known]:
    store = RunStore(root)
    with ServerPool(Machine(gpus=0)) as pool:
        context = Context(store, Machine(gpus=0), PlainProgress(), pool)
        benchmarks: dict[str, Benchmark] = {"micro_math": micro_math}
        recipes = {"dasd-micro": dasd_micro(0), "dasd-4b": dasd_4b}
        yield Known(
            store=store,
            recipes=recipes,
            benchmarks=benchmarks,
            build=lambda stage: store.build(stage, context),
        )


def finish(store: RunStore, stage: Any) -> Path:
    """The directory of a stage as if it had been built, with a checkpoint."""
    path = store.path(stage)
    checkpoint(path / "model")
    (path / "stage.json").write_text("{}")
    return path / "model"


def test_a_row_that_is_not_trained_yet_says_which_command_trains_it(tmp_path: Path) -> None:
    with known(tmp_path / "runs") as names:
        with pytest.raises(
            StageError, match=r"not made yet(.|\n)*harness reproduce dasd-micro --until final --runs"
        ):
            find_model("dasd-micro/final", names)
        with pytest.raises(StageError, match="harness reproduce dasd-4b --from data --until stage2"):
            find_model("dasd-4b-from-data/stage2", names)


def test_a_trained_row_is_served_with_its_system_prompt_and_the_recipes_sampling(tmp_path: Path) -> None:
    with known(tmp_path / "runs") as names:
        stage = rows_of(dasd_micro(0))["stage2"].model
        folder = finish(names.store, stage)
        found = find_model("dasd-micro/stage2", names)
    assert (found.folder, found.name, found.trained) == (folder, "dasd-micro/stage2", True)
    assert found.system == "You are a helpful assistant."
    assert found.sampling is not None
    assert (found.sampling.temperature, found.sampling.max_tokens) == (1.0, 0)


def test_a_row_trained_on_another_engines_samples_is_found(tmp_path: Path) -> None:
    with known(tmp_path / "runs") as names:
        folder = finish(names.store, rows_of(dasd_micro(0, "transformers"))["final"].model)
        assert find_model("dasd-micro/final", names).folder == folder


def test_a_row_of_other_settings_is_not_passed_off_as_this_versions(tmp_path: Path) -> None:
    with known(tmp_path / "runs") as names:
        old = finish(names.store, rows_of(dasd_micro(7))["final"].model)
        link = tmp_path / "runs" / "dasd-micro" / "13-final"
        link.parent.mkdir()
        link.symlink_to(old.parent)
        with pytest.raises(StageError, match=r"other settings(.|\n)*13-final/model"):
            find_model("dasd-micro/final", names)


def test_a_checkpoint_that_existed_before_the_recipe_keeps_its_own_sampling(tmp_path: Path) -> None:
    with known(tmp_path / "runs") as names:
        found = find_model("dasd-micro/teacher", names)
    assert (found.trained, found.sampling) == (False, None)
    assert (found.folder / "model.safetensors").exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("dasd-micro/stage3", "Did you mean 'stage2'|Did you mean 'stage1'"),
        ("dasd-mirco/final", "Did you mean 'dasd-micro/final'"),
        ("dasd-micro", "neither a folder nor RUN/ROW"),
        ("org/name@main", "not a commit"),
        ("./nowhere/at-all", "neither a folder nor a Hub name"),
    ],
)
def test_names_that_mean_nothing_say_what_was_near(tmp_path: Path, text: str, said: str) -> None:
    with known(tmp_path / "runs") as names, pytest.raises(UsageError, match=said):
        find_model(text, names)


def test_a_row_of_a_run_is_asked_as_it_was_evaluated(tmp_path: Path) -> None:
    with known(tmp_path) as names:
        mark = answered(names.store, "sft-12345678", right=3)
        path = names.store.path(mark)
        path.mkdir()
        write_json(path / "identity.json", mark.identity)
        write_json(path / "stage.json", {})
        names.store.view("my-run", {"eval/student/micro_math": mark})
        with pytest.raises(UsageError, match="was served by somebody else"):
            find_model("my-run/student", names)
        folder = finish(names.store, Stored(stored="sft-12345678"))
        (folder / "model.safetensors").write_bytes(b"")
        found = find_model("my-run/student", names)
        with pytest.raises(UsageError, match=r"no row 'studnt'\. Did you mean 'student'"):
            find_model("my-run/studnt", names)
    assert (found.folder, found.system, found.trained) == (folder, "Be brief.", True)
    assert found.sampling is not None
    assert found.sampling.draws == 1


def test_a_folder_is_served_where_it_stands_and_must_be_a_checkpoint(tmp_path: Path) -> None:
    with known(tmp_path / "runs") as names:
        assert find_model(str(TEACHER), names).folder == TEACHER
        (tmp_path / "empty").mkdir()
        with pytest.raises(HarnessError, match="not a checkpoint"):
            find_model(str(tmp_path / "empty"), names)
    assert hub_checkpoint("org/name").revision == "unpinned"


@contextmanager
def harness_serve(
    tmp_path: Path, *arguments: str, server: tuple[str, ...] = (), model: str = str(TEACHER)
) -> Iterator["subprocess.Popen[str]"]:
    """The command as a process of its own, with the fake in vLLM's place."""
    python = tmp_path / "python"
    words = [sys.executable, str(FAKE), str(tmp_path / "told"), *server]
    python.write_text(f'#!/bin/sh\nexec {" ".join(words)} -- "$@"\n')
    python.chmod(0o755)
    machine = tmp_path / "machine.toml"
    machine.write_text(f'gpus = 0\n[engines.vllm]\npython = "{python}"\n')
    script = (
        "import signal, sys\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from harness.cli import main\nsys.argv[0] = 'harness'\nmain()"
    )
    process = subprocess.Popen(
        [
            *(sys.executable, "-c", script, "serve", model, "--machine", str(machine)),
            *("--runs", str(tmp_path / "runs"), *arguments),
        ],
        cwd=ROOT,
        env={**os.environ, "MY_KEY": SECRET, "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def told(tmp_path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((tmp_path / "told").read_text())
    return loaded


def test_one_json_line_says_all_and_the_server_answers(tmp_path: Path) -> None:
    with harness_serve(
        tmp_path, "--port", "0", "--json", "--system", "be brief", "--name", "me/m"
    ) as process:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        with urllib.request.urlopen(ready["health"], timeout=10) as answer:
            assert answer.status == 200
        process.send_signal(signal.SIGTERM)
        rest, said = process.communicate(timeout=60)
    assert (rest, process.returncode, said.splitlines()[-1]) == ("", 0, "stopped")
    assert (ready["model"], ready["context"], ready["system"]) == ("me/m", 512, "be brief")
    assert ready["url"].startswith("http://127.0.0.1:")
    given = told(tmp_path)
    assert "be brief" in given["template"]
    assert given["environment"]["VLLM_API_KEY"] == ""
    assert not list(tmp_path.glob("dasd-harness-*"))


def test_the_key_reaches_the_server_and_no_command_line_log_or_output(tmp_path: Path) -> None:
    arguments = ("--port", "0", "--host", "127.0.0.1", "--api-key-env", "MY_KEY")
    with harness_serve(tmp_path, *arguments) as process:
        assert process.stdout is not None
        lines = list(iter(process.stdout.readline, "\n"))
        lines.append(process.stdout.readline())
        seen = [file.read_bytes() for file in Path("/proc").glob("[0-9]*/cmdline") if readable(file)]
        process.send_signal(signal.SIGTERM)
        rest, said = process.communicate(timeout=60)
    given = told(tmp_path)
    assert given["environment"]["VLLM_API_KEY"] == SECRET
    assert given["command"][given["command"].index("--middleware") + 1] == "vllm_gate.Gate"
    assert "class Gate" in given["files"]["vllm_gate.py"]
    assert '-H "Authorization: Bearer $MY_KEY"' in "".join([*lines, rest])
    logs = [file.read_text() for file in (tmp_path / "runs").rglob("*.log")]
    assert logs
    assert SECRET not in "".join([*lines, rest, said, *logs, *given["command"]])
    assert not any(SECRET.encode() in command for command in seen)


def readable(file: Path) -> bool:
    try:
        file.read_bytes()
    except OSError:
        return False
    return True


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_process_outlives_a_server_that_is_stopped(how: signal.Signals, tmp_path: Path) -> None:
    stubborn = ("--child",) if how == signal.SIGKILL else ()
    switches = (*stubborn, "--pids", str(tmp_path / "pids"))
    with harness_serve(tmp_path, "--port", "0", "--json", server=switches) as process:
        assert process.stdout is not None
        process.stdout.readline()
        servers = written_pids(tmp_path / "pids")
        assert all(map(alive, servers))
        process.send_signal(how)
        process.communicate(timeout=60)
        assert gone(servers)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_no_process_outlives_a_start_that_is_given_up(how: signal.Signals, tmp_path: Path) -> None:
    switches = ("--never-up", "--pids", str(tmp_path / "pids"))
    with harness_serve(tmp_path, "--port", "0", server=switches) as process:
        servers = written_pids(tmp_path / "pids")
        time.sleep(0.5)
        process.send_signal(how)
        process.communicate(timeout=60)
        assert gone(servers)
        assert process.returncode == (130 if how == signal.SIGINT else -how)


def test_a_server_that_dies_is_an_error_with_its_last_words(tmp_path: Path) -> None:
    with harness_serve(tmp_path, "--port", "0", server=("--refuse-to-start",)) as process:
        _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "not enough memory for the KV cache" in said
    assert "--context" in said
    assert "Traceback" not in said


def test_a_second_server_on_the_port_is_refused_before_it_starts(tmp_path: Path) -> None:
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        with harness_serve(tmp_path, "--port", str(busy.getsockname()[1])) as process:
            _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "Address already in use" in said
    assert not (tmp_path / "told").exists()


def test_a_model_that_thinks_aloud_is_noticed(tmp_path: Path) -> None:
    with harness_serve(tmp_path, "--port", "0", "--json", server=("--text", "'<think> well'")) as process:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
    assert any("--reasoning-parser qwen3" in note for note in ready["notes"])


def test_what_is_printed_is_for_copying(folder: Path, tmp_path: Path) -> None:
    offer = replace(offered(folder, system=None), port=8000)
    ready = Ready(offer=offer, context=1024, seconds=61.2, log=tmp_path / "log", notes=offer.notes)
    text = as_text(ready)
    command = next(line for line in text.splitlines() if line.startswith("curl"))
    assert "http://127.0.0.1:8000/v1/chat/completions" in command
    assert "Authorization" not in command
    assert "http://127.0.0.1:8000/metrics" in text
    assert json.loads(as_json(ready))["reasoning_parser"] is None
