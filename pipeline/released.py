"""Released: the authors' own data instead of sampling (report §6, `--from data`).

`Alibaba-Apsara/Superior-Reasoning-SFT-gpt-oss-120b` has, in two JSONL files for stages 1 and 2, rows of uuid,
input, output, domain and meta; domains are math, code, science and instruction_following, an output is
`<think>…</think>` and an answer (public code that reads it: stage 1 as JSONL of 4.6 GB).
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import ClassVar, Literal

import msgspec

from harness.chat import split_reasoning
from harness.cost import Amount, Estimator, Volume, Work
from harness.errors import DataError
from harness.files import write_rows
from harness.hub import UNPINNED
from harness.rows import read_rows
from harness.stage import Stage
from harness.store import Context
from harness.types import Generation, Question, Sampling
from pipeline import control
from pipeline.sources import question_id
from pipeline.tables import Row, Table, open_table

Part = Literal["stage1", "stage2"]

REPOSITORY = "Alibaba-Apsara/Superior-Reasoning-SFT-gpt-oss-120b"
TEACHER = "openai/gpt-oss-120b"
TEMPERATURES: dict[Part, float] = {"stage1": 0.6, "stage2": 1.0}  # §6.2
ROWS: dict[Part, int] = {"stage1": 105_000, "stage2": 330_000}  # §6.3, for the progress display alone
LONGEST = 65_536  # §6.4.1: the training context; the sampling limit is unpublished
CHUNK = 256

COLUMNS = (("uuid", "uuid"), ("question", "input"), ("response", "output"), ("domain", "domain"))


def responses_table(part: Part, revision: str = UNPINNED) -> Table:
    return Table(
        repo=REPOSITORY,
        revision=revision,
        files=(f"Superior-Reasoning-SFT-gpt-oss-120b-{part}-train-data.jsonl",),
        columns=COLUMNS,
    )


@dataclass(frozen=True, kw_only=True)
class Dropped:
    """A released row that is not taken, and why."""

    uuid: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Released(Stage):
    """Writes generations.jsonl and questions.jsonl from the released responses of one stage, and in
    removed.jsonl the rows whose question holds a control token.

    Several responses to one question are its draws, in the order of the file. How many tokens a response
    was for the teacher is not in this set: `completion_tokens` are the student's.
    """

    version: ClassVar[int] = 2

    part: Part
    table: Table
    student: Stage
    limit: int = 0

    def run(self, out: Path, context: Context) -> None:
        removed: list[Dropped] = []
        rows = harmless(self.rows(context), removed)
        generations = self.generations(rows, context.path(self.student) / "model")
        with context.progress.counter(f"reading {self.part}", self.limit or ROWS[self.part]) as counter:

            def told() -> Iterator[Generation]:
                for row in generations:
                    counter.advance(tokens=row.completion_tokens)
                    yield row

            if not write_rows(out / "generations.jsonl", told()):
                raise DataError(
                    f"{self.table.repo}: {self.part} has no rows"
                    + f" but {len(removed)} whose question holds a control token" * bool(removed)
                )
        write_rows(out / "removed.jsonl", removed)
        write_rows(out / "questions.jsonl", questions_of(out / "generations.jsonl"))

    def rows(self, context: Context) -> Iterator[Row]:
        """The set's rows; the first `limit` of them where there is one. Raises DataError at a bad one."""
        opened = open_table(self.table, context.machine)
        seen: set[str] = set()
        for number, row in enumerate(islice(opened.rows(), self.limit or None), 1):
            for role in opened.columns:
                if not isinstance(row[role], str) or not row[role]:
                    raise DataError(
                        f"{self.table.repo}: row {number} (uuid {row['uuid']!r}) has no text in the column "
                        f"{opened.columns[role]!r}",
                        "Take the set at another commit, or rename the column in machine.toml.",
                    )
            if row["uuid"] in seen:
                raise DataError(f"{self.table.repo}: uuid {row['uuid']!r} occurs twice in {self.part}")
            seen.add(row["uuid"])
            yield row

    def generations(self, rows: Iterator[Row], student: Path) -> Iterator[Generation]:
        from pipeline.tokenizer import StudentTokens

        encode = StudentTokens(student).tokenizer.encode_batch_fast
        draws: Counter[str] = Counter()
        while chunk := list(islice(rows, CHUNK)):
            encoded = encode([row["response"] for row in chunk], add_special_tokens=False)
            for row, each in zip(chunk, encoded, strict=True):
                name = question_id(row["domain"], row["question"])
                draws[name] += 1
                yield self.generation(row, name, draws[name] - 1, len(each.ids))

    def generation(self, row: Row, name: str, draw: int, count: int) -> Generation:
        reasoning, answer = split_reasoning(row["response"], "stop")
        return Generation(
            question=name,
            draw=draw,
            prompt="",
            text=row["response"],
            reasoning=reasoning,
            answer=answer,
            finish_reason="stop",
            prompt_tokens=0,
            completion_tokens=count,
            latency=0.0,
            seed=0,
            sampling=Sampling(temperature=TEMPERATURES[self.part], max_tokens=LONGEST),
            request_id=row["uuid"],
            model=TEACHER,
            engine="released",
            kept={"domain": row["domain"], "prompt": row["question"], "uuid": row["uuid"]},
        )

    def expected(self, estimator: Estimator) -> Volume:
        sampling = Sampling(temperature=TEMPERATURES[self.part], max_tokens=LONGEST)
        return Volume(
            domains={
                domain: Amount(
                    rows=told.value,
                    questions=told.value,
                    prompt=estimator.prompt(domain) * told.value,
                    response=estimator.response(domain, sampling) * told.value,
                )
                for (part, domain), told in estimator.assumptions.released.items()
                if part == self.part
            }
        )

    def work(self, estimator: Estimator) -> Work:
        disk = estimator.download(self.table.repo) + estimator.text_bytes(estimator.volume(self))
        return Work(disk=disk, setting=f"T {TEMPERATURES[self.part]}, as released")


def harmless(rows: Iterator[Row], removed: list[Dropped]) -> Iterator[Row]:
    """The rows whose question a chat template can take; the others are added to `removed`."""
    for row in rows:
        if control.holds_control_token(row["question"]):
            removed.append(Dropped(uuid=row["uuid"], reason=control.REASON))
        else:
            yield row


class Asked(msgspec.Struct):
    """Of a generation, what its question is made of."""

    question: str
    kept: dict[str, str]


def questions_of(generations: Path) -> Iterator[Question]:
    """Each question once, in the order of its first response."""
    seen: set[str] = set()
    for row in read_rows(generations, Asked):
        if row.question not in seen:
            seen.add(row.question)
            yield Question(id=row.question, domain=row.kept["domain"], prompt=row.kept["prompt"])


def released(part: Part, student: Stage) -> Released:
    """One stage's responses as they were released."""
    return Released(part=part, table=responses_table(part), student=student)
