"""Sft: supervised fine-tuning of a checkpoint on selected responses (report §6.4.1).

The defaults are the published settings (D2I-ai/dasd-thinking at f951829, train/stage1.yaml). Two
trainers run them: LLaMA-Factory, which the report used, in an environment of its own, and TRL in
process, for models that train on a CPU. Both see the same tokens and labels for the same rows.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

from harness.cost import Estimator, Work
from harness.errors import UsageError
from harness.evaluate import conversation
from harness.stage import Stage
from harness.store import Context
from harness.types import Generation
from pipeline.tokenizer import StudentTokens, Tokenized

NOT_LEARNED = -100
CHECKPOINTS = {"llamafactory": 6, "trl": 2}  # of an unfinished training; TRL's second while it is written
OPTIMIZER_BYTES = 12  # a parameter: float32 weights and both moments
TOKENIZED_TOGETHER = 64

Packing = Literal["none", "isolated", "attending"]


@dataclass(frozen=True, kw_only=True)
class Example:
    """What training sees of one row. Labels of tokens that are not learned are -100."""

    input_ids: list[int]
    labels: list[int]
    truncated: bool


@dataclass(frozen=True, kw_only=True)
class Sft(Stage):
    """Writes model/ (the checkpoint), losses.json and training.json.

    `cutoff` is the length of a packed sequence in tokens, `batch` the number of sequences a step,
    whatever number of GPUs there is. `packing` says whether several rows share a sequence and, if so,
    whether a token attends to the rows before its own (`attending`, LLaMA-Factory only). `system` None
    trains without any system message. `mask_student` leaves the student's own beginning of
    mixed-policy rows out of the loss (the report found that masking hurts, Table 5; TRL only).
    An interrupted training goes on from its last epoch.

    Raises UsageError for a setting that the trainer does not know.
    """

    base: Stage
    data: Stage
    trainer: Literal["trl", "llamafactory"] = "trl"
    epochs: int = 6
    cutoff: int = 65536
    batch: int = 64
    packing: Packing = "isolated"
    learning_rate: float = 5e-5
    minimum_learning_rate: float = 1e-5
    warmup: float = 0.1
    weight_decay: float = 0.1
    system: str | None = None
    mask_student: bool = False
    seed: int = 42

    def __post_init__(self) -> None:
        if self.trainer == "trl" and self.packing == "attending":
            raise UsageError(
                "TRL keeps packed rows apart", 'use packing="isolated" or trainer="llamafactory"'
            )
        if self.trainer == "llamafactory" and self.mask_student:
            raise UsageError("LLaMA-Factory cannot mask a part of a response", 'use trainer="trl"')
        if self.trainer == "llamafactory" and self.system == "":
            raise UsageError("LLaMA-Factory has no empty system message", "use system=None for none at all")

    @property
    def computes(self) -> bool:
        return True

    def run(self, out: Path, context: Context) -> None:
        match self.trainer:
            case "trl":
                from pipeline.trainers import trl

                trl.train(self, out, context)
            case "llamafactory":
                from pipeline.trainers import llamafactory

                llamafactory.train(self, out, context)

    @property
    def row_limit(self) -> int:
        """Tokens that a row may have. LLaMA-Factory keeps one of a packed sequence for padding."""
        return self.cutoff if self.packing == "none" else self.cutoff - 1

    def examples(self, rows: Iterable[Generation], tokens: StudentTokens) -> Iterator[Example]:
        """Token ids and labels of each row, in order."""
        left = iter(rows)
        while some := list(islice(left, TOKENIZED_TOGETHER)):
            asked = [(conversation(row.kept["prompt"], self.system), row.text) for row in some]
            for row, whole in zip(some, tokens.conversations(asked), strict=True):
                yield example(whole, self.unlearned(row, tokens), self.row_limit)

    def unlearned(self, row: Generation, tokens: StudentTokens) -> int:
        """Tokens at the response's beginning that are not learned: all with a byte of the student's."""
        if not self.mask_student or "student_bytes" not in row.kept:
            return 0
        return tokens.beginning(tokens.closed(row.text), row.kept["student_bytes"])

    def work(self, estimator: Estimator) -> Work:
        data, size = estimator.volume(self.data), estimator.size(self.base)
        tokens = data.total.prompt + data.total.response
        weights, parameters = (size.bytes, size.parameters) if size else (0.0, 0.0)
        checkpoints = min(CHECKPOINTS[self.trainer], self.epochs + 1)
        return Work(
            kind="train",
            model=self.base,
            engine=self.trainer,
            tokens_in=tokens * self.epochs,
            context=(self.cutoff if self.packing == "attending" else data.total.length) / 2,
            disk=weights,
            scratch=checkpoints * (weights + OPTIMIZER_BYTES * parameters) + estimator.text_bytes(data),
            setting=f"{data.total.rows:,.0f} rows × {self.epochs}, batch {self.batch} × {self.cutoff:,}, "
            f"lr {self.learning_rate:g} to {self.minimum_learning_rate:g}",
        )


def example(whole: Tokenized, unlearned: int, limit: int) -> Example:
    """One row's tokens and labels, cut to `limit` tokens; `unlearned` of the response are masked."""
    prompt, response = whole.ids[: whole.prompt], whole.ids[whole.prompt :]
    kept_prompt, kept_response = truncated_lengths(len(prompt), len(response), limit)
    labels = [NOT_LEARNED] * min(unlearned, kept_response) + response[unlearned:kept_response]
    return Example(
        input_ids=prompt[:kept_prompt] + response[:kept_response],
        labels=[NOT_LEARNED] * kept_prompt + labels,
        truncated=(kept_prompt, kept_response) != (len(prompt), len(response)),
    )


def truncated_lengths(prompt: int, response: int, limit: int) -> tuple[int, int]:
    """How many tokens of prompt and response stay; both are cut at their end.

    LLaMA-Factory's rule (`infer_seqlen` of 0.9.5): the longer side is cut; where each would fill half
    of the limit, both are cut in proportion.
    """
    if 2 * response < limit:
        room = limit
    elif 2 * prompt < limit:
        room = limit - prompt
    else:
        room = int(limit * (response / (prompt + response)))
    kept = min(room, response)
    return min(prompt, limit - kept), kept
