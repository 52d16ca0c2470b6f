"""Sft: supervised fine-tuning of a checkpoint on selected responses (report §6.4.1).

TRL's SFTTrainer in process. The optimiser is the report's: AdamW with β 0.9/0.95, ε 1e-8, weight
decay 0.1, gradient clipping at 1.0, warm-up over a tenth of the steps, cosine to a minimum learning
rate, packing. The response is learned, the prompt is not. Here packed rows do not attend across
their borders (the published configuration leaves `neat_packing` off: see the ambiguity register).
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.evaluate import conversation
from harness.files import write_json
from harness.generate import read_rows
from harness.stage import Stage
from harness.store import Context
from harness.types import Generation
from pipeline.quiet import quiet
from pipeline.tokenizer import StudentTokens

if TYPE_CHECKING:
    from trl import SFTConfig, SFTTrainer

CHAT_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json")
NOT_LEARNED = -100


@dataclass(frozen=True, kw_only=True)
class Sft(Stage):
    """Writes model/ (the checkpoint), losses.json and training.json.

    `cutoff` is the length of a packed sequence in tokens, `batch` the number of packed sequences a
    step. `mask_student` leaves the student's own beginning of mixed-policy rows out of the loss (the
    report found that masking hurts, Table 5). An interrupted training goes on from its last epoch.
    """

    base: Stage
    data: Stage
    epochs: int
    cutoff: int
    batch: int
    learning_rate: float = 5e-5
    minimum_learning_rate: float = 1e-5
    warmup: float = 0.1
    weight_decay: float = 0.1
    system: str | None = None
    mask_student: bool = False
    seed: int = 42

    def run(self, out: Path, context: Context) -> None:
        import torch

        quiet()
        torch.set_num_threads(context.machine.train_threads)
        base, work = context.path(self.base) / "model", out / "work"
        rows = list(read_rows(context.path(self.data) / "generations.jsonl", Generation))
        examples = self.examples(rows, StudentTokens(base))
        trainer = self.trainer(base, examples, work, context.machine.gpus)
        with context.progress.counter(f"training on {len(rows)} rows", self.steps(trainer)) as counter:
            report_steps(trainer, counter.advance)
            trainer.train(resume_from_checkpoint=last_checkpoint(work))
        save_checkpoint(trainer, base, out / "model")
        write_json(out / "losses.json", [entry for entry in trainer.state.log_history if "loss" in entry])
        write_json(
            out / "training.json",
            {
                "rows": len(rows),
                "tokens": sum(len(example["input_ids"]) for example in examples) * self.epochs,
                "steps": trainer.state.global_step,
            },
        )
        shutil.rmtree(work, ignore_errors=True)

    def examples(self, rows: list[Generation], tokens: StudentTokens) -> list[dict[str, list[int]]]:
        """Token ids and labels of each row, cut at `cutoff`; labels of unlearned tokens are -100."""
        found = []
        for row in rows:
            whole = tokens.conversation(conversation(row.kept["prompt"], self.system), row.text)
            unlearned = whole.prompt
            if self.mask_student and "student_bytes" in row.kept:
                student = row.text.encode()[: row.kept["student_bytes"]].decode()
                unlearned += tokens.count(student)
            labels = [NOT_LEARNED] * unlearned + whole.ids[unlearned:]
            found.append({"input_ids": whole.ids[: self.cutoff], "labels": labels[: self.cutoff]})
        return found

    def trainer(
        self, base: Path, examples: list[dict[str, list[int]]], work: Path, gpus: int
    ) -> "SFTTrainer":
        import torch
        from datasets import Dataset
        from transformers import AutoModelForCausalLM, AutoTokenizer
        from trl import SFTTrainer

        return SFTTrainer(
            model=AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32),
            args=self.arguments(work, gpus),
            train_dataset=Dataset.from_list(examples),
            processing_class=AutoTokenizer.from_pretrained(base),
        )

    def arguments(self, work: Path, gpus: int) -> "SFTConfig":
        from trl import SFTConfig

        return SFTConfig(
            output_dir=str(work),
            num_train_epochs=self.epochs,
            per_device_train_batch_size=1,
            gradient_accumulation_steps=self.batch,
            learning_rate=self.learning_rate,
            lr_scheduler_type="cosine_with_min_lr",
            lr_scheduler_kwargs={"min_lr": self.minimum_learning_rate},
            warmup_steps=self.warmup,
            weight_decay=self.weight_decay,
            adam_beta1=0.9,
            adam_beta2=0.95,
            adam_epsilon=1e-8,
            max_grad_norm=1.0,
            max_length=self.cutoff,
            packing=True,
            seed=self.seed,
            data_seed=self.seed,
            save_strategy="epoch",
            save_total_limit=1,
            logging_steps=1,
            report_to=[],
            disable_tqdm=True,
            bf16=False,
            use_cpu=not gpus,
        )

    def steps(self, trainer: "SFTTrainer") -> int:
        """Optimiser steps of the whole training."""
        packed = len(trainer.train_dataset)
        return -(-packed // self.batch) * self.epochs


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


def last_checkpoint(work: Path) -> str | None:
    """The newest whole checkpoint of an interrupted training."""
    whole = [path for path in work.glob("checkpoint-*") if is_json(path / "trainer_state.json")]
    return str(max(whole, key=lambda path: int(path.name.split("-")[1]))) if whole else None


def is_json(file: Path) -> bool:
    """Whether a file is there and whole: the trainer writes this one last, but not atomically."""
    try:
        json.loads(file.read_bytes())
    except (OSError, ValueError):
        return False
    return True


def save_checkpoint(trainer: "SFTTrainer", base: Path, model: Path) -> None:
    """Writes the weights, and the base's tokenizer and chat template unchanged."""
    trainer.model.save_pretrained(model)
    for name in CHAT_FILES:
        if (base / name).exists():
            shutil.copyfile(base / name, model / name)
