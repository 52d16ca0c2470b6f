"""Tokens a second and memory of scoring, beside the naive way that holds all logits at once.

python -m tests.performance.score_rate      both ways on the CPU, then on a GPU where there is one
"""

import json
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec

from pipeline.logprobs import Encoded, Forward, chosen_logprobs, loaded
from pipeline.quiet import quiet
from tests.pipeline import naive_scores

Way = Literal["chunked", "naive"]

VOCABULARY = 151_936  # Qwen3's
PROMPT = 64
BOTH_FIT = 2_048
TOLERANCE = 1e-3  # in log-probability

QWEN3_4B = {
    "vocab_size": VOCABULARY,
    "hidden_size": 2560,
    "intermediate_size": 9728,
    "num_hidden_layers": 36,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "max_position_embeddings": 262_144,
    "tie_word_embeddings": True,
}
SLIM = {
    **QWEN3_4B,
    "hidden_size": 64,
    "intermediate_size": 192,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
}

# Dense bfloat16 TFLOP/s of the makers' data sheets; the first name that the driver's name holds counts.
PEAKS = {
    "B200": 2250.0,
    "H100 PCIe": 756.0,
    "H100": 989.0,
    "H200": 989.0,
    "A100": 312.0,
    "L40S": 362.0,
    "H20": 148.0,
}


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Seconds of scoring one row, and the most bytes that it took above the loaded model."""

    tokens: int
    seconds: float
    peak: int

    @property
    def rate(self) -> float:
        return self.tokens / self.seconds


def slim_checkpoint(folder: Path) -> Path:
    """A Qwen3 of random weights with the real vocabulary and hardly any width."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    quiet()
    torch.manual_seed(0)
    Qwen3ForCausalLM(Qwen3Config(**SLIM)).save_pretrained(folder)
    return folder


def sequence(tokens: int) -> Encoded:
    """A row of `tokens` random tokens, a few of them its prompt."""
    rng = random.Random(tokens)
    ids = [rng.randrange(VOCABULARY) for _ in range(tokens)]
    return Encoded(
        key=("row", 0), prompt=ids[:PROMPT], response=ids[PROMPT:], lengths=[1] * (tokens - PROMPT)
    )


def measure(model: Path, way: Way, tokens: int) -> Measured:
    """One row scored on one core by a process of its own, so that no other memory is counted."""
    command = [sys.executable, "-m", __spec__.name, str(model), way, str(tokens)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2])
    return msgspec.json.decode(done.stdout.splitlines()[-1], type=Measured)


def child(model: Path, way: Way, tokens: int) -> Measured:
    import torch

    quiet()
    torch.set_num_threads(1)
    if way == "chunked":
        forward = Forward(loaded(model, "cpu"), threads=1)
        score: Any = lambda row: forward.logprobs([row])  # noqa: E731
    else:
        naive = naive_scores.load(model)
        score = lambda row: naive_scores.logprobs(naive, row)  # noqa: E731
    score(sequence(2 * PROMPT))
    row = sequence(tokens)
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM starts again at what is held now
    before, started = status("VmRSS"), time.perf_counter()
    score(row)
    return Measured(tokens=tokens, seconds=time.perf_counter() - started, peak=status("VmHWM") - before)


def status(name: str) -> int:
    """Bytes of one line of /proc/self/status."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(f"{name}:")).split()[1])


def mib(size: float) -> str:
    return f"{size / 2**20:,.0f} MiB"


def both_ways(model: Path) -> str:
    chunked, naive = (measure(model, way, BOTH_FIT) for way in ("chunked", "naive"))
    return (
        f"{BOTH_FIT:,} tokens over a vocabulary of {VOCABULARY:,} on one core: "
        f"{chunked.rate:,.0f} tokens/s and {mib(chunked.peak)} in chunks, "
        f"{naive.rate:,.0f} tokens/s and {mib(naive.peak)} with all logits at once"
    )


def off(model: Any, tokens: int) -> float:
    """The largest difference between our log-probabilities and the naive ones of the same hidden states.

    The naive ones: all logits at once, of states and head turned to float32, and torch's own log-softmax.
    """
    import torch

    row, head = sequence(tokens), model.get_output_embeddings()
    with torch.inference_mode():
        ids = torch.tensor([row.ids], device=model.device)
        hidden = model.base_model(input_ids=ids, use_cache=False).last_hidden_state[0, :-1]
        ours = chosen_logprobs(hidden, ids[0, 1:], head)
        table = (hidden.float() @ head.weight.float().T).log_softmax(-1)
        return float((ours - table.gather(1, ids[0, 1:, None]).squeeze(1)).abs().max())


def on_gpu(tokens: int = 16_384, rounds: int = 3) -> str:
    """A randomly initialised Qwen3-4B on one row: tokens/s and the share of the chip's peak.

    Raises AssertionError where its numbers are not the naive ones within TOLERANCE.
    """
    import torch
    from transformers import AutoModelForCausalLM, Qwen3Config

    if not torch.cuda.is_available():
        return f"Qwen3-4B at {tokens:,} tokens: not run: no GPU"
    with torch.device("cuda:0"):
        config = Qwen3Config(**QWEN3_4B)
        drawn = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16, attn_implementation="sdpa")
    forward, row = Forward(drawn.eval(), threads=1), sequence(tokens)
    apart = off(drawn, BOTH_FIT)
    if not apart <= TOLERANCE:
        raise AssertionError(
            f"log-probabilities are off by {apart:.1e}, at most {TOLERANCE:.0e} was expected"
        )
    forward.logprobs([row])
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before, started = torch.cuda.memory_allocated(), time.perf_counter()
    for _ in range(rounds):
        forward.logprobs([row])
    seconds = (time.perf_counter() - started) / rounds
    peak = mib(torch.cuda.max_memory_allocated() - before)
    name = torch.cuda.get_device_name(0)
    return (
        f"Qwen3-4B at {tokens:,} tokens on {name}: {tokens / seconds:,.0f} tokens/s, "
        f"{share_of_peak(name, operations(tokens), seconds)}, {peak} above the model, "
        f"off by {apart:.1e} at most over {BOTH_FIT:,} tokens"
    )


def operations(tokens: int) -> float:
    """Floating-point operations of one row: weights, head, and causal attention."""
    width, layers = QWEN3_4B["hidden_size"], QWEN3_4B["num_hidden_layers"]
    heads = QWEN3_4B["num_attention_heads"] * QWEN3_4B["head_dim"]
    shared = 2 * QWEN3_4B["num_key_value_heads"] * QWEN3_4B["head_dim"]
    weights = layers * width * (2 * heads + shared + 3 * QWEN3_4B["intermediate_size"]) + width * VOCABULARY
    return tokens * (2 * weights + 2 * tokens * heads * layers)


def share_of_peak(name: str, done: float, seconds: float) -> str:
    peak = next((value for chip, value in PEAKS.items() if chip in name), None)
    reached = done / seconds / 1e12
    if peak is None:
        return f"{reached:,.0f} TFLOP/s (the peak of this chip is not in our table)"
    return f"{reached:,.0f} TFLOP/s, {reached / peak:.0%} of its peak"


def main() -> None:
    if len(sys.argv) == 4:
        model, way, tokens = sys.argv[1:]
        print(json.dumps(msgspec.to_builtins(child(Path(model), way, int(tokens)))))  # type: ignore[arg-type]
        return
    with tempfile.TemporaryDirectory(prefix="harness-score-") as folder:
        print(both_ways(slim_checkpoint(Path(folder))))
    print(on_gpu())


if __name__ == "__main__":
    main()
