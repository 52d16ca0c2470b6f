"""Scoring by forward passes: a copy of the model on every GPU, or one on the CPU.

On a GPU it runs as `python -m pipeline.forward`, see `pipeline.child`.
"""

from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from harness.evaluate import in_order
from harness.progress import Progress
from harness.session import SESSION, check_session
from harness.store import writable
from pipeline import child
from pipeline.encoding import encoded
from pipeline.logprobs import (
    Copies,
    Encoded,
    Forward,
    Unscorable,
    check_length,
    check_numbers,
    devices,
    fingerprint,
    loaded,
)
from pipeline.responses import Batch, Responses
from pipeline.scored import ScoreFiles
from pipeline.tokenizer import StudentTokens

Outcome = tuple[Encoded, NDArray[np.float32]] | Unscorable


@dataclass(frozen=True, kw_only=True)
class Job:
    """Which responses are scored with which model, where to, and on what. Paths are texts, for JSON."""

    responses: str
    model: str
    out: str
    system: str | None
    effort: str
    date: str
    gpus: int
    threads: int


def score(job: Job, progress: Progress) -> None:
    """Scores what `job.out` does not hold yet; the next batch is tokenized meanwhile."""
    responses, out = Responses(Path(job.responses)), Path(job.out)
    with ScoreFiles(out, len(responses.places)) as files:
        if not (todo := responses.batches(without=files.keys)):
            return
        places = devices(job.gpus)
        check_session(out / SESSION, fingerprint(places[0]), has_rows=bool(files.keys))
        batches = Batches(job, responses, places)
        with progress.counter("scoring", len(responses.places), done=len(files.keys)) as files.counter:
            for outcomes in in_order(batches.score, todo, 2 * len(places)):
                for outcome in outcomes:
                    match outcome:
                        case Unscorable():
                            files.leave(outcome)
                        case row, logprobs:
                            files.save(row, logprobs)


class Batches:
    """Scores batches, several at a time where there are several devices."""

    def __init__(self, job: Job, responses: Responses, places: list[str]) -> None:
        model = Path(job.model)
        self.job = job
        self.responses = responses
        self.tokens = StudentTokens(model)
        self.copies = Copies([Forward(loaded(model, place), job.threads) for place in places])

    def score(self, batch: Batch) -> list[Outcome]:
        """What each row of a batch came to: first those that were not put to the model."""
        rows: list[Encoded] = []
        found: list[Outcome] = []
        for place in batch:
            try:
                row = encoded(
                    self.responses.read(place), self.tokens, self.job.system, self.job.effort, self.job.date
                )
                check_length(row, self.copies.limit)
                rows.append(row)
            except Unscorable as fault:
                found.append(fault)
        for row, logprobs in zip(rows, self.copies.logprobs(rows), strict=True):
            try:
                check_numbers(row, logprobs)
                found.append((row, logprobs))
            except Unscorable as fault:
                found.append(fault)
        return found


def work(job: bytes, progress: Progress) -> None:
    told = msgspec.json.decode(job, type=Job)
    with writable(Path(told.out)):
        score(told, progress)


if __name__ == "__main__":
    child.main(work)
