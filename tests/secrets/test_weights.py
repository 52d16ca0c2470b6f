"""Pickles are refused and converted, a checkpoint's own code runs by consent alone."""

import json
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from harness.cli.options import Place
from harness.engines.vllm import vllm
from harness.errors import DataError, UsageError
from harness.hub import Checkpoint, checkpoint
from harness.machine import EngineSettings, Machine, load_machine
from harness.presented import Presented
from harness.progress import PlainProgress
from harness.serve import ServerPool
from harness.serving import Model, Wanted, decided
from harness.setup import MARKER
from harness.store import Context, RunStore
from harness.types import Sampling
from harness.weights import refuse_pickles, trusting

ROOT = Path(__file__).resolve().parents[2]
BASE = ROOT / "pipeline" / "micro" / "base"
FAKE = ROOT / "tests" / "fakes" / "vllm_cli.py"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
CODE = {"AutoModelForCausalLM": "modeling_own.OwnModel"}


class Malicious:
    """Unpickled, it writes a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return eval, (f"open({str(self.target)!r}, 'w').close()", "")[:1]  # type: ignore[return-value]


def pickled(folder: Path, content: object) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(content))
    return folder


def with_code(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for file in BASE.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    config = json.loads((folder / "config.json").read_bytes())
    (folder / "config.json").write_text(json.dumps({**config, "auto_map": CODE}))
    (folder / "modeling_own.py").write_text("raise SystemExit('it ran')\n")
    return folder


def store_of(folder: Path, machine: Machine) -> tuple[RunStore, Context]:
    store = RunStore(folder)
    return store, Context(store, machine, PlainProgress(), ServerPool(machine))


def test_a_checkpoint_of_pickles_is_refused_with_the_way_to_convert_and_not_opened(tmp_path: Path) -> None:
    trap = tmp_path / "it-ran"
    folder = pickled(tmp_path / "m", Malicious(trap))
    done = subprocess.run(
        [sys.executable, "-m", "harness.cli", "evaluate", str(folder), "-b", "micro_math", "--limit", "1"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "loading a pickle runs what it says" in done.stderr
    assert f"harness convert {folder} OUT" in " ".join(done.stderr.split())
    assert not trap.exists()


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "consolidated.00.pth", "x.ckpt", "m.pkl"])
def test_every_name_of_a_pickle_is_refused_before_anything_is_downloaded(name: str) -> None:
    with pytest.raises(DataError, match="hf download"):
        refuse_pickles("org/m", ["config.json", name])
    refuse_pickles("org/m", ["config.json", name, "model.safetensors"])


def test_a_served_folder_shows_the_engine_neither_pickles_nor_code(tmp_path: Path) -> None:
    folder = with_code(tmp_path / "m")
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04N.")
    shown = Presented(model=folder, template=None, sampling=Sampling(temperature=1.0, max_tokens=0)).write(
        tmp_path / "shown"
    )
    names = {file.name for file in shown.iterdir()}
    assert "model.safetensors" in names
    assert not {"pytorch_model.bin", "modeling_own.py"} & names


def test_code_that_no_recipe_names_is_not_copied_and_is_told_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = checkpoint(str(with_code(tmp_path / "m")))
    store, context = store_of(tmp_path / "runs", Machine(gpus=0, trusts_code=True))
    made = store.build(found, context)
    assert not (made / "model" / "modeling_own.py").exists()
    said = capsys.readouterr()
    assert "modeling_own.OwnModel" in said.out + said.err
    assert trusting(made / "model", context.machine) == []
    offer = decided(Model(folder=made / "model", name="m"), vllm, Machine(gpus=0), Wanted(port=0))
    assert any("which is not run" in note for note in offer.notes)


def test_code_that_a_recipe_names_needs_a_commit_and_the_users_word(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="needs the commit"):
        Checkpoint(source="org/m", revision="unpinned", remote_code=True)
    found = Checkpoint(source="org/m", revision=COMMIT, remote_code=True)
    assert found.identity != Checkpoint(source="org/m", revision=COMMIT).identity
    with_code(tmp_path / "data" / "org" / "m")
    machine = Machine(gpus=0, data=tmp_path / "data")
    store, context = store_of(tmp_path / "runs", machine)
    with pytest.raises(UsageError, match="--trust-remote-code"):
        store.build(found, context)
    trusted = Machine(gpus=0, data=tmp_path / "data", trusts_code=True)
    store, context = store_of(tmp_path / "runs", trusted)
    model = store.build(found, context) / "model"
    assert (model / "modeling_own.py").exists()
    assert trusting(model, trusted) == ["--trust-remote-code"]
    with pytest.raises(UsageError, match=COMMIT):
        trusting(model, machine)


def test_the_server_of_a_trusted_checkpoint_is_told_so_and_another_is_not(tmp_path: Path) -> None:
    with_code(tmp_path / "data" / "org" / "m")
    notes, python = tmp_path / "notes.json", tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} {FAKE} {notes} -- "$@"\n')
    python.chmod(0o755)
    machine = Machine(
        gpus=0, data=tmp_path / "data", trusts_code=True, engines={"vllm": EngineSettings(python=python)}
    )  # fmt: skip
    commands = []
    for trusted in (True, False):
        store, context = store_of(tmp_path / "runs", machine)
        found = Checkpoint(source="org/m", revision=COMMIT, remote_code=trusted)
        model = store.build(found, context) / "model"
        with ServerPool(machine) as pool:
            pool.acquire(vllm, model, "m", Sampling(temperature=1.0, max_tokens=1), tmp_path / "server.log")
        commands.append(json.loads(notes.read_text())["command"])
    assert "--trust-remote-code" in commands[0]
    assert "--trust-remote-code" not in commands[1]


@pytest.mark.parametrize(
    "line",
    [
        'arguments = ["--trust-remote-code"]', 'arguments = ["--trust_remote_code=True"]',
        'arguments = ["--host", "0.0.0.0"]',
        'arguments = ["--trust"]', 'arguments = ["--load-format", "pt"]', 'arguments = ["--load-format=pt"]',
        'environment = {HF_DATASETS_TRUST_REMOTE_CODE = "1"}',
    ],
)  # fmt: skip
def test_machine_toml_can_turn_neither_on(tmp_path: Path, line: str) -> None:
    file = tmp_path / "machine.toml"
    file.write_text(f"[engines.vllm]\n{line}\n")
    with pytest.raises(UsageError, match=r"engines\.vllm"):
        load_machine(file)


def test_machine_toml_knows_no_trust_and_the_command_line_does(tmp_path: Path) -> None:
    file = tmp_path / "machine.toml"
    file.write_text("trusts_code = true\n")
    with pytest.raises(UsageError, match="unknown setting"):
        load_machine(file)
    file.write_text('[engines.vllm]\narguments = ["--tp", "2", "--load-format", "safetensors"]\n')
    assert not Place(tmp_path, None, file).machine().trusts_code
    assert Place(tmp_path, None, file, trusts_code=True).machine().trusts_code


needs_torch = pytest.mark.skipif(
    not (Machine().environments / "transformers" / MARKER).exists(), reason="harness setup transformers"
)


@needs_torch
def test_a_pickle_becomes_the_same_tensors_and_a_malicious_one_runs_nothing(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file

    folder = pickled(tmp_path / "m", None)
    weights = {"a": torch.arange(6.0).reshape(2, 3).t(), "b": torch.ones(2, dtype=torch.bfloat16)}
    weights["tied"] = weights["b"]
    torch.save(weights, folder / "pytorch_model.bin")
    convert = [sys.executable, "-m", "harness.cli", "convert", str(folder)]
    done = subprocess.run(
        [*convert, str(tmp_path / "out")], cwd=ROOT, capture_output=True, text=True, check=False
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = load_file(tmp_path / "out" / "model.safetensors")
    assert found.keys() == weights.keys()
    assert all(torch.equal(found[name], weights[name]) for name in weights)
    trap = tmp_path / "it-ran"
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Malicious(trap)))
    done = subprocess.run(
        [*convert, str(tmp_path / "bad")], cwd=ROOT, capture_output=True, text=True, check=False
    )  # fmt: skip
    assert done.returncode == 1
    assert "weights_only" in done.stderr.lower() or "weights only" in done.stderr.lower()
    assert not trap.exists()
    assert not (tmp_path / "bad").exists()
