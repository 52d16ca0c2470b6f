"""Ask and Mark: a benchmark's questions put to a checkpoint, and the answers graded.

They are stages of their own, so that a new grader re-marks and asks nothing.
"""

import hashlib
import json
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TypeVar

import msgspec

from harness.adopt import (
    about_file,
    about_line,
    adopt_draws,
    digest,
    known_verdict,
    known_verdicts,
    told_about,
)
from harness.asking import PROMPT, Request, as_sent
from harness.batch import ask_in_batches, batch_endpoint
from harness.benchmark import Benchmark
from harness.cost import Amount, Estimator, Volume, Work, drawn, generation
from harness.endpoint import Endpoint
from harness.engines.batch import batch
from harness.errors import SandboxError
from harness.files import write_json, write_rows
from harness.generate import generate, pace_of
from harness.lengths import Length, keep, length_of
from harness.origin import check_origin
from harness.preflight import FILE as PREFLIGHT
from harness.preflight import look_through, wanted_by
from harness.preflight.report import made_from
from harness.rows import drop_torn_line, key_of, keys_of, read_in_order, read_rows, read_wanted, write_all
from harness.sandboxes import Sandbox
from harness.stage import Json, Service, Stage
from harness.store import Context
from harness.types import Generation, Grade, Message, Question, Sampling

Item = TypeVar("Item")
Result = TypeVar("Result")

SANDBOX = "sandbox: "
GRADE_BYTES = 400


def draw_seed(seed: int, question: str, draw: int) -> int:
    """A 31-bit request seed that depends on nothing but the question and the draw."""
    digest = hashlib.sha256(f"{seed}:{question}:{draw}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def conversation(prompt: str, system: str | None) -> tuple[Message, ...]:
    """The messages of one request; no system message where `system` is None."""
    user = Message(role="user", content=prompt)
    return (user,) if system is None else (Message(role="system", content=system), user)


def ask(
    requests: Iterable[Request],
    total: int,
    service: Service,
    out: Path,
    context: Context,
    example: Request | None = None,
) -> None:
    """Puts the requests that `out/generations.jsonl` does not hold yet to the model of `service`.

    Before the first of them the server is looked over (`harness.preflight`), and what was found stands in
    `out/preflight.json`; how `example` is put, in `out/prompt.json`. Raises ServerError where rows would be
    a lie or would be lost.
    """
    rows = out / "generations.jsonl"
    done = keys_of(rows)
    seen, todo = look_through(request for request in requests if request.key not in done)
    if not seen:
        rows.touch()
        return
    if service.engine == batch.name:
        ask_the_provider(todo, total, service, out, context, example)
        return
    endpoint = context.endpoint(service)
    tell_prompt(example, endpoint, out)
    report = context.preflights.of(
        endpoint, wanted_by(seen, service.sampling, seeds=context.machine.require_seed)
    )
    if done and not endpoint.engine.local:
        check_origin(made_from(out / PREFLIGHT), report.made_from, endpoint)
    write_json(out / PREFLIGHT, report)
    for line in report.noted:
        context.progress.say(line)
    report.refuse()
    with context.progress.counter("generating", total, done=len(done)) as counter:
        generate(
            todo,
            endpoint,
            rows,
            pace=pace_of(context.machine),
            progress=counter,
            honoured=report.honoured,
            counted=report.outcome("usage") == "passed",
            made_from=report.made_from,
            say=context.progress.say,
        )


def tell_prompt(example: Request | None, endpoint: Endpoint, out: Path) -> None:
    """Writes down what is sent to the server for one question, and what the template makes of it."""
    if example is not None:
        write_json(out / PROMPT, as_sent(example, endpoint))


def ask_the_provider(
    requests: Iterable[Request],
    total: int,
    service: Service,
    out: Path,
    context: Context,
    example: Request | None = None,
) -> None:
    """Asks by batch files. Nothing can be proved of a server that nobody sees: no row says it was."""
    rows = out / "generations.jsonl"
    endpoint = batch_endpoint(context.served_name(service), service.sampling, context.machine)
    tell_prompt(example, endpoint, out)
    with context.progress.counter("answered", total, done=len(keys_of(rows))) as counter:
        ask_in_batches(requests, endpoint, rows, context.machine, counter, context.progress.say)


@dataclass(frozen=True, kw_only=True)
class Ask(Stage):
    """All draws of a benchmark's questions from one checkpoint.

    `limit` asks only the first questions (not a score then); `sampling` overrides the protocol's.
    """

    model: Stage
    benchmark: Benchmark
    engine: str
    system: str | None = None
    sampling: Sampling | None = None
    limit: int | None = None

    @property
    def identity(self) -> dict[str, Json]:
        """How the answers will be graded does not change what is asked."""
        identity = super().identity
        for name in self.benchmark.grading:
            del identity["benchmark"][name]
        return identity

    def service(self) -> Service:
        return Service(model=self.model, engine=self.engine, sampling=self.drawn)

    @property
    def drawn(self) -> Sampling:
        return self.sampling or self.benchmark.sampling

    def questions(self, context: Context) -> list[Question]:
        return list(islice(self.benchmark.load(context.machine.data), self.limit))

    def requests(self, questions: list[Question]) -> Iterator[Request]:
        """Draw by draw, so that an interrupted run holds whole draws first."""
        for draw in range(self.drawn.draws):
            for question in questions:
                prompt, kept = self.benchmark.render(question, draw)
                yield Request(
                    question=question.id,
                    draw=draw,
                    messages=conversation(prompt, self.system),
                    sampling=self.drawn,
                    seed=draw_seed(self.drawn.seed, question.id, draw),
                    kept=kept,
                )

    def example(self, questions: list[Question]) -> Request | None:
        """The first request as a report may show it; None where it must show none."""
        shown = [one for one in map(self.benchmark.public, questions[:1]) if one is not None]
        return next(self.requests(shown), None)

    def run(self, out: Path, context: Context) -> None:
        questions = self.questions(context)
        total, example = len(questions) * self.drawn.draws, self.example(questions)
        adopted = adopt_draws(self, [question.id for question in questions], out, context)
        ask(self.requests(questions), total, self.service(), out, context, example)
        told = {"questions": len(questions), "draws": self.drawn.draws}
        write_json(out / "asked.json", {**told, **({"adopted": adopted} if adopted else {})})

    def expected(self, estimator: Estimator) -> Volume | None:
        if (told := estimator.answers(self.benchmark.name)) is None:
            return None
        questions = min(told.questions, self.limit or told.questions)
        rows = questions * self.drawn.draws
        response = min(told.response, self.drawn.max_tokens) * rows
        amount = Amount(rows=rows, questions=questions, prompt=told.prompt * rows, response=response)
        return Volume(domains={"": amount})

    def work(self, estimator: Estimator) -> Work:
        first = f", the first {self.limit} questions" if self.limit else ""
        return generation(self, self.service(), estimator, drawn(self.drawn) + first)


@dataclass(frozen=True, kw_only=True)
class Mark(Stage):
    """The verdict on every generation of an Ask, in the order of question and draw.

    `grader` is the benchmark's grader number. A verdict that a busy machine may be to blame for counts
    only once it was reached again with nothing else being graded.
    """

    asked: Ask
    grader: int

    @property
    def identity(self) -> dict[str, Json]:
        """The Ask, the grader, and the benchmark's grading settings (a time limit, say)."""
        return {**super().identity, "grading": self.asked.benchmark.grading}

    @property
    def follows(self) -> Ask:
        return self.asked

    def run(self, out: Path, context: Context) -> None:
        """Grades rows as they come. Nothing depends on their order, nor on when this was interrupted."""
        benchmark = self.asked.benchmark
        questions = {question.id: question for question in self.asked.questions(context)}
        file = out / "grades.jsonl"
        graded = keep_decided(file, out.parent / self.asked.key / "generations.jsonl")
        total = len(questions) * self.asked.drawn.draws
        graders = context.graders()
        sandbox = graders.sandbox if benchmark.needs_sandbox else None
        broken: list[Grade] = []
        known, about = known_verdicts(self, out.parent, context.progress.say), dict[tuple[str, int], bytes]()
        seen = dict[tuple[str, int], Length]()

        def grade(row: Generation) -> Future[Grade]:
            about[key_of(row)], seen[key_of(row)] = digest(row), length_of(row)
            if there := known_verdict(known, row):
                return at_once(there)
            return graders.submit(grade_one, benchmark, questions[row.question], row, sandbox)

        with (
            context.progress.counter(f"grading {benchmark.name}", total, done=len(graded)) as counter,
            file.open("ab", buffering=0) as lines,
            about_file(file).open("ab", buffering=0) as abouts,
            closing(self.verdicts(grade, graded, graders.workers, context)) as verdicts,
        ):
            for verdict in verdicts:
                key = key_of(verdict)
                write_all(abouts.fileno(), about_line(key, about.pop(key, b"")))
                write_all(lines.fileno(), msgspec.json.encode(verdict) + b"\n")
                counter.advance(failures=int(verdict.correct is None))
                if verdict.reason.startswith(SANDBOX):
                    broken.append(verdict)
        write_rows(file, read_in_order(file, Grade))
        if not graded:
            keep(out.parent, self.asked.key, seen.values())
        if broken:
            raise SandboxError(
                f"{len(broken)} of {total} answers could not be graded: {broken[0].reason}",
                "All other verdicts are kept; mend the sandbox and run the same command again.",
            )
        about_file(file).unlink()

    def verdicts(
        self,
        grade: Callable[[Generation], Future[Grade]],
        graded: frozenset[tuple[str, int]],
        workers: int,
        context: Context,
    ) -> Generator[Grade, None, None]:
        """The verdict on each row that is not graded yet.

        First all rows as they come, while answers may still be generated on this machine. Verdicts that
        this may be to blame for are then reached again, one at a time, once no stage is being built and
        nothing else is graded.
        """
        file, suspects = "generations.jsonl", set[tuple[str, int]]()
        wanted = (lambda key: key not in graded) if graded else None
        rows = context.follow(self.asked, file, Generation, wanted)
        with context.floor.busy(), closing(results(grade, rows, 4 * workers)) as found:
            for verdict in found:
                if self.asked.benchmark.timed_out(verdict):
                    suspects.add(key_of(verdict))
                else:
                    yield verdict
        if not suspects:
            return
        with context.floor.alone():
            again = read_wanted(context.path(self.asked) / file, Generation, suspects.__contains__)
            for verdict in results(grade, again, ahead=1):
                yield replace(verdict, detail={**verdict.detail, "graded_again_alone": True})
                context.floor.check()

    def work(self, estimator: Estimator) -> Work:
        benchmark, rows = self.asked.benchmark, estimator.volume(self.asked).total.rows
        setting = ", ".join(f"{name} {value}" for name, value in benchmark.grading.items())
        return Work(kind="grade", disk=rows * GRADE_BYTES, setting=setting, sandbox=benchmark.needs_sandbox)


def keep_decided(file: Path, rows: Path) -> frozenset[tuple[str, int]]:
    """The keys of the verdicts that a file holds.

    Dropped are those that the sandbox failed to give, and those that are not about the responses that
    stand in `rows` now: a response that is still to come may be another one.
    """
    for each in (file, about_file(file)):
        each.touch()
        drop_torn_line(each)
    about = told_about(file) or {}
    there = read_wanted(rows, Generation, about.__contains__) if about and rows.exists() else ()
    same = {key_of(row) for row in there if about[key_of(row)] == digest(row)}

    def stays(grade: Grade) -> bool:
        return key_of(grade) in same and not grade.reason.startswith(SANDBOX)

    if not all(map(stays, read_rows(file, Grade))):
        write_rows(file, (grade for grade in read_rows(file, Grade) if stays(grade)))
    return frozenset(key_of(grade) for grade in read_rows(file, Grade))


def in_order(
    work: Callable[[Item], Result], items: Iterable[Item], workers: int
) -> Generator[Result, None, None]:
    """The results of `work` on `workers` threads, in the order of the items; a bounded look-ahead.

    Closed early, it gives up what has not begun.
    """
    with ThreadPoolExecutor(workers) as pool:
        yield from results(lambda item: pool.submit(work, item), items, 4 * workers)


def at_once(result: Result) -> Future[Result]:
    """A result that is there already, as one that was waited for."""
    future: Future[Result] = Future()
    future.set_result(result)
    return future


def results(
    submit: Callable[[Item], Future[Result]], items: Iterable[Item | None], ahead: int
) -> Generator[Result, None, None]:
    """The results in the order of the items, each as soon as it and those before are there.

    At most `ahead` items are under way. An item that is None is none: what was ready meanwhile is given.
    Closed early, it gives up what has not begun and waits for the rest.
    """
    waiting: deque[Future[Result]] = deque()
    try:
        for item in items:
            if item is not None:
                waiting.append(submit(item))
            while waiting and (len(waiting) >= ahead or waiting[0].done()):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for begun in [future for future in waiting if not future.cancel()]:
            begun.exception()


def grade_one(
    benchmark: Benchmark, question: Question, generation: Generation, sandbox: Sandbox | None
) -> Grade:
    """One verdict. A sandbox that failed leaves `correct` None: never a wrong answer."""
    try:
        return benchmark.grade(question, generation, sandbox)
    except SandboxError as error:
        return Grade(
            question=question.id,
            draw=generation.draw,
            correct=None,
            extracted=None,
            truncated=generation.truncated,
            reason=f"{SANDBOX}{error.message}",
        )


def asked_counts(path: Path) -> tuple[int, int]:
    """Questions and draws of a finished Ask."""
    counts = json.loads((path / "asked.json").read_bytes())
    return counts["questions"], counts["draws"]
