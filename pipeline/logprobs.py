"""Log-probabilities of given tokens by a forward pass that never holds the logits of a whole text.

The logits of 32K positions over 150K tokens would take 20 GB. Here the transformer gives its last
hidden states, and the head is applied to `CHUNK` positions at a time: only the chosen token's logit and
the log-sum-exp are kept. Rows are padded on the right and causal attention looks left, so no mask is
needed, and attention stays linear in memory.
"""

from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from harness.errors import HarnessError, StageError
from harness.interruption import held_back
from harness.tokens import Key
from pipeline.quiet import quiet

if TYPE_CHECKING:
    import torch

CHUNK = 512  # positions; their float32 logits over 151,936 tokens take 311 MB
SAME = 0.01
CLAMPED = -9999.0  # what vLLM writes for minus infinity
SERVED = "Score with this model through a server (through='vllm')."


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """The tokens of one response behind those of its prompt. `lengths`: the response's, in UTF-8 bytes."""

    key: Key
    prompt: list[int]
    response: list[int]
    lengths: list[int]

    @property
    def ids(self) -> list[int]:
        return [*self.prompt, *self.response]


class Unscorable(HarnessError):
    """One response that cannot be scored. `reason` is what such responses have in common."""

    def __init__(self, key: Key, reason: str, message: str) -> None:
        super().__init__(message)
        self.key = key
        self.reason = reason


def check_length(row: Encoded, limit: int) -> None:
    """Raises Unscorable where a row is longer than the model's context; 0 is no limit."""
    if limit and len(row.ids) > limit:
        raise Unscorable(
            row.key,
            "the model's context is too short",
            f"response {row.key} has {len(row.ids)} tokens with its prompt, the model takes {limit}",
        )


def check_numbers(row: Encoded, logprobs: NDArray[np.float32]) -> None:
    """Raises Unscorable where a log-probability is not a number, or stands for minus infinity."""
    if not (np.isfinite(logprobs) & (logprobs > CLAMPED)).all():
        raise Unscorable(
            row.key,
            "the model gives no number for a token",
            f"the model gives no number for a token of response {row.key}: its weights, or their dtype, "
            "overflow",
        )


class Forward:
    """A model on its device, as `loaded` gives it.

    Raises StageError where its logits are not a linear map of its last hidden states.
    """

    def __init__(self, model: Any, threads: int) -> None:
        self.model = model
        self.threads = threads
        self.device = model.device
        self.head = plain_head(model)
        self.limit: int = getattr(model.config, "max_position_embeddings", None) or 0

    def logprobs(self, batch: list[Encoded]) -> list[NDArray[np.float32]]:
        """The natural log-probabilities of each row's response tokens, given all tokens before.

        No row may be longer than `limit`; they are not checked for being numbers. Raises StageError where
        the device's memory does not suffice.
        """
        import torch

        torch.set_num_threads(self.threads)  # OpenMP keeps this for each thread
        if not batch:
            return []
        try:
            with torch.inference_mode():
                values = self.flat(batch).cpu().numpy()
        except torch.OutOfMemoryError as error:
            raise StageError(
                f"{self.device} has too little memory for {len(batch)} rows, the longest of "
                f"{max(len(row.ids) for row in batch)} tokens ({error})",
                f"Free the GPU. {SERVED}",
            ) from error
        ends = accumulate((len(row.response) for row in batch), initial=0)
        return [values[start:end] for start, end in pairwise(ends)]

    def flat(self, batch: list[Encoded]) -> "torch.Tensor":
        """The log-probabilities of all response tokens of the batch, one row after the other."""
        import torch

        hidden = self.model.base_model(input_ids=self.padded(batch), use_cache=False).last_hidden_state
        predicting = torch.cat(
            [hidden[i, len(row.prompt) - 1 : len(row.ids) - 1] for i, row in enumerate(batch)]
        )
        chosen = torch.tensor([token for row in batch for token in row.response], device=self.device)
        return chosen_logprobs(predicting, chosen.long(), self.head)

    def padded(self, batch: list[Encoded]) -> "torch.Tensor":
        """(rows, longest) token ids, filled up with zeros that no token before them attends to."""
        import torch

        ids = torch.zeros(len(batch), max(len(row.ids) for row in batch), dtype=torch.long)
        for i, row in enumerate(batch):
            ids[i, : len(row.ids)] = torch.tensor(row.ids)
        return ids.to(self.device)


class Copies:
    """A copy of the model on each device; a thread that asks waits for one that is free."""

    def __init__(self, copies: list[Forward]) -> None:
        self.limit = copies[0].limit
        self.free: SimpleQueue[Forward] = SimpleQueue()
        for copy in copies:
            self.free.put(copy)

    def logprobs(self, batch: list[Encoded]) -> list[NDArray[np.float32]]:
        """As Forward's. May be called from several threads at once."""
        copy = self.free.get()
        try:
            return copy.logprobs(batch)
        finally:
            self.free.put(copy)


def devices(gpus: int) -> list[str]:
    """Where copies of the model go. Raises StageError where torch does not see the machine's GPUs."""
    with held_back():
        import torch
        import transformers  # noqa: F401

    if not gpus:
        return ["cpu"]
    if not torch.cuda.device_count():
        raise StageError(
            f"this machine has {gpus} GPUs and torch {torch.__version__} sees none",
            "Install the CUDA build of torch, or set gpus = 0 in machine.toml.",
        )
    return [f"cuda:{number}" for number in range(min(gpus, torch.cuda.device_count()))]


def fingerprint(device: str) -> dict[str, str]:
    """What computes the numbers; a run is not gone on with by another."""
    import torch
    import transformers

    return {
        "engine": "forward",
        "version": transformers.__version__,
        "torch": torch.__version__,
        "dtype": str(dtype(device)).removeprefix("torch."),
    }


def dtype(device: str) -> "torch.dtype":
    import torch

    return torch.float32 if device == "cpu" else torch.bfloat16


def loaded(model: Path, device: str) -> Any:
    """A checkpoint on a device: float32 on a CPU, bfloat16 on a GPU.

    Raises StageError where transformers has no attention for it whose memory is linear in the length.
    """
    from transformers import AutoModelForCausalLM

    quiet()
    try:
        found = AutoModelForCausalLM.from_pretrained(model, dtype=dtype(device), attn_implementation="sdpa")
    except ValueError as error:
        raise StageError(f"transformers cannot score with {model}: {error}", SERVED) from error
    return found.eval().to(device)


def plain_head(model: Any) -> "torch.nn.Linear":
    """The layer that turns hidden states into logits, put to the proof on a few tokens.

    Raises StageError where the model's own logits are something else: capped, scaled, of two heads.
    """
    import torch

    head, config = model.get_output_embeddings(), model.config
    if not isinstance(head, torch.nn.Linear) or getattr(config, "final_logit_softcapping", None):
        raise not_plain(config.model_type, type(head).__name__)
    ids = torch.arange(8, device=head.weight.device).unsqueeze(0)
    with torch.inference_mode():
        ours = head(model.base_model(input_ids=ids, use_cache=False).last_hidden_state).float()
        theirs = model(input_ids=ids, use_cache=False).logits.float()
    if ours.shape != theirs.shape or (ours - theirs).abs().max() > SAME * theirs.abs().max():
        raise not_plain(config.model_type, type(head).__name__)
    return head


def not_plain(kind: str, head: str) -> StageError:
    return StageError(
        f"the logits of a {kind} model are not its last hidden states times its head ({head}); a plain "
        "linear head without capping or scaling was expected",
        SERVED,
    )


def chosen_logprobs(
    hidden: "torch.Tensor", chosen: "torch.Tensor", head: "torch.nn.Linear"
) -> "torch.Tensor":
    """(positions,) float32 log-probabilities of `chosen` ids, from (positions, width) hidden states."""
    import torch

    chunks = zip(torch.split(hidden, CHUNK), torch.split(chosen, CHUNK), strict=True)
    return torch.cat([chunk_logprobs(float32_logits(states, head), ids) for states, ids in chunks])


def chunk_logprobs(logits: "torch.Tensor", chosen: "torch.Tensor") -> "torch.Tensor":
    """The same from (positions, vocabulary) logits, which are overwritten: there is room for them once."""
    wanted = logits.gather(1, chosen.unsqueeze(1)).squeeze(1)
    peak = logits.amax(1)
    total = logits.sub_(peak.unsqueeze(1)).exp_().sum(1)
    return wanted - peak - total.log()


def float32_logits(hidden: "torch.Tensor", head: "torch.nn.Linear") -> "torch.Tensor":
    """The head's product summed and kept in float32: as bfloat16 a logit of 20 is off by 0.06.

    On a GPU the factors stay bfloat16, whose products float32 holds exactly.
    """
    import torch

    if hidden.is_cuda and hidden.dtype != torch.float32:
        logits = torch.mm(hidden, head.weight.T, out_dtype=torch.float32)
    else:
        logits = hidden.float() @ head.weight.float().T
    return logits if head.bias is None else logits.add_(head.bias.float())
