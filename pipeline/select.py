"""Select: divergence-aware sampling, DAS (report §4).

A response is split into sentences. A sentence's probability under a model is the geometric mean of
its tokens' probabilities. Where the teacher's is much larger it is a Teacher Sentence, where the
student's is much larger a Student Sentence, else it is shared. Of a question's candidates those
richest in Teacher Sentences are kept.

The report publishes neither the margin nor the splitter nor the ranking; ours: a sentence ends at a
line break or at . ! ? before white space; the margin is a difference of mean log-probabilities; the
rank is the share of Teacher Sentences, ties broken by the mean divergence and then at random, keyed
by the question.
"""

import math
import random
import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Literal

from harness.errors import StageError
from harness.files import write_json, write_rows
from harness.generate import read_rows
from harness.stage import Stage
from harness.store import Context
from harness.types import Generation
from pipeline.score import Score, TokenScores

Class = Literal["teacher", "student", "shared"]
SENTENCE = re.compile(r".+?(?:[.!?](?=\s)|\n+|\Z)\s*", re.DOTALL)


@dataclass(frozen=True)
class Sentence:
    """A sentence's class and its mean token log-probabilities under both models."""

    kind: Class
    teacher: float
    student: float


@dataclass(frozen=True)
class Divergence:
    """What ranks a response: the share of Teacher Sentences and the mean divergence (nats)."""

    teacher_share: float
    mean: float


@dataclass(frozen=True, kw_only=True)
class Select(Stage):
    """Writes generations.jsonl with `keep` responses a question, and diagnostics.json.

    `teacher_scores` is needed only where sampling kept no log-probabilities. `minimum_differing` is
    the least share of questions whose candidates must differ in their scores: below it selection
    would be chance.
    """

    responses: Stage
    student_scores: Score
    teacher_scores: Score | None = None
    method: Literal["das", "random"] = "das"
    keep: int = 1
    margin: float = math.log(2)
    minimum_differing: float = 0.3
    seed: int = 0

    def run(self, out: Path, context: Context) -> None:
        rows = list(read_rows(context.path(self.responses) / "generations.jsonl", Generation))
        student = read_scores(context.path(self.student_scores))
        teacher = read_scores(context.path(self.teacher_scores)) if self.teacher_scores else sampled(rows)
        rows = [row for row in rows if key(row) in teacher]
        sentences = {
            key(row): classify(row.text, teacher[key(row)], student[key(row)], self.margin) for row in rows
        }
        divergences = {name: divergence(found) for name, found in sentences.items()}
        candidates = grouped(rows)
        differing = share_differing(candidates, divergences)
        write_json(out / "diagnostics.json", diagnostics(sentences, differing))
        if differing < self.minimum_differing:
            raise StageError(
                f"only {differing:.0%} of the questions have candidates with different divergence scores, "
                f"{self.minimum_differing:.0%} are needed",
                "The teacher answers too uniformly: sample more candidates or at a higher temperature.",
            )
        chosen = [row for group in candidates.values() for row in self.choose(group, divergences)]
        write_rows(out / "generations.jsonl", chosen)

    def choose(self, group: list[Generation], found: dict[tuple[str, int], Divergence]) -> list[Generation]:
        """The `keep` best of one question's candidates."""
        rng = random.Random(f"{self.seed}:{group[0].question}")
        shuffled = rng.sample(group, len(group))
        if self.method == "das":
            shuffled.sort(key=lambda row: (found[key(row)].teacher_share, found[key(row)].mean), reverse=True)
        return shuffled[: self.keep]


def key(row: Generation | TokenScores) -> tuple[str, int]:
    return row.question, row.draw


def read_scores(path: Path) -> dict[tuple[str, int], TokenScores]:
    return {key(row): row for row in read_rows(path / "scores.jsonl", TokenScores)}


def sampled(rows: list[Generation]) -> dict[tuple[str, int], TokenScores]:
    """The teacher's log-probabilities as kept by sampling, of the rows that have them.

    Raises StageError where no row has.
    """
    scores = {
        key(row): TokenScores(
            question=row.question, draw=row.draw, logprobs=row.logprobs, token_bytes=row.token_bytes
        )
        for row in rows
        if row.logprobs is not None and row.token_bytes is not None
    }
    if not scores:
        raise StageError(
            f"no response has log-probabilities: {rows[0].engine if rows else 'the engine'} gives none",
            "Score the responses with the teacher too (teacher_scores).",
        )
    return scores


def split_sentences(text: str) -> list[str]:
    """Sentences with their trailing white space; joined they are the text."""
    return SENTENCE.findall(text)


def sentence_logprobs(lengths: list[int], scores: TokenScores) -> list[float | None]:
    """The mean token log-probability of each sentence, given the sentences' UTF-8 lengths.

    A token belongs to the sentence in which its last byte lies; a sentence without a token of its
    own has None.
    """
    ends = list(accumulate(lengths))
    sums = [0.0] * len(lengths)
    counts = [0] * len(lengths)
    sentence = 0
    for logprob, end in zip(scores.logprobs, accumulate(scores.token_bytes), strict=True):
        while sentence < len(ends) - 1 and end > ends[sentence]:
            sentence += 1
        sums[sentence] += logprob
        counts[sentence] += 1
    return [total / count if count else None for total, count in zip(sums, counts, strict=True)]


def classify(text: str, teacher: TokenScores, student: TokenScores, margin: float) -> list[Sentence]:
    """The sentences of a response with their classes."""
    lengths = [len(sentence.encode()) for sentence in split_sentences(text)]
    pairs = zip(sentence_logprobs(lengths, teacher), sentence_logprobs(lengths, student), strict=True)
    return [Sentence(kind(t - s, margin), t, s) for t, s in pairs if t is not None and s is not None]


def kind(gap: float, margin: float) -> Class:
    """The class of a sentence whose mean log-probability is `gap` higher under the teacher."""
    if gap > margin:
        return "teacher"
    return "student" if gap < -margin else "shared"


def divergence(sentences: list[Sentence]) -> Divergence:
    if not sentences:
        return Divergence(0.0, 0.0)
    share = sum(sentence.kind == "teacher" for sentence in sentences) / len(sentences)
    mean = sum(sentence.teacher - sentence.student for sentence in sentences) / len(sentences)
    return Divergence(share, mean)


def grouped(rows: list[Generation]) -> dict[str, list[Generation]]:
    """Candidates by question, questions in the order of their first candidate."""
    groups: dict[str, list[Generation]] = defaultdict(list)
    for row in rows:
        groups[row.question].append(row)
    return groups


def share_differing(
    candidates: dict[str, list[Generation]], found: dict[tuple[str, int], Divergence]
) -> float:
    """The share of questions whose candidates do not all have the same divergence."""
    differing = sum(len({found[key(row)] for row in group}) > 1 for group in candidates.values())
    return differing / len(candidates) if candidates else 0.0


def diagnostics(sentences: dict[tuple[str, int], list[Sentence]], differing: float) -> dict[str, float]:
    """The share of each class over all sentences, and of questions with something to choose from."""
    kinds = Counter(sentence.kind for found in sentences.values() for sentence in found)
    total = max(sum(kinds.values()), 1)
    shares = {f"{name}_sentences": kinds[name] / total for name in ("teacher", "student", "shared")}
    return {**shares, "questions_with_differing_candidates": differing}
