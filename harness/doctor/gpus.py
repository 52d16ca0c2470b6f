"""GPUs, their driver, and whether their memory suffices for what is to be done."""

import os
import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from harness.doctor.finding import Finding, Purpose
from harness.hardware import hardware
from harness.machine import Machine, listed_gpus, told_by_driver
from harness.plan import gigabytes

DRIVER_FILE = Path("/proc/driver/nvidia/version")
ROCM = ("rocminfo", "rocm-smi", "amd-smi")
ROCM_DEVICE = "/dev/kfd"
GPU = "GPU"
DRIVER = "NVIDIA driver"
PATH = "put nvidia-smi on the PATH"
NO_DRIVER = "install the NVIDIA driver, or take gpus out of machine.toml"
RELOAD = "install or reload the driver (after its update: reboot), until nvidia-smi lists the GPUs"
MORE = "a machine with such GPUs; a cluster (docs/cluster.md); or --engine remote for what is only asked"


def gpus(machine: Machine, purposes: Iterable[Purpose]) -> Iterator[Finding]:
    """The driver, the GPUs that it lists, and what finds too little memory on them."""
    short = [one for one in purposes if one.gpus]
    yield driver(machine, short)
    yield memory(machine, short)
    if os.path.exists(ROCM_DEVICE) or any(shutil.which(name) for name in ROCM):
        yield Finding(
            area="GPUs",
            name="ROCm",
            state="warning",
            found="AMD GPUs are not used: only NVIDIA's are counted, and the environments are built for CUDA",
            remedy="serve on them yourself, and evaluate with --engine remote --base-url URL",
            provides=(GPU,),
        )


def driver(machine: Machine, short: list[Purpose]) -> Finding:
    """Its version and the CUDA that it knows; without it nothing is lost that needs no GPU."""
    if shutil.which("nvidia-smi") is None:
        if DRIVER_FILE.exists():
            return broken(
                machine, short, "loaded, but nvidia-smi is not on the PATH: no GPU is counted", PATH
            )
        if machine.gpus:
            return broken(machine, short, f"none, and machine.toml says gpus = {machine.gpus}", NO_DRIVER)
        return Finding(area="GPUs", name=DRIVER, state="ok", found="none", provides=(GPU,))
    told = told_by_driver("-q")
    found = dict(re.findall(r"^(Driver Version|CUDA Version)\s*: (\S+)", told.stdout, re.MULTILINE))
    if told.returncode or "Driver Version" not in found:
        words = (told.stdout + told.stderr).strip().splitlines() or [f"exit code {told.returncode}"]
        return broken(machine, short, f"nvidia-smi fails: {words[0]}", RELOAD)
    version, cuda = found["Driver Version"], found.get("CUDA Version", "unknown")
    return Finding(
        area="GPUs", name=DRIVER, state="ok", found=f"{version}, up to CUDA {cuda}", provides=(GPU,)
    )


def broken(machine: Machine, short: list[Purpose], found: str, remedy: str) -> Finding:
    """A driver that tells of no GPU. Where GPUs are counted on, nothing runs without it."""
    return Finding(
        area="GPUs",
        name=DRIVER,
        state="missing" if machine.gpus or short else "warning",
        found=found,
        remedy=remedy,
        provides=(GPU,),
        blocks=() if machine.gpus else tuple(one.command for one in short),
    )


def memory(machine: Machine, short: list[Purpose]) -> Finding:
    """How many GPUs with how much memory, and who needs more."""
    here, listed = hardware(machine), len(listed_gpus())
    told = f"{here.gpus} × {here.device}, {gigabytes(here.gpu_bytes)} each" if here.gpus else "none"
    if here.gpus < listed:
        told += f" of the {listed} that the driver lists (CUDA_VISIBLE_DEVICES or machine.toml)"
    too_many = here.gpus > listed and bool(listed)
    if too_many:
        told = f"machine.toml says gpus = {here.gpus}, and the driver lists {listed}"
    reasons = dict.fromkeys(reason for one in short for reason in one.gpus)
    return Finding(
        area="GPUs",
        name="GPUs",
        state="missing" if short else "warning" if too_many else "ok",
        found="; ".join([told, *reasons]),
        remedy=MORE if short else "take gpus out of machine.toml" if too_many else "",
        provides=(GPU,),
        blocks=tuple(one.command for one in short),
    )
