"""Small runs for the viewer, written as the real loops write them: rows by `RowFile`, then verdicts."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.micro import micro_code, micro_math
from harness.answering import Response
from harness.benchmark import Benchmark
from harness.chat import CLOSE, OPEN
from harness.evaluate import Ask, Mark
from harness.files import write_json
from harness.hub import Served
from harness.rows import RowFile
from harness.store import RunStore
from harness.types import Generation, Grade, Question

MODEL = "student"
Sample = tuple[Generation, Grade | None]


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run of one row under `runs`."""

    runs: Path
    name: str
    model: str = MODEL

    @property
    def store(self) -> RunStore:
        return RunStore(self.runs)

    def mark(self, benchmark: Benchmark) -> Mark:
        served = Served(name=f"{self.model} of {self.name}", base_url="http://127.0.0.1:1/v1")
        asked = Ask(model=served, benchmark=benchmark, engine="remote", system="Think first.")
        return Mark(asked=asked, grader=benchmark.grader)

    def write(self, benchmark: Benchmark, samples: Iterable[Sample], *, finished: bool = True) -> Mark:
        """Appends rows and verdicts; unfinished, no link leads to them yet, as while it is under way."""
        mark, label = self.mark(benchmark), f"eval/{self.model}/{benchmark.name}"
        rows, grades = self.store.path(mark.asked), self.store.path(mark)
        for stage, folder in ((mark.asked, rows), (mark, grades)):
            folder.mkdir(parents=True, exist_ok=True)
            write_json(folder / "identity.json", stage.identity)
        write_json(rows / "session.json", {"engine": "vllm 0.32.0", "dtype": "float32"})
        with RowFile(rows / "generations.jsonl") as file, (grades / "grades.jsonl").open("ab") as verdicts:
            for row, grade in samples:
                file.append([Response(row=row)])
                if grade is not None:
                    verdicts.write(msgspec.json.encode(grade) + b"\n")
        self.store.note(self.name, {label: mark})
        if finished:
            self.store.link(self.runs / self.name / label, mark)
        return mark


def sample(
    question: Question,
    draw: int,
    answer: str,
    *,
    thinking: str = "Let me see.",
    correct: bool | None = True,
    extracted: str | None = "1",
    finish: Any = "stop",
    tokens: int = 12,
    reason: str = "",
    lenient: bool | None = None,
    detail: dict[str, Any] | None = None,
    prompt: str | None = None,
) -> Sample:
    row = Generation(
        question=question.id,
        draw=draw,
        prompt=question.prompt if prompt is None else prompt,
        text=f"{OPEN}\n{thinking}\n{CLOSE}\n\n{answer}",
        reasoning=thinking,
        answer=answer,
        finish_reason=finish,
        prompt_tokens=7,
        completion_tokens=tokens,
        latency=0.25,
        seed=11 + draw,
        sampling=micro_math.sampling,
        request_id=f"request-{draw}",
        model=MODEL,
        engine="vllm 0.32.0",
        honoured=("temperature", "seed"),
    )
    grade = Grade(
        question=question.id,
        draw=draw,
        correct=correct,
        extracted=extracted,
        truncated=finish == "length",
        reason=reason,
        lenient=correct if lenient is None else lenient,
        detail=detail or {},
    )
    return row, grade


def sums(
    count: int = 6, draws: int = 4, right: Any = lambda number, draw: (number + draw) % 3 > 0
) -> list[Sample]:
    """Answers to the first sums: some right, one truncated, one without an answer, one not graded."""
    found = []
    for number, question in enumerate(micro_math.load(None)[:count]):
        for draw in range(draws):
            good = right(number, draw)
            given = question.gold if good else str(int(question.gold) + 1)
            found.append(
                sample(
                    question,
                    draw,
                    f"So it is \\boxed{{{given}}}.",
                    thinking=f"{question.prompt}\nI add.\n" * (draw + 1),
                    correct=good,
                    extracted=given,
                    tokens=100 * number + draw,
                )
            )
    return found


def program(
    question: Question, draw: int, code: str, results: list[Any], message: str, error: int | None
) -> Sample:
    """A program's verdict, with the detail that the real grader gives."""
    detail = {"results": results, "error_code": error, "message": message, "out_of_memory": False}
    passed = error is None
    return sample(
        question, draw, f"Here it is.\n```python\n{code}\n```", correct=passed, extracted=code, detail=detail
    )


def code_question() -> Question:
    return micro_code.load(None)[0]
