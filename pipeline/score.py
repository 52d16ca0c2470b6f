"""Score: the log-probability that a model gives to each token of the kept responses (report §4).

The teacher's text in the model's own tokenization, by a forward pass or through a vLLM server. Tokenizers
may differ, so every token comes with its UTF-8 length and sentences are the common unit.
"""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from harness.cost import ARROW_BYTES, Estimator, Work
from harness.endpoint import Endpoint
from harness.engines.vllm import context_length
from harness.session import SESSION, check_session
from harness.stage import Service, Stage
from harness.store import Context
from harness.types import Sampling
from pipeline import child, forward
from pipeline.encoding import encoded
from pipeline.forward import Job
from pipeline.logprobs import Encoded, Unscorable
from pipeline.responses import Place, Responses
from pipeline.scored import UNSCORED, ScoreFiles, read_unscored, summary
from pipeline.served_logprobs import ServedLogprobs
from pipeline.tokenizer import StudentTokens


@dataclass(frozen=True, kw_only=True)
class Score(Stage):
    """Writes tokens.arrow: ids, log-probabilities and UTF-8 lengths of each response's tokens.

    `effort` is the reasoning effort and `date` the day that the prompt tells, of models whose template
    knows them. A response that cannot be scored is listed in unscored.jsonl with its reason; StageError
    where those are more than one in a hundred.
    An interrupted run goes on behind the last row that it wrote, with the same numbers: batches depend
    on all responses, not on what is left of them.
    """

    version: ClassVar[int] = 2

    responses: Stage
    model: Stage
    system: str | None = None
    through: Literal["forward", "vllm"] = "forward"
    effort: Literal["", "low", "medium", "high"] = ""
    date: str = ""

    def service(self) -> Service | None:
        if self.through == "forward":
            return None
        sampling = Sampling(temperature=1.0, max_tokens=1)
        return Service(model=self.model, engine=self.through, sampling=sampling)

    @property
    def computes(self) -> bool:
        return self.through == "forward"

    def run(self, out: Path, context: Context) -> None:
        if (service := self.service()) is not None:
            self.ask(out, service, context)
        else:
            self.compute(out, context)
        if left := read_unscored(out / UNSCORED):
            context.progress.say(f"{summary(left)}: see {out / UNSCORED}")

    def compute(self, out: Path, context: Context) -> None:
        """In process on a CPU; on GPUs in a child, because CUDA keeps memory until its process ends."""
        job = Job(
            responses=str(context.path(self.responses) / "generations.jsonl"),
            model=str(context.path(self.model) / "model"),
            out=str(out),
            system=self.system,
            effort=self.effort,
            date=self.date,
            gpus=context.machine.gpus,
            threads=context.machine.train_threads,
        )
        if job.gpus:
            child.run(forward.__name__, job, out, context.progress)
        else:
            forward.score(job, context.progress)

    def ask(self, out: Path, service: Service, context: Context) -> None:
        """Through a server, `concurrency` rows at a time, those of about one length together."""
        responses = Responses(context.path(self.responses) / "generations.jsonl")
        with ScoreFiles(out, len(responses.places)) as files:
            batches = responses.batches(without=files.keys)
            missing = [place for batch in batches for place in batch if place.key not in files.keys]
            if not missing:
                return
            endpoint = context.endpoint(service)
            check_session(out / SESSION, endpoint.fingerprint, has_rows=bool(files.keys))
            rows = self.rows(missing, responses, files, context)
            with context.progress.counter("scoring", len(responses.places), len(files.keys)) as files.counter:
                asyncio.run(self.asking(endpoint, files, context).run(rows))

    def asking(self, endpoint: Endpoint, files: ScoreFiles, context: Context) -> ServedLogprobs:
        return ServedLogprobs(
            endpoint,
            files.save,
            files.leave,
            context.machine.concurrency,
            files.counter,
            limit=context_length(context.path(self.model) / "model"),
        )

    def rows(
        self, places: list[Place], responses: Responses, files: ScoreFiles, context: Context
    ) -> Iterator[Encoded]:
        """The tokens of each response; those that have none are left out, and noted."""
        tokens = StudentTokens(context.path(self.model) / "model")
        for place in places:
            try:
                yield encoded(responses.read(place), tokens, self.system, self.effort, self.date)
            except Unscorable as fault:
                files.leave(fault)

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
