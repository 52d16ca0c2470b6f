"""What this computer is said to be: how many GPUs, and which, with a stand-in for nvidia-smi."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

NVIDIA_SMI = """#!/bin/sh
if [ "$1" = -L ]; then
    for i in 0 1 2 3 4 5 6 7; do
        echo "GPU $i: NVIDIA H100 80GB HBM3 (UUID: GPU-${i}a00-1)"
    done
    echo "  MIG 3g.40gb     Device  0: (UUID: MIG-b0)"
    echo "  MIG 3g.40gb     Device  1: (UUID: MIG-b1)"
else
    for i in 0 1 2 3 4 5 6; do echo "H100, 80000"; done
    echo "A100, 40000"
fi
exit 0
"""


def seen(tmp_path: Path, visible: str | None) -> list[Any]:
    """GPUs counted, and what hardware tells: device, number, bytes of the smallest."""
    (tmp_path / "nvidia-smi").write_text(NVIDIA_SMI)
    (tmp_path / "nvidia-smi").chmod(0o755)
    environment = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
    environment["PATH"] = f"{tmp_path}:{os.environ['PATH']}"
    if visible is not None:
        environment["CUDA_VISIBLE_DEVICES"] = visible
    script = (
        "import json; from harness.hardware import hardware; from harness.machine import Machine\n"
        "here = Machine(); found = hardware(here)\n"
        "print(json.dumps([here.gpus, found.device, found.gpus, found.gpu_bytes / 2**20]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
    )
    found: list[Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize(
    ("visible", "gpus", "device", "memory"),
    [
        (None, 8, "H100", 40000),
        ("3", 1, "H100", 80000),
        ("7", 1, "A100", 40000),
        (" 1, 2 ,3", 3, "H100", 80000),
        ("GPU-7a00-1", 1, "A100", 40000),
        ("GPU-2,GPU-7", 2, "H100", 40000),
        ("MIG-b0,MIG-b1", 2, "A100", 40000),
        ("0,9,1", 1, "H100", 80000),
        ("0,-1,1", 1, "H100", 80000),
    ],
)
def test_gpus_that_the_environment_hides_are_not_counted(
    tmp_path: Path, visible: str | None, gpus: int, device: str, memory: int
) -> None:
    assert seen(tmp_path, visible) == [gpus, device, gpus, memory]


@pytest.mark.parametrize("visible", ["", "-1", "none"])
def test_an_environment_that_hides_all_gpus_leaves_the_processor(tmp_path: Path, visible: str) -> None:
    gpus, device, *_ = seen(tmp_path, visible)
    assert (gpus, device.partition(" ")[0]) == (0, "CPU")
