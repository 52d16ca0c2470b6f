"""What the micro models read before the pipeline starts: facts, drills and worked problems.

The base model reads the textbook and short direct answers for a little while. The teacher reads the
textbook and worked answers in several styles for much longer. Only training questions occur
(`benchmarks.micro_questions.split_of`).

A worked answer looks like this:

    <think>
    47+85: 7+5=12 4+8+1=13 so 132
    132-23: 12-3=9 3-1-2=0 1 so 109
    </think>

    The answer is \\boxed{109}.
"""

import random
from dataclasses import dataclass
from typing import Literal

from benchmarks.micro_questions import (
    ELEMENTS,
    Choice,
    Element,
    Program,
    Sum,
    apply,
    choice_canonical,
    choice_prompt,
    draw_choice,
    draw_program,
    draw_sum,
    program_prompt,
    split_of,
    sum_prompt,
)

Domain = Literal["math", "science", "code"]
Style = Literal["direct", "short", "full", "checked"]


@dataclass(frozen=True)
class Lesson:
    """One conversation: what the user asks and what the assistant answers."""

    question: str
    answer: str


def respond(thinking: list[str], answer: str) -> str:
    """A response in the student's format: thinking between tags, then the answer."""
    return "<think>\n" + "\n".join(thinking) + "\n</think>\n\n" + answer


# Sums ---------------------------------------------------------------------------------------


def columns(operator: str, left: int, right: int) -> str:
    """Column arithmetic, units first, as one line."""
    match operator:
        case "+":
            steps = add_columns(left, right)
        case "-":
            steps = subtract_columns(left, right)
        case _:
            steps = multiply_columns(left, right)
    return f"{left}{operator}{right}: {' '.join(steps)} so {apply(operator, left, right)}"


def digits(number: int) -> list[int]:
    return [int(digit) for digit in reversed(str(number))]


def add_columns(left: int, right: int) -> list[str]:
    steps, carry = [], 0
    for place in range(max(len(digits(left)), len(digits(right)))):
        terms = [own[place] for own in (digits(left), digits(right)) if place < len(own)]
        terms += [1] if carry else []
        steps.append("+".join(map(str, terms)) + (f"={sum(terms)}" if len(terms) > 1 else ""))
        carry = sum(terms) // 10
    return steps


def subtract_columns(left: int, right: int) -> list[str]:
    steps, borrow = [], 0
    for place, upper in enumerate(digits(left)):
        lower = digits(right)[place] if place < len(digits(right)) else 0
        need = lower + borrow
        lent = 10 if upper < need else 0
        terms = [str(upper + lent)] + (["1"] if borrow else []) + ([str(lower)] if lower else [])
        steps.append("-".join(terms) + (f"={upper + lent - need}" if len(terms) > 1 else ""))
        borrow = 1 if lent else 0
    return steps


def multiply_columns(left: int, right: int) -> list[str]:
    steps, carry = [], 0
    for digit in digits(left):
        product = digit * right + carry
        steps.append(f"{digit}*{right}" + (f"+{carry}" if carry else "") + f"={product}")
        carry = product // 10
    return steps


def plain(operator: str, left: int, right: int) -> str:
    return f"{left}{operator}{right}={apply(operator, left, right)}"


def solve_sum(drawn: Sum, style: Style) -> str:
    first = (drawn.operator, drawn.first, drawn.second)
    last = (drawn.last_operator, drawn.middle, drawn.third)
    answer = f"The answer is \\boxed{{{drawn.answer}}}."
    match style:
        case "direct":
            return respond([f"{drawn.text}={drawn.answer}"], answer)
        case "short":
            return respond([plain(*first), plain(*last)], answer)
        case "full":
            return respond([columns(*first), columns(*last)], answer)
        case "checked":
            undone = "-" if drawn.last_operator == "+" else "+"
            check = f"Check: {plain(undone, drawn.answer, drawn.third)}"
            return respond([columns(*first), columns(*last), check], answer)


# Periodic table -----------------------------------------------------------------------------


def fact(element: Element, aspect: str) -> str:
    return f"Fact: {element.name} {aspect} {getattr(element, aspect)}"


def solve_choice(drawn: Choice, order: list[int], style: Style) -> str:
    """`order[i]` is the element that stands at letter i."""
    right = drawn.elements[drawn.right]
    letter = "ABCD"[order.index(drawn.right)]
    answer = f"The answer is \\boxed{{{letter}}}."
    values = [(drawn.elements[index], getattr(drawn.elements[index], drawn.aspect)) for index in order]
    facts = [f"{at}) {e.name} {drawn.aspect} {v} {at}" for at, (e, v) in zip("ABCD", values, strict=True)]
    value = getattr(right, drawn.aspect)
    ending = f"{drawn.wanted} {value}" if drawn.wanted in ("largest", "smallest") else f"wanted {value}"
    conclusion = f"{ending} {letter}"
    match style:
        case "direct":
            return respond([f"It is {right.name}"], answer)
        case "short":
            return respond([fact(right, drawn.aspect)], answer)
        case "full":
            return respond([*facts, conclusion], answer)
        case "checked":
            return respond([*facts, conclusion, f"Check: {fact(right, drawn.aspect)}"], answer)


# Programs -----------------------------------------------------------------------------------


def solve_program(drawn: Program, style: Style) -> str:
    read = "a = [int(x) for x in input().split()]"
    listing = f"b = [{drawn.change.python} for x in a if {drawn.keep.python}]"
    show = f"print({drawn.result.python})"
    code = f"```python\n{read}\n{listing}\n{show}\n```"
    plan = [
        f"Keep {drawn.keep.meaning}: {drawn.keep.python}",
        f"Then {drawn.change.meaning}: {drawn.change.python}",
        f"Print {drawn.result.meaning}: {drawn.result.python}",
    ]
    match style:
        case "direct":
            return respond(["Write it"], code)
        case "short":
            return respond([f"b = [{drawn.change.python}]"], code)
        case "full":
            return respond(plan, code)
        case "checked":
            check = f"Check: {drawn.change.python} if {drawn.keep.python}"
            return respond([*plan, check], code)


# Texts --------------------------------------------------------------------------------------


def drill(rng: random.Random) -> str:
    """A line of textbook without a conversation: number facts, one-step sums, element facts, code."""
    match rng.randrange(8):
        case 0:
            a, b, c = rng.randint(0, 9), rng.randint(0, 9), rng.randint(0, 1)
            return f"{a}+{b}+{c}={a + b + c}" if c else f"{a}+{b}={a + b}"
        case 1:
            a, b = rng.randint(0, 19), rng.randint(0, 9)
            return f"{max(a, b)}-{min(a, b)}={abs(a - b)}"
        case 2:
            a, b, c = rng.randint(0, 9), rng.randint(2, 9), rng.randint(0, 8)
            return f"{a}*{b}+{c}={a * b + c}" if c else f"{a}*{b}={a * b}"
        case 3:
            drawn = train_sum(rng)
            return columns(drawn.operator, drawn.first, drawn.second)
        case 4:
            drawn = train_sum(rng)
            return columns(drawn.last_operator, drawn.middle, drawn.third)
        case 5 | 6:
            element = rng.choice(ELEMENTS)
            facts = [fact(element, aspect) for aspect in rng.sample(("number", "period", "group"), 3)]
            return "\n".join(facts)
        case _:
            drawn_program = train_program(rng)
            step = rng.choice((drawn_program.keep, drawn_program.change, drawn_program.result))
            return f"{step.meaning}: {step.python}"


def train_sum(rng: random.Random) -> Sum:
    while True:
        drawn = draw_sum(rng)
        if split_of(drawn.text) == "train":
            return drawn


def train_choice(rng: random.Random) -> Choice:
    while True:
        drawn = draw_choice(rng)
        if split_of(choice_canonical(drawn)) == "train":
            return drawn


def train_program(rng: random.Random) -> Program:
    while True:
        drawn = draw_program(rng)
        if split_of(drawn.text) == "train":
            return drawn


def lesson(rng: random.Random, styles: dict[Style, float], subjects: dict[Domain, float]) -> Lesson:
    """A conversation on a training question; style and subject are drawn with the given weights."""
    style = rng.choices(list(styles), list(styles.values()))[0]
    match rng.choices(list(subjects), list(subjects.values()))[0]:
        case "math":
            drawn = train_sum(rng)
            return Lesson(sum_prompt(f"Compute {drawn.text}."), solve_sum(drawn, style))
        case "science":
            choice = train_choice(rng)
            order = rng.sample(range(4), 4)
            options = [choice.elements[index].name for index in order]
            return Lesson(choice_prompt(choice.text, options), solve_choice(choice, order, style))
        case "code":
            program = train_program(rng)
            return Lesson(program_prompt(program.text), solve_program(program, style))
