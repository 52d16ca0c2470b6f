r"""The integer rule: which integer a box holds, whatever its dress.

    033   33^\circ   \text{33}   1{,}000   33.0   m+n=16+17=33   3.4\text{ hours}=204\text{ minutes}

It never computes: fractions, sums and roots are left to math-verify, and so is everything that might
be read in two ways.
"""

import re

LONGEST_INTEGER = 200
"""Characters; the rule reads no longer box."""

INTEGER = re.compile(r"[+-]?\d+")
NUMBER = re.compile(r"([+-]?(?:\d{1,3}(?:,\d{3})+|\d+))(?:\.0*)?")

TEXT = r"\\(?:text|textbf|textit|textrm|mbox|mathrm|mathbf|mathsf|mathit|boldsymbol|bm)"
WRAPPER = re.compile(rf"(?:{TEXT}|\\(?:underline|boxed|fbox|framebox))\s*\{{([^{{}}]*)\}}")
INTRODUCTION = r"[^{}\d]*(?:\bis|[:.)=])\s*"
WORDS_BEFORE = re.compile(rf"(?:{TEXT}\s*\{{{INTRODUCTION}\}}|\\(?:quad|qquad)\b|\s)+")
WORDS_AFTER = re.compile(rf"(?:\s*{TEXT}\s*\{{[^{{}}\d]{{2,}}\}})+\s*\Z")
SPELT_AFTER = re.compile(r"(?<=\d)(?:\s+[A-Za-z]{2,})+\Z")
CHANGES_THE_NUMBER = re.compile(
    r"\b(?:hundred|thousand|million|billion|trillion|dozens?|pairs?|half|twice|times|plus|minus|over|factorial"
    r"|and|or|to|not|than|least|most|less|more|squared|cubed|power|root|score|gross|choose|base"
    r"|binary|octal|hex\w*)\b"
)
COLOURED = re.compile(r"\\(?:color|textcolor)\s*\{[^{}]*\}")
DECORATION = re.compile(
    r"\^\s*\{?\s*\\circ\s*\}?|\^\s*\{?\s*(?:st|nd|rd|th)\b\s*\}?|°|[€£]|\\?%|\\?\$|\\[()\[\]]"
    r"|\\(?:left|right|displaystyle)\b|\\\\|`|\*\*|\\pmod\s*\{[^{}]*\}|\(?\s*\\?(?:mod|bmod)\s*\d+\s*\)?"
)
SPACE = re.compile(r"\\[,;:! ]|~|\s|\{,\}(?=\d{3})")
GROUPED = re.compile(r"[+-]?\d{1,3}(?:(?:\\[,;:! ]|~|[ ]|\{,\})+\d{3})+")

NOT_ONE_INTEGER = re.compile(r"\d\s*,\s+\S|\d\s*_\{?\d|\\\{|^\s*\[")
RELATION = re.compile(r"[<>!:≠≤≥]\s*=|\\(?:le|ge|ne|leq|geq|neq)\b")
SEVERAL = re.compile(r"\b(?:or|and)\b|\\(?:lor|vee|land|wedge|quad|qquad)\b|;|\\\\")
OPERATION = re.compile(r"[-+*/]|\\(?:cdot|times|div|frac|dfrac|tfrac)\b")
TERM_WITH_VARIABLE = re.compile(r"(?<![_\d])\d+\s*(?:[-+]\s*)?[A-Za-z]|[A-Za-z]\s*[-+]\s*\d")


def integer_in(box: str) -> int | None:
    r"""The integer that a box holds, or None where the rule cannot decide."""
    if len(box) > LONGEST_INTEGER:
        return None
    if INTEGER.fullmatch(box):
        return int(box)
    if holds_no_single_integer(box):
        return None
    number = NUMBER.fullmatch(undressed(last_side(box)))
    return int(number[1].replace(",", "")) if number else None


def holds_no_single_integer(box: str) -> bool:
    """Lists, sets, numbers to a base and equations: math-verify would take a part of them for the whole."""
    return bool(NOT_ONE_INTEGER.search(last_side(box))) or is_equation(box)


def is_equation(box: str) -> bool:
    """`3x-y+13=0` is not the answer 0: math-verify compares its right side only."""
    left, equals, right = box.rpartition("=")
    return bool(equals) and not right.strip(" 0.$") and bool(TERM_WITH_VARIABLE.search(left))


def last_side(box: str) -> str:
    """What a chain of equalities comes to: `m+n=16+17=33` → `33`; the box itself where it is none.

    `a = 3, b = 30, a+b = 33` ends in an operation on what was listed; `x = 3, y = 33` is two answers.
    """
    left, equals, right = box.rpartition("=")
    if not equals or SEVERAL.search(left) or RELATION.search(box):
        return box
    _, comma, last = left.rpartition(",")
    return right if not comma or OPERATION.search(last) else box


def undressed(text: str) -> str:
    """A box without wrappers, signs of degree and per cent, dollars, thin spaces and a full stop."""
    text = without_words(text)
    before = None
    while before != text:
        before = text
        text = WRAPPER.sub(r"\1", COLOURED.sub("", text))
    text = DECORATION.sub("", text).strip().rstrip("\\.;,~ ")
    spelt = SPELT_AFTER.search(text)
    if spelt and not CHANGES_THE_NUMBER.search(spelt[0]):
        text = text[: spelt.start()]
    text = text.removeprefix("{").removesuffix("}") if INTEGER.fullmatch(text[1:-1]) else text
    return SPACE.sub("", text) if GROUPED.fullmatch(text) else SPACE.sub(" ", text).strip()


def without_words(text: str) -> str:
    r"""Without words before and after: `\text{The answer is } 33\text{ minutes}` → `33`."""
    before = WORDS_BEFORE.match(text)
    text = text[before.end() :] if before and not CHANGES_THE_NUMBER.search(before[0]) else text
    after = WORDS_AFTER.search(text)
    return text[: after.start()] if after and not CHANGES_THE_NUMBER.search(after[0]) else text
