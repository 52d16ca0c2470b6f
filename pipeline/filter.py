"""Filter: drops responses that would teach something wrong (report §6.3).

Pure functions with their thresholds as fields. The report names the filters and publishes neither
thresholds nor rates, so the numbers here are ours.
"""

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harness.errors import StageError
from harness.files import write_rows
from harness.generate import read_rows
from harness.stage import Stage
from harness.store import Context
from harness.types import Generation

Reason = Literal["truncated", "too long", "no thinking", "no answer", "function call", "repetition"]

FUNCTION_CALL = re.compile(r"<tool_call>|<\|call\|>|to=functions\.|\"tool_calls\"")


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """When a response goes. `max_tokens`: the student's training context, in student tokens."""

    max_tokens: int
    line_repeats: int = 4
    phrase_words: int = 6
    phrase_repeats: int = 8


@dataclass(frozen=True, kw_only=True)
class Dropped:
    """A response that did not pass, and why."""

    question: str
    draw: int
    domain: str
    reason: Reason


@dataclass(frozen=True, kw_only=True)
class Filter(Stage):
    """Writes generations.jsonl (kept) and dropped.jsonl (with reasons).

    Both are in the order of question and draw, whatever the order in which responses came, so that
    nothing after this stage depends on concurrency.
    """

    responses: Stage
    student: Stage
    thresholds: Thresholds

    def run(self, out: Path, context: Context) -> None:
        from pipeline.tokenizer import StudentTokens

        tokens = StudentTokens(context.path(self.student) / "model")
        kept: list[Generation] = []
        dropped: list[Dropped] = []
        rows = read_rows(context.path(self.responses) / "generations.jsonl", Generation)
        for row in sorted(rows, key=lambda row: (row.question, row.draw)):
            reason = reason_to_drop(row, tokens.count(row.text), self.thresholds)
            if reason is None:
                kept.append(row)
            else:
                domain = row.kept["domain"]
                dropped.append(Dropped(question=row.question, draw=row.draw, domain=domain, reason=reason))
        write_rows(out / "dropped.jsonl", dropped)
        if not kept:
            raise StageError(
                f"all {len(dropped)} responses were dropped: {reasons(dropped)}",
                f"{out / 'dropped.jsonl'} names the reason of each.",
            )
        write_rows(out / "generations.jsonl", kept)


def reasons(dropped: list[Dropped]) -> str:
    """`12 truncated, 3 repetition`."""
    return ", ".join(
        f"{count} {name}" for name, count in Counter(row.reason for row in dropped).most_common()
    )


def reason_to_drop(row: Generation, tokens: int, thresholds: Thresholds) -> Reason | None:
    """The first reason against a response; None where there is none."""
    if row.truncated:
        return "truncated"
    if tokens > thresholds.max_tokens:
        return "too long"
    if FUNCTION_CALL.search(row.text):
        return "function call"
    if not row.reasoning.strip():
        return "no thinking"
    if not row.answer.strip():
        return "no answer"
    return "repetition" if repeats(row.text, thresholds) else None


def repeats(text: str, thresholds: Thresholds) -> bool:
    """Whether a line, or a run of words, comes back more often than the thresholds allow."""
    lines = Counter(line for line in map(str.strip, text.split("\n")) if len(line) > 8)
    if lines and max(lines.values()) >= thresholds.line_repeats:
        return True
    words = text.split()
    size = thresholds.phrase_words
    phrases = Counter(tuple(words[start : start + size]) for start in range(len(words) - size + 1))
    return bool(phrases) and max(phrases.values()) >= thresholds.phrase_repeats
