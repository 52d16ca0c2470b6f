"""Throughput: how long a device takes for a stage's tokens.

Speeds are measured by `harness calibrate` on the machine that will run the recipe, and stand in
`runs/throughput.json`. Without one for a model and what runs it, the floating-point operations of its
tokens are divided by a share of the GPU's peak: 2 an active parameter and token forward, 6 in training,
and those of attention, which over texts of many ten thousand tokens are more than all others.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from harness.cost import Kind, Size, Work
from harness.errors import DataError
from harness.files import write_json
from harness.machine import Machine

FILE = "throughput.json"

OPERATIONS: dict[Kind, float] = {"generate": 2, "score": 2, "train": 6}  # by active parameter and token
# Ours: decoding waits for memory, so it reaches less of the peak than a forward pass over known tokens.
SHARES: dict[Kind, float] = {"generate": 0.10, "score": 0.40, "train": 0.40}

Origin = Literal["measured", "calibrated", "assumed"]
Device = Literal["GPU", "CPU"]


@dataclass(frozen=True, kw_only=True)
class Rate:
    """A measured speed of one kind of work: tokens a second on each of `devices`.

    Tokens are those that a model writes ("generate") or reads ("score", "train"). `device` names the
    hardware, `tokens` and `seconds` are what the speed was measured on. `startup` are the seconds until the
    first request, batch or step, 0 where they were not measured.
    """

    kind: Kind
    model: str
    engine: str
    tokens_per_second: float
    device: str
    devices: int
    tokens: int
    seconds: float
    startup: float = 0.0

    @property
    def what(self) -> tuple[Kind, str, str]:
        return self.kind, self.model, self.engine


@dataclass(frozen=True, kw_only=True)
class Hours:
    """Hours of one device. On a GPU where a GPU would do the work, of this machine's CPU elsewhere."""

    value: float
    device: Device
    origin: Origin


def hours(work: Work, model: str, size: Size | None, rates: Iterable[Rate], machine: Machine) -> Hours | None:
    """The device-hours of a stage; None where the size of its model is not known."""
    if work.kind in ("grade", "none"):
        return Hours(value=0.0, device="CPU", origin="assumed")
    paced = work.tokens_out if work.kind == "generate" else work.tokens_in
    for rate in rates:
        if rate.what == (work.kind, model, work.engine):
            device: Device = "GPU" if machine.gpus else "CPU"
            return Hours(value=paced / rate.tokens_per_second / 3600, device=device, origin="calibrated")
    if size is None:
        return None
    operations = paced * per_token(work.kind, size, work.context) / SHARES[work.kind]
    if work.kind == "generate":
        operations += work.tokens_in * per_token("score", size, work.context) / SHARES["score"]
    seconds = operations / (machine.gpu_tflops * 1e12)
    return Hours(value=seconds / 3600, device="GPU", origin="assumed")


def per_token(kind: Kind, size: Size, context: float) -> float:
    """Floating-point operations of one token that attends to `context` others.

    For each of those, layer, head and dimension attention multiplies and adds twice: once with the key,
    once with the value.
    """
    return OPERATIONS[kind] * (size.active + 2 * size.attention * context)


def read_rates(root: Path, device: str) -> list[Rate]:
    """The speeds of this device. Raises DataError where the file is not one of speeds."""
    return [rate for rate in all_rates(root) if rate.device == device]


def all_rates(root: Path) -> list[Rate]:
    file = root / FILE
    if not file.exists():
        return []
    try:
        return msgspec.json.decode(file.read_bytes(), type=list[Rate])
    except msgspec.MsgspecError as error:
        raise DataError(f"{file} is no table of speeds ({error})", "Remove it, calibrate again.") from error


def keep_rates(root: Path, rates: list[Rate]) -> None:
    """Adds speeds to the file; of two for the same work on the same device the newer stays."""
    table = {(rate.what, rate.device): rate for rate in [*all_rates(root), *rates]}
    root.mkdir(parents=True, exist_ok=True)
    write_json(root / FILE, list(table.values()))
