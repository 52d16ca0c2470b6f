"""Filter: drops responses that would teach something wrong (report §6.3).

Pure functions with their thresholds as fields. The report names the filters and publishes neither
thresholds nor rates, so the numbers here are ours: docs/filters.md says what they were tuned on.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harness.chat import CLOSE, OPEN, split_reasoning
from harness.cost import Estimator, Volume, Work, thinned
from harness.errors import StageError
from harness.files import write_rows
from harness.generate import read_in_order
from harness.stage import Stage
from harness.store import Context
from harness.types import Generation
from pipeline import repetition

Reason = Literal[
    "truncated",
    "function call",
    "no thinking",
    "unfinished thinking",
    "broken thinking",
    "no answer",
    "repeated paragraph",
    "repeated sentence",
    "repeated phrase",
    "compressible",
    "too long",
]

HARMONY_CALL = re.compile(
    r"(?:commentary|analysis|assistant)\s*to=(?:functions\.\w+|python|browser[.\w]*)\s*(?:<\||json|code|\{)"
)
CALLS = (  # a string that must be there, and what makes it a call rather than a mention
    ("<|call|>", re.compile(r"(?<![`'\"])<\|call\|>")),
    ("to=", HARMONY_CALL),
    ("<tool_call>", re.compile(r"(?<![`'\"])<tool_call>\s*[{\[<]")),
    ("<function_call>", re.compile(r"(?<![`'\"])<function_call>\s*[{\[<]")),
    ("<function=", re.compile(r"(?<![`'\"])<function=[\w.]+>\s*[{<]")),
    ("[TOOL_CALLS]", re.compile(r"(?<![`'\"])\[TOOL_CALLS\]\s*(?:\[|\w+\s*[\[{])")),
)
CALLED_NAME = re.compile(r'"name"\s*:\s*"')
CALLED_WITH = re.compile(r'"arguments"\s*:\s*["{]')
FENCES = re.compile(r"\A```(?:json)?\s+|\s+```\Z")
CONTENT = re.compile(r"\w")
LONG_WORD = 20  # bytes, with a blank: ordinary words are shorter, so that no loop is overlooked
EXACT, NEAR = (
    0.95,
    0.8,
)  # shares of the copied words that are the very same: of any loop, and of the least alike
NAMES: dict[repetition.Level, Reason] = {
    "paragraph": "repeated paragraph",
    "sentence": "repeated sentence",
    "phrase": "repeated phrase",
}


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """When a response goes. Shares are of the whole text, thinking and answer together.

    `max_tokens`: the student's training context, in student tokens.

    A loop is a unit that stands back to back with itself. It goes where its copies make up
    `near_loop_share` of the text, though in each round `counters` words may differ, or one in ten. It
    goes from `loop_share`, or in a long text from `loop_bytes`, where it stands there at least
    `loop_repeats` times, no more than one word in twenty differs, and it says something in letters.

    Wherever they stand: paragraphs that occur `paragraph_repeats` times go from `paragraph_share` on,
    sentences that occur `sentence_repeats` times from `sentence_share` on, runs of `phrase_words` words
    (a power of two) that occur `phrase_repeats` times from `phrase_share` of the runs on.

    A text that zlib makes `most_compression` times smaller goes whatever it says. One of at most 32 KB,
    which zlib sees whole, is looked at for loops only from `loop_compression` on, and for what else
    comes back only from `spread_compression` on.
    """

    max_tokens: int
    loop_repeats: float = 3.0
    loop_share: float = 0.1
    loop_bytes: int = 2_000
    near_loop_share: float = 0.5
    counters: float = 1.3
    paragraph_repeats: int = 4
    paragraph_share: float = 0.3
    sentence_repeats: int = 4
    sentence_share: float = 0.45
    phrase_words: int = 8
    phrase_repeats: int = 4
    phrase_share: float = 0.4
    most_compression: float = 10.0
    loop_compression: float = 2.3
    spread_compression: float = 2.5


@dataclass(frozen=True, kw_only=True)
class Dropped:
    """A response that did not pass, and why. `temperature`: at which it was sampled."""

    question: str
    draw: int
    domain: str
    temperature: float
    reason: Reason


@dataclass(frozen=True, kw_only=True)
class Filter(Stage):
    """Writes generations.jsonl (kept, unchanged) and dropped.jsonl (with reasons).

    Both are in the order of question and draw, whatever the order in which responses came, so that
    nothing after this stage depends on concurrency. One response is in memory at a time.
    """

    version = 2

    responses: Stage
    student: Stage
    thresholds: Thresholds

    def run(self, out: Path, context: Context) -> None:
        from pipeline.tokenizer import StudentTokens

        tokens = StudentTokens(context.path(self.student) / "model")
        rows = context.path(self.responses) / "generations.jsonl"
        dropped: list[Dropped] = []
        with context.progress.counter("filtering", count_lines(rows)) as counter:

            def kept() -> Iterator[Generation]:
                for row in read_in_order(rows, Generation):
                    reason = reason_to_drop(row, tokens.count, self.thresholds)
                    if reason is None:
                        yield row
                    else:
                        dropped.append(drop(row, reason))
                    counter.advance()

            count = write_rows(out / "generations.jsonl", kept())
        write_rows(out / "dropped.jsonl", dropped)
        if not count:
            raise StageError(
                f"all {len(dropped)} responses were dropped: {reasons(dropped)}",
                f"{out / 'dropped.jsonl'} names the reason of each.",
            )

    def expected(self, estimator: Estimator) -> Volume:
        return thinned(estimator.volume(self.responses), estimator.passing(self.responses.kind))

    def work(self, estimator: Estimator) -> Work:
        setting = f"up to {self.thresholds.max_tokens:,} student tokens, well formed, not repeating"
        return Work(disk=estimator.text_bytes(estimator.volume(self)), setting=setting)


def count_lines(path: Path) -> int:
    with path.open("rb") as file:
        return sum(1 for _ in file)


def drop(row: Generation, reason: Reason) -> Dropped:
    return Dropped(
        question=row.question,
        draw=row.draw,
        domain=row.kept["domain"],
        temperature=row.sampling.temperature,
        reason=reason,
    )


def reasons(dropped: list[Dropped]) -> str:
    """`12 truncated, 3 repeated sentence`."""
    return ", ".join(
        f"{count} {name}" for name, count in Counter(row.reason for row in dropped).most_common()
    )


def reason_to_drop(row: Generation, count: Callable[[str], int], thresholds: Thresholds) -> Reason | None:
    """The first reason against a response; None where there is none.

    `count` gives a text's length in student tokens. It costs more than all else, so it comes last and
    is not asked where it cannot matter.
    """
    if row.truncated:
        return "truncated"
    return (
        structural_reason(row)
        or repetition_reason(row.text, thresholds)
        or ("too long" if longer(row.text, thresholds.max_tokens, count) else None)
    )


def longer(text: str, limit: int, count: Callable[[str], int]) -> bool:
    """Whether a text has more tokens than this. No token is shorter than a byte of UTF-8."""
    return len(text.encode("utf-8", "surrogatepass")) > limit and count(text) > limit


def structural_reason(row: Generation) -> Reason | None:
    """What is wrong with the parts of a response: thinking, answer, and no call of a function.

    The parts are read from the text, which training sees. Thinking counts as there where it has a
    letter or a digit.
    """
    reasoning, answer = split_reasoning(row.text, row.finish_reason)
    if row.kept.get("function_call") or calls_function(row.text, answer):
        return "function call"
    if open_ended(row):
        return "unfinished thinking"
    if not CONTENT.search(reasoning):
        return "no thinking"
    if row.text.count(OPEN) > 1 or row.text.count(CLOSE) > 1:
        return "broken thinking"
    return None if answer else "no answer"


def open_ended(row: Generation) -> bool:
    """Whether thinking was opened, by the response or by the prompt, and is not closed."""
    _, closed, after = row.text.rpartition(CLOSE)
    return OPEN in after or (not closed and bool(row.reasoning))


def calls_function(text: str, answer: str) -> bool:
    """Whether a response calls a function, in harmony's form or another usual one.

    Speaking of a call, or quoting one, is none: a form counts only with what must follow it.
    """
    marked = any(needle in text and pattern.search(text) for needle, pattern in CALLS)
    return marked or is_json_call(FENCES.sub("", answer))


def is_json_call(answer: str) -> bool:
    """Whether a whole answer is JSON of the form `{"name": "f", "arguments": {…}}`, or a list of such."""
    if not answer.startswith(("{", "[")) or not answer.endswith(("}", "]")):
        return False
    return bool(CALLED_NAME.search(answer) and CALLED_WITH.search(answer))


def repetition_reason(text: str, thresholds: Thresholds) -> Reason | None:
    """The first kind of repetition that exceeds its threshold."""
    compression = repetition.compression(text)
    seen_whole = len(text) <= repetition.LOOK_BACK
    if seen_whole and compression < thresholds.loop_compression:
        return None
    words = repetition.words_of(text)
    if not len(words):
        return "compressible"
    loop = worst_loop(words, thresholds)
    if loop is not None:
        return NAMES[repetition.level(loop, *repetition.breaks(words))]
    if seen_whole and compression < thresholds.spread_compression:
        return None
    return spread_reason(words, thresholds) or (
        "compressible" if compression >= thresholds.most_compression else None
    )


def worst_loop(words: repetition.Words, thresholds: Thresholds) -> repetition.Loop | None:
    """The longest loop beyond the thresholds. A short one of figures only may be a table or a matrix."""
    near = thresholds.near_loop_share * len(words.raw)
    enough = min(thresholds.loop_share * len(words.raw), thresholds.loop_bytes)
    recurring = min(
        repetition.recurring_ngrams(near / LONG_WORD, NEAR),
        repetition.recurring_ngrams(enough / LONG_WORD, EXACT),
    )
    for loop in repetition.find_loops(words.hashes, recurring):
        copied = repetition.copied_bytes(words, loop)
        differing = (1 - loop.same) * loop.period
        if copied >= near and differing <= max(thresholds.counters, loop.period / 10):
            return loop
        exact = loop.same >= EXACT and loop.repeats >= thresholds.loop_repeats
        if exact and copied >= enough and repetition.has_letters(words, loop):
            return loop
    return None


def spread_reason(words: repetition.Words, thresholds: Thresholds) -> Reason | None:
    """What comes back too often, wherever it stands. Paragraphs come back no more than sentences do."""
    limits = thresholds
    paragraph, sentence = repetition.breaks(words)
    sentences = repetition.unit_share(words, sentence, min(limits.sentence_repeats, limits.paragraph_repeats))
    if sentences >= limits.paragraph_share:
        share = repetition.unit_share(words, paragraph, limits.paragraph_repeats)
        if share >= limits.paragraph_share:
            return "repeated paragraph"
    if sentences >= limits.sentence_share:
        share = repetition.unit_share(words, sentence, limits.sentence_repeats)
        if share >= limits.sentence_share:
            return "repeated sentence"
    phrases = repetition.ngram_share(words.hashes, limits.phrase_words, limits.phrase_repeats)
    return "repeated phrase" if phrases >= limits.phrase_share else None
