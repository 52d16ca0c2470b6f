"""Near duplicates: questions that share most of their runs of words.

datasketch's MinHash proposes, with locality-sensitive hashing, which questions may be alike; the
Jaccard similarity of their sets of runs decides. A question is compared with those kept before it, so
the first stays: callers give questions in an order that no file determines.
"""

from dataclasses import dataclass

import numpy as np

from pipeline.ngrams import Hashes, run_hashes, words

LOW_BITS = np.uint64(0xFFFFFFFF)
SCHEME = "affine32"
MISSED_COUNTS_MORE = (
    0.05,
    0.95,
)  # the weights of wrongly proposed and of missed pairs: proposals are checked


@dataclass(frozen=True, kw_only=True)
class Near:
    """When two questions are near duplicates. The report does not say whether it looked for any.

    `threshold` is a Jaccard similarity of sets of runs of `words` words. With 5 words, changing one word
    in the middle of 50 leaves 0.8. More permutations miss fewer pairs near the threshold.
    """

    threshold: float = 0.8
    words: int = 5
    permutations: int = 128
    seed: int = 1


class NearIndex:
    """The questions kept so far."""

    def __init__(self, near: Near) -> None:
        from datasketch import MinHash, MinHashLSH

        self.near = near
        self.empty = MinHash(num_perm=near.permutations, seed=near.seed, hashfunc=int, scheme=SCHEME)
        self.alike = MinHashLSH(
            threshold=near.threshold, num_perm=near.permutations, weights=MISSED_COUNTS_MORE
        )
        self.runs: list[Hashes] = []
        self.names: list[str] = []

    def add(self, name: str, text: str) -> str | None:
        """Keeps a question, or returns the name of the one kept before that it is nearest to."""
        runs = np.unique(run_hashes(words(text), self.near.words))
        if not len(runs):
            return None
        signature = self.empty.copy()
        signature.update_batch((runs & LOW_BITS).tolist())
        nearest = self.nearest(runs, self.alike.query(signature))
        if nearest is not None:
            return self.names[nearest]
        self.alike.insert(len(self.names), signature, check_duplication=False)
        self.names.append(name)
        self.runs.append(runs)
        return None

    def nearest(self, runs: Hashes, candidates: list[int]) -> int | None:
        """The most similar candidate at or above the threshold; of equals the one kept first."""
        alike = [(jaccard(runs, self.runs[each]), -each) for each in candidates]
        best, number = max(alike, default=(0.0, 0))
        return -number if best >= self.near.threshold else None


def jaccard(one: Hashes, other: Hashes) -> float:
    """|A ∩ B| / |A ∪ B| of two sorted sets."""
    shared = len(np.intersect1d(one, other, assume_unique=True))
    return shared / (len(one) + len(other) - shared)
