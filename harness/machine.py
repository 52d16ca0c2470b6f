"""Machine: everything about this computer that cannot change a reported number.

Read from `machine.toml` (`--machine FILE`, else ./machine.toml where it exists); every field has a
default, so no file is needed. Settings that could change a number belong to stages instead.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from platformdirs import user_cache_path

from harness.errors import HarnessError, UsageError
from harness.hubs import HubName
from harness.secrets import declare
from harness.toml import table_in
from harness.weights import check_arguments

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

DRIVER_SECONDS = 60.0


def default_environments() -> Path:
    """Where `harness setup` builds engine environments; they outlive a checkout."""
    return user_cache_path("dasd-harness") / "environments"


def count_gpus() -> int:
    """NVIDIA GPUs that a program here sees: those that the driver lists (0 where there is no driver), or
    as many of them as CUDA_VISIBLE_DEVICES leaves."""
    return len(visible_gpus())


def visible_gpus() -> list[int]:
    """The driver's indices of the GPUs that a program here sees, one for each part of a GPU (MIG)."""
    gpus = listed_gpus()
    said = os.environ.get("CUDA_VISIBLE_DEVICES")
    if said is None:
        return list(range(len(gpus)))
    found = []
    for entry in map(str.strip, said.split(",")):
        place = next((place for place, names in enumerate(gpus) if is_of(entry, place, names)), None)
        if place is None:  # CUDA, too, ends at the first entry that names no GPU: "", "-1"
            break
        found.append(place)
    return found


def is_of(entry: str, place: int, names: list[str]) -> bool:
    """Whether an entry of CUDA_VISIBLE_DEVICES means the GPU: its index, or the beginning of a UUID."""
    if entry.isascii() and entry.isdigit():
        return int(entry) == place
    return entry.startswith(("GPU-", "MIG-")) and any(name.startswith(entry) for name in names)


def listed_gpus() -> list[list[str]]:
    """The UUIDs of each GPU that the driver lists, its parts' after its own."""
    if shutil.which("nvidia-smi") is None:
        return []
    listed = told_by_driver("-L").stdout
    found: list[list[str]] = []
    for line in listed.splitlines():
        if line.startswith("GPU "):
            found.append([])
        if found:
            found[-1] += re.findall(r"UUID: ([\w./-]+)", line)
    return found


def told_by_driver(*arguments: str) -> subprocess.CompletedProcess[str]:
    """What nvidia-smi answers. Raises HarnessError where the driver hangs: to take that for a machine without
    GPUs would start a large model on its CPU."""
    command = ["nvidia-smi", *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=DRIVER_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise HarnessError(
            f"nvidia-smi does not answer within {DRIVER_SECONDS:.0f} s: the NVIDIA driver hangs",
            "Restart the machine, or do without its GPUs: gpus = 0 in machine.toml.",
        ) from error


@dataclass(frozen=True, kw_only=True)
class EngineSettings:
    """One engine on this machine. `python` overrides the environment that `harness setup` builds, and
    `image`, a Docker image, replaces it (`harness/container.py`)."""

    python: Path | None = None
    arguments: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    base_url: str = ""
    image: str = ""
    api_key_env: str = "OPENAI_API_KEY"
    start_timeout: float = 600.0


@dataclass(frozen=True, kw_only=True)
class SandboxSettings:
    """`name` is that of a file in `harness/sandboxes`; `auto` takes Docker where an engine runs, else
    bubblewrap with a visible note. `runtime` is one that the Docker engine knows, such as runsc (gVisor);
    empty for its own."""

    name: str = "auto"
    image: str = "dasd-harness-sandbox:1"
    runtime: str = ""
    memory_mb: int = 4096
    processes: int = 64
    workers: int = field(default_factory=lambda: os.cpu_count() or 1)


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """Machines with equally many GPUs that train together. The harness runs on the first of them,
    which the others reach at `master_address`; runs, base and data lie in a folder that all share."""

    nodes: int = 1
    master_address: str = "127.0.0.1"
    master_port: int = 29500


@dataclass(frozen=True, kw_only=True)
class ClusterSettings:
    """The Ray cluster that this computer is a node of; none while `address` is empty (`auto`, or the
    host:port of its head).

    `replicas` engine servers answer together, each on `gpus` GPUs and `cpus` cores of one node. 0 replicas:
    as many as the GPUs allow, or one a node where there are none. 0 GPUs: the engine's tensor parallelism.
    `grading_workers` grade on each node; 0 leaves grading to this computer.
    """

    address: str = ""
    replicas: int = 0
    gpus: int = 0
    cpus: int = 1
    grading_workers: int = 0


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Paths, ports, concurrency and environments of one computer.

    `price_per_gpu_hour` is in `currency`, 0 where no price is to be told. `gpu_tflops` is one GPU's peak in
    dense bfloat16, in 10^12 operations a second: an H100's unless the file says otherwise.
    `concurrency` is how many requests each copy of a model is asked at once, and `tokens_in_flight` how many
    tokens these may grow to (0: any number). Responses of up to `stream_from` tokens or more are streamed
    (0: none is), so that what has come of a long one is kept. A server that fails has at least `patience`
    seconds to come back, and a request to which nothing comes for `longest_silence` seconds is sent again
    (0: it has any time; unset: four hours in a stream, any time for a whole answer). `require_seed` stops a
    run where the server honours no seeds.
    `batch_poll` is how many seconds pass between two looks at a batch that a provider works on.
    `hub` is where checkpoints and training data are downloaded from. `columns` renames what the table of
    sources expects, by repository and role: `[columns."nvidia/AceReason-1.1-SFT"] question = "problem"`.
    `trusts_code` is no setting of the file: --trust-remote-code gives it, for one command.
    """

    environments: Path = field(default_factory=default_environments)
    data: Path | None = None
    hub: HubName = "huggingface"
    columns: dict[str, dict[str, str]] = field(default_factory=dict)
    concurrency: int = 64
    tokens_in_flight: int = 0
    stream_from: int = 8192
    patience: float = 60.0
    longest_silence: float | None = None
    require_seed: bool = False
    gpus: int = field(default_factory=count_gpus)
    price_per_gpu_hour: float = 0.0
    currency: str = "USD"
    gpu_tflops: float = 989.0
    batch_poll: float = 30.0
    port: int = 0
    train_threads: int = 1
    training: TrainingSettings = field(default_factory=TrainingSettings)
    cluster: ClusterSettings = field(default_factory=ClusterSettings)
    engines: dict[str, EngineSettings] = field(default_factory=dict)
    trusts_code: bool = False
    sandbox: SandboxSettings = field(default_factory=SandboxSettings)

    def engine(self, name: str) -> EngineSettings:
        return self.engines.get(name, EngineSettings())


def load_machine(file: Path | None) -> Machine:
    """The machine that `file` describes; the defaults where there is none.

    Raises UsageError where the file cannot be read or a field is unknown or of another type.
    """
    path = file or Path("machine.toml")
    if file is None and not path.exists():
        return Machine()
    try:
        table = table_in(path.read_bytes())
        if unknown := sorted(unknown_settings(table)):
            raise UsageError(f"{path}: unknown setting {unknown[0]!r}")
        found = msgspec.convert(table, Machine, strict=True, dec_hook=decode_path)
        for name, engine in found.engines.items():
            check_arguments(name, engine.arguments, engine.environment)
        declare(engine.api_key_env for engine in found.engines.values())
        return found
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise UsageError(f"{path}: {error}") from error


def unknown_settings(table: dict[str, Any]) -> Iterator[str]:
    """Settings that no class here has; of what is no table, msgspec complains."""
    engines = table.get("engines")
    parts: list[tuple[str, Any, type[DataclassInstance]]] = [
        ("", table, Machine),
        ("cluster.", table.get("cluster"), ClusterSettings),
        ("training.", table.get("training"), TrainingSettings),
        ("sandbox.", table.get("sandbox"), SandboxSettings),
    ]
    if isinstance(engines, dict):
        parts += [(f"engines.{name}.", settings, EngineSettings) for name, settings in engines.items()]
    for prefix, settings, kind in parts:
        if isinstance(settings, dict):
            known = {one.name for one in fields(kind)} - {"trusts_code"}
            yield from (f"{prefix}{key}" for key in settings if key not in known)


def decode_path(kind: type, value: object) -> object:
    """Lets TOML strings become paths."""
    if kind is not Path:
        raise NotImplementedError(kind)
    if isinstance(value, str):
        try:
            return Path(value).expanduser()
        except RuntimeError as error:
            raise ValueError(f"{value!r} names the home of a user who is not known here") from error
    raise ValueError(f"a path is text, not {value!r}")
