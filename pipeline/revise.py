"""Revise: the teacher takes over where the student ran out of tokens (report §5).

Truncated drafts are cut at a random token beyond half of their length; the teacher continues from
the student's exact text.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from harness.client import Request
from harness.errors import StageError
from harness.evaluate import ask, conversation, draw_seed
from harness.files import write_rows
from harness.generate import read_rows
from harness.stage import Service, Stage
from harness.store import Context
from harness.types import Generation, Sampling
from pipeline.draft import Draft
from pipeline.tokenizer import StudentTokens


@dataclass(frozen=True, kw_only=True)
class Revise(Stage):
    """Writes generations.jsonl: the student's beginning and the teacher's end, as one response.

    `continuations/` holds what the teacher alone wrote.
    """

    drafts: Draft
    teacher: Stage
    engine: str
    sampling: Sampling
    cut_beyond: float = 0.5
    system: str | None = None
    seed: int = 0

    def service(self) -> Service:
        return Service(model=self.teacher, engine=self.engine, sampling=self.sampling)

    def requests(self, drafts: list[Generation], tokens: StudentTokens) -> Iterator[Request]:
        for draft in drafts:
            beginning = self.cut(draft, tokens)
            yield Request(
                question=draft.question,
                draw=draft.draw,
                messages=conversation(draft.kept["prompt"], self.system),
                sampling=self.sampling,
                seed=draw_seed(self.seed, draft.question, draft.draw),
                prefix=beginning,
                kept={**draft.kept, "student_bytes": len(beginning.encode())},
            )

    def cut(self, draft: Generation, tokens: StudentTokens) -> str:
        """The draft up to a random token beyond half of its length, keyed by the question."""
        length = tokens.count(draft.text)
        rng = random.Random(f"{self.seed}:{draft.question}:{draft.draw}")
        return tokens.prefix(draft.text, rng.randint(int(length * self.cut_beyond), max(length - 1, 0)))

    def run(self, out: Path, context: Context) -> None:
        rows = read_rows(context.path(self.drafts) / "generations.jsonl", Generation)
        truncated = sorted((row for row in rows if row.truncated), key=lambda row: row.question)
        if not truncated:
            raise StageError(
                "no draft of the student was truncated, so there is nothing to revise",
                f"{self.drafts.questions} drafts were capped at {self.drafts.cap} × the teacher's tokens: "
                "draft more questions or lower the cap.",
            )
        tokens = StudentTokens(context.path(self.drafts.student) / "model")
        requests = {(each.question, each.draw): each for each in self.requests(truncated, tokens)}
        continued = out / "continuations"
        continued.mkdir(exist_ok=True)
        ask(requests.values(), len(requests), self.service(), continued, context)
        write_rows(
            out / "generations.jsonl",
            (
                replace(row, text=requests[row.question, row.draw].prefix + row.text)
                for row in read_rows(continued / "generations.jsonl", Generation)
            ),
        )
