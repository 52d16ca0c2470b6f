"""Filter: drops responses that would teach something wrong (report §6.3).

Pure functions with their thresholds as fields. The report names the filters and publishes neither
thresholds nor rates, so the numbers here are ours: docs/filters.md says what they were tuned on.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import msgspec

from harness.chat import CLOSE, OPEN, split_reasoning
from harness.cost import Estimator, Volume, Work, thinned
from harness.errors import StageError
from harness.evaluate import conversation
from harness.files import write_json, write_rows
from harness.harmony import MARKER
from harness.rows import drop_torn_line, read_in_order, read_rows
from harness.stage import Stage
from harness.store import Context
from harness.types import Generation
from pipeline import repetition
from pipeline.tokenizer import StudentTokens

Reason = Literal[
    "truncated",
    "function call",
    "control token",
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
QUOTES = "`'\""
FENCE = "```"
CONTENT = re.compile(r"\w")
LONG_WORD = 20  # bytes, with a blank: ordinary words are shorter, so that no loop is overlooked
EXACT, NEAR = (
    0.95,
    0.8,
)  # shares of the copied words that are the very same: of any loop, and of the least alike
JOURNAL = "decisions.jsonl"
BATCH_BYTES = 2**24  # of text: fifty of the longest responses, a core each in the tokenizer
NAMES: dict[repetition.Level, Reason] = {
    "paragraph": "repeated paragraph",
    "sentence": "repeated sentence",
    "phrase": "repeated phrase",
}


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """When a response goes. Shares are of the whole text, thinking and answer together.

    `max_tokens`: the student's training context. Prompt, response and end of turn must leave one token of
    it free, as packing does: a longer row would be cut in training.

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
class Counts:
    """How many responses of a domain, sampled at one temperature, were kept, and dropped for each reason."""

    domain: str
    temperature: float
    kept: int
    dropped: dict[Reason, int]


class Decision(msgspec.Struct, frozen=True):
    """A line of the journal. `reason`: None where the response is kept."""

    question: str
    draw: int
    reason: Reason | None


Decisions = dict[tuple[str, int], Reason | None]


@dataclass(frozen=True, kw_only=True)
class Filter(Stage):
    """Writes generations.jsonl (kept, unchanged), dropped.jsonl (with reasons) and counts.json.

    Rows are in the order of question and draw, whatever the order in which responses came, so that
    nothing after this stage depends on concurrency. Some megabytes of responses are in memory at a time.
    `system` is the system prompt that the student is trained with: it takes a part of its context.

    Decisions are kept in a journal until the stage is complete: an interrupted run goes on behind the last.
    """

    version = 3

    responses: Stage
    student: Stage
    thresholds: Thresholds
    system: str | None = None

    def run(self, out: Path, context: Context) -> None:
        rows = context.path(self.responses) / "generations.jsonl"
        tokens = StudentTokens(context.path(self.student) / "model")
        decisions = self.decide_all(rows, out / JOURNAL, tokens, context)
        dropped: list[Dropped] = []
        outcomes: Counter[tuple[str, float, Reason | None]] = Counter()
        with context.progress.counter("writing", len(decisions)) as counter:

            def kept() -> Iterator[Generation]:
                for row in read_in_order(rows, Generation):
                    reason = decisions[row.question, row.draw]
                    outcomes[row.kept["domain"], row.sampling.temperature, reason] += 1
                    if reason is None:
                        yield row
                    else:
                        dropped.append(drop(row, reason))
                    counter.advance()

            count = write_rows(out / "generations.jsonl", kept())
        write_rows(out / "dropped.jsonl", dropped)
        write_json(out / "counts.json", counted(outcomes))
        if not count:
            raise StageError(
                f"all {len(dropped)} responses were dropped: {reasons(dropped)}",
                f"{out / 'dropped.jsonl'} names the reason of each.",
            )
        (out / JOURNAL).unlink()

    def decide_all(self, rows: Path, journal: Path, tokens: StudentTokens, context: Context) -> Decisions:
        """The decision on every response; those that the journal does not hold are made and added to it."""
        decisions = read_decisions(journal)
        special = special_tokens(tokens)
        todo = (row for row in read_rows(rows, Generation) if (row.question, row.draw) not in decisions)
        with (
            context.progress.counter("filtering", count_lines(rows), done=len(decisions)) as counter,
            journal.open("ab") as file,
        ):
            for batch in batches(todo):
                made = self.decide(batch, tokens, special)
                file.write(msgspec.json.Encoder().encode_lines(made))
                file.flush()
                decisions.update(((each.question, each.draw), each.reason) for each in made)
                counter.advance(rows=len(made))
        return decisions

    def decide(
        self, rows: list[Generation], tokens: StudentTokens, special: re.Pattern[str]
    ) -> list[Decision]:
        """The decisions on some responses, in their order.

        Length is asked last, of all at once: it costs the most, and takes a core for each response.
        """
        found = [reason_to_drop(row, special, self.thresholds) for row in rows]
        well = [row for row, reason in zip(rows, found, strict=True) if reason is None]
        cut = iter(too_long(well, tokens, self.system, self.thresholds.max_tokens))
        return [
            Decision(
                question=row.question, draw=row.draw, reason=reason or ("too long" if next(cut) else None)
            )
            for row, reason in zip(rows, found, strict=True)
        ]

    def expected(self, estimator: Estimator) -> Volume:
        return thinned(estimator.volume(self.responses), estimator.passing(self.responses.kind))

    def work(self, estimator: Estimator) -> Work:
        setting = f"up to {self.thresholds.max_tokens:,} student tokens, well formed, not repeating"
        return Work(disk=estimator.text_bytes(estimator.volume(self)), setting=setting)


def count_lines(path: Path) -> int:
    with path.open("rb") as file:
        return sum(1 for _ in file)


def read_decisions(journal: Path) -> Decisions:
    """What an interrupted run decided; its last line may be torn."""
    journal.touch()
    drop_torn_line(journal)
    return {(each.question, each.draw): each.reason for each in read_rows(journal, Decision)}


def batches(rows: Iterable[Generation]) -> Iterator[list[Generation]]:
    """The rows in lists of about `BATCH_BYTES` of text."""
    batch: list[Generation] = []
    size = 0
    for row in rows:
        batch.append(row)
        size += len(row.text)
        if size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def drop(row: Generation, reason: Reason) -> Dropped:
    return Dropped(
        question=row.question,
        draw=row.draw,
        domain=row.kept["domain"],
        temperature=row.sampling.temperature,
        reason=reason,
    )


def counted(outcomes: Counter[tuple[str, float, Reason | None]]) -> list[Counts]:
    """Outcomes by domain and temperature, each in its order; reasons that did not occur are left out."""
    order: tuple[Reason, ...] = get_args(Reason)
    return [
        Counts(
            domain=domain,
            temperature=temperature,
            kept=outcomes[domain, temperature, None],
            dropped={name: count for name in order if (count := outcomes[domain, temperature, name])},
        )
        for domain, temperature in sorted({(domain, temperature) for domain, temperature, _ in outcomes})
    ]


def reasons(dropped: list[Dropped]) -> str:
    """`12 truncated, 3 repeated sentence`."""
    return ", ".join(
        f"{count} {name}" for name, count in Counter(row.reason for row in dropped).most_common()
    )


def reason_to_drop(row: Generation, special: re.Pattern[str], thresholds: Thresholds) -> Reason | None:
    """The first reason against a response, its length left out; None where there is none.

    `special` finds the student's special tokens.
    """
    if row.truncated:
        return "truncated"
    return structural_reason(row, special) or repetition_reason(row.text, thresholds)


def too_long(rows: list[Generation], tokens: StudentTokens, system: str | None, context: int) -> list[bool]:
    """Whether each row would be cut in a packed sequence of `context` tokens, where one is not for rows.

    The tokenizer is asked only where it can matter: no token is shorter than a byte of UTF-8.
    """
    asked = [(conversation(row.kept["prompt"], system), row.text) for row in rows]
    whole = [tokens.template.render(messages) + tokens.closed(text) for messages, text in asked]
    unsure = [number for number, text in enumerate(whole) if most_tokens(text) >= context]
    asked_for = tokens.conversations([asked[number] for number in unsure])
    lengths = {number: len(each.ids) for number, each in zip(unsure, asked_for, strict=True)}
    return [lengths.get(number, 0) >= context for number in range(len(rows))]


def most_tokens(text: str) -> int:
    """No more tokens can a text have: its bytes, or those of its NFC form, which a tokenizer may read.

    That form is longer where a character is always taken apart (U+0958, say).
    """
    forms = (text, unicodedata.normalize("NFC", text))
    return max(len(form.encode("utf-8", "surrogatepass")) for form in forms)


def special_tokens(tokens: StudentTokens) -> re.Pattern[str]:
    """What the student reads as a special token wherever it stands in a text. The thinking tags are none."""
    added = tokens.tokenizer.get_added_tokens_decoder().values()
    names = sorted({token.content for token in added if token.special} - {OPEN, CLOSE})
    return re.compile("|".join(map(re.escape, names)) or "(?!)")


def structural_reason(row: Generation, special: re.Pattern[str]) -> Reason | None:
    """What is wrong with the parts of a response: thinking, answer, and no call of a function.

    The parts are read from the text, which training sees. Thinking counts as there where it has a
    letter or a digit.
    """
    reasoning, answer = split_reasoning(row.text, row.finish_reason)
    if row.kept.get("function_call") or calls_function(row.text, answer):
        return "function call"
    if special.search(row.text) or holds_marker(row.text):
        return "control token"
    if open_ended(row):
        return "unfinished thinking"
    if not CONTENT.search(reasoning):
        return "no thinking"
    if not one_pair(row.text):
        return "broken thinking"
    return None if answer else "no answer"


def open_ended(row: Generation) -> bool:
    """Whether thinking was opened, by the response or by the prompt, and is not closed."""
    _, closed, after = row.text.rpartition(CLOSE)
    return OPEN in after or (not closed and bool(row.reasoning))


def one_pair(text: str) -> bool:
    """Whether a text begins with thinking, and thinks once."""
    return text.lstrip().startswith(OPEN) and text.count(OPEN) == 1 and text.count(CLOSE) == 1


def holds_marker(text: str) -> bool:
    """Whether one of harmony's markers was left in a text. One that is quoted is spoken of."""
    return any(text[max(found.start() - 1, 0)] not in QUOTES for found in MARKER.finditer(text))


def calls_function(text: str, answer: str) -> bool:
    """Whether a response calls a function, in harmony's form or another usual one.

    Speaking of a call, or quoting one, is none: a form counts only with what must follow it.
    """
    marked = any(needle in text and pattern.search(text) for needle, pattern in CALLS)
    return marked or is_json_call(unfenced(answer))


def unfenced(answer: str) -> str:
    """A stripped answer without the code fence around it."""
    if not answer.startswith(FENCE):
        return answer
    return answer.removeprefix(FENCE).removeprefix("json").removesuffix(FENCE).strip()


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
