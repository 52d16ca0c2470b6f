"""Score: the log-probability that a model gives to each token of the kept responses (report §4).

The teacher's text in the model's own tokenization, by a forward pass or through a vLLM server. Tokenizers
may differ, so every token comes with its UTF-8 length and sentences are the common unit.

Prompt and response are tokenized apart, as in training. Where the chat template itself opens `<think>`
and the response brings its own, the template's is left out: the model sees it once, as it was trained.
"""

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path
from typing import ClassVar, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from harness.client import Endpoint
from harness.cost import ARROW_BYTES, Estimator, Work
from harness.errors import DataError
from harness.evaluate import conversation, in_order
from harness.generate import SESSION, check_session, decode
from harness.progress import Counter
from harness.stage import Service, Stage
from harness.store import Context
from harness.tokens import NAME, Key, TokenFile, tokens
from harness.types import Sampling
from pipeline.logprobs import Copies, Encoded, Forward, devices, fingerprint, loaded
from pipeline.served_logprobs import ServedLogprobs
from pipeline.tokenizer import StudentTokens, prompt_before

BATCH_BYTES = 16_384  # about 4K tokens, which keep a GPU busy; a longer response goes alone

Batch = list["Place"]
Scored = list[tuple[Encoded, NDArray[np.float32]]]


@dataclass(frozen=True, kw_only=True)
class Score(Stage):
    """Writes tokens.arrow: ids, log-probabilities and UTF-8 lengths of each response's tokens.

    An interrupted run goes on behind the last row that it wrote, with the same numbers: batches depend
    on all responses, not on what is left of them.
    """

    version: ClassVar[int] = 2

    responses: Stage
    model: Stage
    system: str | None = None
    through: Literal["forward", "vllm"] = "forward"

    def service(self) -> Service | None:
        if self.through == "forward":
            return None
        sampling = Sampling(temperature=1.0, max_tokens=1)
        return Service(model=self.model, engine=self.through, sampling=sampling)

    @property
    def computes(self) -> bool:
        return self.through == "forward"

    def run(self, out: Path, context: Context) -> None:
        responses = Responses(context.path(self.responses) / "generations.jsonl")
        with TokenFile(out / NAME) as file:
            todo = responses.batches(without=file.keys)
            if todo and (service := self.service()):
                self.ask(todo, responses, context.endpoint(service), file, context)
            elif todo:
                self.compute(todo, responses, file, context)

    def compute(self, todo: list[Batch], responses: "Responses", file: TokenFile, context: Context) -> None:
        """A copy of the model on every GPU, or one on the CPU; the next batch is tokenized meanwhile."""
        model, places = context.path(self.model) / "model", devices(context.machine.gpus)
        text_tokens, threads = StudentTokens(model), context.machine.train_threads
        check_session(file.path.with_name(SESSION), fingerprint(places[0]), has_rows=bool(file.keys))
        copies = Copies([Forward(loaded(model, place), threads) for place in places])

        def score(batch: Batch) -> Scored:
            rows = [encoded(responses.read(place), text_tokens, self.system) for place in batch]
            return list(zip(rows, copies.logprobs(rows), strict=True))

        with saving(file, len(responses.places), context) as save:
            for scored in in_order(score, todo, 2 * len(places)):
                for row, logprobs in scored:
                    save(row, logprobs)

    def ask(
        self, todo: list[Batch], responses: "Responses", endpoint: Endpoint, file: TokenFile, context: Context
    ) -> None:
        """Through a server, `concurrency` rows at a time."""
        check_session(file.path.with_name(SESSION), endpoint.fingerprint, has_rows=bool(file.keys))
        text_tokens = StudentTokens(context.path(self.model) / "model")
        missing = [place for batch in todo for place in batch if place.key not in file.keys]
        rows = (encoded(responses.read(place), text_tokens, self.system) for place in missing)
        with saving(file, len(responses.places), context) as save:
            asking = ServedLogprobs(endpoint, save, context.machine.concurrency, save.counter)
            asyncio.run(asking.run(rows))

    def work(self, estimator: Estimator) -> Work:
        total = estimator.volume(self.responses).total
        return Work(
            kind="score",
            model=self.model,
            engine="torch" if self.through == "forward" else self.through,
            requests=total.rows,
            tokens_in=total.prompt + total.response,
            context=total.length / 2,
            disk=ARROW_BYTES * total.response,
            setting="forward pass" if self.through == "forward" else "prompt_logprobs",
        )


@contextmanager
def saving(file: TokenFile, total: int, context: Context) -> Iterator["Saving"]:
    """What takes scored rows, with the progress of the stage."""
    with context.progress.counter("scoring", total, done=len(file.keys)) as counter:
        yield Saving(file, counter)


class Saving:
    """Appends each row that the file does not hold yet, and counts it."""

    def __init__(self, file: TokenFile, counter: Counter) -> None:
        self.file = file
        self.counter = counter

    def __call__(self, row: Encoded, logprobs: NDArray[np.float32]) -> None:
        if row.key not in self.file.keys:
            self.file.append(row.key, tokens(row.response, logprobs, row.lengths))
            self.counter.advance(tokens=len(row.response))


class Kept(msgspec.Struct):
    prompt: str


class Response(msgspec.Struct):
    """What scoring reads of a Generation."""

    question: str
    draw: int
    text: str
    kept: Kept


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where a response stands in its file, and the UTF-8 length of its prompt and text."""

    key: Key
    start: int
    line: int
    size: int


class Responses:
    """A file of responses of which only the places are held: its texts may take 40 GB."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.decoder = msgspec.json.Decoder(Response)
        self.places = list(self.found())

    def found(self) -> Iterator[Place]:
        start = 0
        with self.path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                row = decode(self.decoder, line, self.path, number)
                size = len(row.text.encode()) + len(row.kept.prompt.encode())
                yield Place(key=(row.question, row.draw), start=start, line=number, size=size)
                start += len(line)

    def read(self, place: Place) -> Response:
        with self.path.open("rb") as file:
            file.seek(place.start)
            return decode(self.decoder, file.readline(), self.path, place.line)

    def batches(self, without: Iterable[Key] = ()) -> list[Batch]:
        """The batches of which a row is missing in `without`."""
        held = set(without)
        return [batch for batch in batches(self.places) if any(place.key not in held for place in batch)]


def batches(places: Iterable[Place]) -> Iterator[Batch]:
    """Responses of about one length together, the longest first: if memory is short, it is at once."""
    ordered = iter(sorted(places, key=lambda place: (-place.size, place.key)))
    for first in ordered:
        yield [first, *islice(ordered, max(0, BATCH_BYTES // max(first.size, 1) - 1))]


def encoded(row: Response, text_tokens: StudentTokens, system: str | None) -> Encoded:
    """The tokens of a response and of the prompt before it.

    Raises DataError where the tokenizer leaves out a part of the text.
    """
    rendered = text_tokens.template.render(conversation(row.kept.prompt, system))
    prompt = text_tokens.ids(prompt_before(rendered, row.text))
    found = text_tokens.tokenizer.encode(row.text, add_special_tokens=False)
    ends = [0, *(end for _, end in found.offsets)]
    lengths = [len(row.text[start:end].encode()) for start, end in pairwise(ends)]
    if not prompt or sum(lengths) != len(row.text.encode()):
        raise DataError(
            f"the tokenizer covers {sum(lengths)} of {len(row.text.encode())} bytes of response "
            f"{(row.question, row.draw)}, behind {len(prompt)} tokens of prompt",
            "Every byte must belong to a token, behind a prompt: check the model's tokenizer.json.",
        )
    return Encoded(key=(row.question, row.draw), prompt=prompt, response=found.ids, lengths=lengths)
