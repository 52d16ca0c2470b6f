"""Where a stage was run: hardware, versions, and the code's commit, as stage.json keeps them.

What a reader needs to judge a time, a price or a number that came out otherwise. Nothing here is part of any
identity, and nothing here names a computer, a person or a folder.
"""

import functools
import os
import platform
import re
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from harness.errors import HarnessError
from harness.hardware import cpu_name, gpu_lines
from harness.machine import Machine
from harness.secrets import without_secrets
from harness.stage import Json

PACKAGES = (
    "accelerate", "aiohttp", "datasets", "jinja2", "latex2sympy2-extended", "math-verify", "msgspec", "numpy",
    "pyarrow", "safetensors", "scipy", "sympy", "tokenizers", "torch", "transformers", "trl",
)  # fmt: skip
"""Of this process: those that a prompt, a verdict, a training or a statistic may depend on. Engines and
LLaMA-Factory have environments of their own, whose versions their records name."""

HARNESS = "dasd-harness"
ROOT = Path(__file__).parents[1]
COMMIT = re.compile(r"[0-9a-f]{40}")


def workplace(machine: Machine) -> dict[str, Json]:
    """The machine, the harness and the packages. `gpus` are those that the machine may use, `nodes` how many
    such machines train together; `price_per_gpu_hour` is told where machine.toml tells one."""
    price = {"price_per_gpu_hour": machine.price_per_gpu_hour, "currency": machine.currency}
    return {
        "cpu": cpu_name(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": memory_gb(),
        "gpus": machine.gpus,
        "gpu": gpu_name() if machine.gpus else "",
        "nodes": machine.training.nodes,
        **(price if machine.price_per_gpu_hour else {}),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "harness": harness_version(),
        "packages": packages(),
    }


def gpu_name() -> str:
    """The first GPU's name; nothing where nvidia-smi tells none, hangs or cannot be run: no stage is lost for
    its sake."""
    try:
        return next((name for name, _ in gpu_lines()), "")
    except (HarnessError, OSError):
        return ""


def memory_gb() -> float:
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)


@functools.cache
def packages() -> dict[str, str]:
    return {name: found for name in PACKAGES if (found := version_of(name))}


def version_of(name: str) -> str:
    """An installed package's version, or nothing."""
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


@functools.cache
def harness_version() -> str:
    """`0.1.0`, with the commit where the code stands in a checkout: `0.1.0, commit 3f2a…, changed`."""
    commit = git("rev-parse", "HEAD")
    told = [version_of(HARNESS) or "unknown"]
    if COMMIT.fullmatch(commit):
        told.append(f"commit {commit}")
        told += ["changed"] if git("status", "--porcelain", "--untracked-files=no") else []
    return ", ".join(told)


def git(*arguments: str) -> str:
    """What git says of the folder that holds this package; nothing where that is no checkout of it."""
    if not (ROOT / ".git").exists():
        return ""
    try:
        done = subprocess.run(
            ["git", "-C", str(ROOT), *arguments],
            env=without_secrets(os.environ), capture_output=True, text=True, check=False, timeout=10,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
