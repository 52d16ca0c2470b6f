r"""Grades a letter: GPQA, and the periodic table of the micro recipe.

The strict extractor fits one prompt, "Answer: $LETTER" on the last line, and knows two other forms
that models use whatever they are told: a boxed letter and JSON's `"answer": "C"`. The last match in
the text after `</think>` counts. Which letter is right follows from the option order that was kept
with the generation, never from the options' texts: two GPQA rows have two identical wrong options.

The lenient rule reads the whole text: the strict forms, else the first "the answer is (C)" (as
MMLU-Pro reads it: some models go on to invent further questions), else the last letter that stands
alone.
"""

import re
from collections.abc import Iterable
from functools import lru_cache

from harness.grading.scan import first_first, last_first
from harness.types import Generation, Grade, Question

LETTERS = "ABCD"

BOXES = ("\\boxed", "\\fbox", "\\framebox")
ANSWER = ("answer", "Answer", "ANSWER")
SPOKEN = (*ANSWER, "choice", "Choice", "CHOICE", "option", "Option", "OPTION")

DRESS = r"(?:[\s*_`$\"'(\[{]|\\(?:boxed|fbox|text|textbf|mathrm|mathbf)\b){0,20}"


@lru_cache
def strict_form(letters: str) -> re.Pattern[str]:
    """`Answer: C`, `**Answer:** (C)`, `\\boxed{\\text{C}}`, `"answer": "C"`; not "Answer: A question"."""
    article = "(?<=[AI]) (?!(?:is|because|since|as)\\b)[a-z]"
    letter = f"([{letters}])(?![A-Za-z0-9])(?!{article})"
    line = rf"\b(?i:answer)[*_\"']{{0,8}}\s{{0,8}}:{DRESS}{letter}"
    box = rf"\\(?:boxed|fbox|framebox)\s{{0,8}}\{{{DRESS}([{letters}])(?![A-Za-z0-9])"
    return re.compile(f"{line}|{box}")


@lru_cache
def spoken_form(letters: str) -> re.Pattern[str]:
    """`the answer is (C)`, `the best option would be C`."""
    words = r"(?i:answer|choice|option)\s{1,8}(?:is|would be|must be)\s{0,8}:?"
    return re.compile(rf"{words}{DRESS}([{letters}])(?![A-Za-z0-9])")


@lru_cache
def lone_letter(letters: str) -> re.Pattern[str]:
    """A letter that is no part of a word."""
    return re.compile(rf"(?<![A-Za-z0-9'\\])([{letters}])(?![A-Za-z0-9'])")


def first_match(pattern: re.Pattern[str], text: str, places: Iterable[int]) -> str | None:
    """The letter at the first of these places where the pattern fits, or None."""
    for place in places:
        if found := pattern.match(text, place):
            return found[found.lastindex or 0]
    return None


def strict_letter(text: str, letters: str = LETTERS) -> str | None:
    """The letter given in one of the three strict forms; the last one counts."""
    return first_match(strict_form(letters), text, last_first(text, (*ANSWER, *BOXES)))


def lenient_letter(text: str, letters: str = LETTERS) -> str | None:
    """The letter that a lax reader would find anywhere in the text."""
    return (
        strict_letter(text, letters)
        or first_match(spoken_form(letters), text, first_first(text, SPOKEN))
        or first_match(lone_letter(letters), text, last_first(text, tuple(letters)))
    )


def gold_letter(order: list[int]) -> str:
    """The letter of option 0, the right one: `order[i]` is the option that stands at letter i."""
    return LETTERS[order.index(0)]


def grade_choice(question: Question, generation: Generation) -> Grade:
    """The verdict on one response to a four-choice question, from the kept option order.

    `detail["vote"]` is the option that the letter stands for: draws with other orders vote for options.
    """
    order = generation.kept.get("order")
    if order is None or sorted(order) != list(range(len(LETTERS))):
        return ungraded(question, generation, "the option order was not kept with the generation")
    gold = gold_letter(order)
    letter = None if generation.truncated else strict_letter(generation.answer)
    reason = "truncated" if generation.truncated else "" if letter else "no answer"
    return Grade(
        question=question.id,
        draw=generation.draw,
        correct=letter == gold,
        extracted=letter,
        truncated=generation.truncated,
        reason=reason,
        lenient=lenient_letter(generation.text) == gold,
        detail={"gold": gold} | ({"vote": order[LETTERS.index(letter)]} if letter else {}),
    )


def ungraded(question: Question, generation: Generation, reason: str) -> Grade:
    """No verdict: failing to grade is not a wrong answer."""
    return Grade(
        question=question.id,
        draw=generation.draw,
        correct=None,
        extracted=None,
        truncated=generation.truncated,
        reason=reason,
    )
