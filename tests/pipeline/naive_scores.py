"""The obvious way to score: one row at a time, all logits at once, log-softmax over each position."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.logprobs import Encoded

if TYPE_CHECKING:
    import torch


def load(model: Path) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()


def logprobs(model: Any, row: Encoded) -> "torch.Tensor":
    """The log-probability of each response token."""
    import torch

    with torch.inference_mode():
        table = model(input_ids=torch.tensor([row.ids])).logits.float().log_softmax(-1)
    predicting = table[0, len(row.prompt) - 1 : len(row.ids) - 1]
    return predicting.gather(1, torch.tensor(row.response).long().unsqueeze(1)).squeeze(1)
