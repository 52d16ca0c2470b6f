"""What the page says of a row's draws on a benchmark; each number is counted a second time here."""

import random
import statistics
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

import pytest
from scipy.stats import binomtest

from harness.types import Grade
from reports.page import Section
from reports.question_plots import FEW, Share, accuracy_by_question, ticks, tokens_by_kind
from reports.questions import (
    ALL_LISTED,
    LISTED,
    Answered,
    benchmark_sections,
    outcome,
    outcomes_section,
    questions_section,
    rules_section,
    wilson,
)
from reports.table import Measurement, build_entries

LIMIT = 20_000
FAILURES = (
    (-2, "wrong answer"),
    (-2, "output limit: too much"),
    (-3, "time limit: Time Limit Exceeded"),
    (-4, "runtime error: IndexError('<script>')"),
    (-4, "load error: SyntaxError"),
    (-5, "crash: killed"),
)


def drawn(question: int, draw: int, rng: random.Random, programs: bool) -> Grade:
    """A draw with any outcome."""
    kind = rng.choices(("right", "wrong", "no answer", "truncated", "ungraded"), (50, 30, 8, 8, 4))[0]
    code, message = rng.choice(FAILURES)
    failed = {"error_code": code, "message": message} if programs and kind == "wrong" else {}
    return Grade(
        question=f"q{question:03}",
        draw=draw,
        correct=None if kind == "ungraded" else kind == "right",
        extracted="1" if kind in ("right", "wrong") else None,
        truncated=kind == "truncated",
        reason="sandbox: gone" if kind == "ungraded" else "",
        lenient=rng.random() < 0.5,
        detail=failed,
    )


def answered(
    questions: int = 12, draws: int = 6, row: str = "final", benchmark: str = "lcb_v6", seed: int = 0
) -> Answered:
    rng = random.Random(seed)
    pairs = [(question, draw) for question in range(questions) for draw in range(draws)]
    grades = [drawn(*pair, rng, programs=benchmark.startswith("lcb")) for pair in pairs]
    tokens = {
        (grade.question, grade.draw): LIMIT if grade.truncated else rng.randrange(50, LIMIT)
        for grade in grades
    }
    measurement = Measurement(
        row=row, benchmark=benchmark, grades=grades, questions=questions, draws=draws, voted=False
    )
    (entry,) = build_entries("mine", None, [measurement])
    return Answered(entry=entry, grades=grades, tokens=tokens, limit=LIMIT)


def told(section: Section, row: int = 0) -> Mapping[str, object]:
    return dict(zip(section.columns, section.rows[row], strict=True))


# The interval


@pytest.mark.parametrize("draws", [1, 4, 64])
def test_the_interval_is_wilsons(draws: int) -> None:
    for right in range(draws + 1):
        known = binomtest(right, draws).proportion_ci(0.95, method="wilson")
        assert wilson(right, draws) == pytest.approx((known.low, known.high), abs=1e-12)


def test_no_interval_is_empty_and_none_leaves_the_scale() -> None:
    for right in (0, 64):
        low, high = wilson(right, 64)
        assert 0.0 <= low < high <= 1.0


# Outcomes


def test_every_draw_has_one_outcome_and_each_is_counted() -> None:
    one = answered(40, 8)
    section = outcomes_section("lcb_v6", [one])
    assert section.columns == ("outcome", "code", "final")
    counts = {(row[0], row[1]): int(str(row[2]).split(" ")[0].replace(",", "")) for row in section.rows}
    assert counts.pop(("all draws", None)) == 320
    again: Counter[tuple[str, int | None]] = Counter()
    for grade in one.grades:
        if grade.correct is None:
            again["not graded: sandbox", None] += 1
        elif grade.correct:
            again["right", None] += 1
        elif grade.detail:
            again[str(grade.detail["message"]).split(":")[0], int(grade.detail["error_code"])] += 1
        else:
            again["truncated" if grade.truncated else "no answer", None] += 1
    assert counts == dict(again)


def test_outcomes_stand_from_right_over_codes_to_what_had_no_program() -> None:
    names = [row[0] for row in outcomes_section("lcb_v6", [answered(60, 8)]).rows]
    assert names[0] == "right"
    assert names.index("time limit") < names.index("runtime error") < names.index("crash")
    assert names[-4:] == ["no answer", "truncated", "not graded: sandbox", "all draws"]


def test_answers_without_programs_have_no_column_of_codes() -> None:
    section = outcomes_section("aime24", [answered(benchmark="aime24")])
    assert section.columns == ("outcome", "final")
    assert section.note == ""
    assert "wrong answer" in [row[0] for row in section.rows]


def test_a_message_of_a_strange_program_becomes_no_table() -> None:
    grade = Grade(question="q", draw=0, correct=False, extracted="x", truncated=False,
                  detail={"error_code": -4, "message": "a\x1b[31m" * 99})  # fmt: skip
    name, code = outcome(grade)
    assert code == -4
    assert len(name) <= 40
    assert name.isprintable()


# Strict and lenient, lengths


def test_rules_and_lengths_are_what_the_draws_say() -> None:
    one = answered(30, 8)
    line = told(rules_section("lcb_v6", [one]))
    grades, tokens = one.grades, one.tokens
    right = [tokens[g.question, g.draw] for g in grades if g.correct]
    wrong = [tokens[g.question, g.draw] for g in grades if g.correct is False]
    assert line["only lenient"] == sum(g.lenient is True and g.correct is False for g in grades)
    assert line["only strict"] == sum(g.lenient is False and g.correct is True for g in grades)
    assert line["truncated"] == sum(g.truncated for g in grades)
    assert line["no answer"] == sum(
        g.extracted is None and g.correct is not None and not g.truncated for g in grades
    )
    assert line["ungraded"] == sum(g.correct is None for g in grades)
    assert line["tokens, right"] == round(statistics.median(right))
    assert line["tokens, not right"] == round(statistics.median(wrong))
    assert line["longest"] == max(tokens.values())


def test_an_ungraded_draw_leaves_no_difference_to_the_lenient_rule() -> None:
    assert told(rules_section("lcb_v6", [answered(30, 8)]))["Δ"] is None


def test_the_difference_to_the_lenient_rule_is_in_points() -> None:
    one = answered(20, 5)
    grades = [replace(grade, correct=bool(grade.correct)) for grade in one.grades]
    measurement = Measurement(row="final", benchmark="b", grades=grades, questions=20, draws=5)
    (entry,) = build_entries("mine", None, [measurement])
    line = told(rules_section("b", [Answered(entry=entry, grades=grades, tokens=one.tokens, limit=LIMIT)]))
    strict, lenient = (sum(bool(getattr(g, rule)) for g in grades) for rule in ("correct", "lenient"))
    assert line["Δ"] == f"{lenient - strict:+.1f}"


def test_responses_without_known_lengths_are_told_without_them() -> None:
    one = replace(answered(), tokens={})
    line = told(rules_section("lcb_v6", [one]))
    assert line["longest"] is None
    assert len(questions_section(one, folded=False).pictures) == 1


# Questions


def test_hardest_and_easiest_questions_are_named_with_their_counts() -> None:
    one = answered(FEW, 8)
    section = questions_section(one, folded=False)
    assert len(section.rows) == 2 * LISTED
    shares = {}
    for name in {grade.question for grade in one.grades}:
        own = [grade for grade in one.grades if grade.question == name and grade.correct is not None]
        shares[name] = (sum(bool(grade.correct) for grade in own), len(own))
    ranked = sorted(shares, key=lambda name: (shares[name][0] / shares[name][1], name))
    assert [row[0] for row in section.rows] == [*ranked[:LISTED], *ranked[-LISTED:]]
    for question, right, accuracy, interval, tokens in section.rows:
        hit, of = shares[str(question)]
        known = binomtest(hit, of).proportion_ci(0.95, method="wilson")
        assert right == f"{hit} of {of}"
        assert accuracy == f"{hit / of:.1%}"
        assert interval == f"{known.low:.1%} to {known.high:.1%}"
        assert tokens == round(
            statistics.median(count for (name, _), count in one.tokens.items() if name == question)
        )


def test_few_questions_are_all_listed() -> None:
    assert len(questions_section(answered(ALL_LISTED), folded=False).rows) == ALL_LISTED


def test_a_question_of_which_nothing_is_graded_has_no_share() -> None:
    one = answered(3, 2)
    grades = [replace(grade, correct=None) if grade.question == "q001" else grade for grade in one.grades]
    lost = replace(one, grades=grades)
    assert {share.question for share in lost.shares} <= {"q000", "q002"}


# Sections together


def test_all_rows_but_the_main_one_are_folded() -> None:
    rows = [answered(5, 2, row=row, benchmark="aime24", seed=7) for row in ("base", "final")]
    found = list(benchmark_sections(rows, "final"))
    assert [(one.title, one.folded) for one in found] == [
        ("aime24: strict against lenient, and lengths", False),
        ("aime24: what became of the draws", False),
        ("aime24, base: question by question", True),
        ("aime24, final: question by question", False),
    ]
    assert {one.group for one in found} == {"benchmark"}
    assert all(len(row) == len(one.columns) for one in found for row in one.rows)


def test_a_benchmark_of_which_nothing_is_graded_has_tables_and_no_picture() -> None:
    one = answered(4, 2)
    lost = replace(one, grades=[replace(grade, correct=None) for grade in one.grades])
    assert len(list(benchmark_sections([lost], "final"))) == 2


# Pictures


def shares(count: int) -> list[Share]:
    rng = random.Random(count)
    found = []
    for number in range(count):
        right = rng.randint(0, 64)
        low, high = wilson(right, 64)
        found.append(Share(question=f"<q{number}>", right=right, graded=64, low=low, high=high))
    return found


@pytest.mark.parametrize("count", [1, 30, 198, 454])
def test_a_page_of_twenty_five_evaluations_stays_small(count: int) -> None:
    picture = accuracy_by_question("a", "t", shares(count))
    assert len(picture.svg) < 40_000
    assert picture.svg == accuracy_by_question("a", "t", shares(count)).svg


def test_up_to_sixty_questions_say_their_names() -> None:
    few, many = (accuracy_by_question("a", "t", shares(count)).svg for count in (FEW, FEW + 1))
    assert few.count("&lt;q") == FEW
    assert "&lt;q" not in many
    assert "<q1>" not in few


def test_the_picture_of_lengths_tells_its_numbers_in_words() -> None:
    one = answered(30, 8)
    picture = tokens_by_kind("a", "t", one.lengths, LIMIT)
    cut = sum(grade.truncated for grade in one.grades)
    assert f"{cut} truncated, median {LIMIT:,} tokens" in picture.description
    assert f"Limit {LIMIT:,} tokens." in picture.description
    assert len(picture.svg) < 40_000


@pytest.mark.parametrize(("low", "high"), [(1, 102_400), (47, 160), (600, 900), (1, 2), (95_000, 102_400)])
def test_an_axis_of_lengths_has_a_few_round_numbers(low: float, high: float) -> None:
    found = ticks(low, high)
    assert 2 <= len(found) <= 20
    assert all(low <= tick <= high for tick in found)
    assert found == sorted(found)
