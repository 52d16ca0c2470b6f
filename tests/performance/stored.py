"""A run folder with as many and as long responses as wanted, as an interrupted `harness evaluate` leaves it.

One response is asked for by the real command; the rows are that one with other texts and keys, written
into the stage's folder as the real loop writes them: a fake server would take an hour for eight gigabytes
of them. All that follows is done by the real commands.
"""

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from benchmarks.micro import MicroMath, micro_math
from harness.answering import Response
from harness.chat import CLOSE, OPEN
from harness.evaluate import Ask, Mark
from harness.files import write_json
from harness.integrity import with_check
from harness.recipe import Recipe, evaluation
from harness.rows import RowFile, read_rows
from harness.session import SESSION
from harness.store import RunStore
from harness.types import Generation, Question
from tests.performance.client.watched import watch
from tests.performance.client.work import MODEL

ROOT = Path(__file__).parents[2]
LIMIT = 3_600.0
NAME = "stored"
LENIENT_NEEDS_MATH = 100  # one response in so many has two boxes: only math-verify judges its whole text
NOT_ASCII = 10  # one in so many has characters that take Python more than a byte
SENTENCE = (
    "so we add the next term $x^2 + 3y$ and take what is left over \\frac{12}{5} after that, which is fine. "
)


@dataclass(frozen=True, kw_only=True)
class Step:
    """One command: wall seconds, seconds of CPU of its processes, bytes of them all together."""

    seconds: float
    cpu: float
    peak: int


def step(command: list[str], log: Path) -> Step:
    """Runs a command. Raises RuntimeError, with the end of its log, where it fails."""
    before = os.times()
    done = watch(command, log=log, environment={"PYTHONPATH": str(ROOT)}, limit=LIMIT)
    after = os.times()
    if done.status:
        raise RuntimeError(f"{' '.join(command)} ended with {done.status}:\n{log.read_text()[-2000:]}")
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return Step(seconds=done.seconds, cpu=cpu, peak=done.peak)


@dataclass(frozen=True, kw_only=True)
class StoredRun:
    """`rows` responses of `characters` to micro_math's questions, of which the last `missing` and half a
    row more are not there."""

    runs: Path
    url: str
    rows: int
    characters: int
    missing: int

    @cached_property
    def benchmark(self) -> MicroMath:
        draws, rest = divmod(self.rows, micro_math.count)
        assert not rest, f"rows are a multiple of {micro_math.count}"
        return replace(micro_math, sampling=replace(micro_math.sampling, draws=draws))

    @cached_property
    def recipe(self) -> Recipe:
        return evaluation(
            model=MODEL, benchmarks=[self.benchmark], engine="remote", base_url=self.url, name=NAME
        )

    @property
    def store(self) -> RunStore:
        return RunStore(self.runs)

    @property
    def mark(self) -> Mark:
        return self.recipe.marks()[f"eval/{MODEL}/{self.benchmark.name}"]

    @property
    def ask(self) -> Ask:
        return self.mark.asked

    def evaluate(self, draws: int | None = None, runs: Path | None = None) -> list[str]:
        """The command that leaves such a run."""
        asked = f"{micro_math.name}:{draws or self.benchmark.sampling.draws}"
        command = [*harness("evaluate", runs or self.runs), MODEL, "-b", asked, "--base-url", self.url]
        return [*command, "--name", NAME]

    def command(self, verb: str) -> list[str]:
        return [*harness(verb, self.runs), NAME]

    def write(self, like: Generation, session: bytes) -> int:
        """Writes the run, of rows like this one and by this engine; returns the bytes of its rows."""
        folder = self.store.path(self.ask)
        folder.mkdir(parents=True)
        write_json(folder / "identity.json", self.ask.identity)
        (folder / SESSION).write_bytes(session)
        with RowFile(folder / "generations.jsonl") as file:
            for row in self.responses(like):
                file.append([Response(row=row)])
        with file.path.open("ab") as torn:
            torn.write(b'{"question":"half a row')
            return torn.tell()

    def asked_once(self) -> tuple[Generation, bytes]:
        """A real row, and what the real command says of the engine that wrote it."""
        elsewhere = self.runs.with_name(f"{self.runs.name}-once")
        subprocess.run(self.evaluate(1, elsewhere), check=True, capture_output=True)
        (folder,) = elsewhere.glob("stages/ask-*")
        return next(read_rows(folder / "generations.jsonl", Generation)), (folder / SESSION).read_bytes()

    def responses(self, like: Generation) -> Iterator[Generation]:
        questions = self.benchmark.load(None)
        for number in range(self.rows - self.missing):
            draw, place = divmod(number, len(questions))
            yield self.response(questions[place], draw, number, like)

    def response(self, question: Question, draw: int, number: int, like: Generation) -> Generation:
        """Right in three of five draws."""
        box = f"\\boxed{{{question.gold if draw % 5 < 3 else int(question.gold) + 1}}}"
        answer = f"The number is {box}."
        start = "first \\boxed{1} " if number % LENIENT_NEEDS_MATH == 0 else "水 " * (number % NOT_ASCII == 0)
        thinking = (start + self.body[number % 997 :])[: self.characters - len(OPEN + CLOSE + answer) - 4]
        return replace(
            like,
            question=question.id,
            draw=draw,
            prompt=question.prompt,
            text=f"{OPEN}\n{thinking}\n{CLOSE}\n\n{answer}",
            reasoning=thinking,
            answer=answer,
            finish_reason="stop",
            completion_tokens=self.characters // 4,
            sampling=self.benchmark.sampling,
        )

    @cached_property
    def body(self) -> str:
        words, rng = SENTENCE.split(" "), random.Random(self.characters)
        return " ".join(rng.choice(words) for _ in range(self.characters // 3 + 1_000))

    def grades(self) -> bytes:
        return (self.store.path(self.mark) / "grades.jsonl").read_bytes()

    def of_an_older_grader(self) -> None:
        """Makes the verdicts those of the grader before, so that `harness regrade` grades all again."""
        older = replace(self.mark, grader=self.mark.grader - 1)
        folder = self.store.path(self.mark).rename(self.store.path(older))
        manifest = json.loads((folder / "stage.json").read_bytes())
        write_json(folder / "identity.json", older.identity)
        files = {name: was for name, was in manifest["files"].items() if name != "identity.json"}
        now = {**manifest, "key": older.key, "identity": older.identity, "files": files}
        write_json(folder / "stage.json", with_check(now))
        self.store.view(NAME, {f"eval/{MODEL}/{self.benchmark.name}": older})


def harness(verb: str, runs: Path) -> list[str]:
    return [sys.executable, "-m", "harness.cli", verb, "--runs", str(runs)]
