"""Revise: the teacher takes over where the student ran out of tokens (report §5).

Truncated drafts are cut at a random token beyond half of their length; the teacher continues from
the student's exact text, put into the teacher's own format. Beginning and end together may be as long as
a response of the teacher's own.
"""

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal

from harness import harmony
from harness.asking import Request
from harness.cost import Amount, Estimator, Volume, Work, drawn, generation, thinned
from harness.errors import StageError
from harness.evaluate import ask, conversation, draw_seed
from harness.files import write_rows
from harness.rows import read_in_order
from harness.stage import Service, Stage
from harness.store import Context
from harness.types import Generation, Sampling
from pipeline.draft import Draft
from pipeline.tokenizer import StudentTokens


@dataclass(frozen=True, kw_only=True)
class Revise(Stage):
    """Writes generations.jsonl: the student's beginning and the teacher's end, as one response.

    `continuations/` holds what the teacher alone wrote. `effort` and `date` are as in Sample.
    """

    version: ClassVar[int] = 2

    drafts: Draft
    teacher: Stage
    engine: str
    sampling: Sampling
    cut_beyond: float = 0.5
    system: str | None = None
    effort: Literal["", "low", "medium", "high"] = ""
    date: str = ""
    seed: int = 0

    def service(self) -> Service:
        return Service(model=self.teacher, engine=self.engine, sampling=self.sampling)

    def requests(self, drafts: Iterable[Generation], tokens: StudentTokens) -> Iterator[Request]:
        for draft in drafts:
            beginning = self.cut(draft, tokens)
            room = self.sampling.max_tokens - tokens.count(beginning)
            if room < 1 or harmony.MARKER.search(beginning):
                continue
            yield Request(
                question=draft.question,
                draw=draft.draw,
                messages=conversation(draft.kept["prompt"], self.system),
                sampling=replace(self.sampling, max_tokens=room),
                seed=draw_seed(self.seed, draft.question, draft.draw),
                prefix=beginning,
                kept={**draft.kept, "student_bytes": len(beginning.encode())},
                effort=self.effort,
                date=self.date,
            )

    def cut(self, draft: Generation, tokens: StudentTokens) -> str:
        """The draft up to a random token beyond half of its length, keyed by the question."""
        length = tokens.count(draft.text)
        rng = random.Random(f"{self.seed}:{draft.question}:{draft.draw}")
        last = max(length - 1, 0)
        return tokens.prefix(draft.text, rng.randint(min(int(length * self.cut_beyond) + 1, last), last))

    def run(self, out: Path, context: Context) -> None:
        drafts = context.path(self.drafts) / "generations.jsonl"
        total = sum(1 for _ in truncated(drafts))
        if not total:
            raise StageError(
                "no draft of the student was truncated, so there is nothing to revise",
                f"{self.drafts.questions} drafts were capped at {self.drafts.cap} × the teacher's tokens: "
                "draft more questions or lower the cap.",
            )
        tokens = StudentTokens(context.path(self.drafts.student) / "model")
        continued = out / "continuations"
        continued.mkdir(exist_ok=True)
        ask(self.requests(truncated(drafts), tokens), total, self.service(), continued, context)
        ends = read_in_order(continued / "generations.jsonl", Generation)
        count = write_rows(out / "generations.jsonl", revisions(truncated(drafts), ends))
        if count < total:
            context.progress.say(
                f"{total - count} of {total} truncated drafts are not revised: what is kept of them leaves "
                "the teacher no token, or holds a control token of its format"
            )

    def expected(self, estimator: Estimator) -> Volume:
        """The truncated drafts: as much of each as is kept goes into the prompt."""
        share = estimator.assumptions.truncated.value
        kept = self.drafts.cap / (1 + share * (self.drafts.cap - 1)) * (1 + self.cut_beyond) / 2

        def revised(draft: Amount) -> Amount:
            beginning = draft.response * kept
            end = beginning * estimator.assumptions.continued.value
            return replace(draft, prompt=draft.prompt + beginning, response=end)

        cut = thinned(estimator.volume(self.drafts), share)
        return Volume(domains={domain: revised(draft) for domain, draft in cut.domains.items()})

    def work(self, estimator: Estimator) -> Work:
        where = f"cut beyond {self.cut_beyond:.0%} of a draft, "
        return generation(self, self.service(), estimator, where + drawn(self.sampling))


def truncated(drafts: Path) -> Iterator[Generation]:
    """The drafts that ran out of tokens, in order of question and draw."""
    return (row for row in read_in_order(drafts, Generation) if row.truncated)


def revisions(drafts: Iterator[Generation], ends: Iterable[Generation]) -> Iterator[Generation]:
    """Each end behind its draft's beginning. Both are in order of question and draw."""
    for end in ends:
        draft = next(one for one in drafts if (one.question, one.draw) == (end.question, end.draw))
        yield joined(draft, end)


def joined(draft: Generation, end: Generation) -> Generation:
    """The student's beginning, as it was cut, and the teacher's end."""
    beginning = draft.text.encode()[: end.kept["student_bytes"]].decode()
    return replace(end, text=beginning + end.text)
