"""TRL's SFTTrainer in process, in float32, on one device: for models that a CPU can train.

Packed rows do not attend across their borders: TRL restarts the position ids at each row.
"""

import gc
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.files import write_json
from harness.interruption import held_back
from harness.rows import read_rows
from harness.store import Context
from harness.types import Generation
from pipeline.quiet import quiet
from pipeline.tokenizer import StudentTokens
from pipeline.trainers.checkpoints import copy_chat_files, last_checkpoint

if TYPE_CHECKING:
    from trl import SFTConfig, SFTTrainer

    from pipeline.sft import Example, Sft


def train(stage: "Sft", out: Path, context: Context) -> None:
    """Trains on all rows of the stage's data and writes what Sft promises.

    Of a GPU's memory only CUDA's context, some hundred MB, stays until this process ends.
    """
    try:
        run(stage, out, context)
    finally:
        free_memory()


def free_memory() -> None:
    """Gives back what model and optimizer held: trainer and model refer to each other."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def run(stage: "Sft", out: Path, context: Context) -> None:
    """The whole training; what it holds ends with it."""
    with held_back():
        import datasets  # noqa: F401
        import torch
        import trl  # noqa: F401

    quiet()
    torch.set_num_threads(context.machine.train_threads)
    base, work = context.path(stage.base) / "model", out / "work"
    rows = read_rows(context.path(stage.data) / "generations.jsonl", Generation)
    examples = list(stage.examples(rows, StudentTokens(base)))
    trainer = make_trainer(stage, base, examples, work, context.machine.gpus)
    with context.progress.counter(f"training on {len(examples)} rows", steps(stage, trainer)) as counter:
        report_steps(trainer, counter.advance)
        trainer.train(resume_from_checkpoint=last_checkpoint(work))
    trainer.model.save_pretrained(out / "model")
    copy_chat_files(base, out / "model")
    write_json(out / "losses.json", [told(entry) for entry in trainer.state.log_history if "loss" in entry])
    write_json(
        out / "training.json",
        {
            "rows": len(examples),
            "truncated": sum(example.truncated for example in examples),
            "tokens": sum(len(example.input_ids) for example in examples) * stage.epochs,
            "steps": trainer.state.global_step,
        },
    )
    shutil.rmtree(work, ignore_errors=True)


def told(entry: Mapping[str, float]) -> dict[str, float]:
    """One logged step, the same whether the training was resumed: TRL counts tokens anew then, and the steps
    that a checkpoint kept come back in the order of their names."""
    return {name: entry[name] for name in sorted(entry) if name != "num_tokens"}


def make_trainer(stage: "Sft", base: Path, examples: "list[Example]", work: Path, gpus: int) -> "SFTTrainer":
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTTrainer

    columns = [{"input_ids": one.input_ids, "labels": one.labels} for one in examples]
    return SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32),
        args=arguments(stage, work, gpus),
        train_dataset=Dataset.from_list(columns),
        processing_class=AutoTokenizer.from_pretrained(base),
    )


def arguments(stage: "Sft", work: Path, gpus: int) -> "SFTConfig":
    from trl import SFTConfig

    config = SFTConfig(
        output_dir=str(work),
        num_train_epochs=stage.epochs,
        per_device_train_batch_size=1,
        gradient_accumulation_steps=stage.batch,
        learning_rate=stage.learning_rate,
        lr_scheduler_type="cosine_with_min_lr",
        lr_scheduler_kwargs={"min_lr": stage.minimum_learning_rate},
        warmup_steps=stage.warmup,
        weight_decay=stage.weight_decay,
        adam_beta1=0.9,
        adam_beta2=0.95,
        adam_epsilon=1e-8,
        max_grad_norm=1.0,
        max_length=stage.cutoff,
        packing=stage.packing != "none",
        seed=stage.seed,
        data_seed=stage.seed,
        save_strategy="epoch",
        save_total_limit=1,
        logging_steps=1,
        report_to=[],
        disable_tqdm=True,
        bf16=False,
        use_cpu=not gpus,
    )
    # Beside several GPUs the trainer would take them all, each with a batch of its own.
    config._n_gpu = min(1, config.n_gpu)
    return config


def steps(stage: "Sft", trainer: "SFTTrainer") -> int:
    """Optimiser steps of the whole training."""
    packed = len(trainer.train_dataset)
    return -(-packed // stage.batch) * stage.epochs


def report_steps(trainer: "SFTTrainer", advance: Any) -> None:
    """Calls `advance()` after every optimiser step, and silences the trainer's own printing."""
    from transformers import PrinterCallback, TrainerCallback

    class Steps(TrainerCallback):  # type: ignore[misc]
        def on_train_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:
            advance(rows=state.global_step)

        def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
            advance()

    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(Steps())
