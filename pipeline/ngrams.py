"""Words of a text and hashes of its runs of words: what duplicates and contamination are found by."""

import functools
import hashlib
import re
import unicodedata

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]

IDEOGRAPHS = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
WORD = re.compile(rf"[{IDEOGRAPHS}]|[^\W_{IDEOGRAPHS}]+")
MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
MIXER = np.uint64(0xBF58476D1CE4E5B9)
SHIFT = np.uint64(31)


def words(text: str) -> list[str]:
    """Runs of letters and digits, in one case and one Unicode form; an ideograph is a word.

    Punctuation and LaTeX's own signs are no words: `$a_1$` and `\\(a_{1}\\)` are the same two.
    """
    return WORD.findall(unicodedata.normalize("NFKC", text).casefold())


def run_hashes(found: list[str], size: int) -> Hashes:
    """A 64-bit hash for each run of `size` words, in order; one of the whole where there are fewer words.

    The hash is the same in every process and on every machine.
    """
    size = min(size, len(found))
    if not size:
        return np.empty(0, np.uint64)
    each = np.fromiter(map(word_hash, found), np.uint64, len(found))
    count = len(found) - size + 1
    total = np.zeros(count, np.uint64)
    for offset in range(size):
        total = total * MULTIPLIER + each[offset : offset + count]
    total = (total ^ (total >> SHIFT)) * MIXER
    mixed: Hashes = total ^ (total >> SHIFT)
    return mixed


@functools.lru_cache(maxsize=1 << 18)
def word_hash(word: str) -> int:
    return int.from_bytes(
        hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big"
    )
