"""SGLang, pinned to 0.5.23. Needs CUDA.

`--sampling-defaults openai` keeps the checkpoint's generation_config.json out of the sampling. The
seed of a request counts only under `--enable-deterministic-inference`, which costs speed: name it
in machine.toml where equal text on a re-run is worth that. Rows say whether the seed was honoured.
Without SGLANG_RETURN_ORIGINAL_LOGPROB the log-probabilities are those after temperature (sampler.py).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from harness.engines import Engine
from harness.machine import Machine


@dataclass(frozen=True, kw_only=True)
class SgLang(Engine):
    name: ClassVar[str] = "sglang"
    package: ClassVar[tuple[str, ...]] = ("sglang",)
    token_ids: ClassVar[dict[str, Any]] = {"return_token_ids": True}

    def environment(self, machine: Machine) -> dict[str, str]:
        return {"SGLANG_RETURN_ORIGINAL_LOGPROB": "1", **super().environment(machine)}

    def command(self, model: Path, served_as: str, port: int, machine: Machine) -> list[str]:
        return [
            str(self.python(machine)),
            *("-m", "sglang.launch_server"),
            *("--model-path", str(model)),
            *("--served-model-name", served_as),
            *("--host", "127.0.0.1"),
            *("--port", str(port)),
            *("--dtype", self.dtype(machine)),
            *("--tensor-parallel-size", str(self.tensor_parallel(machine))),
            *("--sampling-defaults", "openai"),
            *("--random-seed", "0"),
            *("--max-running-requests", str(max(1, machine.concurrency))),
            *("--log-level-http", "warning"),
            *machine.engine(self.name).arguments,
        ]


sglang = SgLang()
