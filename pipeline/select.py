"""Select: divergence-aware sampling, DAS (report §4).

A response is split into sentences. A sentence's probability under a model is the geometric mean of
its tokens' probabilities. Where the teacher's is much larger it is a Teacher Sentence, where the
student's is much larger a Student Sentence, else it is shared. Of a question's candidates those
richest in Teacher Sentences are kept.

The report publishes neither the margin nor the splitter nor the ranking; ours: a sentence ends at a
line break or at . ! ? before white space, and a thinking tag alone is none; the margin is a difference
of mean log-probabilities; the rank is the share of Teacher Sentences, ties broken by the mean
divergence and then at random, keyed by the question.

Nothing is needed of either model but the probabilities of the tokens it would have to say.
"""

import math
import random
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain, zip_longest
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from harness import tokens
from harness.chat import CLOSE, OPEN
from harness.cost import Estimator, Volume, Work
from harness.errors import StageError
from harness.files import write_json, write_rows
from harness.rows import count_rows, read_in_order
from harness.stage import Stage
from harness.store import Context
from harness.tokens import Key, TokenIndex, Tokens
from harness.types import Generation

Class = Literal["teacher", "student", "shared"]
SENTENCE = re.compile(r".+?(?:[.!?](?=\s)|\n+|\Z)\s*", re.DOTALL)


@dataclass(frozen=True)
class Sentence:
    """A sentence's class and its mean token log-probabilities under both models."""

    text: str
    kind: Class
    teacher: float
    student: float


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A response as selection sees it; a row of divergence.jsonl.

    Its sentences are counted by class; `mean` is the mean over them of teacher less student (nats).
    `teacher` and `student` are the mean log-probabilities of all its tokens under each model: `exp` of
    them is the response's probability (the densities of Figures 3, 5, 6 and 10).
    """

    question: str
    draw: int
    domain: str
    sentences: int = 0
    teacher_sentences: int = 0
    student_sentences: int = 0
    mean: float = 0.0
    teacher: float = 0.0
    student: float = 0.0
    kept: bool = False

    @property
    def key(self) -> Key:
        return self.question, self.draw

    @property
    def rank(self) -> tuple[float, float]:
        """The share of Teacher Sentences, then the mean divergence: the larger the better."""
        return self.teacher_sentences / max(self.sentences, 1), self.mean


@dataclass(frozen=True, kw_only=True)
class Select(Stage):
    """Writes generations.jsonl with `keep` responses a question, divergence.jsonl and diagnostics.json.

    `keep_in` names the domains where another number than `keep` is kept.
    `teacher` and `student` are stages that left tokens.arrow: the sampling itself, a Score, or released
    log-probabilities; random selection does without them. `budget` limits the rows of each domain it
    names; which questions are left out, or keep fewer, depends on the seed alone, so that two methods keep
    answers to the same questions. `most_unscored` is the largest share of responses that may lack tokens of
    either model and are then no candidates. `minimum_differing` is the least share of questions whose
    candidates must differ in rank: below it selection would be chance.
    """

    version: ClassVar[int] = 3

    responses: Stage
    teacher: Stage | None = None
    student: Stage | None = None
    method: Literal["das", "random"] = "das"
    keep: int = 1
    keep_in: tuple[tuple[str, int], ...] = ()
    budget: tuple[tuple[str, int], ...] = ()
    margin: float = math.log(2)
    minimum_differing: float = 0.3
    most_unscored: float = 0.02
    seed: int = 0

    def run(self, out: Path, context: Context) -> None:
        rows = context.path(self.responses) / "generations.jsonl"
        found = list(self.candidates(rows, context))
        chosen = set(self.choose(found))
        if self.teacher is not None:
            told = diagnostics(found, count_rows(rows))
            write_json(out / "diagnostics.json", told)
            write_rows(out / "divergence.jsonl", (replace(one, kept=one.key in chosen) for one in found))
            self.check(told)
        for domain, count in missing(found, chosen, self.budget):
            context.progress.say(f"{domain}: {count} rows fewer than the budget; no more questions are left")
        kept = (row for row in read_in_order(rows, Generation) if key(row) in chosen)
        write_rows(out / "generations.jsonl", kept)

    def candidates(self, rows: Path, context: Context) -> Iterator[Candidate]:
        """All responses in order of question and draw; for DAS those that both models have scored.

        Raises StageError where there is none.
        """
        if self.teacher is None or self.student is None:
            if self.method == "das":
                raise StageError("divergence-aware selection needs the tokens of teacher and student")
            yield from map(unscored, read_in_order(rows, Generation))
            return
        teacher, student = (scores_of(stage, context) for stage in (self.teacher, self.student))
        if not (known := teacher.keys() & student.keys()):
            raise StageError(
                f"no response has log-probabilities of both {self.teacher.key} and {self.student.key}",
                "Where the engine gives none, score the responses with the teacher too.",
            )
        with context.progress.counter("comparing", len(known)) as counter:
            for row in read_in_order(rows, Generation):
                if key(row) in known:
                    yield compare(row, teacher[key(row)], student[key(row)], self.margin)
                    counter.advance(tokens=row.completion_tokens)

    def choose(self, found: Iterable[Candidate]) -> Iterator[Key]:
        """The keys of the `keep` best candidates of each question, as far as the budget reaches.

        A budget is filled with the best of every question before any second best.
        """
        groups, left = grouped(found), dict(self.budget)
        order = sorted(groups, key=lambda name: random.Random(f"{self.seed}:budget:{name}").random())
        rounds = zip_longest(*(self.best(groups[question]) for question in order))
        for one in chain.from_iterable(rounds):
            if one is not None and left.get(one.domain, 1) > 0:
                yield one.key
                if one.domain in left:
                    left[one.domain] -= 1

    def best(self, group: list[Candidate]) -> list[Candidate]:
        """The `keep` best of one question's candidates; ties at random, keyed by the question."""
        shuffled = random.Random(f"{self.seed}:{group[0].question}").sample(group, len(group))
        if self.method == "das":
            shuffled.sort(key=lambda one: one.rank, reverse=True)
        return shuffled[: dict(self.keep_in).get(group[0].domain, self.keep)]

    def check(self, told: dict[str, float]) -> None:
        """Raises StageError where too many responses are no candidates, or too few differ."""
        unscored, differing = told["unscored_responses"], told["questions_with_differing_candidates"]
        if unscored > self.most_unscored:
            raise StageError(
                f"{unscored:.1%} of the responses lack tokens of the teacher or the student, at most "
                f"{self.most_unscored:.0%} may: what is left is no fair choice",
                "Score the responses with the model that lacks them.",
            )
        if self.method == "das" and differing < self.minimum_differing:
            raise StageError(
                f"only {differing:.0%} of the questions have candidates with different divergence scores, "
                f"{self.minimum_differing:.0%} are needed",
                "The teacher answers too uniformly: sample more candidates or at a higher temperature.",
            )

    def expected(self, estimator: Estimator) -> Volume:
        keep, budget, found = dict(self.keep_in), dict(self.budget), {}
        for domain, one in estimator.volume(self.responses).domains.items():
            each = min(keep.get(domain, self.keep), one.rows / max(one.questions, 1))
            rows = min(each * one.questions, budget.get(domain, math.inf))
            found[domain] = one.part(rows, min(rows, one.questions))
        return Volume(domains=found)

    def work(self, estimator: Estimator) -> Work:
        rows = ", ".join(f"{count:,} {domain}" for domain, count in self.budget)
        setting = f"{self.method}, {rows or f'{self.keep} of each question'}"
        return Work(disk=estimator.text_bytes(estimator.volume(self)), setting=setting)


def key(row: Generation) -> Key:
    return row.question, row.draw


def scores_of(stage: Stage, context: Context) -> TokenIndex:
    """What a stage left in tokens.arrow. Raises StageError where it left none."""
    file = context.path(stage) / tokens.NAME
    if not file.exists():
        raise StageError(
            f"{stage.key} kept no log-probabilities: its engine gives none",
            "Score the responses with that model instead.",
        )
    return TokenIndex(file)


def unscored(row: Generation) -> Candidate:
    return Candidate(question=row.question, draw=row.draw, domain=row.kept["domain"])


def compare(row: Generation, teacher: Tokens, student: Tokens, margin: float) -> Candidate:
    """One response under both models."""
    found = classify(row.text, teacher, student, margin)
    kinds = Counter(sentence.kind for sentence in found)
    return Candidate(
        question=row.question,
        draw=row.draw,
        domain=row.kept["domain"],
        sentences=len(found),
        teacher_sentences=kinds["teacher"],
        student_sentences=kinds["student"],
        mean=math.fsum(one.teacher - one.student for one in found) / max(len(found), 1),
        teacher=mean_logprob(teacher),
        student=mean_logprob(student),
    )


def mean_logprob(found: Tokens) -> float:
    """Mean log-probability of a response's tokens; 0 of an empty one."""
    return float(found.logprobs.mean(dtype=np.float64)) if len(found.logprobs) else 0.0


def split_sentences(text: str) -> list[str]:
    """Sentences with their trailing white space; joined they are the text."""
    return SENTENCE.findall(text)


def sentence_logprobs(lengths: list[int], scores: Tokens) -> list[float | None]:
    """The mean token log-probability of each sentence, given the sentences' UTF-8 lengths.

    A token belongs to the sentence in which its last byte lies; a sentence without a token of its
    own has None.
    """
    ends = np.cumsum(lengths)
    owner = np.searchsorted(ends, np.cumsum(scores.lengths, dtype=np.int64)).clip(max=len(lengths) - 1)
    sums = np.bincount(owner, scores.logprobs.astype(np.float64), minlength=len(lengths)).tolist()
    counts = np.bincount(owner, minlength=len(lengths)).tolist()
    return [total / count if count else None for total, count in zip(sums, counts, strict=True)]


def classify(text: str, teacher: Tokens, student: Tokens, margin: float) -> list[Sentence]:
    """The sentences of a response with their classes; those that a model has no token for are left out,
    and so is a tag alone: it is in every response, and the student alone is surprised by it."""
    if not (sentences := split_sentences(text)):
        return []
    lengths = [len(sentence.encode()) for sentence in sentences]
    sides = (sentence_logprobs(lengths, teacher), sentence_logprobs(lengths, student))
    return [
        Sentence(sentence, kind(t - s, margin), t, s)
        for sentence, t, s in zip(sentences, *sides, strict=True)
        if t is not None and s is not None and sentence.strip() not in (OPEN, CLOSE)
    ]


def kind(gap: float, margin: float) -> Class:
    """The class of a sentence whose mean log-probability is `gap` higher under the teacher."""
    if gap > margin:
        return "teacher"
    return "student" if gap < -margin else "shared"


def grouped(found: Iterable[Candidate]) -> dict[str, list[Candidate]]:
    """Candidates by question."""
    groups: dict[str, list[Candidate]] = defaultdict(list)
    for one in found:
        groups[one.question].append(one)
    return groups


def share_differing(groups: dict[str, list[Candidate]]) -> float:
    """The share of questions whose candidates do not all have the same rank."""
    differing = sum(len({one.rank for one in group}) > 1 for group in groups.values())
    return differing / len(groups) if groups else 0.0


def missing(
    found: list[Candidate], chosen: set[Key], budget: tuple[tuple[str, int], ...]
) -> Iterator[tuple[str, int]]:
    """The domains whose budget could not be used up, and the rows that it lacks."""
    counts = Counter(one.domain for one in found if one.key in chosen)
    yield from ((domain, wanted - counts[domain]) for domain, wanted in budget if counts[domain] < wanted)


def diagnostics(found: list[Candidate], responses: int) -> dict[str, float]:
    """Shares: of each class over all sentences, of questions with something to choose from, and of the
    responses that are no candidates because a model has no tokens of them."""
    total = max(sum(one.sentences for one in found), 1)
    teacher = sum(one.teacher_sentences for one in found) / total
    student = sum(one.student_sentences for one in found) / total
    return {
        "teacher_sentences": teacher,
        "student_sentences": student,
        "shared_sentences": 1 - teacher - student,
        "questions_with_differing_candidates": share_differing(grouped(found)),
        "unscored_responses": 1 - len(found) / responses if responses else 0.0,
    }
