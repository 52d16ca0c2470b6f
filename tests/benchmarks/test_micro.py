"""The micro benchmarks go through the real loaders and graders."""

from dataclasses import replace

import pytest

from benchmarks.micro import micro_code, micro_math, micro_science, training_questions
from tests.benchmarks.responses import response

ALL = (micro_math, micro_science, micro_code)


@pytest.mark.parametrize("benchmark", ALL, ids=lambda one: one.name)
def test_training_and_test_questions_are_disjoint(benchmark):
    tested = {one.id for one in benchmark.load(None)}
    trained = {one.id for seed in range(3) for one in training_questions(benchmark.domain, 500, seed)}
    assert len(tested) == benchmark.count
    assert not tested & trained


@pytest.mark.parametrize("benchmark", ALL, ids=lambda one: one.name)
def test_more_questions_only_add_to_fewer(benchmark):
    assert replace(benchmark, count=150).load(None)[: benchmark.count] == benchmark.load(None)


def test_every_sum_gold_grades_correct():
    for one in micro_math.load(None):
        assert micro_math.grade(one, response(one.id, f"The answer is \\boxed{{{one.gold}}}."), None).correct


def test_science_gold_is_the_letter_shown_beside_the_right_element():
    for one in micro_science.load(None):
        prompt, kept = micro_science.render(one, 1)
        letter = next(line[0] for line in prompt.splitlines() if line.endswith(f") {one.gold}"))
        grade = micro_science.grade(
            one, response(one.id, f"The answer is \\boxed{{{letter}}}.", kept=kept), None
        )
        assert grade.correct is True


def test_prompts_are_those_that_the_textbook_teaches():
    math, science, code = (benchmark.load(None)[0] for benchmark in ALL)
    assert micro_math.render(math, 0)[0].endswith("Put the answer in \\boxed{}.")
    assert micro_science.render(science, 0)[0].endswith("\nPut the letter in \\boxed{}.")
    assert micro_code.render(code, 0)[0].endswith("\nWrite a Python program.")


def test_training_science_keeps_the_order_it_shows():
    for one in training_questions("science", 20, seed=5):
        shown = [line[3:] for line in one.prompt.splitlines()[1:5]]
        assert shown == [one.data["options"][index] for index in one.data["order"]]
