"""Occurrences of words in a response, from its end or its start, in time that no text can stretch.

A regular expression that looks for the last match reads the whole text, and some texts make it read
the text again at every position. Here `str.find` does the reading, and the caller's pattern is tried
at a bounded number of places.
"""

from collections.abc import Iterator, Sequence
from itertools import islice

LONGEST = 1_000_000
"""Characters read of a response. The longest allowed here, 102,400 tokens, have about 400,000."""

PLACES = 1_000


def last_first(text: str, words: Sequence[str], places: int = PLACES) -> Iterator[int]:
    """Where one of the words stands, the last place first; at most `places` of them."""
    return islice(backwards(text, words), places)


def first_first(text: str, words: Sequence[str], places: int = PLACES) -> Iterator[int]:
    """Where one of the words stands, in the order of the text; at most `places` of them."""
    return islice(forwards(text, words), places)


def backwards(text: str, words: Sequence[str]) -> Iterator[int]:
    floor = max(0, len(text) - LONGEST)
    found = {word: text.rfind(word, floor) for word in words}
    while (place := max(found.values())) >= 0:
        yield place
        for word in words:
            if found[word] == place:
                found[word] = text.rfind(word, floor, place)


def forwards(text: str, words: Sequence[str]) -> Iterator[int]:
    found = {word: text.find(word, 0, LONGEST) for word in words}
    while ahead := [place for place in found.values() if place >= 0]:
        place = min(ahead)
        yield place
        for word in words:
            if found[word] == place:
                found[word] = text.find(word, place + len(word), LONGEST)
