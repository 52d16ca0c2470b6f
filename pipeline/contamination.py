"""Contamination: training questions that a benchmark of this project holds.

A training question goes when its whole text, or its id, is a test question's, or when it holds at least
`share` of a test question's own runs of `words` words.

Two things are not overlap. Runs that more than `shared` questions of a benchmark hold are the wording of
its prompt or of its judges, not a question. And one run in common is not a question in common:
programming tasks share their boilerplate. Of the LiveCodeBench problems outside the v5 and v6 windows,
which are other problems by date, 75 of 134 and 91 of 169 hold a run of 13 words of the window's own. With
runs of 8 words and a share of a fifth, 1 of the 303 is taken for contaminated. All 191 AIME and
LiveCodeBench v6 problems are still found with one word in twenty replaced, 185 with one in ten; with
runs of 13 it would be 180 and 106. AIME problems are short (31 words and up), and a replaced word breaks as
many runs as a run has words.

What is written of a match is the first run in common, except of benchmarks whose text must not appear
anywhere: of those, and of any that is not known to be public, only its hash.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.aime import Aime
from benchmarks.livecodebench import LiveCodeBench
from benchmarks.micro import Micro
from harness.benchmark import Benchmark
from harness.types import Question
from pipeline.ngrams import Hashes, run_hashes, words

PUBLIC = (Aime, LiveCodeBench, Micro)


@dataclass(frozen=True, kw_only=True)
class Overlap:
    """When a training question is a test question: see the module's docstring."""

    words: int = 8
    share: float = 0.2
    shared: int = 2


@dataclass(frozen=True, kw_only=True)
class Match:
    """The test question that a training question holds; `run` is a run of words in both, or its hash."""

    benchmark: str
    question: str
    share: float
    run: str


@dataclass(frozen=True, kw_only=True)
class BenchmarkIndex:
    """One benchmark's questions as runs. `owners[i]` are the questions that hold the run `hashes[i]`.

    A question has an entry in `sizes`: how many runs are its own.
    """

    name: str
    public: bool
    hashes: Hashes
    owners: tuple[tuple[str, ...], ...]
    sizes: dict[str, int]


def index_of(benchmark: Benchmark, questions: Iterable[Question], overlap: Overlap) -> BenchmarkIndex:
    """The index of a benchmark's questions."""
    runs = {question.id: set(runs_of(question.prompt, overlap).tolist()) for question in questions}
    held = Counter(run for found in runs.values() for run in found)
    most = min(overlap.shared, max(len(runs) - 1, 1))
    owners: dict[int, list[str]] = {run: [] for run, count in sorted(held.items()) if count <= most}
    for name, found in sorted(runs.items()):
        for run in found & owners.keys():
            owners[run].append(name)
    return BenchmarkIndex(
        name=benchmark.name,
        public=isinstance(benchmark, PUBLIC),
        hashes=np.fromiter(owners, np.uint64, len(owners)),
        owners=tuple(map(tuple, owners.values())),
        sizes=Counter(name for names in owners.values() for name in names),
    )


def runs_of(text: str, overlap: Overlap) -> Hashes:
    return run_hashes(words(text), overlap.words)


@dataclass(frozen=True, kw_only=True)
class Contamination:
    """All benchmarks, to look training questions up in."""

    overlap: Overlap
    sets: tuple[BenchmarkIndex, ...] = field(default=())

    def match(self, text: str) -> Match | None:
        """The first benchmark's most similar test question that the text holds."""
        found = words(text)
        runs = run_hashes(found, self.overlap.words)
        return next((match for each in self.sets if (match := self.match_in(each, found, runs))), None)

    def match_in(self, tests: BenchmarkIndex, found: list[str], runs: Hashes) -> Match | None:
        places = np.searchsorted(tests.hashes, runs)
        places[places == len(tests.hashes)] = 0
        hits = np.flatnonzero(tests.hashes[places] == runs) if len(tests.hashes) else ()
        if not len(hits):
            return None
        first: dict[int, int] = {}
        for hit in hits:
            first.setdefault(int(places[hit]), int(hit))
        counts = Counter(name for place in first for name in tests.owners[place])
        share, name = max((count / tests.sizes[name], name) for name, count in counts.items())
        if share < self.overlap.share:
            return None
        start = min(at for place, at in first.items() if name in tests.owners[place])
        run = " ".join(found[start : start + self.overlap.words])
        return Match(
            benchmark=tests.name,
            question=name,
            share=round(share, 3),
            run=run if tests.public else f"sha256:{hashlib.sha256(run.encode()).hexdigest()[:16]}",
        )


def indexed(benchmarks: Iterable[tuple[Benchmark, list[Question]]], overlap: Overlap) -> Contamination:
    return Contamination(
        overlap=overlap, sets=tuple(index_of(each, questions, overlap) for each, questions in benchmarks)
    )


def loaded(benchmarks: Iterable[Benchmark], data: Path | None) -> Iterator[tuple[Benchmark, list[Question]]]:
    """Each benchmark with its questions. Raises DataError where one cannot be read."""
    for benchmark in benchmarks:
        yield benchmark, benchmark.load(data)
