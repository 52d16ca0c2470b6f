"""ReleasedLogprobs: the teacher's tokens of the released responses, as released with them (report §4).

The `…-Logprob` set has rows of sample_uuid, token_ids and logprobs: the teacher's sampled tokens. Its files'
names could not be looked up: any JSONL or parquet file is read, and rows are joined by uuid alone.
"""

import re
from collections import Counter
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import ClassVar

import msgspec

from harness import harmony
from harness.answering import byte_lengths
from harness.cost import ARROW_BYTES, Estimator, Work
from harness.errors import StageError
from harness.files import write_json
from harness.hub import UNPINNED
from harness.rows import read_rows
from harness.stage import Stage
from harness.store import Context
from harness.tokens import NAME, Key, TokenFile, tokens
from harness.vocabulary import Vocabulary
from pipeline.released import REPOSITORY, Released
from pipeline.tables import Row, Table, open_table

MARKER = harmony.MESSAGE.encode()
TAG, GAP = re.compile(rb"\s*</?think>\s*"), re.compile(rb"\s*")

LOGPROBS = Table(
    repo=f"{REPOSITORY}-Logprob",
    revision=UNPINNED,
    files=("*.jsonl", "*.jsonl.zst", "*.jsonl.gz", "*.parquet"),
    columns=(("uuid", "sample_uuid"), ("ids", "token_ids"), ("logprobs", "logprobs")),
)


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

    version: ClassVar[int] = 2

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
        if not vocabulary.knows(ids):
            return "ids outside the teacher's vocabulary"
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
    return byte_lengths(vocabulary.plain(ids), text)


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
