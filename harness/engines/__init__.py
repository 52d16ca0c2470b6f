"""Engine: turns a checkpoint into an OpenAI-compatible URL. Always another process, never imported.

One file an engine; each ends with a module-level value of its own. Two engines differ in their
argument list and in what they honour, and in nothing else.
"""

import functools
import itertools
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from harness.container import in_image
from harness.errors import DataError, ServerError
from harness.files import read_object
from harness.hardware import ROOM, gpus_to_hold, hardware
from harness.machine import Machine
from harness.secrets import without_secrets
from harness.setup import environment_python
from harness.types import Sampling

ALL_PARAMETERS = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")
OPENAI_PARAMETERS = ("temperature", "top_p")

TENSOR_PARALLEL = ("--tensor-parallel-size", "-tp", "--tp", "--tp-size")
DATA_PARALLEL = ("--data-parallel-size", "-dp", "--dp", "--dp-size")

HARMLESS = (
    *TENSOR_PARALLEL, *DATA_PARALLEL, "--dtype", "--gpu-memory-utilization", "--mem-fraction-static",
    "--max-num-seqs", "--max-running-requests", "--max-model-len", "--context-length", "--stream-interval",
    "--distributed-executor-backend", "--pipeline-parallel-size", "--swap-space", "--download-dir",
    "--api-key", "--hf-token", "--ssl-keyfile", "--ssl-certfile",
    "--reasoning-parser", "--uvicorn-log-level", "--log-level", "--log-level-http", "--disable-log-stats",
    "--enable-prefix-caching", "--no-enable-prefix-caching", "--max-num-batched-tokens",
)  # fmt: skip
"""Arguments that no text depends on, and those that are recorded by a name of their own."""

STREAM_INTERVAL = 16
"""Tokens of one streamed event. Nobody reads along here, and every event costs both sides."""


@dataclass(frozen=True, kw_only=True)
class Serving:
    """What `harness serve` decides beyond an engine's usual command.

    `context` is in tokens, 0 for as much of the checkpoint's own as fits into memory. `parser` is the
    engine's name of a reasoning parser, "" for none. `replicas` are copies of the model behind the one port,
    each over `tensor_parallel` GPUs. `keyed` servers ask for the API key.
    """

    host: str
    context: int
    parser: str
    replicas: int
    tensor_parallel: int
    keyed: bool = False


@dataclass(frozen=True, kw_only=True)
class Engine:
    """What the harness must know of one kind of server.

    `accepts` are the parameters of Sampling that a request may carry; `max_tokens` and `seed` always
    go with it. `chat` engines are asked at /v1/chat/completions; for the others the harness renders
    the chat template itself and asks /v1/completions. `raw_prompt` goes with every prompt that the
    harness rendered, `token_ids` with every request whose tokens are wanted, and such answers
    are streamed only where the engine `streams_token_ids`. `per_sampling` engines
    fix the sampling when they start. `package` is the distribution whose version is recorded, `health`
    the path that answers 200 once the server is up ("" where there is none), `metrics` that of Prometheus
    figures. `parsers` are its names for reasoning parsers, by how a checkpoint marks its reasoning; `keys`,
    `copies` and `limits_context` say whether it can ask for an API key, serve several copies of a model and
    be given a context; `renders_harmony` that it ignores gpt-oss's chat template; `top_k_off` is its way to
    write that top_k is off; `needs_gpu` that it runs on no CPU.
    """

    name: ClassVar[str]
    package: ClassVar[tuple[str, ...]] = ()
    accepts: ClassVar[tuple[str, ...]] = ALL_PARAMETERS
    chat: ClassVar[bool] = True
    per_sampling: ClassVar[bool] = False
    local: ClassVar[bool] = True
    logprobs: ClassVar[bool] = True
    health: ClassVar[str] = "/health"
    metrics: ClassVar[str] = "/metrics"
    parsers: ClassVar[dict[str, str]] = {}
    keys: ClassVar[bool] = True
    copies: ClassVar[bool] = True
    limits_context: ClassVar[bool] = True
    renders_harmony: ClassVar[bool] = False
    top_k_off: ClassVar[int] = -1
    needs_gpu: ClassVar[bool] = False
    raw_prompt: ClassVar[dict[str, Any]] = {}
    token_ids: ClassVar[dict[str, Any]] = {}
    streams_token_ids: ClassVar[bool] = True

    def command(self, model: Path, served_as: str, port: int, machine: Machine) -> list[str]:
        """The server's command line. It runs in a scratch folder that holds what `prepare` made."""
        raise NotImplementedError

    def serving_arguments(self, serving: Serving, scratch: Path) -> list[str]:
        """What follows `command` where people are served; the last of two equal switches counts.

        The server runs in `scratch`, a folder that nobody else can read.
        """
        raise NotImplementedError

    def prepare_serving(self, scratch: Path, key: str) -> dict[str, str]:
        """Files and environment variables of a server for people; the only way the key takes. What it
        writes below `scratch` is deleted once the server has read it."""
        return {}

    def environment(self, machine: Machine) -> dict[str, str]:
        """Environment variables on top of the harness's own; machine.toml's come last."""
        return {**OFFLINE, **machine.engine(self.name).environment}

    def prepare(self, model: Path, served_as: str, sampling: Sampling, scratch: Path) -> Path:
        """The folder that the server loads: the checkpoint itself, or a copy that carries `sampling`.

        Raises ServerError where the engine cannot sample like that.
        """
        return model

    def is_model(self, served_as: str, answered: str) -> bool:
        """Whether the model id of an answer is the one asked for."""
        return answered == served_as

    def python(self, machine: Machine) -> Path:
        """The interpreter of this engine's environment, or of its image. Raises UsageError where the
        environment is not set up."""
        if machine.engine(self.name).image:
            return Path("python3")
        return environment_python(self.name, machine)

    def version(self, machine: Machine) -> str:
        if image := machine.engine(self.name).image:
            return image_version(image, self.package)
        return installed_version(self.python(machine), self.package)

    def dtype(self, machine: Machine) -> str:
        """Of weights and activations. float32 on a CPU, where it is the faster one as well."""
        return self.argument(machine, ("--dtype",)) or ("bfloat16" if machine.gpus else "float32")

    def tensor_parallel(self, machine: Machine, model: Path | None = None) -> int:
        """How many GPUs one copy of the model takes: as few as hold it, unless machine.toml says otherwise;
        all where the model or the GPUs' memory is not known. A power of two: other numbers do not divide the
        heads."""
        if given := self.argument(machine, TENSOR_PARALLEL):
            return int(given)
        most = 1 << (max(1, machine.gpus).bit_length() - 1)
        memory = hardware(machine).gpu_bytes if model is not None else 0.0
        if model is None or not memory:
            return most
        least = gpus_to_hold(weight_bytes(model) * ROOM, memory)
        return min(most, 1 << (least - 1).bit_length())

    def data_parallel(self, machine: Machine, model: Path | None = None) -> int:
        """Copies of the model behind one server: as many as the GPUs allow, unless machine.toml says
        otherwise."""
        if given := self.argument(machine, DATA_PARALLEL):
            return int(given)
        return max(1, machine.gpus // self.tensor_parallel(machine, model)) if self.copies else 1

    def argument(self, machine: Machine, switches: tuple[str, ...]) -> str:
        """What machine.toml's arguments give for a switch, "" where they do not: it must be recorded."""
        words = [part for word in machine.engine(self.name).arguments for part in word.split("=", 1)]
        return next((value for word, value in itertools.pairwise(words) if word in switches), "")

    def threads(self) -> dict[str, str]:
        """On a CPU: one core is left to the HTTP side and to a training run, and waiting threads sleep:
        spinning on a busy core costs a factor of ten."""
        cores = len(os.sched_getaffinity(0))
        return {"OMP_NUM_THREADS": str(max(1, cores - 1)), "OMP_WAIT_POLICY": "PASSIVE"}

    def fingerprint(self, machine: Machine, model: Path | None = None) -> dict[str, str]:
        """What is recorded with every file of rows; rows of two fingerprints are never mixed."""
        return {
            "engine": self.name,
            "version": self.version(machine),
            "dtype": self.dtype(machine),
            "tensor_parallel": str(self.tensor_parallel(machine, model)),
            **({"data_parallel": str(copies)} if (copies := self.shared_experts(machine, model)) > 1 else {}),
            **({"arguments": told} if (told := telling(machine.engine(self.name).arguments)) else {}),
        }

    def shared_experts(self, machine: Machine, model: Path | None) -> int:
        """Over how many copies the experts of a mixture are spread, which changes its sums; 1 for others."""
        return self.data_parallel(machine, model) if model is not None and is_mixture(model) else 1


def is_mixture(model: Path) -> bool:
    """Whether a checkpoint is a mixture of experts."""
    try:
        config = read_object(model / "config.json")
    except (OSError, DataError):
        return False
    return any(config.get(name) for name in ("num_experts", "num_local_experts", "n_routed_experts"))


def telling(arguments: Sequence[str]) -> str:
    """The arguments, with their values, that may change a text (a quantization, say); those that only say
    where and how fast, and keys, are left out."""
    kept: list[str] = []
    harmless = False
    for word in arguments:
        if word.startswith("-"):
            harmless = word.partition("=")[0] in HARMLESS
        if not harmless:
            kept.append(word)
    return " ".join(kept)


def weight_bytes(model: Path) -> int:
    """Bytes of a checkpoint's weights."""
    return sum(file.stat().st_size for file in model.glob("*.safetensors"))


OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "TOKENIZERS_PARALLELISM": "false",
}


VERSION = (
    "import sys; from importlib.metadata import distributions as d\n"
    "found = {i.metadata['Name'].lower().replace('_', '-'): i.version for i in d()}\n"
    "print(next((found[name] for name in sys.argv[1:] if name in found), ''))"
)


@functools.cache
def installed_version(python: Path, packages: tuple[str, ...]) -> str:
    """Version of the first of `packages` that is installed; asks the metadata and imports nothing.

    Raises ServerError where none is.
    """
    version = told_version([str(python)], packages)
    if not version:
        raise ServerError(f"{python} has no {' or '.join(packages)} installed", "run: harness setup again")
    return version


@functools.cache
def image_version(image: str, packages: tuple[str, ...]) -> str:
    """As `installed_version`, of a Docker image."""
    version = told_version(in_image(image), packages)
    if not version:
        raise ServerError(
            f"the image {image} does not run, or has no {' or '.join(packages)} installed",
            f"try: docker run --rm --entrypoint python3 {image} -m pip list",
        )
    return version


def told_version(python: list[str], packages: tuple[str, ...]) -> str:
    done = subprocess.run(
        [*python, "-c", VERSION, *packages],
        env=without_secrets(os.environ), capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.stdout.strip()
