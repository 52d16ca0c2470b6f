"""The work that every tool is given: 30 questions of our own, 64 draws of each, graded.

The questions are sums whose answers are AIME 2024's, so that `harness evaluate -b aime24:64` reads
them from a data folder as a copy of that set. Everything is a function of the question's number.
"""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.aime import GOLDS, aime_prompt, known_ids
from harness.evaluate import draw_seed

MODEL = "speed"
DRAWS = 64
YEAR = "2024"

PROBLEM = (
    "[speed-{number:02}] A machine starts with the number ${x}$. In each of ${y}$ steps it adds ${x}$ to "
    "what it holds, and after the last step it adds ${z}$ once. Another machine divides what the first one "
    "holds at the end by $1000$ and shows nothing but the remainder. Two people look at the display: the "
    "first reads the digits from left to right, the second from right to left, and both write down the "
    "number that the machine means. Find that number."
)


@dataclass(frozen=True, kw_only=True)
class Puzzle:
    """One question: `mark` stands in its text and in no other's."""

    id: str
    mark: str
    problem: str
    gold: str


def puzzle(number: int, name: str, gold: str) -> Puzzle:
    """The question whose answer is `gold`, which its text does not hold."""
    rng = random.Random(f"speed:{number}")
    x, y = rng.randrange(2_001, 9_000), rng.randrange(2_001, 9_000)
    z = 1_000 * rng.randrange(2, 9) + (int(gold) - x * (y + 1)) % 1_000
    problem = PROBLEM.format(number=number, x=x, y=y, z=z)
    return Puzzle(id=name, mark=f"[speed-{number:02}]", problem=problem, gold=gold)


def puzzles() -> list[Puzzle]:
    names, golds = known_ids(YEAR), GOLDS[YEAR].split()
    return [puzzle(number, *pair) for number, pair in enumerate(zip(names, golds, strict=True))]


def write_data(folder: Path) -> Path:
    """A data folder from which `aime24` loads these questions; returns it."""
    file = folder / "HuggingFaceH4" / "aime_2024" / "test.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    rows = [{"id": each.id, "problem": each.problem, "answer": each.gold} for each in puzzles()]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder


def write_questions(file: Path) -> Path:
    """JSONL for the peers and the server: id, mark, the whole prompt, and the answer; returns the file."""
    rows = [
        {"id": each.id, "mark": each.mark, "prompt": aime_prompt(each.problem), "answer": each.gold}
        for each in puzzles()
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


@dataclass(frozen=True, kw_only=True)
class Generation:
    """One response to ask for: what `harness evaluate` asks for, without the harness's types."""

    question: str
    draw: int
    prompt: str
    seed: int

    def body(self, *, max_tokens: int, stream: bool) -> bytes:
        """The JSON that is posted to /v1/chat/completions."""
        body: dict[str, Any] = {
            "model": MODEL,
            "max_tokens": max_tokens,
            "seed": self.seed,
            "temperature": 1.0,
            "top_p": 1.0,
            "messages": [{"role": "user", "content": self.prompt}],
        }
        if stream:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        return msgspec.json.encode(body)


def generations(draws: int = DRAWS) -> Iterator[Generation]:
    """Draw by draw, as the harness asks."""
    asked = [(each.id, aime_prompt(each.problem)) for each in puzzles()]
    for draw in range(draws):
        for name, prompt in asked:
            yield Generation(question=name, draw=draw, prompt=prompt, seed=draw_seed(0, name, draw))


def write_bodies(file: Path, *, max_tokens: int, stream: bool, draws: int = DRAWS) -> Path:
    """The bodies of all requests, one a line; returns the file."""
    bodies = (each.body(max_tokens=max_tokens, stream=stream) for each in generations(draws))
    file.write_bytes(b"".join(body + b"\n" for body in bodies))
    return file
