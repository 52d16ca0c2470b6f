"""SGLang, pinned to 0.5.23. Needs CUDA.

`--sampling-defaults openai` keeps the checkpoint's generation_config.json out of the sampling. The
seed of a request counts only under `--enable-deterministic-inference`, which costs speed: name it
in machine.toml where equal text on a re-run is worth that. Rows say whether the seed was honoured.
Without SGLANG_RETURN_ORIGINAL_LOGPROB the log-probabilities are those after temperature (sampler.py).
It takes an API key as an argument alone, or from the file of `--config` (server_args.py); and it logs all
arguments at the level "info" (entrypoints/engine.py), so that a server with a key logs warnings only.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from harness.engines import STREAM_INTERVAL, Engine, Serving
from harness.machine import Machine

KEY = "key.yaml"


@dataclass(frozen=True, kw_only=True)
class SgLang(Engine):
    name: ClassVar[str] = "sglang"
    package: ClassVar[tuple[str, ...]] = ("sglang",)
    needs_gpu: ClassVar[bool] = True
    token_ids: ClassVar[dict[str, Any]] = {"return_token_ids": True}
    streams_token_ids: ClassVar[bool] = False  # refused on streamed chat (serving_chat.py)
    parsers: ClassVar[dict[str, str]] = {"tags": "qwen3", "harmony": "gpt-oss"}

    def environment(self, machine: Machine) -> dict[str, str]:
        return {"SGLANG_RETURN_ORIGINAL_LOGPROB": "1", **super().environment(machine)}

    def serving_arguments(self, serving: Serving, scratch: Path) -> list[str]:
        return [
            *("--stream-interval", "1"),
            *("--host", serving.host),
            *(("--context-length", str(serving.context)) if serving.context else ()),
            *("--sampling-defaults", "model"),
            *(("--reasoning-parser", serving.parser) if serving.parser else ()),
            *("--dp-size", str(serving.replicas)),
            *("--tensor-parallel-size", str(serving.tensor_parallel)),
            "--enable-metrics",
            *(("--config", str(scratch / KEY), "--log-level", "warning") if serving.keyed else ()),
        ]

    def prepare_serving(self, scratch: Path, key: str) -> dict[str, str]:
        """A JSON document is a YAML document, and SGLang reads no other name than *.yaml."""
        if key:
            descriptor = os.open(scratch / KEY, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump({"api-key": key}, file)
        return {}

    def command(self, model: Path, served_as: str, port: int, machine: Machine) -> list[str]:
        return [
            str(self.python(machine)),
            *("-m", "sglang.launch_server"),
            *("--model-path", str(model)),
            *("--served-model-name", served_as),
            *("--host", "127.0.0.1"),
            *("--port", str(port)),
            *("--dtype", self.dtype(machine)),
            *("--tensor-parallel-size", str(self.tensor_parallel(machine, model))),
            *("--dp-size", str(self.data_parallel(machine, model))),
            *("--sampling-defaults", "openai"),
            *("--random-seed", "0"),
            *("--max-running-requests", str(max(1, machine.concurrency))),
            *("--log-level-http", "warning"),
            *("--stream-interval", str(STREAM_INTERVAL)),
            *machine.engine(self.name).arguments,
        ]


sglang = SgLang()
