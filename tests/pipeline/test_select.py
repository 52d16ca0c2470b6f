"""Divergence-aware selection: sentences as the common unit, classes, ranking."""

import math
import random
from dataclasses import replace
from pathlib import Path

import pytest

from harness.errors import StageError
from harness.files import write_rows
from harness.rows import read_rows
from harness.tokens import NAME, TokenFile, Tokens, tokens
from harness.types import Generation
from pipeline.collect import Collect
from pipeline.select import (
    Candidate,
    Select,
    classify,
    diagnostics,
    grouped,
    sentence_logprobs,
    share_differing,
    split_sentences,
)
from tests.pipeline import das_reference
from tests.pipeline.rows import row
from tests.pipeline.stages import finished, run

NOTHING = Collect(sources=())


def scores(logprobs: list[float], lengths: list[int]) -> Tokens:
    return tokens((), logprobs, lengths)


def candidate(draw: int, teacher: int, mean: float, question: str = "q", domain: str = "math") -> Candidate:
    """One of ten sentences, `teacher` of them Teacher Sentences."""
    return Candidate(
        question=question, draw=draw, domain=domain, sentences=10, teacher_sentences=teacher, mean=mean
    )


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
    group = [candidate(0, 1, 9.0), candidate(1, 5, 0.0), candidate(2, 5, 1.0)]
    assert [one.draw for one in Select(responses=NOTHING, keep=2).best(group)] == [2, 1]


def test_ties_do_not_depend_on_the_order_of_the_rows_before() -> None:
    group = [candidate(draw, 5, 0.5) for draw in range(6)]
    select = Select(responses=NOTHING, keep=2)
    assert select.best(group) == select.best(list(group))


def test_a_budget_leaves_whole_questions_out_and_the_same_ones_whatever_the_method() -> None:
    found = [candidate(d, d, 0.0, f"q{q:02}") for q in range(20) for d in range(3)]
    found += [candidate(d, d, 0.0, f"c{q}", "code") for q in range(4) for d in range(3)]
    kept = {}
    for method in ("das", "random"):
        select = Select(responses=NOTHING, method=method, budget=(("math", 7),))
        kept[method] = list(select.choose(found))
        assert kept[method] == list(select.choose(found))
    questions = {method: {question for question, _ in keys} for method, keys in kept.items()}
    assert questions["das"] == questions["random"]
    assert len(kept["das"]) == 7 + 4
    assert {draw for _, draw in kept["das"]} == {2}
    assert {draw for _, draw in kept["random"]} > {2}


def test_a_domain_with_few_questions_may_keep_more_of_each() -> None:
    found = [candidate(d, d, 0.0, "q") for d in range(4)] + [
        candidate(d, d, 0.0, "c", "code") for d in range(4)
    ]
    kept = set(Select(responses=NOTHING, keep_in=(("code", 3),)).choose(found))
    assert kept == {("q", 3), ("c", 3), ("c", 2), ("c", 1)}


def test_a_budget_takes_the_best_of_every_question_before_any_second_best() -> None:
    found = [candidate(d, d, 0.0, f"c{q}", "code") for q in range(6) for d in range(8)]
    for budget, questions in ((4, 4), (6, 6), (13, 6)):
        select = Select(responses=NOTHING, keep_in=(("code", 4),), budget=(("code", budget),))
        kept = list(select.choose(found))
        assert len(kept) == budget
        assert len({question for question, _ in kept}) == questions
    assert sorted(draw for _, draw in kept) == [5, *[6] * 6, *[7] * 6]


def test_a_thinking_tag_alone_is_no_sentence() -> None:
    text = "<think>\nOne.\n</think>\n\nTwo."
    size = len(text)
    found = classify(text, scores([-0.1] * size, [1] * size), scores([-5.0] * size, [1] * size), 0.1)
    assert [sentence.text for sentence in found] == ["One.\n", "Two."]


def test_candidates_of_equal_rank_do_not_count_as_differing() -> None:
    found = [candidate(0, 5, 0.1, "a"), candidate(1, 5, 0.1, "a")]
    found += [candidate(0, 5, 0.1, "b"), candidate(1, 2, 0.1, "b")]
    assert share_differing(grouped(found)) == 0.5


def test_class_shares_are_over_sentences_not_over_responses() -> None:
    told = diagnostics([candidate(0, 10, 0.0), replace(candidate(1, 0, 0.0), sentences=30)], responses=4)
    assert told["teacher_sentences"] == 0.25
    assert told["shared_sentences"] == 0.75
    assert told["unscored_responses"] == 0.5


def test_an_empty_response_has_no_sentences() -> None:
    assert classify("", scores([], []), scores([-1.0], [0]), 0.1) == []


def sampled(home: Path, texts: list[str], teacher: dict[int, float], student: dict[int, float]) -> Select:
    """Responses 0, 1, … of one question, each token of a byte; what a model says of a draw, or nothing."""
    responses = finished(home, "responses")
    write_rows(home / responses.key / "generations.jsonl", [row(t, draw=d) for d, t in enumerate(texts)])
    stages = {}
    for name, level in (("teacher", teacher), ("student", student)):
        stages[name] = finished(home, name)
        with TokenFile(home / stages[name].key / NAME) as file:
            for draw, logprob in level.items():
                size = len(texts[draw].encode())
                file.append(("q", draw), scores([logprob] * size, [1] * size))
    return Select(responses=responses, **stages, minimum_differing=0.0)


def test_the_stage_keeps_what_the_teacher_likes_and_the_student_does_not(tmp_path: Path) -> None:
    select = sampled(tmp_path, ["One.", "Two.", "Three."], {0: -1, 1: -1, 2: -1}, {0: -1, 1: -3, 2: -0.1})
    out = run(select, tmp_path)
    assert [one.text for one in read_rows(out / "generations.jsonl", Generation)] == ["Two."]
    told = [(one.draw, one.kept) for one in read_rows(out / "divergence.jsonl", Candidate)]
    assert told == [(0, False), (1, True), (2, False)]


def test_a_response_that_one_model_has_not_scored_is_no_candidate(tmp_path: Path) -> None:
    select = sampled(tmp_path, ["One.", "Two."], {0: -1.0}, {0: -1.0, 1: -9.0})
    with pytest.raises(StageError, match=r"50\.0% of the responses lack tokens"):
        run(select, tmp_path)
    out = run(replace(select, most_unscored=0.5), tmp_path)
    assert [one.text for one in read_rows(out / "generations.jsonl", Generation)] == ["One."]


def test_rows_without_log_probabilities_are_refused_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="no response has log-probabilities of both"):
        run(sampled(tmp_path, ["One."], {}, {0: -1.0}), tmp_path)


def test_too_uniform_candidates_are_refused(tmp_path: Path) -> None:
    select = sampled(tmp_path, ["One.", "Two."], {0: -1.0, 1: -1.0}, {0: -1.0, 1: -1.0})
    with pytest.raises(StageError, match="only 0% of the questions"):
        run(replace(select, minimum_differing=0.3), tmp_path)


def test_random_selection_needs_no_log_probabilities(tmp_path: Path) -> None:
    select = sampled(tmp_path, ["One.", "Two."], {}, {})
    out = run(Select(responses=select.responses, method="random"), tmp_path)
    assert len(list(read_rows(out / "generations.jsonl", Generation))) == 1
    assert not (out / "divergence.jsonl").exists()


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
            kinds = [sentence.kind for sentence in ours]
            mean = math.fsum(one.teacher - one.student for one in ours) / len(ours) if ours else 0.0
            one = candidate(draw, kinds.count("teacher"), mean)
            group.append(replace(one, sentences=len(kinds)))
            references.append(reference)
        ranking = sorted(group, key=lambda one: one.rank, reverse=True)
        assert [one.draw for one in ranking] == das_reference.order(references)
