"""Repetition: periods of every size, what is no period, and the shares against slow, obvious counts."""

import random
from collections import Counter

import numpy as np
import pytest

from pipeline.repetition import (
    Loop,
    breaks,
    candidates,
    compression,
    copied_bytes,
    find_loops,
    has_letters,
    level,
    longest,
    ngram_share,
    recurrences,
    recurring_ngrams,
    unit_share,
    words_of,
)

WORDS = [f"w{number}" for number in range(1_000)]


def random_words(key: str, count: int, of: int = 400) -> list[str]:
    rng = random.Random(key)
    return [rng.choice(WORDS[:of]) for _ in range(count)]


def worst(text: str) -> Loop:
    return find_loops(words_of(text).hashes, 2)[0]


def level_of(text: str) -> str:
    words = words_of(text)
    return level(find_loops(words.hashes, 2)[0], *breaks(words))


@pytest.mark.parametrize("period", [1, 2, 3, 7, 40, 900])
def test_a_unit_of_any_size_is_found_where_it_stands_and_to_its_end(period: int) -> None:
    before, unit, after = random_words("a", 300), WORDS[:period], random_words("c", 50)
    loop = worst(" ".join([*before, *unit * 12, "stop", *after]))
    assert (loop.period, loop.copied, loop.same) == (period, 11 * period, 1.0)
    assert loop.start == 300


def test_a_unit_longer_than_zlib_looks_back_is_found() -> None:
    unit = " ".join(random_words("page", 9_000, 400))
    text = " ".join([unit] * 3)
    assert len(unit) > 32_768
    assert compression(text) < 5
    assert (worst(text).period, worst(text).repeats) == (9_000, 3.0)


def test_a_unit_that_repeats_itself_inside_has_the_whole_as_its_period() -> None:
    sentence = "no it is not no it is not no it is not but then it is "
    assert worst(sentence * 12).period == 16


def test_a_counter_that_goes_up_in_each_round_does_not_hide_the_loop() -> None:
    loop = worst(" ".join(f"Case {n}: this does not work either." for n in range(60)))
    assert loop.period == 7
    assert loop.same == pytest.approx(6 / 7, abs=0.01)


def test_rows_that_differ_in_more_than_a_fifth_of_their_words_are_no_loop() -> None:
    rows = [f"| {n} | {n * n} | {n**3} |" for n in range(2, 60)]
    assert not [loop for loop in find_loops(words_of("\n".join(rows)).hashes, 2) if loop.copied > 10]


@pytest.mark.parametrize("unit", ["ha", "_and_used", "1,", "我们再检查一遍这个结果,", "é"])
def test_a_loop_without_blanks_has_a_period(unit: str) -> None:
    text = f"So it goes on: {unit * 400}"
    words = words_of(text)
    assert copied_bytes(words, find_loops(words.hashes, 2)[0]) > 0.8 * len(unit.encode()) * 400


def test_the_stretch_is_the_best_of_all_by_a_slow_search() -> None:
    for case in range(60):
        rng = random.Random(f"stretch:{case}")
        words = words_of(" ".join(rng.choice("ab") for _ in range(40))).hashes
        period = rng.randint(1, 6)
        gains = np.where(words[period:] == words[:-period], 1, -4)
        best = max(gains[i:j].sum() for i in range(len(gains)) for j in range(i, len(gains) + 1))
        loop = longest(words, period)
        assert gains[loop.start : loop.start + loop.copied].sum() == best


def test_distances_are_candidates_only_where_often_enough() -> None:
    text = " ".join([*random_words("x", 500), *WORDS[:9] * 30])
    distances = recurrences(words_of(text).hashes)
    assert candidates(distances, 770, recurring=200)[0] == 9
    assert candidates(distances, 770, recurring=300) == []


@pytest.mark.parametrize("every", [6, 7, 20, 50])
def test_a_loop_has_at_least_the_recurring_ngrams_that_are_asked_of_it(every: int) -> None:
    rounds = [[f"only{n}", *WORDS[: every - 1]] for n in range(30)]
    words = words_of(" ".join(word for words in rounds for word in words)).hashes
    loop = longest(words, every)
    assert len(recurrences(words)) >= recurring_ngrams(loop.copied, loop.same)
    assert find_loops(words, recurring_ngrams(loop.copied, loop.same))[0] == loop


@pytest.mark.parametrize("times", [2, 3, 5])
def test_the_share_of_ngrams_equals_a_slow_count(times: int) -> None:
    for case in range(40):
        words = random_words(f"share:{case}", 120, of=3)
        grams = Counter(zip(*(words[offset:] for offset in range(4)), strict=False))
        expected = sum(count for count in grams.values() if count >= times) / grams.total()
        assert ngram_share(words_of(" ".join(words)).hashes, 4, times) == pytest.approx(expected)


def test_the_share_of_sentences_equals_a_slow_count() -> None:
    for case in range(40):
        rng = random.Random(f"units:{case}")
        units = [" ".join(rng.choices(WORDS[:2], k=rng.randint(1, 3))) + "." for _ in range(60)]
        counts = Counter(units)
        expected = sum(len(unit) * n for unit, n in counts.items() if n >= 4) / sum(map(len, units))
        words = words_of(" ".join(units))
        assert unit_share(words, breaks(words)[1], 4) == pytest.approx(expected)


def test_sentences_of_the_same_words_in_another_order_are_different() -> None:
    words = words_of("F T F F. " + "T F F F. " + "F F T F. " + "F F F T.")
    assert unit_share(words, breaks(words)[1], 2) == 0.0


def test_a_decimal_point_ends_no_sentence_and_a_bracket_after_the_stop_does_not_hide_it() -> None:
    words = words_of('pi is 3.14159265358979323846 (or so.) or "more!" Yes')
    ends = breaks(words)[1]
    texts = [words.raw[a:b].tobytes().decode() for a, b in zip(words.starts, words.ends, strict=True)]
    assert [text for text, end in zip(texts, ends, strict=True) if end] == ["so.)", '"more!"']


@pytest.mark.parametrize(
    ("unit", "expected"),
    [
        ("We check it. It fails.\n\n", "paragraph"),
        ("We check it.\n  \nIt fails\n", "paragraph"),
        ("We check it again and it fails. ", "sentence"),
        ("we check it again and it fails\n", "sentence"),
        ("we check it again, ", "phrase"),
    ],
)
def test_what_a_loop_repeats_is_named_by_what_ends_in_it(unit: str, expected: str) -> None:
    assert level_of("To begin with, something else. " + unit * 9) == expected


def test_zeros_have_no_letters_and_greek_ones_do() -> None:
    for unit, expected in (("0 0 1 ", False), ("| - | ", False), ("α β + ", True), ("x = 0 ", True)):
        words = words_of(unit * 20)
        assert has_letters(words, find_loops(words.hashes, 2)[0]) == expected


@pytest.mark.parametrize("text", ["", " \n\n ", "word", "two words", "a\ud800b", "\0" * 40])
def test_texts_with_next_to_nothing_in_them_have_no_loop(text: str) -> None:
    words = words_of(text)
    assert find_loops(words.hashes, 1) == []
    assert ngram_share(words.hashes, 8, 2) == 0.0
    assert compression(text) >= 0


def test_equal_words_are_equal_wherever_they_stand_and_others_are_not() -> None:
    rng = random.Random("equal")
    texts = [
        "".join(rng.choices("ab<|é", k=rng.randint(1, 16 if rng.random() < 0.9 else 9))) for _ in range(3_000)
    ]
    texts = [text for text in texts if len(text.encode()) <= 16]
    hashes = words_of("  \n".join(texts)).hashes.tolist()
    assert len(set(hashes)) == len(set(texts))
    assert len({*zip(texts, hashes, strict=True)}) == len(set(texts))
