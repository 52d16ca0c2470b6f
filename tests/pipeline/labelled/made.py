"""Constructed responses: loops of every kind, and near-misses, each from a generator of its own.

Numbers and lengths are drawn with a keyed generator, so that every run makes the same texts.
"""

import calendar
import random
from collections.abc import Callable, Iterator

Made = tuple[str, str, str]  # kind, label, text

NAMES = [
    "Ada",
    "Ben",
    "Cleo",
    "Dev",
    "Edda",
    "Finn",
    "Gail",
    "Hugo",
    "Iris",
    "Jon",
    "Kira",
    "Leo",
    "Mona",
    "Nils",
    "Olga",
    "Pia",
]
THINGS = [
    "apples",
    "books",
    "coins",
    "cards",
    "tiles",
    "pens",
    "stamps",
    "shells",
    "boats",
    "maps",
    "keys",
    "lamps",
    "ropes",
    "cups",
]
VERBS = [
    "buys",
    "sells",
    "finds",
    "loses",
    "paints",
    "counts",
    "packs",
    "lends",
    "sorts",
    "moves",
    "trades",
    "stores",
]
OPENERS = (
    "First,",
    "Now",
    "So",
    "Next,",
    "On the other hand,",
    "Let me see:",
    "In that case",
    "Then",
    "Suppose that",
    "Because of this,",
    "Wait,",
    "As a check,",
)


def statement(rng: random.Random) -> str:
    """One sentence of ordinary reasoning; hardly two are alike."""
    a, b = rng.randint(2, 97), rng.randint(2, 97)
    who, what, does = rng.choice(NAMES), rng.choice(THINGS), rng.choice(VERBS)
    return rng.choice(
        (
            f"{rng.choice(OPENERS)} {who} {does} {a} {what}, which leaves {a + b} for {rng.choice(NAMES)}.",
            f"{rng.choice(OPENERS)} {a} times {b} is {a * b}, so the {what} come to {a * b + b} in all.",
            f"{who} cannot have {a} {what}: that would be more than {b} a day.",
            f"{rng.choice(OPENERS)} we need x with {a}x + {b} = {a * 7 + b}, and that gives x = 7.",
            f"The ratio of {what} to {rng.choice(THINGS)} is {a} to {b}, not {b} to {a}.",
            f"If {who} {does} {b} of the {what}, then {rng.choice(NAMES)} {rng.choice(VERBS)} the rest.",
            f"{rng.choice(OPENERS)} the remainder of {a * b + 3} by {b} is {(a * b + 3) % b}.",
        )
    )


def prose(rng: random.Random, paragraphs: int) -> str:
    return "\n\n".join(" ".join(statement(rng) for _ in range(rng.randint(2, 5))) for _ in range(paragraphs))


# Loops --------------------------------------------------------------------------------------


def paragraph_back_to_back(rng: random.Random) -> str:
    unit = prose(rng, rng.choice((1, 1, 2, 3)))
    return prose(rng, rng.randint(1, 6)) + "\n\n" + "\n\n".join([unit] * rng.randint(4, 25))


def paragraph_with_something_between(rng: random.Random) -> str:
    unit = prose(rng, 1) + " " + statement(rng)
    rounds = [f"{unit}\n\n{statement(rng)}" for _ in range(rng.randint(6, 15))]
    return prose(rng, 2) + "\n\n" + "\n\n".join(rounds)


def paragraph_of_lines(rng: random.Random) -> str:
    unit = "\n".join(f"- {statement(rng)}" for _ in range(rng.randint(2, 6)))
    return prose(rng, 3) + "\n\n" + "\n\n".join(["Let me list what we know.\n" + unit] * rng.randint(4, 12))


def paragraph_with_a_round_number(rng: random.Random) -> str:
    unit = prose(rng, 1)
    rounds = [f"Attempt {n}.\n\n{unit}" for n in range(1, rng.randint(6, 20))]
    return prose(rng, 2) + "\n\n" + "\n\n".join(rounds)


def sentence_back_to_back(rng: random.Random) -> str:
    return prose(rng, rng.randint(1, 3)) + " " + " ".join([statement(rng)] * rng.randint(8, 60))


def sentence_on_lines(rng: random.Random) -> str:
    return prose(rng, rng.randint(1, 3)) + "\n" + "\n".join([statement(rng)] * rng.randint(8, 40))


def sentences_in_turn(rng: random.Random) -> str:
    unit = " ".join(statement(rng) for _ in range(rng.randint(2, 4)))
    return prose(rng, 2) + " " + " ".join([unit] * rng.randint(5, 30))


def sentences_shuffled(rng: random.Random) -> str:
    few = [statement(rng) for _ in range(rng.randint(3, 5))]
    return prose(rng, 1) + " " + " ".join(rng.choice(few) for _ in range(rng.randint(30, 80)))


def sentence_that_counts(rng: random.Random) -> str:
    what = rng.choice(THINGS)
    form = rng.choice(
        (
            "Case {n}: this does not work either, so go on.",
            "Let us try with {n} " + what + ": no, that is too many.",
            "{n}. The number of " + what + " is not enough.",
            "Step {n}: we check the condition again and it fails.",
        )
    )
    return prose(rng, 2) + "\n\n" + "\n".join(form.format(n=n) for n in range(1, rng.randint(40, 150)))


def phrase_in_a_line(rng: random.Random) -> str:
    words = rng.choice(
        (
            "and then we go back to the start of the problem and",
            "the sum of the parts of",
            "no, wait,",
            "which is equal to the value of the term",
            "hmm,",
            "or maybe it is the other way round,",
        )
    )
    return prose(rng, rng.randint(1, 2)) + " So " + " ".join([words] * rng.randint(30, 90))


def phrase_of_symbols(rng: random.Random) -> str:
    unit = rng.choice(
        (r"\frac{1}{2} \cdot ", r"x_{n-1} + y_{n-1} = ", r"\sqrt{a + b} \leq ", "(p and not q) or ")
    )
    return prose(rng, 1) + "\n\n$$ " + unit * rng.randint(40, 120)


def phrase_without_blanks(rng: random.Random) -> str:
    unit = rng.choice(("ha", "1,", r"\quad", "_and_used", "|c", "0110", "-=", "no!"))
    return prose(rng, 1) + "\n\n" + unit * rng.randint(300, 900)


def phrase_in_chinese(rng: random.Random) -> str:
    unit = rng.choice(("我们再检查一遍这个结果,", "因为答案不对,所以重新计算,", "等等,"))
    return prose(rng, 1) + "\n\n" + unit * rng.randint(40, 120)


# Near-misses --------------------------------------------------------------------------------


def algebra(rng: random.Random) -> str:
    a, b, x = rng.randint(2, 9), rng.randint(2, 30), rng.randint(2, 20)
    lines = [
        f"{a}x + {b} = {a * x + b}",
        f"{a}x + {b} - {b} = {a * x + b} - {b}",
        f"{a}x = {a * x}",
        f"x = {x}",
    ]
    text = "We solve the equation.\n\n" + "\n\n".join(f"\\[ {line} \\]" for line in lines)
    return text + f"\n\nCheck: {a} * {x} + {b} = {a * x + b}. " + prose(rng, 2)


def euclid(rng: random.Random) -> str:
    a, b = rng.randint(10**8, 10**9), rng.randint(10**7, 10**8)
    lines = []
    while b:
        lines.append(f"{a} = {a // b} * {b} + {a % b}")
        a, b = b, a % b
    return "Euclid's algorithm:\n\n" + "\n".join(lines) + f"\n\nSo the greatest common divisor is {a}."


def induction(rng: random.Random) -> str:
    k = rng.randint(2, 5)
    lines = [
        f"S_{n} = S_{n - 1} + {n}^{k} = {sum(i**k for i in range(n + 1))}"
        for n in range(1, rng.randint(8, 25))
    ]
    return "We compute the partial sums.\n\n" + "\n".join(lines) + "\n\n" + prose(rng, 2)


def expansion(rng: random.Random) -> str:
    n = rng.randint(4, 9)
    power = f"(x + {n})"
    steps = [f"{power}^{k} = {power}^{k - 1} * {power}" for k in range(2, n)]
    return "We expand step by step.\n\n" + "\n".join(steps) + "\n\n" + prose(rng, 2)


def long_division(rng: random.Random) -> str:
    number, by = rng.randint(10**9, 10**11), rng.randint(3, 9)
    rest, lines = 0, []
    for digit in str(number):
        value = 10 * rest + int(digit)
        lines.append(f"Bring down {digit}: {value} divided by {by} is {value // by}, remainder {value % by}.")
        rest = value % by
    return f"Divide {number} by {by}.\n\n" + "\n".join(lines) + "\n\n" + prose(rng, 1)


def scan(rng: random.Random) -> str:
    m, r = rng.randint(7, 31), rng.randint(1, 6)
    top = rng.randint(20, 45)
    lines = [
        f"n = {n}: {n}^2 = {n * n}, and {n * n} mod {m} = {n * n % m}{', yes' * (n * n % m == r)}"
        for n in range(top)
    ]
    return f"Which n have n^2 = {r} mod {m}?\n\n" + "\n".join(lines) + "\n\n" + prose(rng, 2)


def table(rng: random.Random) -> str:
    columns = rng.randint(3, 7)
    head = (
        "| n | "
        + " | ".join(f"{k}n" for k in range(2, columns + 2))
        + " |\n"
        + "|---" * (columns + 1)
        + "|\n"
    )
    rows = [
        f"| {n} | " + " | ".join(str(k * n) for k in range(2, columns + 2)) + " |"
        for n in range(1, rng.randint(12, 40))
    ]
    return "The multiples are:\n\n" + head + "\n".join(rows) + "\n\n" + prose(rng, 2)


def truth_table(rng: random.Random) -> str:
    rows = []
    for bits in range(16):
        p, q, r, s = ((bits >> k) % 2 == 0 for k in (3, 2, 1, 0))
        rows.append("| " + " | ".join("FT"[v] for v in (p, q, r, s, p and q, q or r, (not p) or s)) + " |")
    head = "| p | q | r | s | p and q | q or r | p implies s |\n|---|---|---|---|---|---|---|\n"
    return prose(rng, 2) + "\n\n" + head + "\n".join(rows) + "\n\n" + prose(rng, 2)


def matrix(rng: random.Random) -> str:
    size = rng.randint(6, 10)
    rows = [" ".join("1" if abs(i - j) == 1 else "0" for j in range(size)) for i in range(size)]
    return prose(rng, 4) + "\n\n" + "\n".join(rows) + "\n\n" + prose(rng, 5)


def dynamic_programming(rng: random.Random) -> str:
    coins = sorted(rng.sample(range(2, 12), 3))
    best = [0]
    lines = []
    for amount in range(1, rng.randint(20, 40)):
        best.append(min((best[amount - c] + 1 for c in coins if amount >= c), default=99))
        lines.append(f"dp[{amount}] = min over {coins} gives {best[amount]}")
    return "Fill the table by hand.\n\n" + "\n".join(lines) + "\n\n" + prose(rng, 3)


def code_twice(rng: random.Random) -> str:
    """A draft, and the final version twice, which is the same but for a name."""
    n = rng.randint(2, 9)
    code = (
        f"def solve(values):\n    total = 0\n    for value in values:\n        if value % {n} == 0:\n"
        f"            total += value // {n}\n        else:\n            total -= 1\n    return total\n\n\n"
        "print(solve([int(x) for x in input().split()]))"
    )
    final = fenced(code.replace("total", "result"))
    return "\n\n".join((prose(rng, 2), fenced(code), prose(rng, 2), final, final))


def fenced(code: str) -> str:
    return f"```python\n{code}\n```"


def boilerplate(rng: random.Random) -> str:
    names = rng.sample(THINGS, 6)
    blocks = [
        f"void read_{name}(std::vector<int>& {name}, int n) {{\n    {name}.resize(n);\n"
        f"    for (int i = 0; i < n; ++i) {{\n        std::cin >> {name}[i];\n    }}\n}}"
        for name in names
    ]
    return (
        "```cpp\n#include <iostream>\n#include <vector>\n\n"
        + "\n\n".join(blocks)
        + "\n```\n\n"
        + prose(rng, 3)
    )


def ladder(rng: random.Random) -> str:
    lines = [
        f"    elif month == {n}:\n        return '{name}'"
        for n, name in enumerate(calendar.month_name[1:], 1)
    ]
    return (
        "```python\ndef name(month):\n    if not month:\n        return None\n"
        + "\n".join(lines)
        + "\n```\n\n"
        + prose(rng, 3)
    )


def tests(rng: random.Random) -> str:
    lines = [
        f"    assert add({a}, {b}) == {a + b}"
        for a, b in (rng.sample(range(99), 2) for _ in range(rng.randint(6, 14)))
    ]
    return "```python\ndef test_add():\n" + "\n".join(lines) + "\n```\n\n" + prose(rng, 3)


def records(rng: random.Random) -> str:
    rows = [
        f'  {{"name": "{rng.choice(NAMES)}", "{rng.choice(THINGS)}": {rng.randint(1, 99)}}}'
        for _ in range(rng.randint(8, 20))
    ]
    return "```json\n[\n" + ",\n".join(rows) + "\n]\n```\n\n" + prose(rng, 2)


def listing(rng: random.Random) -> str:
    return "\n".join(f"{n}. {statement(rng)}" for n in range(1, rng.randint(15, 60)))


def plain(rng: random.Random) -> str:
    return prose(rng, rng.randint(3, 40))


def refrain(rng: random.Random) -> str:
    verses = [
        "\n".join(statement(rng) for _ in range(6)) + "\nAnd still the sea comes home."
        for _ in range(rng.randint(4, 7))
    ]
    return "\n\n".join(verses)


def second_thoughts(rng: random.Random) -> str:
    """The same short remark again and again, with work between."""
    return "\n\n".join(f"{prose(rng, 1)} Wait, let me double-check this." for _ in range(rng.randint(10, 30)))


def recap(rng: random.Random) -> str:
    """What was found is said again at the end, and once more in the answer."""
    found = " ".join(statement(rng) for _ in range(3))
    return f"{prose(rng, 4)}\n\n{found}\n\n{prose(rng, 2)}\n\nTo sum up: {found}\n\nFinal answer: {found}"


def option_by_option(rng: random.Random) -> str:
    lines = [f"Option {letter}: {statement(rng)} This option does not fit." for letter in "ABCDEFGHIJ"]
    return prose(rng, 1) + "\n\n" + "\n".join(lines)


def on_request(rng: random.Random) -> str:
    """What a user asked to have repeated. Nothing in the text tells it from a loop."""
    return "Here it is ten times:\n\n" + "\n".join(["I will not talk in class."] * 10)


# Other reasons ------------------------------------------------------------------------------


def harmony_call(rng: random.Random) -> str:
    call = f'assistantcommentary to=functions.get_{rng.choice(THINGS)} json{{"count": 3}}'
    return f"{prose(rng, 1)}\n</think>\n\n{call}"


def tagged_call(rng: random.Random) -> str:
    call = f'{{"name": "count_{rng.choice(THINGS)}", "arguments": {{"n": 3}}}}'
    return f"{prose(rng, 1)}\n</think>\n\n<tool_call>\n{call}\n</tool_call>"


def json_call(rng: random.Random) -> str:
    what = rng.choice(THINGS)
    call = f'{{"name": "find_{what}", "arguments": {{"most": {rng.randint(1, 9)}}}}}'
    return f"{prose(rng, 1)}\n</think>\n\n" + rng.choice((call, f"[{call}]", f"```json\n{call}\n```"))


def speaks_of_calls(rng: random.Random) -> str:
    return prose(rng, 1) + rng.choice(
        (
            " The model answers with `<tool_call>` and a JSON object when it wants a tool.",
            " In harmony a call goes to=functions.name on the commentary channel and ends with `<|call|>`.",
            ' A tool is declared as {"name": "f", "parameters": {"type": "object"}} in the request.',
            " Then call functions.sort(values), where sort is one of the functions of the module.",
            ' The response has a field "tool_calls", which is a list.',
        )
    )


def writes_json(rng: random.Random) -> str:
    return f'{prose(rng, 1)}\n</think>\n\n{{"name": "{rng.choice(NAMES)}", "age": {rng.randint(9, 90)}}}'


# Loops in long responses --------------------------------------------------------------------


def paragraph_loop(rng: random.Random, rest: str) -> str:
    return "\n\n".join([prose(rng, 1)] * rng.randint(12, 40))


def sentence_loop(rng: random.Random, rest: str) -> str:
    return " ".join([statement(rng)] * rng.randint(50, 200))


def phrase_loop(rng: random.Random, rest: str) -> str:
    return phrase_in_a_line(rng) + " and so on " * 400


def page_loop(rng: random.Random, rest: str) -> str:
    """A unit that is longer than zlib looks back, three more times."""
    start = rng.randrange(len(rest) - 50_000)
    return "\n\n".join([rest[start : start + rng.randint(35_000, 50_000)]] * 4)


LONG_LOOPS = (
    ("repeated paragraph", paragraph_loop),
    ("repeated sentence", sentence_loop),
    ("repeated phrase", phrase_loop),
    ("repeated paragraph", page_loop),
)


def long_texts(responses: list[str]) -> Iterator[Made]:
    """Responses of some 200 KB, joined from others: five of each loop, and ten without any."""
    for draw in range(30):
        rng = random.Random(f"long:{draw}")
        rest = "\n\n".join(rng.sample(responses, len(responses) * 9 // 10))
        if draw >= 20:
            yield "long", "keep", rest
            continue
        label, make = LONG_LOOPS[draw % len(LONG_LOOPS)]
        place = rest.index("\n\n", rng.randrange(len(rest) * 9 // 10))
        yield (
            f"long: {make.__name__.replace('_', ' ')}",
            label,
            rest[:place] + "\n\n" + make(rng, rest) + rest[place:],
        )


Maker = Callable[[random.Random], str]

LOOPS: tuple[tuple[str, Maker, int], ...] = (
    ("repeated paragraph", paragraph_back_to_back, 9),
    ("repeated paragraph", paragraph_with_something_between, 6),
    ("repeated paragraph", paragraph_of_lines, 6),
    ("repeated paragraph", paragraph_with_a_round_number, 5),
    ("repeated sentence", sentence_back_to_back, 8),
    ("repeated sentence", sentence_on_lines, 6),
    ("repeated sentence", sentences_in_turn, 7),
    ("repeated sentence", sentences_shuffled, 6),
    ("repeated sentence", sentence_that_counts, 8),
    ("repeated phrase", phrase_in_a_line, 9),
    ("repeated phrase", phrase_of_symbols, 6),
    ("repeated phrase", phrase_without_blanks, 8),
    ("repeated phrase", phrase_in_chinese, 3),
)
KEPT: tuple[tuple[str, Maker, int], ...] = (
    ("algebra", algebra, 5),
    ("algebra", euclid, 5),
    ("algebra", induction, 5),
    ("algebra", expansion, 4),
    ("algebra", long_division, 5),
    ("algebra", scan, 6),
    ("table", table, 6),
    ("table", truth_table, 4),
    ("table", matrix, 4),
    ("table", dynamic_programming, 6),
    ("code", code_twice, 6),
    ("code", boilerplate, 5),
    ("code", ladder, 3),
    ("code", tests, 4),
    ("code", records, 4),
    ("list", listing, 6),
    ("list", option_by_option, 3),
    ("prose", plain, 8),
    ("prose", refrain, 4),
    ("prose", second_thoughts, 5),
    ("prose", recap, 5),
    ("on request", on_request, 1),
    ("speaks of calls", speaks_of_calls, 6),
    ("speaks of calls", writes_json, 2),
)
CALLS: tuple[Maker, ...] = (harmony_call, tagged_call, json_call)


def texts() -> Iterator[Made]:
    """Every constructed response, without the tags around it, as (kind, label, text)."""
    for label, make, count in LOOPS:
        for draw in range(count):
            yield make.__name__.replace("_", " "), label, make(random.Random(f"{make.__name__}:{draw}"))
    for kind, make, count in KEPT:
        for draw in range(count):
            yield kind, "keep", make(random.Random(f"{make.__name__}:{draw}"))
    for make in CALLS:
        for draw in range(4):
            yield "function call", "function call", make(random.Random(f"{make.__name__}:{draw}"))
