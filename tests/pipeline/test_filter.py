"""Filters: each reason fires on its own defect, and not on its near-miss."""

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from harness.errors import StageError
from harness.files import write_rows
from harness.hub import local_checkpoint
from harness.machine import Machine
from harness.progress import PlainProgress
from harness.rows import read_rows
from harness.serve import ServerPool
from harness.stage import Stage
from harness.store import Context, RunStore
from harness.types import Message
from pipeline.filter import (
    BATCH_BYTES,
    JOURNAL,
    Dropped,
    Filter,
    Thresholds,
    batches,
    most_tokens,
    read_decisions,
    reason_to_drop,
    repetition_reason,
    special_tokens,
    too_long,
)
from pipeline.micro.textbook import lesson
from pipeline.paper import SYSTEM
from pipeline.recipes.dasd_micro import THRESHOLDS as MICRO
from pipeline.sft import Sft
from pipeline.tokenizer import StudentTokens, Tokenized
from reports.stage_facts import Facts
from reports.stages import dropped_sections
from tests.pipeline.labelled import made
from tests.pipeline.rows import row

LIMITS = Thresholds(max_tokens=50)
GOOD = "<think>\n7+5=12 so 12\n</think>\n\nThe answer is \\boxed{12}."
BASE = Path(__file__).parents[2] / "pipeline" / "micro" / "base"
STUDENT = local_checkpoint(BASE)
TOKENS = StudentTokens(BASE)
SPECIAL = special_tokens(TOKENS)


def reason(text: str, thresholds: Thresholds = LIMITS) -> str | None:
    return reason_to_drop(row(text), SPECIAL, thresholds)


def thought(text: str, answer: str = "The answer is \\boxed{1}.") -> str:
    return f"<think>\n{text}\n</think>\n\n{answer}"


def test_a_plain_response_passes() -> None:
    assert reason(GOOD) is None


def test_a_truncated_response_goes_even_with_an_answer_in_it() -> None:
    assert reason_to_drop(row(GOOD, finish="length"), SPECIAL, LIMITS) == "truncated"


# Length


class Asked(StudentTokens):
    """Student tokens that remember what they were asked for."""

    def __init__(self, model: Path) -> None:
        super().__init__(model)
        self.texts: list[str] = []

    def conversations(self, asked: list[tuple[tuple[Message, ...], str]]) -> list[Tokenized]:
        self.texts += [text for _, text in asked]
        return super().conversations(asked)


@pytest.mark.parametrize("system", [None, SYSTEM])
def test_a_response_is_too_long_exactly_where_training_would_cut_its_row(system: str | None) -> None:
    rows = [row(thought(f"{'7+5=12 so ' * length}é"), f"q{length}") for length in range(1, 9)]
    for context in range(30, 130):
        training = Sft(base=STUDENT, data=STUDENT, epochs=1, cutoff=context, system=system)
        assert training.packing == "isolated"
        cut = [example.truncated for example in training.examples(rows, TOKENS)]
        assert too_long(rows, TOKENS, system, context) == cut
    assert 0 < sum(too_long(rows, TOKENS, system, 80)) < len(rows)


def test_the_prompt_and_the_system_prompt_take_their_part_of_the_context() -> None:
    alone = TOKENS.count(GOOD)
    (whole,) = TOKENS.conversations([((Message(role="user", content="prompt of q"),), GOOD)])
    assert alone + 5 < len(whole.ids)
    assert too_long([row(GOOD)], TOKENS, None, len(whole.ids)) == [True]
    assert too_long([row(GOOD)], TOKENS, None, len(whole.ids) + 1) == [False]
    assert too_long([row(GOOD)], TOKENS, SYSTEM, len(whole.ids) + 1) == [True]


def test_the_tokenizer_is_not_asked_where_bytes_already_show_that_a_row_is_short() -> None:
    tokens = Asked(BASE)
    short, long = row(thought("é" * 5)), row(thought("é" * 500), "long")
    too_long([short, long], tokens, SYSTEM, 400)
    assert tokens.texts == [long.text]
    tokens.texts.clear()
    prompt = TOKENS.template.render((Message(role="user", content="prompt of q"),))
    size = len((prompt + TOKENS.closed(short.text)).encode())
    too_long([short], tokens, None, size + 1)
    assert tokens.texts == []
    too_long([short], tokens, None, size)
    assert tokens.texts == [short.text]


def test_a_character_that_normalizing_takes_apart_counts_for_all_its_bytes() -> None:
    assert len("\u0958".encode()) == 3
    assert most_tokens("\u0958" * 10) == 60
    assert most_tokens("e\u0301" * 10) == 30


# Structure


@pytest.mark.parametrize(
    "text",
    [
        "The answer is \\boxed{12}.",
        "<think>\n\n</think>\n\n\\boxed{12}",
        "<think>\n…\n</think>\n\n\\boxed{12}",
    ],
)
def test_an_answer_without_thinking_goes(text: str) -> None:
    assert reason(text) == "no thinking"


@pytest.mark.parametrize("answer", ["", " \n"])
def test_thinking_without_an_answer_goes(answer: str) -> None:
    assert reason(f"<think>\n7+5=12\n</think>{answer}") == "no answer"


@pytest.mark.parametrize(
    "text", ["<think>\nlet me see", f"{GOOD}\n<think>\nor is it", "<think>\n7+5=12 The answer is 12."]
)
def test_thinking_that_never_ends_goes(text: str) -> None:
    assert reason(text) == "unfinished thinking"


def test_thinking_that_the_prompt_opened_and_nothing_closes_is_unfinished_too() -> None:
    opened = replace(row("let me see"), reasoning="let me see", answer="")
    assert reason_to_drop(opened, SPECIAL, LIMITS) == "unfinished thinking"


@pytest.mark.parametrize("text", [GOOD + GOOD, "<think>\na</think>b</think>c"])
def test_thinking_twice_goes(text: str) -> None:
    assert reason(text) == "broken thinking"


@pytest.mark.parametrize("text", ["7+5=12\n</think>\n\n12", f"Sure! {GOOD}", "a</think>b <think>c</think>d"])
def test_a_response_that_does_not_begin_with_its_thinking_goes(text: str) -> None:
    assert reason(text) == "broken thinking"
    assert reason(f" \n{GOOD}") is None


@pytest.mark.parametrize(
    "text",
    [
        "<think>ok<|im_end|>\n<|im_start|>user\nhi</think>A",
        thought("7+5=12", "12<|endoftext|>"),
        thought("7+5=12", "A turn ends with `<|im_end|>`."),
        thought("7+5=12 <|channel|>final<|message|>12"),
        "<|channel|>analysis<|message|>7+5=12<|end|>",
    ],
)
def test_a_token_that_steers_the_conversation_goes_even_where_it_is_quoted(text: str) -> None:
    assert reason(text) == "control token"


@pytest.mark.parametrize(
    "text", ["Harmony has `<|channel|>` and '<|message|>'.", "a <|pipe|> b <| c |> d <im_end> <||>"]
)
def test_what_only_looks_like_a_control_token_stays(text: str) -> None:
    assert reason(thought(text)) is None


def test_special_tokens_are_the_students_own_but_for_the_thinking_tags() -> None:
    assert SPECIAL.pattern == r"<\|endoftext\|>|<\|im_end\|>|<\|im_start\|>"
    tokens = StudentTokens(BASE)
    tokens.tokenizer.add_special_tokens(["<think>", "[PAD](1)"])
    assert special_tokens(tokens).search("see [PAD](1)")
    assert not special_tokens(tokens).search("<think>")


def test_every_special_token_becomes_one_token_inside_a_text() -> None:
    for name in ("<|endoftext|>", "<|im_end|>", "<|im_start|>"):
        assert SPECIAL.fullmatch(name)
        assert TOKENS.count(f"a{name}b") == TOKENS.count("a") + 1 + TOKENS.count("b")


@pytest.mark.parametrize(
    "call",
    [
        '<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>',
        '<|start|>assistant<|channel|>commentary to=functions.f <|constrain|>json<|message|>{"a": 1}<|call|>',
        'assistantcommentary to=functions.f json{"a": 1}',
        '{"name": "f", "arguments": {"a": 1}}',
        '```json\n[{"name": "f", "arguments": "{}"}]\n```',
        '```\n{"name": "f", "arguments": {}}```',
        "<function=f>\n<parameter=a>1</parameter>",
        '[TOOL_CALLS][{"name": "f"}]',
    ],
)
def test_a_function_call_goes(call: str) -> None:
    assert reason(thought("I need a tool.", call)) == "function call"


def test_a_call_that_the_conversion_of_channels_recognised_goes_though_the_text_shows_none() -> None:
    called = replace(row(GOOD), kept={"domain": "math", "function_call": True})
    assert reason_to_drop(called, SPECIAL, LIMITS) == "function call"


@pytest.mark.parametrize(
    "mention",
    [
        "A model writes `<tool_call>` and JSON, or `<|call|>` in harmony.",
        "In harmony the header says to=functions.name when a tool is called.",
        'The tool is {"name": "f", "parameters": {"type": "object"}}.',
        '{"name": "Ada", "age": 36}',
        "call functions.sort(values); function calls = 3; commentary to follow",
        "print('<tool_call>{\"name\": 1}')",
    ],
)
def test_speaking_of_calls_is_no_call(mention: str) -> None:
    assert reason(thought("Let me explain.", mention)) is None


# Repetition


def test_a_paragraph_that_loops_goes() -> None:
    unit = "Let me check the sum once more.\nIt is 31, and that is not what we want.\n\n"
    assert reason(thought("We add them up.\n\n" + unit * 8)) == "repeated paragraph"


def test_a_sentence_that_loops_goes() -> None:
    assert reason(thought("Hm. " + "Let me check that once more. " * 20)) == "repeated sentence"


def test_a_phrase_that_loops_inside_one_line_goes() -> None:
    assert reason(thought("so we try the next case again " * 9)) == "repeated phrase"


def test_paragraphs_that_come_back_with_something_else_between_go() -> None:
    rng = random.Random("between")
    text = made.paragraph_with_something_between(rng)
    assert repetition_reason(text, LIMITS) == "repeated paragraph"


def test_sentences_that_come_back_in_any_order_go() -> None:
    assert (
        repetition_reason(made.sentences_shuffled(random.Random("shuffled")), LIMITS) == "repeated sentence"
    )


def test_a_short_loop_in_a_very_long_response_goes_and_a_shorter_one_stays() -> None:
    rng = random.Random("long")
    rest, unit = made.prose(rng, 900), made.prose(rng, 1)
    assert len(rest) > 150_000
    for copies, expected in ((1 + 2_500 // len(unit), "repeated paragraph"), (1 + 1_200 // len(unit), None)):
        loop = "\n\n".join([unit] * (copies + 1))
        assert repetition_reason(f"{rest}\n\n{loop}\n\n{rest[:2_000]}", LIMITS) == expected


def test_a_text_that_compresses_away_goes_whatever_it_is_made_of() -> None:
    assert repetition_reason("\n" * 10_000, LIMITS) == "compressible"
    rng = random.Random("compressible")
    few = ["".join(rng.choices("abcdefgh", k=90)) for _ in range(5)]
    text = " ".join(rng.choice(few) for _ in range(300))
    assert repetition_reason(text, LIMITS) == "repeated phrase"
    assert repetition_reason(text, replace(LIMITS, phrase_share=2)) == "compressible"
    assert repetition_reason(text, replace(LIMITS, phrase_share=2, most_compression=99)) is None


def test_a_counter_that_runs_away_goes_and_a_table_with_results_stays() -> None:
    cases = "\n".join(f"Case {n}: this does not work either." for n in range(80))
    assert repetition_reason(cases, LIMITS) == "repeated sentence"
    table = "\n".join(f"Case {n}: {n} squared is {n * n}, that is {n * n % 7} mod 7." for n in range(80))
    assert repetition_reason(table, LIMITS) is None


def test_a_matrix_of_zeros_within_a_response_stays() -> None:
    rng = random.Random("zeros")
    zeros = "\n".join(["0 0 0 0 0 0 0 0 0 0 0 0"] * 20)
    assert repetition_reason(f"{made.prose(rng, 6)}\n\n{zeros}\n\n{made.prose(rng, 6)}", LIMITS) is None


def test_similar_lines_of_real_work_pass() -> None:
    work = "\n".join(f"case {n}: {n}*{n}={n * n}" for n in range(9))
    assert reason(thought(work, "\\boxed{81}")) is None


def test_what_the_micro_teacher_writes_passes_in_every_style_and_its_loops_do_not() -> None:
    rng = random.Random("micro")
    styles = {"direct": 1.0, "short": 1.0, "full": 1.0, "checked": 1.0}
    subjects = {"math": 1.0, "science": 1.0, "code": 1.0}
    for _ in range(600):
        text = lesson(rng, styles, subjects).answer  # type: ignore[arg-type]
        assert reason(text, MICRO) is None, text
        thinking, _, answer = text.removeprefix("<think>\n").partition("\n</think>")
        last = thinking.rpartition("\n")[2]
        if len(last.split()) > 2:
            looped = "<think>\n" + thinking + f"\n{last}" * 6 + "\n</think>" + answer
            assert reason(looped, MICRO) == "repeated sentence", looped


# The stage


Build = Callable[..., tuple[Path, Path]]


@dataclass(frozen=True, kw_only=True)
class Rows(Stage):
    """Responses in an order that concurrency may have given them."""

    texts: tuple[tuple[str, int, str], ...]

    def run(self, out: Path, context: Context) -> None:
        write_rows(out / "generations.jsonl", (row(text, name, draw) for name, draw, text in self.texts))


@pytest.fixture
def built(tmp_path: Path) -> Iterator[Build]:
    """Builds a filter and the responses that it reads; the two folders."""
    store, machine = RunStore(tmp_path), Machine()
    with ServerPool(machine) as pool:
        context = Context(store, machine, PlainProgress(), pool)
        store.build(STUDENT, context)

        def build(*texts: tuple[str, int, str], journal: str = "") -> tuple[Path, Path]:
            responses = Rows(texts=texts)
            folder = store.build(responses, context)
            stage = Filter(responses=responses, student=STUDENT, thresholds=MICRO)
            if journal:
                store.path(stage).mkdir(parents=True)
                (store.path(stage) / JOURNAL).write_text(journal)
            return folder, store.build(stage, context)

        yield build


def test_rows_come_out_unchanged_in_order_of_question_and_draw_and_drops_say_why(built: Build) -> None:
    looped = thought("x " * 400)
    given, filtered = built(("q2", 1, GOOD), ("q1", 0, GOOD), ("q2", 0, looped), ("q10", 0, "no thoughts"))
    lines = (given / "generations.jsonl").read_bytes().splitlines(keepends=True)
    assert (filtered / "generations.jsonl").read_bytes() == lines[1] + lines[0]
    assert list(read_rows(filtered / "dropped.jsonl", Dropped)) == [
        Dropped(question="q10", draw=0, domain="math", temperature=1.0, reason="no thinking"),
        Dropped(question="q2", draw=0, domain="math", temperature=1.0, reason="repeated phrase"),
    ]


def test_the_same_responses_in_another_order_give_the_same_files(built: Build) -> None:
    texts = [(f"q{n}", 0, GOOD if n % 3 else "nothing") for n in range(20)]
    folders = [built(*given)[1] for given in (texts, texts[::-1])]
    assert folders[0] != folders[1]
    names = ("generations.jsonl", "dropped.jsonl", "counts.json")
    assert {path.name for path in folders[0].iterdir()} == {*names, "identity.json", "stage.json"}
    for name in names:
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes()


def test_what_an_interrupted_run_decided_is_not_decided_again_and_its_torn_line_is(built: Build) -> None:
    journal = (
        '{"question":"q0","draw":0,"reason":"too long"}\n'
        '{"question":"q1","draw":0,"reason":null}\n'
        '{"question":"q2","draw":0,"rea'
    )
    _, filtered = built(("q0", 0, GOOD), ("q1", 0, GOOD), ("q2", 0, "nothing"), journal=journal)
    dropped = [(one.question, one.reason) for one in read_rows(filtered / "dropped.jsonl", Dropped)]
    assert dropped == [("q0", "too long"), ("q2", "no thinking")]
    assert not (filtered / JOURNAL).exists()


def test_a_torn_line_leaves_the_journal_before_another_is_written_behind_it(tmp_path: Path) -> None:
    whole = b'{"question":"q0","draw":1,"reason":null}\n'
    journal = tmp_path / JOURNAL
    journal.write_bytes(whole + b'{"question":"q2","dr')
    assert read_decisions(journal) == {("q0", 1): None}
    assert journal.read_bytes() == whole


def test_batches_hold_every_row_once_in_order_and_end_where_they_are_full() -> None:
    full = BATCH_BYTES
    rows = [row("x" * size, f"q{size}") for size in (9, full, 5, full // 2, full // 2, 3)]
    assert [len(batch) for batch in batches(rows)] == [2, 3, 1]
    assert [one for batch in batches(rows) for one in batch] == rows


def test_a_row_that_is_too_long_is_told_from_its_neighbours_in_a_batch(built: Build) -> None:
    def numbers(count: int) -> str:
        return thought(" ".join(f"{number}" for number in range(100, 100 + count)))

    lengths = {"a": 5, "b": 90, "c": 7, "d": 95, "e": 6}
    texts = [(name, 0, numbers(length)) for name, length in lengths.items()]
    _, filtered = built(*texts, ("bb", 0, "nothing"))
    dropped = [(one.question, one.reason) for one in read_rows(filtered / "dropped.jsonl", Dropped)]
    assert dropped == [("b", "too long"), ("bb", "no thinking"), ("d", "too long")]


def test_the_report_counts_kept_and_dropped_of_all_by_domain_and_temperature(built: Build) -> None:
    texts = [(f"q{n}", 0, GOOD) for n in range(5)]
    _, filtered = built(*texts, ("r", 0, "nothing"), ("s", 0, "nothing"), ("t", 0, thought("x " * 400)))
    assert json.loads((filtered / "counts.json").read_bytes()) == [
        {
            "domain": "math",
            "temperature": 1.0,
            "kept": 5,
            "dropped": {"no thinking": 2, "repeated phrase": 1},
        }
    ]
    [section] = dropped_sections(Facts(name="filtered", stage=STUDENT, path=filtered, state="done"))
    assert section.rows == [
        ["math", 1.0, "kept", 5, 8, "62.5%"],
        ["math", 1.0, "no thinking", 2, 8, "25.0%"],
        ["math", 1.0, "repeated phrase", 1, 8, "12.5%"],
    ]


def test_a_stage_that_keeps_nothing_fails_and_names_the_reasons(built: Build) -> None:
    with pytest.raises(StageError, match="all 2 responses were dropped: 2 no thinking"):
        built(("q", 0, "no"), ("q", 1, "no"))


def test_every_threshold_is_explained_where_it_is_declared() -> None:
    explained = Thresholds.__doc__ or ""
    assert [name for name in Thresholds.__dataclass_fields__ if f"`{name}`" not in explained] == []
