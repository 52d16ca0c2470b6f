"""Score: the log-probability that a model gives to each token of the kept responses (report §4).

A forward pass over the teacher's text in the model's own tokenization. Tokenizers may differ, so
every token comes with its UTF-8 length and sentences are the common unit.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.evaluate import conversation
from harness.files import write_rows
from harness.generate import read_rows
from harness.stage import Stage
from harness.store import Context
from harness.types import Generation
from pipeline.quiet import quiet
from pipeline.tokenizer import StudentTokens

if TYPE_CHECKING:
    import torch

BATCH = 16


@dataclass(frozen=True, kw_only=True)
class TokenScores:
    """Natural log-probabilities of a response's tokens and their UTF-8 lengths."""

    question: str
    draw: int
    logprobs: list[float]
    token_bytes: list[int]


@dataclass(frozen=True, kw_only=True)
class Score(Stage):
    """Writes scores.jsonl, a row a response, in the order of the responses."""

    responses: Stage
    model: Stage
    system: str | None = None

    def run(self, out: Path, context: Context) -> None:
        rows = list(read_rows(context.path(self.responses) / "generations.jsonl", Generation))
        scorer = Scorer(context.path(self.model) / "model", self.system, context.machine.train_threads)
        scores: dict[tuple[str, int], TokenScores] = {}
        by_length = sorted(rows, key=lambda row: len(row.text))
        with context.progress.counter("scoring", len(rows)) as counter:
            for start in range(0, len(by_length), BATCH):
                for score in scorer.score(by_length[start : start + BATCH]):
                    scores[score.question, score.draw] = score
                    counter.advance(tokens=len(score.logprobs))
        write_rows(out / "scores.jsonl", (scores[row.question, row.draw] for row in rows))


class Scorer:
    """One model in memory, in float32."""

    def __init__(self, model: Path, system: str | None, threads: int) -> None:
        import torch
        from transformers import AutoModelForCausalLM

        quiet()
        torch.set_num_threads(threads)
        self.tokens = StudentTokens(model)
        self.system = system
        self.model = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()

    def score(self, rows: list[Generation]) -> Iterator[TokenScores]:
        """The scores of one batch. Sequences are padded on the right; padding is never attended."""
        import torch

        prompts = [
            self.tokens.ids(self.tokens.template.render(conversation(row.kept["prompt"], self.system)))
            for row in rows
        ]
        responses = [self.tokens.ids(row.text) for row in rows]
        width = max(len(p) + len(r) for p, r in zip(prompts, responses, strict=True))
        ids = torch.zeros(len(rows), width, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for i, (prompt, response) in enumerate(zip(prompts, responses, strict=True)):
            filled = len(prompt) + len(response)
            ids[i, :filled] = torch.tensor(prompt + response)
            mask[i, :filled] = 1
        with torch.inference_mode():
            logits = self.model(input_ids=ids, attention_mask=mask).logits
        chosen = chosen_logprobs(logits, ids)
        for i, row in enumerate(rows):
            start, end = len(prompts[i]), len(prompts[i]) + len(responses[i])
            yield TokenScores(
                question=row.question,
                draw=row.draw,
                logprobs=[round(value, 5) for value in chosen[i, start - 1 : end - 1].tolist()],
                token_bytes=self.tokens.byte_lengths(row.text),
            )


def chosen_logprobs(logits: "torch.Tensor", ids: "torch.Tensor") -> "torch.Tensor":
    """(batch, length - 1) log-probabilities of each next token, from (batch, length, vocabulary)."""
    following = ids[:, 1:].unsqueeze(-1)
    return logits[:, :-1].gather(-1, following).squeeze(-1) - logits[:, :-1].logsumexp(-1)
