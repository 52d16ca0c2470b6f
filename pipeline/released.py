"""Released: the authors' own data instead of sampling (report §6, `--from data`).

`Alibaba-Apsara/Superior-Reasoning-SFT-gpt-oss-120b` has, in two JSONL files for stages 1 and 2, rows of uuid,
input, output, domain and meta; domains are math, code, science and instruction_following, an output is
`<think>…</think>` and an answer (public code that reads it: stage 1 as JSONL of 4.6 GB). The `…-Logprob` set
has rows of sample_uuid, token_ids and logprobs: the teacher's sampled tokens. Its files' names could not be
looked up: any JSONL or parquet file is read, and rows are joined by uuid alone.
"""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate, islice
from pathlib import Path
from typing import Literal

import msgspec

from harness import harmony
from harness.chat import split_reasoning
from harness.client import byte_lengths
from harness.cost import ARROW_BYTES, Amount, Estimator, Volume, Work
from harness.errors import DataError, StageError
from harness.files import write_json, write_rows
from harness.generate import read_rows
from harness.hub import UNPINNED
from harness.stage import Stage
from harness.store import Context
from harness.tokens import NAME, Key, TokenFile, tokens
from harness.types import Generation, Question, Sampling
from pipeline.sources import question_id
from pipeline.tables import Row, Table, open_table
from pipeline.vocabulary import Vocabulary

Part = Literal["stage1", "stage2"]

REPOSITORY = "Alibaba-Apsara/Superior-Reasoning-SFT-gpt-oss-120b"
TEACHER = "openai/gpt-oss-120b"
TEMPERATURES: dict[Part, float] = {"stage1": 0.6, "stage2": 1.0}  # §6.2
ROWS: dict[Part, int] = {"stage1": 105_000, "stage2": 330_000}  # §6.3, for the progress display alone
LONGEST = 65_536  # §6.4.1: the training context; the sampling limit is unpublished
CHUNK = 256
MARKER = harmony.MESSAGE.encode()
TAG, GAP = re.compile(rb"\s*</?think>\s*"), re.compile(rb"\s*")

COLUMNS = (("uuid", "uuid"), ("question", "input"), ("response", "output"), ("domain", "domain"))
LOGPROB_COLUMNS = (("uuid", "sample_uuid"), ("ids", "token_ids"), ("logprobs", "logprobs"))


def responses_table(part: Part, revision: str = UNPINNED) -> Table:
    return Table(
        repo=REPOSITORY,
        revision=revision,
        files=(f"Superior-Reasoning-SFT-gpt-oss-120b-{part}-train-data.jsonl",),
        columns=COLUMNS,
    )


LOGPROBS = Table(
    repo=f"{REPOSITORY}-Logprob",
    revision=UNPINNED,
    files=("*.jsonl", "*.jsonl.zst", "*.jsonl.gz", "*.parquet"),
    columns=LOGPROB_COLUMNS,
)


# Responses ----------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Released(Stage):
    """Writes generations.jsonl and questions.jsonl from the released responses of one stage.

    Several responses to one question are its draws, in the order of the file. How many tokens a response
    was for the teacher is not in this set: `completion_tokens` are the student's.
    """

    part: Part
    table: Table
    student: Stage
    limit: int = 0

    def run(self, out: Path, context: Context) -> None:
        rows = self.rows(context)
        generations = self.generations(rows, context.path(self.student) / "model")
        with context.progress.counter(f"reading {self.part}", self.limit or ROWS[self.part]) as counter:

            def told() -> Iterator[Generation]:
                for row in generations:
                    counter.advance(tokens=row.completion_tokens)
                    yield row

            if not write_rows(out / "generations.jsonl", told()):
                raise DataError(f"{self.table.repo}: {self.part} has no rows")
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


# Log-probabilities --------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Joined:
    """How many rows of the set were used, and why others were not."""

    rows: int
    written: int
    reasons: dict[str, int]


@dataclass(frozen=True, kw_only=True)
class ReleasedLogprobs(Stage):
    """Writes tokens.arrow: the teacher's tokens of `responses`, from the released `…-Logprob` set.

    joined.json counts rows that were not used, by reason; a response without tokens is among them. What
    was written stays when the stage is interrupted. `teacher` is the checkpoint whose tokenizer the ids
    are of.
    """

    responses: Released
    teacher: Stage
    table: Table = LOGPROBS

    def run(self, out: Path, context: Context) -> None:
        vocabulary = Vocabulary(context.path(self.teacher) / "model" / "tokenizer.json")
        texts = Texts(context.path(self.responses) / "generations.jsonl")
        opened = open_table(self.table, context.machine)
        reasons: Counter[str] = Counter()
        count = 0
        with (
            TokenFile(out / NAME) as file,
            context.progress.counter("log-probabilities", len(texts.places), len(file.keys)) as counter,
        ):
            missing = {key for key, _ in texts.places.values()} - file.keys
            for count, row in enumerate(opened.rows(), 1):  # noqa: B007
                key = texts.key(row["uuid"])
                if key is None:
                    reasons["of another response"] += 1
                elif key in missing:
                    reason = self.join(row, key, texts, vocabulary, file)
                    reasons[reason] += bool(reason)
                    missing.discard(key)
                    counter.advance(tokens=len(row["ids"] or ()))
            reasons["response without tokens"] = len(missing)
            written = len(file.keys)
        if not written:
            raise StageError(
                f"no response has tokens in {self.table.repo}: {dict(+reasons)}",
                "Are the responses of the same release, and is the checkpoint the teacher's?",
            )
        write_json(out / "joined.json", Joined(rows=count, written=written, reasons=dict(+reasons)))

    def join(self, row: Row, key: Key, texts: "Texts", vocabulary: Vocabulary, file: TokenFile) -> str:
        """Writes one response's tokens. Returns why it could not be done, or nothing."""
        ids, logprobs = row["ids"], row["logprobs"]
        if not numbers(ids) or not numbers(logprobs) or len(ids) != len(logprobs):
            return "ids and logprobs are not two lists of one length"
        lengths = lengths_in_text(ids, vocabulary, texts.text(row["uuid"]))
        if lengths is None:
            return "tokens do not make the text"
        file.append(key, tokens(ids, logprobs, lengths))
        return ""

    def work(self, estimator: Estimator) -> Work:
        own = ARROW_BYTES * estimator.volume(self.responses).total.response
        return Work(disk=estimator.download(self.table.repo) + own, setting="the teacher's, as released")


def numbers(values: object) -> bool:
    return isinstance(values, list) and all(
        isinstance(value, int | float) and not isinstance(value, bool) for value in values
    )


class Response(msgspec.Struct):
    """Of a generation, what the join needs."""

    question: str
    draw: int
    text: str
    request_id: str


class Texts:
    """The released responses by uuid: keys in memory, texts read when asked for."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.decoder = msgspec.json.Decoder(Response)
        self.places: dict[str, tuple[Key, int]] = {}
        with path.open("rb") as lines:
            starts = accumulate(map(len, lines), initial=0)
            for row, start in zip(read_rows(path, Response), starts, strict=False):
                self.places[row.request_id] = ((row.question, row.draw), start)

    def key(self, uuid: str) -> Key | None:
        found = self.places.get(uuid)
        return found[0] if found else None

    def text(self, uuid: str) -> str:
        with self.path.open("rb") as file:
            file.seek(self.places[uuid][1])
            return self.decoder.decode(file.readline()).text


def lengths_in_text(ids: list[int], vocabulary: Vocabulary, text: str) -> list[int] | None:
    """UTF-8 length of each token in the response's text, adding up to it; None where they cannot.

    Tokens with harmony's channel markers are aligned message by message: the marker that opens a message
    has the length of the tag that stands in its place. Others, plain ones, are aligned as they stand, and
    special tokens have no text.
    """
    spelt = vocabulary.spelt(ids)
    if MARKER in spelt:
        return lengths_of_messages(spelt, text.encode())
    plain = [b"" if number in vocabulary.special else each for number, each in zip(ids, spelt, strict=True)]
    return byte_lengths(plain, text)


def lengths_of_messages(spelt: list[bytes], text: bytes) -> list[int] | None:
    """As `lengths_in_text`, for a response in harmony's format.

    A message's text is bytes that may end inside a character, so it is read one character a byte.
    """
    reading = harmony.read(each.decode("latin-1") for each in spelt)
    lengths: list[int] = []
    position = 0
    for each, written in zip(spelt, reading.text, strict=True):
        found = opened(written, text, position) if each == MARKER else met(each, text, position, written)
        if found is None:
            return None
        lengths.append(found)
        position += found
    if text[position:].strip():
        return None
    if lengths:
        lengths[-1] += len(text) - position
    return lengths


def opened(written: str, text: bytes, position: int) -> int | None:
    """The length of the tag at a place, or of the white space where two messages are not parted by one."""
    found = (TAG if "think>" in written else GAP).match(text, position)
    return found.end() - position if found else None


def met(token: bytes, text: bytes, position: int, written: str) -> int | None:
    """How much of a token stands at a place: all of it, or all but the white space at a message's edge."""
    if not written:
        return 0
    for shown in (token, token.rstrip(), token.lstrip(), token.strip()):
        if text.startswith(shown, position):
            return len(shown)
    return None


def released(part: Part, student: Stage) -> Released:
    """One stage's responses as they were released."""
    return Released(part=part, table=responses_table(part), student=student)
