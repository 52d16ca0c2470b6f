"""What is taken out of a response: the same in other dress, and nothing of one that was cut short."""

from hypothesis import assume, given
from hypothesis import strategies as st

from harness.chat import split_reasoning
from harness.grading.answers import boxes, grade_answer, joined_boxes, last_box
from harness.grading.choices import LETTERS, grade_choice, lenient_letter, strict_letter
from harness.grading.code import extract_code, judge_stdin
from harness.grading.integers import integer_in
from harness.harmony import continued, read, split
from harness.types import FinishReason, Generation, Question, Sampling
from tests.properties.profile import examples

PLAIN = st.text(alphabet=st.characters(exclude_categories=("Cs",), exclude_characters="\\{}"), max_size=60)
NUMBER = st.integers(-(10**12), 10**12)
WHOLE = st.integers(0, 10**9)

DRESSES = (
    "{}", " {} ", "${}$", "\\text{{{}}}", "\\textbf{{{}}}", "{}.", "{}^\\circ", "\\boxed{{{}}}", "x = {}",
    "\\mathrm{{{}}}", "{}\\%", "\\({}\\)", "m+n={}", "{}\\text{{ minutes}}", "\\left({}\\right)", "{}.0",
    "\\displaystyle {}",
)  # fmt: skip
LEFT_ALONE = {"\\left({}\\right)"}


def answered(text: str, finish: FinishReason = "stop", **kept: object) -> Generation:
    reasoning, answer = split_reasoning(text, finish, False)
    return Generation(
        question="q", draw=0, prompt="", text=text, reasoning=reasoning, answer=answer, finish_reason=finish,
        prompt_tokens=1, completion_tokens=1, latency=0.0, seed=0, request_id="", model="m", engine="e",
        sampling=Sampling(temperature=1.0, max_tokens=10), kept=dict(kept),
    )  # fmt: skip


@examples(200)
@given(WHOLE, st.sampled_from(DRESSES))
def test_an_integer_is_the_same_in_every_dress_or_left_to_math_verify(number: int, dress: str) -> None:
    found = integer_in(dress.format(number))
    assert found == number or (found is None and dress in LEFT_ALONE)


@examples(100)
@given(NUMBER)
def test_thousands_however_they_are_set_apart_are_one_number(number: int) -> None:
    for mark in (",", "\\,", "{,}", "\\ ", "~", " "):
        assert integer_in(f"{number:,}".replace(",", mark)) == number


@examples(200)
@given(st.text(max_size=80))
def test_the_integer_of_a_box_is_read_again_as_itself(box: str) -> None:
    found = integer_in(box)
    assert found is None or integer_in(str(found)) == found
    assert found is None or integer_in(f" {box} ") == found


@examples(150)
@given(PLAIN, st.lists(st.tuples(PLAIN, PLAIN), min_size=1, max_size=4))
def test_the_last_box_is_the_last_that_closes(before: str, parts: list[tuple[str, str]]) -> None:
    text = before + "".join(f"\\boxed{{{content}}}{after}" for content, after in parts)
    assert last_box(text) == parts[-1][0]
    assert [box.content for box in boxes(text)] == [content for content, _ in reversed(parts)]
    assert last_box(text + " and \\boxed{open") == parts[-1][0]
    joined = joined_boxes(text)
    assert joined is not None
    assert joined.endswith(parts[-1][0])


@examples(100)
@given(PLAIN, WHOLE)
def test_white_space_around_and_in_a_box_changes_nothing(before: str, number: int) -> None:
    for form in ("\\boxed{{{}}}", "\\boxed {{ {} }}", "\\fbox{{\n{}\n}}", "$\\boxed{{{}}}$."):
        box = last_box(before + form.format(number) + "\n")
        assert box is not None
        assert integer_in(box) == number


@examples(100)
@given(PLAIN, WHOLE)
def test_a_response_that_was_cut_short_never_scores(before: str, number: int) -> None:
    question = Question(id="q", domain="math", prompt="", gold=str(number))
    text = f"<think>{before}</think>\\boxed{{{number}}}"
    assert grade_answer(question, answered(text)).correct is True
    cut = grade_answer(question, answered(text, "length"))
    assert cut.correct is False
    assert (cut.reason, cut.extracted, cut.truncated) == ("truncated", None, True)


@examples(100)
@given(st.permutations(range(4)), st.sampled_from(LETTERS), PLAIN)
def test_a_letter_counts_as_the_option_it_stands_for_and_not_where_it_was_cut_short(
    order: list[int], letter: str, before: str
) -> None:
    question = Question(id="q", domain="science", prompt="")
    text = f"<think>{before}</think>\nAnswer: {letter}"
    found = grade_choice(question, answered(text, order=order))
    assert found.correct is (order[LETTERS.index(letter)] == 0)
    assert found.detail["vote"] == order[LETTERS.index(letter)]
    assert grade_choice(question, answered(text, "length", order=order)).correct is False


@examples(200)
@given(st.text(max_size=120))
def test_what_is_strictly_a_letter_is_one_leniently_too_and_stays_one_before_white_space(text: str) -> None:
    strict = strict_letter(text)
    assert strict is None or lenient_letter(text) == strict
    assert strict is None or strict_letter(text + "\n \n") == strict


FENCELESS = st.text(max_size=80).filter(lambda text: "```" not in text)


@examples(150)
@given(FENCELESS, FENCELESS, FENCELESS)
def test_the_last_block_of_code_is_taken_whatever_is_before(before: str, code: str, after: str) -> None:
    text = f"{before}\n```\nold\n```\n```python\n{code}\n```\n{after}"
    assert extract_code(text) == code
    assert extract_code(f"{before}{code}") == ""


NUMBERS = st.lists(st.lists(st.integers(-99, 99), min_size=1, max_size=4), min_size=1, max_size=4)


@examples(150)
@given(NUMBERS, st.sampled_from([" ", "  ", "\t"]), st.sampled_from(["", ".0", ".00"]))
def test_printed_numbers_are_equal_by_value_however_set(rows: list[list[int]], gap: str, tail: str) -> None:
    expected = "\n".join(" ".join(map(str, row)) for row in rows)
    ours = "\n".join(f"{gap}{gap.join(f'{number}{tail}' for number in row)} " for row in rows)
    assert judge_stdin(ours, expected)
    assert judge_stdin(expected, ours)
    assert not judge_stdin(f"{ours}\n1", expected)


THOUGHT = PLAIN.filter(lambda text: "<" not in text and "|" not in text)


@examples(100)
@given(THOUGHT, THOUGHT)
def test_harmony_rewritten_and_written_again_is_the_same(thought: str, answer: str) -> None:
    assume(thought.strip() == thought and answer.strip() == answer)
    analysis = f"<|channel|>analysis<|message|>{thought}<|end|>"
    whole = read(split(f"{analysis}<|start|>assistant<|channel|>final<|message|>{answer}")).whole
    assert read(split(continued(whole))).whole == whole
    assert split_reasoning(whole, "stop", False)[1].strip() == answer
