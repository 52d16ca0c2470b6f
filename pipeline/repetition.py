"""Repetition in a text: what stands back to back, what comes back, and what compresses away.

A degenerate loop says the same unit again and again, usually until the tokens run out. Two measures
find it, both in time that grows with the length of the text:

- `find_loops`: a stretch in which nearly every word stands one period before, too. The period may be a
  word or a page, and a counter may go up in each round ("Case 12: no. Case 13: no.").
- `unit_share`, `ngram_share`: how much of the text is made of paragraphs, sentences or word n-grams that
  occur several times, wherever they stand.

`compression` is the catch-all. Everything works on arrays of words as numbers; no word is ever a string.
"""

import re
import zlib
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Level = Literal["paragraph", "sentence", "phrase"]
Hashes = NDArray[np.uint64]
Places = NDArray[np.int64]
Flags = NDArray[np.bool_]

IDEOGRAPH = re.compile("([\u3040-\u9fff\uac00-\ud7af])")  # scripts that put no blanks between words
PIECE = 16  # bytes
LOOK_BACK = 32_768  # bytes, of zlib
GRAM = 4  # words that must recur together for their distance to be a candidate period
CANDIDATES = 8
PENALTY = 4  # a word that differs outweighs four that agree: in a loop at least 80 % agree
MIX, SHIFT, HALF = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xD1B54A32D192ED03), np.uint64(32)


def bytes_in(characters: bytes) -> Flags:
    """A table of 256 truth values, to be indexed by bytes."""
    return np.isin(np.arange(256, dtype=np.uint8), np.frombuffer(characters, dtype=np.uint8))


LETTER = bytes_in(bytes([*range(65, 91), *range(97, 123), *range(128, 256)]))
STOP = bytes_in(b".!?")
CLOSER = bytes_in(b"\"')]*$")
FIRST_BYTES = np.array([(1 << 8 * count) - 1 for count in range(9)], dtype=np.uint64)


@dataclass(frozen=True, kw_only=True, eq=False)
class Words:
    """The words of a text: where each begins and ends in `raw`, and a hash of it.

    A word is what stands between blanks and control characters. One of more than 16 bytes counts as
    several, so that "ha-ha-ha-…" has a period as well. `raw` is the text in UTF-8 between blanks.
    """

    raw: NDArray[np.uint8]
    starts: Places
    ends: Places
    hashes: Hashes

    def __len__(self) -> int:
        return len(self.hashes)


@dataclass(frozen=True, kw_only=True)
class Loop:
    """A stretch of `period + copied` words, of which the last `copied` repeat what stands a period before.

    `same` is the share of those that are the very same word; the others are counters and the like.
    """

    start: int
    period: int
    copied: int
    same: float

    @property
    def repeats(self) -> float:
        """How many times the unit stands there, the first time included."""
        return self.copied / self.period + 1


def words_of(text: str) -> Words:
    """A text's words. Equal words have equal hashes, and different ones do but for one pair in 2^64."""
    if not text.isascii():
        text = IDEOGRAPH.sub(r" \1 ", text)
    data = b" %b%b" % (text.encode("utf-8", "surrogatepass"), b" " * (PIECE + 1))
    raw = np.frombuffer(data, dtype=np.uint8)
    blank = raw <= ord(" ")
    edges = np.flatnonzero(blank[1:] != blank[:-1]) + 1
    starts, ends = pieces(edges[::2], edges[1::2])
    eights = np.ndarray((len(raw) - 7,), dtype="<u8", buffer=data, strides=(1,))
    lengths = ends - starts
    first = eights[starts] & FIRST_BYTES[np.minimum(lengths, 8)]
    second = eights[starts + 8] & FIRST_BYTES[np.maximum(lengths - 8, 0)]
    return Words(raw=raw, starts=starts, ends=ends, hashes=mixed(first, second))


def pieces(starts: Places, ends: Places) -> tuple[Places, Places]:
    """Words cut every 16 bytes."""
    counts = (ends - starts + (PIECE - 1)) // PIECE
    before = np.cumsum(counts) - counts
    total = int(before[-1] + counts[-1]) if len(counts) else 0
    if total == len(starts):
        return starts, ends
    cut = np.repeat(starts - PIECE * before, counts) + PIECE * np.arange(total)
    return cut, np.minimum(cut + PIECE, np.repeat(ends, counts))


def mixed(first: Hashes, second: Hashes) -> Hashes:
    """A hash of two numbers, in this order."""
    hashes = (first * MIX) ^ (second + SHIFT)
    hashes *= MIX
    hashes ^= hashes >> HALF
    hashes *= MIX
    return hashes


def ngrams(words: Hashes, size: int) -> Hashes:
    """A hash of each n-gram; `size` is a power of two."""
    width = 1
    while width < size and len(words):
        words = mixed(words[:-width], words[width:])
        width *= 2
    return words


def recurrences(words: Hashes) -> Places:
    """For each n-gram that stood before: how many words before it stood last. In no order.

    A hash keeps the bits that the places leave: 47 for 2^16 words, so that two different n-grams meet
    in one of 10^5 texts.
    """
    hashes = ngrams(words, GRAM)
    bits = np.uint64(len(hashes).bit_length())
    keys = hashes >> bits << bits
    keys |= np.arange(len(hashes), dtype=np.uint64)
    keys.sort()
    steps = keys[1:] - keys[:-1]
    again: Places = steps[steps >> bits == 0].astype(np.int64)
    return again


def find_loops(words: Hashes, recurring: float) -> list[Loop]:
    """Loops of which at least so many n-grams recur, and which stand there at least twice; one a period.

    The longest come first.
    """
    found = [longest(words, period) for period in candidates(recurrences(words), len(words), recurring)]
    return sorted((loop for loop in found if loop.repeats >= 2), key=lambda loop: (-loop.copied, loop.period))


def candidates(distances: Places, words: int, recurring: float) -> list[int]:
    """The distances within half of a text that are met most often, and so often at least."""
    met = np.bincount(distances[2 * distances <= words])
    often = np.flatnonzero(met >= max(recurring, 2))
    return [int(period) for period in often[np.argsort(-met[often], kind="stable")[:CANDIDATES]]]


def recurring_ngrams(copied: float, same: float) -> float:
    """How many n-grams recur at least in a loop of so many copied words, of which this share is the same.

    A word that differs is in four n-grams; three more reach over the loop's end.
    """
    return copied * (1 - GRAM * (1 - same)) - GRAM


def longest(words: Hashes, period: int) -> Loop:
    """The stretch with this period whose agreeing words outweigh the differing ones most."""
    same = words[period:] == words[:-period]
    weight = np.zeros(len(same) + 1, dtype=np.int32)
    np.cumsum(same, out=weight[1:])
    weight *= PENALTY + 1
    weight -= PENALTY * np.arange(len(weight), dtype=np.int32)
    gain = weight - np.minimum.accumulate(weight)
    end = int(np.argmax(gain))
    start = end - int(np.argmax(gain[end::-1] == 0))
    return Loop(start=start, period=period, copied=end - start, same=float(same[start:end].mean()))


def ngram_share(words: Hashes, size: int, times: int) -> float:
    """The share of the text's word n-grams that occur at least so many times; `times` is two or more."""
    grams = np.sort(ngrams(words, size))
    if len(grams) < times:
        return 0.0
    often = grams[times - 1 :] == grams[: 1 - times]
    groups = np.count_nonzero(often) - np.count_nonzero(often[1:] & often[:-1])
    return float((np.count_nonzero(often) + (times - 1) * groups) / len(grams))


def breaks(words: Words) -> tuple[Flags, Flags]:
    """Which words end a paragraph, and which end a sentence or a line.

    A paragraph ends at a blank line. A mark ends a sentence only before a blank, so that 3.14 stays
    whole; brackets and the like may stand between.
    """
    last, before = words.raw[words.ends - 1], words.raw[words.ends - 2]
    stop = STOP[last] | (CLOSER[last] & STOP[before])
    stop[:-1] &= words.ends[:-1] < words.starts[1:]
    following = np.searchsorted(words.starts, np.flatnonzero(words.raw == ord("\n")))
    lines = np.bincount(following, minlength=len(words) + 1)[1:]
    return lines > 1, stop | (lines > 0)


def unit_share(words: Words, ends: Flags, times: int) -> float:
    """The share of the text that stands in units which occur at least so many times, by bytes.

    `ends` tells which words end a unit.
    """
    firsts = np.concatenate(([0], np.flatnonzero(ends[:-1]) + 1))
    lasts = np.concatenate((firsts[1:], [len(words)])) - 1
    within = np.arange(len(words)) - np.repeat(firsts, lasts - firsts + 1)
    powers = np.cumprod(np.full(int(within.max()) + 1, MIX))
    hashes = np.add.reduceat(words.hashes * powers[within], firsts)
    order = np.argsort(hashes)
    groups = np.cumsum(np.concatenate(([False], np.diff(hashes[order]) != 0)))
    sizes = (words.ends[lasts] - words.starts[firsts])[order]
    return float(sizes[np.bincount(groups)[groups] >= times].sum() / sizes.sum())


def level(loop: Loop, paragraph: Flags, sentence: Flags) -> Level:
    """What a loop repeats: with a paragraph's end in it, with a sentence's or a line's, or with neither."""
    unit = slice(loop.start, loop.start + loop.period)
    if paragraph[unit].any():
        return "paragraph"
    return "sentence" if sentence[unit].any() else "phrase"


def copied_bytes(words: Words, loop: Loop) -> int:
    """How much of the text a loop's copies take, blanks between them included."""
    first = loop.start + loop.period
    return int(words.ends[first + loop.copied - 1] - words.starts[first])


def has_letters(words: Words, loop: Loop) -> bool:
    """Whether a loop repeats more than figures and signs."""
    last = loop.start + loop.period - 1
    return bool(LETTER[words.raw[words.starts[loop.start] : words.ends[last]]].any())


def compression(text: str) -> float:
    """UTF-8 bytes over the bytes that zlib's fastest level makes of them; 1 for an empty text.

    zlib looks back 32 KB: a loop with a longer period does not compress.
    """
    raw = text.encode("utf-8", "surrogatepass")
    return len(raw) / len(zlib.compress(raw, 1)) if raw else 1.0
