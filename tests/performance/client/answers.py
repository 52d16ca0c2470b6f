"""What the fast server answers: a function of the question and the seed, right in a known share.

Texts are counted in tokens of four characters. Long ones share their body, so that they can be sent
from bytes made at the start; what differs, the boxed answer, stands in their last tokens.
"""

import hashlib
import json
import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

CHARACTERS = 4  # of a token
SHARE = 0.6  # of the answers that are right
SHORTEST, LONGEST = 0.5, 3.0  # seconds, with --latency
PIECE = 64  # tokens of a stream that are written at once

WORDS = "so we add the next term and then take what is left over after that step which makes it "


@dataclass(frozen=True, kw_only=True)
class Known:
    """A question that the server knows: its mark in the prompt, and its answer."""

    id: str
    mark: str
    gold: int


def read_questions(file: Path) -> list[Known]:
    rows = map(json.loads, file.read_text(encoding="utf-8").splitlines())
    return [Known(id=row["id"], mark=row["mark"], gold=int(row["answer"])) for row in rows]


def chance(*key: object) -> float:
    """A number from 0 to 1 that depends on nothing but the key."""
    digest = hashlib.blake2b("\0".join(map(str, key)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def is_right(question: str, number: int) -> bool:
    return chance("right", question, number) < SHARE


def answer_of(known: Known, number: int) -> int:
    """The gold answer where draw `number` is right, else another from 0 to 999."""
    if is_right(known.id, number):
        return known.gold
    return (known.gold + 1 + math.floor(998 * chance("wrong", known.id, number))) % 1_000


def latency(question: str, place: int) -> float:
    """Seconds that the request number `place` for a question takes: the same for every client, whatever
    seeds it sends."""
    return SHORTEST + (LONGEST - SHORTEST) * chance("latency", question, place)


@lru_cache
def body(characters: int) -> str:
    """The thinking that all responses of a length share: whole tokens, ASCII, no box."""
    thinking = "<think>\n" + WORDS * (characters // len(WORDS) + 1)
    return thinking[: characters // CHARACTERS * CHARACTERS]


def ending(answer: int) -> str:
    """The end of a response, in whole tokens."""
    end = f".\n</think>\n\nThe number is \\boxed{{{answer}}}.\n"
    return end + "\n" * (-len(end) % CHARACTERS)


def unknown_ending(prompt: str, number: int) -> str:
    """The words with which a response to a question that the server does not know differs."""
    return "".join(f" w{math.floor(1e6 * chance(prompt, number, place)):06}" for place in range(12))


def tokens_of(text: str) -> list[str]:
    return [text[start : start + CHARACTERS] for start in range(0, len(text), CHARACTERS)]
