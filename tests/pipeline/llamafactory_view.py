"""What LLaMA-Factory makes of a stage's files, by its own code. Runs in its environment.

Each line of its input is JSON, a view and a stage's folder; the view is written to VIEW.json there. Says
`ready` once LLaMA-Factory is loaded, which takes most of the time, and then an exit code for each line:

["rows", FOLDER]          the data set as training would get it
["attention", FOLDER]     which packed rows a token attends to, by attention code
"""

import json
import multiprocessing
import os
import sys
from pathlib import Path
from typing import Any

import torch
from llamafactory.data import SFTDataCollatorWith4DAttentionMask, get_dataset, get_template_and_fix_tokenizer
from llamafactory.hparams import get_train_args
from llamafactory.hparams.parser import read_args
from llamafactory.model import load_model, load_tokenizer
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import flash_attention_mask
from transformers.modeling_flash_attention_utils import _is_packed_sequence, _prepare_from_posids


def loaded() -> dict[str, Any]:
    """Everything that `llamafactory.train.sft.workflow.run_sft` loads before it trains."""
    sys.argv = ["train", "train.yaml"]
    model_args, data_args, training_args, finetuning_args, _ = get_train_args(read_args())
    tokens = load_tokenizer(model_args)
    template = get_template_and_fix_tokenizer(tokens["tokenizer"], data_args)
    data = get_dataset(template, model_args, data_args, training_args, stage="sft", **tokens)
    return {
        "model_args": model_args,
        "data_args": data_args,
        "finetuning_args": finetuning_args,
        "tokens": tokens,
        "template": template,
        "rows": data["train_dataset"],
    }


def rows() -> list[dict[str, list[int]]]:
    wanted = ("input_ids", "labels", "position_ids")
    return [{name: list(row[name]) for name in wanted if name in row} for row in loaded()["rows"]]


def attention() -> dict[str, Any]:
    """Of the first packed sequence: the lengths of its rows; whether the last row's logits change with
    the first row's tokens; and how transformers' FlashAttention code would divide it."""
    parts = loaded()
    model = load_model(
        parts["tokens"]["tokenizer"], parts["model_args"], parts["finetuning_args"], True
    ).eval()
    row = dict(parts["rows"][0])
    positions = torch.tensor(row["position_ids"])
    starts = (positions == 0).nonzero().flatten().tolist()
    padding = len(row["labels"]) - max(i for i, label in enumerate(row["labels"]) if label != -100) - 1
    last = max(start for start in starts if start < len(positions) - padding)
    changed = {**row, "input_ids": [(one + 1) % 100 for one in row["input_ids"][: starts[1]]]}
    changed["input_ids"] += row["input_ids"][starts[1] :]
    before, after = (logits(model, parts, one)[last : len(positions) - padding] for one in (row, changed))
    return {
        "starts": starts,
        "attends": not torch.allclose(before, after, atol=1e-5),
        "flash_borders": flash_borders(model, parts, row),
    }


def logits(model: Any, parts: dict[str, Any], row: dict[str, Any]) -> torch.Tensor:
    with torch.no_grad():
        return model(**batch(model, parts, row)).logits[0]


def batch(model: Any, parts: dict[str, Any], row: dict[str, Any]) -> dict[str, torch.Tensor]:
    collator = SFTDataCollatorWith4DAttentionMask(
        template=parts["template"],
        model=model,
        pad_to_multiple_of=8,
        label_pad_token_id=-100,
        block_diag_attn=parts["model_args"].block_diag_attn,
        neat_packing=parts["data_args"].neat_packing,
        attn_implementation=model.config._attn_implementation,
        compute_dtype=parts["model_args"].compute_dtype,
        **parts["tokens"],
    )
    return dict(collator([dict(row)]))


def flash_borders(model: Any, parts: dict[str, Any], row: dict[str, Any]) -> list[int] | None:
    """Where transformers' FlashAttention code would cut the sequence; None where it would not.

    FlashAttention itself needs a GPU. The attention named here gets the mask and the position ids that
    it would get, asks the same functions, and then attends by torch.
    """
    met: list[list[int] | None] = []

    def probe(module: Any, query: Any, key: Any, value: Any, attention_mask: Any, **more: Any) -> Any:
        positions = more.get("position_ids")
        found = None
        if attention_mask is None and _is_packed_sequence(positions, batch_size=query.size(0)):
            states = (one.transpose(1, 2) for one in (query, key, value))
            found = _prepare_from_posids(*states, positions)[3][0].tolist()
        met.append(found)
        return AttentionInterface()["sdpa"](module, query, key, value, attention_mask, **more)

    AttentionInterface.register("probe", probe)
    AttentionMaskInterface.register("probe", flash_attention_mask)
    inputs = batch(model, parts, row)
    model.config._attn_implementation = "probe"
    with torch.no_grad():
        model(**inputs)
    return met[0]


def write(what: str, folder: str) -> None:
    """Writes a view, and what was said meanwhile to VIEW.log."""
    os.chdir(folder)
    with open(f"{what}.log", "wb") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    view = {"rows": rows, "attention": attention}[what]
    Path(f"{what}.json").write_text(json.dumps(view()), encoding="utf-8")


def serve() -> None:
    """Each view in a process of its own: none sees what another left behind."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        child = multiprocessing.get_context("fork").Process(target=write, args=json.loads(line))
        child.start()
        child.join()
        print(child.exitcode, file=answers, flush=True)
    os._exit(0)  # what was loaded takes seconds to clear away


if __name__ == "__main__":
    serve()
