"""`transformers serve`: the fallback where no vLLM wheel exists.

Facts measured with 5.23 and `--continuous-batching`: sampling is that of the first request, and
sampling happens at all only where the checkpoint's generation_config.json says so; the seed belongs
to the process; `top_k`, `min_p`, `repetition_penalty` are answered 422; raw text cannot be recovered
from its chat answers. Hence one server per sampling setting, started on a folder of links with a
generation_config.json of its own, and asked at /v1/completions with our own rendering. People are served
without continuous batching: one request after the other, each with its own temperature.
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from harness.engines import OPENAI_PARAMETERS, Engine, Serving
from harness.errors import ServerError
from harness.files import read_object
from harness.machine import Machine
from harness.types import Sampling

SAMPLING_KEYS = (
    "do_sample",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "repetition_penalty",
    "_from_model_config",
)

# Unasked, the cache takes nearly all free memory: 9 GB for a model of a million parameters.
CACHE_ON_CPU = ("--cb-max-memory-percent", "0.1")


@dataclass(frozen=True, kw_only=True)
class Transformers(Engine):
    name: ClassVar[str] = "transformers"
    package: ClassVar[tuple[str, ...]] = ("transformers",)
    accepts: ClassVar[tuple[str, ...]] = OPENAI_PARAMETERS
    chat: ClassVar[bool] = False
    per_sampling: ClassVar[bool] = True
    logprobs: ClassVar[bool] = False
    metrics: ClassVar[str] = ""
    keys: ClassVar[bool] = False
    copies: ClassVar[bool] = False
    limits_context: ClassVar[bool] = False
    top_k_off: ClassVar[int] = 0

    def command(self, model: Path, served_as: str, port: int, machine: Machine) -> list[str]:
        """Serves the folder named `served_as` below the working directory, so that rows carry the
        name and not a path of this machine."""
        python = self.python(machine)
        inside = bool(machine.engine(self.name).image)
        return [
            *(["transformers"] if inside else [str(python), str(python.parent / "transformers")]),
            *("serve", served_as),
            "--continuous-batching",
            *("--host", "127.0.0.1"),
            *("--port", str(port)),
            *("--dtype", self.dtype(machine)),
            *(("--device", "auto") if machine.gpus else ("--device", "cpu", *CACHE_ON_CPU)),
            *machine.engine(self.name).arguments,
        ]

    def serving_arguments(self, serving: Serving, scratch: Path) -> list[str]:
        return ["--no-continuous-batching", *("--host", serving.host)]

    def environment(self, machine: Machine) -> dict[str, str]:
        return {**({} if machine.gpus else self.threads()), **super().environment(machine)}

    def prepare(self, model: Path, served_as: str, sampling: Sampling, scratch: Path) -> Path:
        """Links to the checkpoint's files, and a generation_config.json that carries `sampling`."""
        if sampling.min_p or sampling.repetition_penalty != 1.0:
            raise ServerError(
                "transformers serve drops min_p and repetition_penalty under continuous batching, "
                f"and {served_as} is to be sampled with min_p={sampling.min_p}, "
                f"repetition_penalty={sampling.repetition_penalty}",
                "use another engine: --engine vllm",
            )
        copy = scratch / served_as
        shutil.rmtree(copy, ignore_errors=True)
        copy.mkdir(parents=True)
        for file in model.resolve().iterdir():
            if file.name != "generation_config.json":
                (copy / file.name).symlink_to(file)
        config = generation_config(model / "generation_config.json", sampling)
        (copy / "generation_config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
        return copy

    def is_model(self, served_as: str, answered: str) -> bool:
        """It answers with the branch that it would have loaded from the Hub."""
        return answered in (served_as, f"{served_as}@main")

    def tensor_parallel(self, machine: Machine, model: Path | None = None) -> int:
        return 1


def generation_config(file: Path, sampling: Sampling) -> dict[str, Any]:
    """The checkpoint's settings (end-of-text tokens above all) with the sampling replaced."""
    found = read_object(file) if file.exists() else {}
    kept = {name: value for name, value in found.items() if name not in SAMPLING_KEYS}
    if sampling.temperature == 0:
        return {**kept, "do_sample": False}
    return {
        **kept,
        "do_sample": True,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": max(sampling.top_k, 0),
    }


transformers = Transformers()
