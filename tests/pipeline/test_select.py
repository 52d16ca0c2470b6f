"""Divergence-aware selection: sentences as the common unit, classes, ranking."""

import math
import random

import pytest

from harness.errors import StageError
from pipeline.collect import Collect
from pipeline.score import Score, TokenScores
from pipeline.select import (
    Divergence,
    Select,
    classify,
    divergence,
    sampled,
    sentence_logprobs,
    share_differing,
    split_sentences,
)
from tests.pipeline import das_reference
from tests.pipeline.rows import row


def scores(logprobs: list[float], token_bytes: list[int]) -> TokenScores:
    return TokenScores(question="q", draw=0, logprobs=logprobs, token_bytes=token_bytes)


@pytest.mark.parametrize(
    "text", ["One. Two! 3.5 is a number.\n\nEnd", "no end", "a\n\n\nb\n", "x² é. Ünï? ok"]
)
def test_sentences_joined_are_the_text(text: str) -> None:
    assert "".join(split_sentences(text)) == text


def test_a_decimal_point_does_not_end_a_sentence() -> None:
    assert split_sentences("It is 3.5 now. Next") == ["It is 3.5 now. ", "Next"]


def test_a_token_across_a_border_belongs_to_the_sentence_of_its_last_byte() -> None:
    found = sentence_logprobs([4, 4], scores([-1.0, -2.0, -3.0], [3, 2, 3]))
    assert found == [-1.0, -2.5]


def test_a_sentence_without_a_token_of_its_own_has_no_probability() -> None:
    assert sentence_logprobs([2, 2, 2], scores([-1.0], [6])) == [None, None, -1.0]


def test_bytes_not_characters_align_the_tokenizers() -> None:
    text = "é.\nb"
    found = classify(text, scores([-0.1, -0.1], [4, 1]), scores([-1, -1, -1, -0.1], [2, 1, 1, 1]), 0.5)
    assert [sentence.kind for sentence in found] == ["teacher", "shared"]


def test_classes_follow_the_geometric_mean_not_the_sum() -> None:
    long_and_even = classify(
        "a b c d\n", scores([-0.1] * 8, [1] * 8), scores([-0.2] * 8, [1] * 8), math.log(2)
    )
    assert long_and_even[0].kind == "shared"
    student = classify("a b c d\n", scores([-2.0] * 8, [1] * 8), scores([-0.2] * 8, [1] * 8), math.log(2))
    assert student[0].kind == "student"


def test_unequal_tokenizers_give_what_equal_ones_give_when_probabilities_agree() -> None:
    rng = random.Random(0)
    text = "one two. three four.\nfive"
    for _ in range(50):
        cuts = sorted(rng.sample(range(1, len(text)), 6))
        pieces = [b - a for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
        found = classify(
            text, scores([-0.5] * len(pieces), pieces), scores([-0.5] * len(text), [1] * len(text)), 0.1
        )
        assert {sentence.kind for sentence in found} == {"shared"}


def test_the_share_of_teacher_sentences_ranks_first() -> None:
    group = [row("a", draw=0), row("b", draw=1), row("c", draw=2)]
    found = {("q", 0): Divergence(0.1, 9.0), ("q", 1): Divergence(0.5, 0.0), ("q", 2): Divergence(0.5, 1.0)}
    select = Select(responses=Collect(sources=()), student_scores=score_stage(), keep=2)
    assert [kept.draw for kept in select.choose(group, found)] == [2, 1]


def test_ties_do_not_depend_on_the_order_of_the_rows() -> None:
    group = [row(str(n), draw=n) for n in range(6)]
    found = {("q", n): Divergence(0.5, 0.5) for n in range(6)}
    select = Select(responses=Collect(sources=()), student_scores=score_stage(), keep=2)
    first = [kept.draw for kept in select.choose(group, found)]
    assert first == [kept.draw for kept in select.choose(group, found)]


def test_candidates_with_equal_scores_do_not_count_as_differing() -> None:
    candidates = {"a": [row("x", "a", 0), row("y", "a", 1)], "b": [row("x", "b", 0), row("y", "b", 1)]}
    found = {
        ("a", 0): Divergence(0.5, 0.1),
        ("a", 1): Divergence(0.5, 0.1),
        ("b", 0): Divergence(0.5, 0.1),
        ("b", 1): Divergence(0.2, 0.1),
    }
    assert share_differing(candidates, found) == 0.5


def test_rows_without_log_probabilities_are_refused_with_a_remedy() -> None:
    with pytest.raises(StageError, match="no response has log-probabilities"):
        sampled([row("x")])


def test_no_sentences_no_divergence() -> None:
    assert divergence([]) == Divergence(0.0, 0.0)


def score_stage() -> Score:
    return Score(responses=Collect(sources=()), model=Collect(sources=()))


def test_random_cases_equal_the_slow_reference_in_sentences_classes_and_ranks() -> None:
    for case in range(300):
        rng = random.Random(f"das:{case}")
        group, references = [], []
        for draw in range(4):
            text = das_reference.random_text(rng)
            teacher, student = (
                das_reference.random_scores(rng, das_reference.random_pieces(rng, text), level)
                for level in (1.0, 1.3)
            )
            ours = classify(text, *(scores(one.logprobs, one.token_bytes) for one in (teacher, student)), 0.3)
            reference = das_reference.ranked(text, teacher, student, 0.3)
            assert split_sentences(text) == das_reference.sentences(text)
            assert [sentence.kind for sentence in ours] == reference.classes
            group.append((draw, divergence(ours)))
            references.append(reference)
        ranking = sorted(group, key=lambda one: (-one[1].teacher_share, -one[1].mean))
        assert [draw for draw, _ in ranking] == das_reference.order(references)
