"""Calibrate: the speeds of this machine, from about a minute of each kind of work that a recipe has.

The real stages run, through real servers, forward passes and trainers, in a scratch folder, and are ended
when the time is up. The clock starts with the first request, batch or step; the start-up before it is
measured apart.
"""

import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import cycle, islice
from pathlib import Path

from harness.benchmark import Benchmark
from harness.cost import Assumptions, Estimator, Kind, Work
from harness.engines.vllm import context_length
from harness.errors import HarnessError, StageError
from harness.evaluate import Ask
from harness.files import write_rows
from harness.hardware import Hardware
from harness.hub import Checkpoint
from harness.machine import Machine
from harness.plan import COMPUTING
from harness.recipe import Recipe
from harness.rows import read_rows
from harness.serve import ServerPool
from harness.stage import Stage, ordered
from harness.store import Context, RunStore
from harness.throughput import Rate
from harness.types import Generation, Question, Sampling
from pipeline.lacks import Lacks, present
from pipeline.sample import Sample
from pipeline.score import Score
from pipeline.sft import Sft
from pipeline.tokenizer import StudentTokens

LONGEST = 256  # tokens of a calibration's response: several rounds of requests must fit into a minute
DRAWS = 10_000  # more than a minute holds
SCORED_ROWS = 256
LEAST_STEPS = 16
LEAST_TOKENS = 300_000
MARGIN = 64  # tokens of the prompt, which the model's context holds beside a response

What = tuple[Kind, str, str]
Say = Callable[[str], None]


class TimeUp(Exception):
    """Ends a calibration; no fault."""


@dataclass(frozen=True, kw_only=True)
class Arrival:
    """Rows or steps that were finished together. `at`: seconds since the clock started."""

    at: float
    rows: int
    tokens: int


class Recording:
    """A counter that notes when rows came, and raises TimeUp after `seconds` and `least` rows."""

    def __init__(self, total: int, seconds: float, least: int) -> None:
        self.total, self.seconds, self.least = total, seconds, least
        self.arrivals: list[Arrival] = []
        self.started = time.monotonic()

    def advance(self, rows: int = 1, tokens: int = 0, failures: int = 0) -> None:
        at = time.monotonic() - self.started
        if rows:
            self.arrivals.append(Arrival(at=at, rows=rows, tokens=tokens))
        if at >= self.seconds and sum(one.rows for one in self.arrivals) >= self.least:
            raise TimeUp


class Recorder:
    """A progress whose last counter is kept."""

    def __init__(self, seconds: float, least: int, say: Say) -> None:
        self.seconds, self.least, self.say = seconds, least, say
        self.last: Recording | None = None
        self.began = time.monotonic()

    @contextmanager
    def stage(self, label: str) -> Iterator[None]:
        yield

    @contextmanager
    def counter(self, label: str, total: int, done: int = 0) -> Iterator[Recording]:
        self.last = Recording(total, self.seconds, self.least)
        yield self.last

    def recording(self) -> Recording:
        if self.last is None or not self.last.arrivals:
            raise StageError("nothing was finished, so there is no speed")
        return self.last

    @property
    def startup(self) -> float:
        """Seconds from the stage's beginning to that of its counter."""
        return self.last.started - self.began if self.last is not None else 0.0


def between(arrivals: list[Arrival], skipped: int) -> tuple[list[Arrival], float]:
    """What came after the first `skipped` rows, and the seconds that took; all where it is not as much.

    The first answers of many requests at a time come after a whole response's time, and the first step of a
    training is slow: the speed is that of what comes after them.
    """
    rows = 0
    for place, one in enumerate(arrivals):
        rows += one.rows
        after = arrivals[place + 1 :]
        if rows >= skipped and sum(later.rows for later in after) >= skipped and skipped:
            return after, after[-1].at - one.at
    return arrivals, arrivals[-1].at


def prompts_of(benchmark: Benchmark, data: Path | None) -> tuple[str, ...]:
    """A benchmark's questions as they would be asked."""
    return tuple(benchmark.render(question, 0)[0] for question in benchmark.load(data))


@dataclass(frozen=True, kw_only=True)
class Posed(Stage):
    """Writes questions.jsonl: a benchmark's questions, to be asked as training questions are."""

    benchmark: Benchmark

    def run(self, out: Path, context: Context) -> None:
        rows = enumerate(prompts_of(self.benchmark, context.machine.data))
        write_rows(out / "questions.jsonl", (Question(id=f"{n:06}", domain="", prompt=p) for n, p in rows))


@dataclass(frozen=True, kw_only=True)
class Texts(Stage):
    """Writes generations.jsonl: rows of `length` tokens of a model, made of benchmark questions."""

    model: Stage
    benchmark: Benchmark
    rows: int
    length: int

    def run(self, out: Path, context: Context) -> None:
        tokens = StudentTokens(context.path(self.model) / "model")
        made = Rows(prompts_of(self.benchmark, context.machine.data), self.length, tokens)
        write_rows(out / "generations.jsonl", map(made.row, range(self.rows)))


class Rows:
    """Rows of `length` tokens, one prompt after the other."""

    def __init__(self, prompts: tuple[str, ...], length: int, tokens: StudentTokens) -> None:
        self.prompts, self.length, self.tokens = prompts, length, tokens

    def row(self, number: int) -> Generation:
        prompt = self.prompts[number % len(self.prompts)]
        text = self.text(number)
        return Generation(
            question=f"calibration-{number:06}",
            draw=0,
            prompt="",
            text=text,
            reasoning=text,
            answer="",
            finish_reason="stop",
            prompt_tokens=0,
            completion_tokens=self.length,
            latency=0.0,
            seed=0,
            sampling=Sampling(temperature=1.0, max_tokens=self.length),
            request_id="",
            model="",
            engine="calibration",
            kept={"domain": "", "prompt": prompt},
        )

    def text(self, number: int) -> str:
        """The prompts from the `number`th on, one after the other, cut to the length."""
        found, count = "", 0
        for prompt in islice(cycle(self.prompts), number % len(self.prompts), None):
            found += prompt + "\n"
            count += self.tokens.count(prompt)
            if count >= self.length:
                return self.tokens.prefix(found, self.length)
        raise AssertionError("unreachable")


class Calibration:
    """The measurements of one recipe on one machine. Its other nodes do not take part."""

    def __init__(
        self,
        store: RunStore,
        recipe: Recipe,
        machine: Machine,
        here: Hardware,
        seconds: float,
        download: bool,
        say: Say,
    ) -> None:
        alone = replace(machine, training=replace(machine.training, nodes=1))
        self.store, self.recipe, self.machine, self.here = store, recipe, alone, here
        self.seconds, self.download, self.say = seconds, download, say
        self.estimator = Estimator(store, recipe.assumed or Assumptions(), machine.data)
        self.lacks = Lacks(self.machine, here)
        self.startup = 0.0

    def works(self) -> dict[What, Stage]:
        """The first stage of each kind of work, model and engine, in the order of the recipe."""
        found: dict[What, Stage] = {}
        for stage in ordered(list(self.recipe.labels().values())):
            work = self.estimator.work(stage)
            if work.kind in COMPUTING and work.model is not None:
                found.setdefault((work.kind, self.estimator.name(work.model), work.engine), stage)
        return found

    def rates(self) -> Iterator[Rate]:
        """Each speed as soon as it is measured; says what cannot be, and why."""
        sweep(self.store.root)
        for what, stage in self.works().items():
            kind, model, engine = what
            named = f"{kind} {model} ({engine})"
            if reason := self.obstacle(self.estimator.work(stage)):
                self.say(f"{named}: not measured, {reason}")
                continue
            try:
                rate = self.rate(what, stage)
            except HarnessError as error:
                self.say(f"{named}: not measured, {error}")
                continue
            self.say(f"{named}: {told(rate)}")
            yield rate

    def obstacle(self, work: Work) -> str:
        """Why a speed cannot be measured here, or nothing."""
        assert work.model is not None
        if self.lacks.is_remote(work.engine):
            return "it is somebody else's machine"
        root = self.estimator.root(work.model)
        for lack in (
            *self.lacks.engine(work.engine),
            *self.lacks.gpus(work, self.estimator.size(work.model)),
        ):
            return f"{lack.what}: {lack.remedy}"
        there = self.store.state(root) == "done" or self.download
        if not there and not (isinstance(root, Checkpoint) and present(root, self.machine)):
            return "the model is not on this machine: --download fetches it"
        return "" if self.benchmark else "no benchmark's questions are on this machine"

    @cached_property
    def benchmark(self) -> Benchmark | None:
        """A benchmark of the recipe whose questions are here."""
        here = (one for one in self.recipe.benchmarks if present(one, self.machine))
        return next(here, None)

    @cached_property
    def prompts(self) -> tuple[str, ...]:
        assert self.benchmark is not None
        return prompts_of(self.benchmark, self.machine.data)

    def rate(self, what: What, stage: Stage) -> Rate:
        """The speed of one kind of work, measured in a folder that goes with it."""
        model = self.estimator.work(stage).model
        assert model is not None
        root = self.estimator.root(model)
        self.store.root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(
            prefix=f"{own_prefix()}{os.getpid()}-", dir=self.store.root
        ) as folder:
            with self.context(self.store, 1) as (context, _):
                path = self.store.build(root, context)
            scratch = RunStore(Path(folder))
            scratch.stages.mkdir()
            scratch.path(root).symlink_to(path.resolve())
            match stage:
                case Score():
                    return self.score(what, stage, root, scratch)
                case Sft():
                    return self.train(what, stage, root, scratch)
                case Sample():
                    return self.generate(what, self.sampled(stage, root), scratch)
                case _:
                    return self.generate(what, self.asked(root, what[2]), scratch)

    @contextmanager
    def context(self, store: RunStore, least: int) -> Iterator[tuple[Context, Recorder]]:
        recorder = Recorder(self.seconds, least, self.say)
        with ServerPool(self.machine) as pool:
            yield Context(store, self.machine, recorder, pool), recorder

    def recorded(self, stage: Stage, store: RunStore, least: int = 1) -> Recording:
        """What a stage finished until its time was up, or it was done."""
        with self.context(store, least) as (context, recorder):
            for read in stage.inputs:
                store.build(read, context)
            recorder.began = time.monotonic()
            with suppress(TimeUp):
                store.build(stage, context)
            self.startup = recorder.startup
            return recorder.recording()

    def generate(self, what: What, stage: Stage, store: RunStore) -> Rate:
        """Short answers, as many at a time as the machine's concurrency."""
        found = self.recorded(stage, store)
        rows, seconds = between(found.arrivals, self.machine.concurrency)
        return self.made(what, sum(row.tokens for row in rows), seconds, max(1, self.machine.gpus))

    def sampled(self, stage: Sample, root: Stage) -> Sample:
        """A benchmark's questions asked as the recipe samples: with log-probabilities and its effort."""
        assert self.benchmark is not None
        return replace(
            stage,
            questions=Posed(benchmark=self.benchmark),
            teacher=root,
            sampling=shortened(stage.sampling),
            per_domain=(),
        )

    def asked(self, root: Stage, engine: str) -> Ask:
        """The benchmark itself."""
        assert self.benchmark is not None
        sampling = shortened(self.benchmark.sampling)
        return Ask(model=root, benchmark=self.benchmark, engine=engine, sampling=sampling)

    def score(self, what: What, stage: Score, root: Stage, store: RunStore) -> Rate:
        """Texts as long as those of the recipe, as far as the model's context reaches."""
        length = self.length(stage.responses, root, store, LEAST_TOKENS)
        texts = self.texts(root, max(SCORED_ROWS, LEAST_TOKENS // length), length)
        own = replace(stage, model=root, responses=texts)
        found = self.recorded(own, store)
        asked = self.prompt_tokens(own, store) * sum(one.rows for one in found.arrivals)
        tokens = sum(one.tokens for one in found.arrivals) + asked
        return self.made(what, tokens, found.arrivals[-1].at, max(1, self.machine.gpus))

    def train(self, what: What, stage: Sft, root: Stage, store: RunStore) -> Rate:
        """A few optimiser steps. On large models a step has one sequence a GPU, not the recipe's batch."""
        devices = 1 if stage.trainer == "trl" else max(1, self.machine.gpus)
        batch = min(stage.batch, devices * max(1, LEAST_TOKENS // 4 // stage.cutoff))
        own = replace(stage, base=root, batch=batch, epochs=1)
        length = self.length(stage.data, root, store, stage.cutoff)
        rows = max(LEAST_STEPS * batch * stage.cutoff, LEAST_TOKENS) // length
        own = replace(own, data=self.texts(root, rows, length))
        found = self.recorded(own, store, least=3)
        steps, seconds = between(found.arrivals, 1)
        share = sum(one.rows for one in steps) / max(found.total, 1)
        return self.made(what, round(share * self.tokens(own, store)), seconds, devices)

    def texts(self, root: Stage, rows: int, length: int) -> Texts:
        assert self.benchmark is not None
        return Texts(model=root, benchmark=self.benchmark, rows=rows, length=length)

    def length(self, like: Stage, root: Stage, store: RunStore, limit: int) -> int:
        """The mean tokens of a stage's responses, with room for a prompt in context and limit."""
        total = self.estimator.volume(like).total
        context = context_length(store.path(root) / "model") or limit
        longest = max(1, min(context, limit) - self.longest_prompt(root, store) - MARGIN)
        return max(1, min(round(total.response / max(total.rows, 1)), longest))

    def longest_prompt(self, root: Stage, store: RunStore) -> int:
        tokens = StudentTokens(store.path(root) / "model")
        return max(map(tokens.count, self.prompts))

    def prompt_tokens(self, stage: Score, store: RunStore) -> int:
        """The mean tokens of a question; those of the chat template are not counted in a plan either."""
        tokens = StudentTokens(store.path(stage.model) / "model")
        return round(sum(map(tokens.count, self.prompts)) / len(self.prompts))

    def tokens(self, stage: Sft, store: RunStore) -> int:
        """All tokens of a training's data."""
        tokens = StudentTokens(store.path(stage.base) / "model")
        rows = read_rows(store.path(stage.data) / "generations.jsonl", Generation)
        return sum(len(one.input_ids) for one in stage.examples(rows, tokens))

    def made(self, what: What, tokens: int, seconds: float, devices: int) -> Rate:
        kind, model, engine = what
        return Rate(
            kind=kind,
            model=model,
            engine=engine,
            tokens_per_second=tokens / max(seconds, 1e-6) / devices,
            device=self.here.device,
            devices=devices,
            tokens=tokens,
            seconds=round(seconds, 3),
            startup=round(self.startup, 3),
        )


def own_prefix() -> str:
    """How this computer's scratch folders begin, before the process's number: others may share the disk."""
    return f".calibrate-{platform.node()}-"


def sweep(runs: Path) -> None:
    """Removes the scratch folders of calibrations on this computer that were killed."""
    prefix = own_prefix()
    for folder in runs.glob(".calibrate-*"):
        process = folder.name.removeprefix(prefix).partition("-")[0]
        if folder.name.startswith(prefix) and process.isdigit() and not Path("/proc", process).exists():
            shutil.rmtree(folder, ignore_errors=True)


def shortened(sampling: Sampling) -> Sampling:
    return replace(sampling, draws=DRAWS, max_tokens=min(LONGEST, sampling.max_tokens))


def told(rate: Rate) -> str:
    return (
        f"{rate.tokens_per_second:,.0f} tokens/s on each of {rate.devices} × {rate.device} "
        f"({rate.tokens:,} tokens in {rate.seconds:.1f} s, after {rate.startup:.1f} s to start)"
    )
