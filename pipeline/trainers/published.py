"""The published training settings as LLaMA-Factory reads them, and every key that we change, and why.

D2I-ai/dasd-thinking at f951829: `train/stage1.yaml` and `train/stage2.yaml`, which differ in base, data
set and output folder only, and `train/deepspeed/ds_z3_config.json`, kept here byte for byte. The
published files hold `seed` twice, which the reader of LLaMA-Factory 0.9.5 refuses; here it stands once.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import UsageError
from harness.machine import Machine

if TYPE_CHECKING:
    from pipeline.sft import Sft

Value = str | int | float | bool | None | dict[str, float]

SUBSTITUTED = ("model_name_or_path", "dataset", "output_dir")
PLAIN = re.compile(r"[A-Za-z/][\w./-]*|\./[\w./-]+")
WORDS = {"y", "n", "yes", "no", "on", "off", "true", "false", "null"}  # no texts in YAML 1.1
ZERO3 = Path(__file__).with_name("ds_z3_config.json")
ZERO3_PATH = "./train/deepspeed/ds_z3_config.json"

PUBLISHED: dict[str, dict[str, Value]] = {
    "model": {
        "model_name_or_path": "Qwen/Qwen3-4B-Thinking-2507",
        "enable_liger_kernel": True,
    },
    "method": {
        "stage": "sft",
        "do_train": True,
        "finetuning_type": "full",
    },
    "ddp": {
        "ddp_timeout": 180000000,
        "deepspeed": ZERO3_PATH,
        "flash_attn": "fa2",
    },
    "dataset": {
        "dataset": "Apsara-Reason-v1-SFT-stage1",
        "template": "qwen",
        "cutoff_len": 65536,
        "packing": True,
        "overwrite_cache": True,
        "preprocessing_num_workers": 32,
        "seed": 42,
    },
    "output": {
        "output_dir": "stage1_checkpoints",
        "logging_steps": 1,
        "save_strategy": "epoch",
        "save_total_limit": 6,
        "overwrite_output_dir": False,
        "save_only_model": False,
        "plot_loss": True,
    },
    "train": {
        "per_device_train_batch_size": 1,
        "gradient_accumulation_steps": 4,
        "learning_rate": 5e-5,
        "adam_beta1": 0.9,
        "adam_beta2": 0.95,
        "adam_epsilon": 1e-8,
        "max_grad_norm": 1.0,
        "weight_decay": 0.1,
        "num_train_epochs": 6.0,
        "lr_scheduler_type": "cosine_with_min_lr",
        "lr_scheduler_kwargs": {"min_lr": 1e-5},
        "warmup_ratio": 0.1,
        "bf16": True,
    },
}


@dataclass(frozen=True, kw_only=True)
class Change:
    """A key with another value than the published one, or that the published file lacks."""

    key: str
    value: Value
    reason: str


def published_values() -> dict[str, Value]:
    return {key: value for section in PUBLISHED.values() for key, value in section.items()}


def changes(stage: "Sft", machine: Machine) -> list[Change]:
    """What differs from the published file for this recipe on this machine; the last word on a key counts.

    Raises UsageError where the batch does not divide among the processes.
    """
    published = published_values()
    wanted = [*of_recipe(stage), *of_batch(stage, machine), *of_packing(stage, machine)]
    last = {change.key: change for change in [*wanted, *of_cpu(stage, machine)]}
    return [one for one in last.values() if one.key not in published or one.value != published[one.key]]


def of_recipe(stage: "Sft") -> Iterator[Change]:
    values: dict[str, Value] = {
        "cutoff_len": stage.cutoff,
        "seed": stage.seed,
        "learning_rate": stage.learning_rate,
        "weight_decay": stage.weight_decay,
        "num_train_epochs": float(stage.epochs),
        "lr_scheduler_kwargs": {"min_lr": stage.minimum_learning_rate},
        "warmup_ratio": stage.warmup,
    }
    for key, value in values.items():
        yield Change(key=key, value=value, reason="the recipe's value")
    if stage.system is None:
        reason = "no system message at all; the template would insert one of its own"
        yield Change(key="default_system", value="", reason=reason)


def of_batch(stage: "Sft", machine: Machine) -> Iterator[Change]:
    count = processes(machine)
    yield Change(
        key="gradient_accumulation_steps",
        value=accumulation(stage.batch, count),
        reason=f"{stage.batch} sequences a step among {count} {'processes' if count > 1 else 'process'}",
    )


def of_packing(stage: "Sft", machine: Machine) -> Iterator[Change]:
    """With FlashAttention the position ids of `packing: true` keep rows apart; with torch's attention
    only `neat_packing` does (docs/training.md)."""
    match stage.packing:
        case "none":
            yield Change(key="packing", value=False, reason="the recipe trains one row a sequence")
        case "attending":
            reason = "FlashAttention would keep packed rows apart, and the recipe lets them attend"
            yield Change(key="flash_attn", value="sdpa", reason=reason)
        case "isolated" if not machine.gpus:
            reason = "without FlashAttention only this keeps packed rows apart"
            yield Change(key="neat_packing", value=True, reason=reason)


def of_cpu(stage: "Sft", machine: Machine) -> Iterator[Change]:
    if machine.gpus:
        return
    yield Change(key="use_cpu", value=True, reason="this machine has no GPU")
    yield Change(key="enable_liger_kernel", value=False, reason="Liger's kernels need a GPU")
    yield Change(key="deepspeed", value=None, reason="nothing to shard without GPUs")
    yield Change(
        key="flash_attn", value="sdpa", reason="FlashAttention needs a GPU; torch's attention instead"
    )
    yield Change(key="bf16", value=False, reason="float32 is faster and more exact on a CPU")
    reason = "rows are packed with those of the same worker only, and few rows would be packed badly"
    yield Change(key="preprocessing_num_workers", value=1, reason=reason)


def processes(machine: Machine) -> int:
    """Training processes: one a GPU, or one a machine where there is none."""
    return machine.training.nodes * max(1, machine.gpus)


def accumulation(batch: int, processes: int) -> int:
    """Sequences that each process takes a step, one after the other; together they are the batch.

    Raises UsageError where they cannot be.
    """
    if batch % processes == 0:
        return batch // processes
    possible = ", ".join(str(count) for count in range(1, batch + 1) if batch % count == 0)
    raise UsageError(
        f"a batch of {batch} sequences does not divide among {processes} training processes",
        f"train with one of these numbers of GPUs (all nodes together): {possible}",
    )


def training_yaml(stage: "Sft", machine: Machine, base: Path, dataset: str, output: str) -> str:
    """The YAML for LLaMA-Factory: the published keys in their order, then the changed ones with reasons."""
    substituted = dict(zip(SUBSTITUTED, (str(base), dataset, output), strict=True))
    changed = changes(stage, machine)
    moved = {change.key for change in changed}
    lines = ["# train/stage1.yaml of D2I-ai/dasd-thinking at f951829 with base, data set and output replaced"]
    for section, values in PUBLISHED.items():
        kept = {key: substituted.get(key, value) for key, value in values.items() if key not in moved}
        lines += ["", f"### {section}", *(f"{key}: {scalar(value)}" for key, value in kept.items())]
    if changed:
        lines += ["", "### changed from the published file"]
    for change in changed:
        lines += [f"# {change.reason}{was(change.key)}", f"{change.key}: {scalar(change.value)}"]
    return "\n".join(lines) + "\n"


def was(key: str) -> str:
    published = published_values()
    return f" (published: {scalar(published[key])})" if key in published else " (not in the published file)"


def scalar(value: Value) -> str:
    """A value in YAML's flow style. Floats get a point: YAML 1.1 reads 5e-05 as text."""
    match value:
        case float():
            mantissa, exponent, power = repr(value).partition("e")
            return (mantissa if "." in mantissa else f"{mantissa}.0") + exponent + power
        case dict():
            return "{" + ", ".join(f"{scalar(key)}: {scalar(one)}" for key, one in value.items()) + "}"
        case str() if PLAIN.fullmatch(value) and value.lower() not in WORDS:
            return value
    return json.dumps(value, ensure_ascii=False)
