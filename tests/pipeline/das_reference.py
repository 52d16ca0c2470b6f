"""Divergence-aware sampling the slow and obvious way, in float64: what pipeline/select.py must equal.

Byte by byte and sentence by sentence; nothing of the fast code is used.
"""

import math
import random
import struct
from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True)
class Scored:
    """A response's tokens under one model: log-probabilities and UTF-8 lengths."""

    logprobs: list[float]
    token_bytes: list[int]


@dataclass(frozen=True)
class Ranked:
    """What decides a response's rank: share of Teacher Sentences, then mean divergence."""

    classes: list[str]
    share: Fraction
    mean: float


def sentences(text: str) -> list[str]:
    """A sentence ends after . ! or ? before white space, or at a line break; white space stays with it."""
    found, start = [], 0
    while start < len(text):
        end = start + 1
        while end < len(text) and not ends_at(text, end):
            end += 1
        end = min(end + 1, len(text))
        while end < len(text) and text[end].isspace():
            end += 1
        found.append(text[start:end])
        start = end
    return found


def ends_at(text: str, place: int) -> bool:
    """Whether the character at `place` is the last one of its sentence's words."""
    if text[place] == "\n":
        return True
    return text[place] in ".!?" and place + 1 < len(text) and text[place + 1].isspace()


def means(text: str, scored: Scored) -> list[float | None]:
    """The mean log-probability of each sentence's tokens; a token goes to the sentence of its last byte."""
    owner = [number for number, sentence in enumerate(sentences(text)) for _ in sentence.encode()]
    own: list[list[float]] = [[] for _ in sentences(text)]
    end = 0
    for logprob, length in zip(scored.logprobs, scored.token_bytes, strict=True):
        end += length
        own[owner[max(end - 1, 0)]].append(logprob)
    return [math.fsum(values) / len(values) if values else None for values in own]


def is_tag(sentence: str) -> bool:
    """Whether nothing but a thinking tag stands in a sentence."""
    return "".join(sentence.split()) in ("<think>", "</think>")


def ranked(text: str, teacher: Scored, student: Scored, margin: float) -> Ranked:
    """Classes by the ratio of geometric means of token probabilities."""
    gaps = [
        t - s
        for sentence, t, s in zip(sentences(text), means(text, teacher), means(text, student), strict=True)
        if t is not None and s is not None and not is_tag(sentence)
    ]
    classes = ["teacher" if gap > margin else "student" if gap < -margin else "shared" for gap in gaps]
    if not gaps:
        return Ranked([], Fraction(0), 0.0)
    return Ranked(classes, Fraction(classes.count("teacher"), len(gaps)), math.fsum(gaps) / len(gaps))


def order(candidates: list[Ranked]) -> list[int]:
    """Places of the candidates, the richest in Teacher Sentences first."""
    return sorted(range(len(candidates)), key=lambda i: (-candidates[i].share, -candidates[i].mean))


# Random cases -------------------------------------------------------------------------------

WORDS = (
    "so",
    "x",
    "is",
    "3.5",
    "therefore",
    "π≈3.14",
    "é",
    "“yes”",
    "for i in range(n):",
    "…",
    "e.g.",
    "日本",
    "<think>",
    "</think>",
)
JOINTS = (" ", " ", " ", " ", ". ", "! ", "?\n", "\n", "\n\n", ".\n\n  ", ", ")


def random_text(rng: random.Random) -> str:
    return "".join(rng.choice(WORDS) + rng.choice(JOINTS) for _ in range(rng.randint(1, 60)))


def random_scores(rng: random.Random, token_bytes: list[int], level: float) -> Scored:
    """Log-probabilities about `level`, drifting from sentence to sentence as a model's do; stored as
    single precision, like a model's."""
    drift, values = 0.0, []
    for _ in token_bytes:
        drift = 0.9 * drift + rng.gauss(0, 0.3)
        values.append(single(-abs(level + drift + rng.gauss(0, 0.5))))
    return Scored(values, token_bytes)


def single(value: float) -> float:
    """The nearest single-precision number."""
    nearest: float = struct.unpack("f", struct.pack("f", value))[0]
    return nearest


def random_pieces(rng: random.Random, text: str) -> list[int]:
    """A made-up tokenizer's byte lengths: pieces of one to six bytes, some of none."""
    left, pieces = len(text.encode()), []
    while left:
        piece = min(left, rng.choice((0, 1, 2, 3, 4, 5, 6)))
        pieces.append(piece)
        left -= piece
    return pieces
