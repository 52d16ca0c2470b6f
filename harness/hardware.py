"""Hardware: what computes on this machine, as far as its driver tells."""

import functools
import math
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from harness.machine import Machine, told_by_driver, visible_gpus

MEMORY_OF_AN_H100 = 80e9
USABLE = 0.9  # of a GPU's memory
ROOM = 1.1  # for the cache and activations, over the weights


@dataclass(frozen=True, kw_only=True)
class Hardware:
    """`device` names one GPU, or the CPU where there is none; `gpu_bytes` is the smallest GPU's memory, 0
    where the driver does not tell."""

    device: str
    gpus: int
    gpu_bytes: float = 0.0


def hardware(machine: Machine) -> Hardware:
    """This machine's devices. Nothing but their number comes from machine.toml."""
    if not machine.gpus:
        return Hardware(device=f"CPU ({cpu_name()})", gpus=0)
    listed = gpu_lines()
    if not listed:
        return Hardware(device="GPU", gpus=machine.gpus)
    return Hardware(
        device=listed[0][0], gpus=machine.gpus, gpu_bytes=min(float(memory) for _, memory in listed) * 2**20
    )


def gpus_to_hold(needed: float, gpu_bytes: float) -> int:
    """How many GPUs together have so much memory to use."""
    return max(1, math.ceil(needed / (USABLE * gpu_bytes)))


@functools.cache
def gpu_lines() -> list[tuple[str, str]]:
    """Name and memory in MiB of each GPU that the driver lists and CUDA_VISIBLE_DEVICES leaves."""
    if shutil.which("nvidia-smi") is None:
        return []
    told = told_by_driver("--query-gpu=name,memory.total", "--format=csv,noheader,nounits")
    lines = told.stdout.splitlines() if told.returncode == 0 else []
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        lines = [lines[place] for place in visible_gpus() if place < len(lines)]
    pairs = [line.rpartition(", ")[::2] for line in lines]
    return [(name, memory) for name, memory in pairs if memory.strip().isdigit()]


def cpu_name() -> str:
    """The processor's name, as Linux has it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return "unknown"
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), "unknown")
