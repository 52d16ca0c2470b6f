"""Procedural questions for `dasd-micro`: sums, periodic table, small stdin programs.

Each domain draws from a space of tens of thousands of questions. A question belongs to the test set
if the hash of its canonical text says so, so training and test questions are disjoint whatever the
seed and the count, and the micro models' pretraining text can leave the test questions out.

Rows have the schemas of the real benchmarks (AIME copies, GPQA, LiveCodeBench), so that the micro
benchmarks pass through the loaders and graders of the real ones.
"""

import hashlib
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, TypeVar

Split = Literal["train", "test"]
Row = dict[str, str]
T = TypeVar("T")

TEST_SHARE = 0.2


def split_of(canonical: str) -> Split:
    """The set that a question belongs to, from its canonical text alone."""
    digest = hashlib.sha256(f"dasd-micro:{canonical}".encode()).digest()
    return "test" if digest[0] < 256 * TEST_SHARE else "train"


# Sums ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sum:
    """`first op second op third`, evaluated from the left, with a result from 0 to 999."""

    first: int
    operator: Literal["+", "-", "*"]
    second: int
    last_operator: Literal["+", "-"]
    third: int

    @property
    def middle(self) -> int:
        return apply(self.operator, self.first, self.second)

    @property
    def answer(self) -> int:
        return apply(self.last_operator, self.middle, self.third)

    @property
    def text(self) -> str:
        return f"{self.first}{self.operator}{self.second}{self.last_operator}{self.third}"


def apply(operator: str, left: int, right: int) -> int:
    """The value of `left operator right` for one of the three operators used here."""
    match operator:
        case "+":
            return left + right
        case "-":
            return left - right
        case "*":
            return left * right
    raise ValueError(f"operator {operator!r} is not one of + - *")


def draw_sum(rng: random.Random) -> Sum:
    """A sum whose middle and final values lie between 0 and 999."""
    while True:
        operator = rng.choice(("+", "-", "*"))
        drawn = Sum(
            first=rng.randint(10, 99),
            operator=operator,  # type: ignore[arg-type]
            second=rng.randint(2, 9) if operator == "*" else rng.randint(10, 99),
            last_operator=rng.choice(("+", "-")),
            third=rng.randint(10, 99),
        )
        if drawn.middle >= 0 and 0 <= drawn.answer <= 999:
            return drawn


def sum_row(drawn: Sum) -> Row:
    """A row in the schema of the AIME copies: id, problem, answer, source."""
    return {
        "id": f"sum-{drawn.text}",
        "problem": f"Compute {drawn.text}.",
        "answer": str(drawn.answer),
        "source": "dasd-micro",
    }


# Periodic table -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Element:
    name: str
    symbol: str
    number: int
    period: int
    group: int


ELEMENTS = tuple(
    Element(*fields)
    for fields in (
        ("Hydrogen", "H", 1, 1, 1),
        ("Helium", "He", 2, 1, 18),
        ("Lithium", "Li", 3, 2, 1),
        ("Beryllium", "Be", 4, 2, 2),
        ("Boron", "B", 5, 2, 13),
        ("Carbon", "C", 6, 2, 14),
        ("Nitrogen", "N", 7, 2, 15),
        ("Oxygen", "O", 8, 2, 16),
        ("Fluorine", "F", 9, 2, 17),
        ("Neon", "Ne", 10, 2, 18),
        ("Sodium", "Na", 11, 3, 1),
        ("Magnesium", "Mg", 12, 3, 2),
        ("Aluminium", "Al", 13, 3, 13),
        ("Silicon", "Si", 14, 3, 14),
        ("Phosphorus", "P", 15, 3, 15),
        ("Sulfur", "S", 16, 3, 16),
        ("Chlorine", "Cl", 17, 3, 17),
        ("Argon", "Ar", 18, 3, 18),
        ("Potassium", "K", 19, 4, 1),
        ("Calcium", "Ca", 20, 4, 2),
    )
)

Aspect = Literal["number", "period", "group"]


@dataclass(frozen=True)
class Choice:
    """Which of four elements has the extreme or the given value of one aspect.

    `wanted` is "largest", "smallest" or a value as text; `right` is the index of the only element
    that answers.
    """

    elements: tuple[Element, Element, Element, Element]
    aspect: Aspect
    wanted: str
    right: int

    @property
    def text(self) -> str:
        aspect = {"number": "atomic number", "period": "period", "group": "group"}[self.aspect]
        if self.wanted in ("largest", "smallest"):
            return f"Which element has the {self.wanted} {aspect}?"
        return f"Which element is in {aspect} {self.wanted}?"


def draw_choice(rng: random.Random) -> Choice:
    """Four different elements and a question that exactly one of them answers."""
    while True:
        elements = tuple(rng.sample(ELEMENTS, 4))
        aspect: Aspect = rng.choice(("number", "number", "period", "group"))
        values = [getattr(element, aspect) for element in elements]
        if aspect == "number":
            wanted = rng.choice(("largest", "smallest"))
            right = values.index(max(values) if wanted == "largest" else min(values))
            return Choice(elements, aspect, wanted, right)  # type: ignore[arg-type]
        right = rng.randrange(4)
        if values.count(values[right]) == 1:
            return Choice(elements, aspect, str(values[right]), right)  # type: ignore[arg-type]


def choice_canonical(drawn: Choice) -> str:
    """Text that does not depend on the order of the options."""
    return f"{drawn.text} {sorted(element.symbol for element in drawn.elements)}"


def choice_row(drawn: Choice) -> Row:
    """A row in the schema of GPQA (the columns that the loader uses)."""
    wrong = [e.name for i, e in enumerate(drawn.elements) if i != drawn.right]
    canonical = choice_canonical(drawn)
    return {
        "Record ID": "table-" + hashlib.sha256(canonical.encode()).hexdigest()[:12],
        "Question": drawn.text,
        "Correct Answer": drawn.elements[drawn.right].name,
        "Incorrect Answer 1": wrong[0],
        "Incorrect Answer 2": wrong[1],
        "Incorrect Answer 3": wrong[2],
        "High-level domain": "Chemistry",
        "Subdomain": "Periodic table",
        "Canary String": "",
    }


# Programs -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Step:
    """One step of a program: what the question says, what that means, the Python that does it."""

    words: str
    meaning: str
    python: str
    run: Callable[[list[int]], list[int] | int]


@dataclass(frozen=True)
class Number:
    """A number that a question gives as a sum, such as 2+5."""

    left: int
    right: int

    @property
    def value(self) -> int:
        return self.left + self.right

    @property
    def asked(self) -> str:
        return f"{self.left}+{self.right}"

    @property
    def worked(self) -> str:
        return f"{self.asked}={self.value}"


def draw_number(rng: random.Random) -> Number:
    """A sum of two digits with a value from 2 to 9."""
    value = rng.randint(2, 9)
    left = rng.randint(1, value - 1)
    return Number(left, value - left)


def keeps(n: Number) -> tuple[Step, ...]:
    """Conditions on x, in words and in Python."""
    v = n.value
    return (
        Step("even numbers", "even numbers", "x % 2 == 0", lambda a: [x for x in a if x % 2 == 0]),
        Step("odd numbers", "odd numbers", "x % 2 == 1", lambda a: [x for x in a if x % 2 == 1]),
        Step(f"numbers above {n.asked}", f"above {n.worked}", f"x > {v}", lambda a: [x for x in a if x > v]),
        Step(f"numbers below {n.asked}", f"below {n.worked}", f"x < {v}", lambda a: [x for x in a if x < v]),
        Step(
            f"numbers except {n.asked}", f"except {n.worked}", f"x != {v}", lambda a: [x for x in a if x != v]
        ),
        Step(
            f"multiples of {n.asked}",
            f"multiples of {n.worked}",
            f"x % {v} == 0",
            lambda a: [x for x in a if x % v == 0],
        ),
    )


def changes(n: Number) -> tuple[Step, ...]:
    """What happens to each number that was kept."""
    v = n.value
    return (
        Step(f"add {n.asked}", f"add {n.worked}", f"x + {v}", lambda a: [x + v for x in a]),
        Step(f"subtract {n.asked}", f"subtract {n.worked}", f"x - {v}", lambda a: [x - v for x in a]),
        Step(f"multiply by {n.asked}", f"multiply by {n.worked}", f"x * {v}", lambda a: [x * v for x in a]),
        Step(f"reduce modulo {n.asked}", f"modulo {n.worked}", f"x % {v}", lambda a: [x % v for x in a]),
        Step("square", "square", "x * x", lambda a: [x * x for x in a]),
        Step("negate", "negate", "-x", lambda a: [-x for x in a]),
    )


RESULTS = (
    Step("the sum", "sum", "sum(b)", lambda a: sum(a)),
    Step("how many there are", "how many", "len(b)", lambda a: len(a)),
    Step("the largest or 0", "largest", "max(b, default=0)", lambda a: max(a, default=0)),
    Step("the smallest or 0", "smallest", "min(b, default=0)", lambda a: min(a, default=0)),
    Step("all of them", "all", "*b", lambda a: a),
    Step("them sorted", "sorted", "*sorted(b)", lambda a: sorted(a)),
    Step("them reversed", "reversed", "*b[::-1]", lambda a: a[::-1]),
    Step("the first two", "first two", "*b[:2]", lambda a: a[:2]),
)


@dataclass(frozen=True)
class Program:
    """Keep some numbers of one input line, change each, print a result."""

    keep: Step
    change: Step
    result: Step

    @property
    def text(self) -> str:
        return (
            f"Read integers from one line. Keep the {self.keep.words}, "
            f"{self.change.words} each, print {self.result.words}."
        )

    def output(self, numbers: list[int]) -> str:
        kept = self.keep.run(numbers)
        assert isinstance(kept, list)
        changed = self.change.run(kept)
        assert isinstance(changed, list)
        value = self.result.run(changed)
        return (" ".join(map(str, value)) if isinstance(value, list) else str(value)) + "\n"


def draw_program(rng: random.Random) -> Program:
    """One of tens of thousands of programs."""
    return Program(
        keep=rng.choice(keeps(draw_number(rng))),
        change=rng.choice(changes(draw_number(rng))),
        result=rng.choice(RESULTS),
    )


def program_row(drawn: Program) -> Row:
    """A row in the schema of LiveCodeBench; two public tests, six hidden ones.

    Hidden tests are plain JSON, which the official loader tries before the pickled form.
    """
    rng = random.Random(f"tests:{drawn.text}")
    inputs = [[rng.randint(0, 20) for _ in range(rng.randint(5, 9))] for _ in range(8)]
    tests = [
        {"input": " ".join(map(str, numbers)) + "\n", "output": drawn.output(numbers), "testtype": "stdin"}
        for numbers in inputs
    ]
    return {
        "question_title": "List program",
        "question_content": drawn.text,
        "platform": "micro",
        "question_id": "program-" + hashlib.sha256(drawn.text.encode()).hexdigest()[:12],
        "contest_id": "micro",
        "contest_date": "2025-01-01T00:00:00",
        "starter_code": "",
        "difficulty": "easy",
        "public_test_cases": json.dumps(tests[:2]),
        "private_test_cases": json.dumps(tests[2:]),
        "metadata": "{}",
    }


# Prompts ------------------------------------------------------------------------------------


def sum_prompt(problem: str) -> str:
    return f"{problem} Put the answer in \\boxed{{}}."


def choice_prompt(question: str, options: list[str]) -> str:
    lines = [f"{letter}) {option}" for letter, option in zip("ABCD", options, strict=True)]
    return "\n".join([question, *lines, "Put the letter in \\boxed{}."])


def program_prompt(content: str) -> str:
    return f"{content}\nWrite a Python program."


# Drawing sets -------------------------------------------------------------------------------


def draw_distinct(
    draw: Callable[[random.Random], T],
    canonical: Callable[[T], str],
    split: Split,
    seed: int,
) -> Iterator[T]:
    """Endless distinct questions of one split; the same seed gives the same order."""
    rng = random.Random(f"{seed}:{split}:{draw.__name__}")
    seen: set[str] = set()
    while True:
        drawn = draw(rng)
        text = canonical(drawn)
        if text not in seen and split_of(text) == split:
            seen.add(text)
            yield drawn


def sums(split: Split, seed: int) -> Iterator[Sum]:
    return draw_distinct(draw_sum, lambda drawn: drawn.text, split, seed)


def choices(split: Split, seed: int) -> Iterator[Choice]:
    return draw_distinct(draw_choice, choice_canonical, split, seed)


def programs(split: Split, seed: int) -> Iterator[Program]:
    return draw_distinct(draw_program, lambda drawn: drawn.text, split, seed)
