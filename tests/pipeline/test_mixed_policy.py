"""Collect, draft, revise and mix: what is chosen, where it is cut, when a run must fail."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from benchmarks.micro import micro_code, micro_math, micro_science, training_questions
from harness.errors import StageError
from harness.files import write_rows
from harness.machine import Machine
from harness.progress import PlainProgress
from harness.rows import read_rows
from harness.serve import ServerPool
from harness.stage import Stage
from harness.store import Context, RunStore
from harness.types import Generation, Question, Sampling
from pipeline.collect import Collect, MicroSource
from pipeline.draft import Draft, choose
from pipeline.mix import Mix, renumbered
from pipeline.revise import Revise, joined, revisions
from pipeline.tokenizer import StudentTokens
from tests.pipeline.rows import row

MICRO = Path(__file__).parents[2] / "pipeline" / "micro"
SAMPLING = Sampling(temperature=1.0, max_tokens=100)


@dataclass(frozen=True, kw_only=True)
class Rows(Stage):
    """A stage that holds rows given by the test."""

    texts: tuple[str, ...]

    def run(self, out: Path, context: Context) -> None:
        write_rows(out / "generations.jsonl", (row(text, f"q{n}") for n, text in enumerate(self.texts)))


@pytest.fixture
def context(tmp_path: Path) -> Iterator[tuple[RunStore, Context]]:
    store, machine = RunStore(tmp_path), Machine()
    with ServerPool(machine) as pool:
        yield store, Context(store, machine, PlainProgress(), pool)


def test_training_and_test_questions_are_disjoint_whatever_the_seed() -> None:
    for domain, benchmark in (("math", micro_math), ("code", micro_code), ("science", micro_science)):
        tests = {question.id for question in benchmark.load(None)}
        for seed in (0, 7):
            assert tests.isdisjoint(question.id for question in training_questions(domain, 300, seed))


def test_collect_takes_the_count_of_each_domain(context: tuple[RunStore, Context]) -> None:
    store, run = context
    sources = (MicroSource(domain="math", count=5), MicroSource(domain="science", count=3))
    path = store.build(Collect(sources=sources, decontaminate=(micro_math,)), run)
    domains = [question.domain for question in read_rows(path / "questions.jsonl", Question)]
    assert len(domains) == 8


def test_drafts_are_chosen_by_question_not_by_the_order_of_rows() -> None:
    keys = [(f"q{n}", draw) for n in range(20) for draw in (2, 1)]
    chosen = choose(keys, 5, 0)
    assert chosen == choose(keys[::-1], 5, 0)
    assert len(chosen) == 5
    assert {draw for _, draw in chosen} == {1}


def test_a_draft_is_capped_at_a_multiple_of_the_teachers_tokens() -> None:
    data = Collect(sources=())
    draft = Draft(student=data, data=data, engine="vllm", sampling=SAMPLING, questions=2, cap=1.5)
    limits = [asked.sampling.max_tokens for asked in draft.requests([row("a b c", "x"), row("a " * 90, "y")])]
    assert limits == [5, 100]


def test_a_draft_is_cut_at_a_token_border_beyond_half_and_always_at_the_same() -> None:
    tokens = StudentTokens(MICRO / "base")
    data = Collect(sources=())
    draft = Draft(student=data, data=data, engine="vllm", sampling=SAMPLING, questions=1)
    revise = Revise(drafts=draft, teacher=data, engine="vllm", sampling=SAMPLING)
    for number in range(30):
        text = "<think>\n47+85: 7+5=12 4+8+1=13 so 132\n132-23: 12-3=9"
        whole = row(text, f"q{number}", finish="length")
        beginning = revise.cut(whole, tokens)
        assert text.startswith(beginning)
        assert tokens.count(text) // 2 <= tokens.count(beginning) < tokens.count(text)
        assert beginning == revise.cut(whole, tokens)


def test_a_revision_is_the_students_exact_beginning_and_the_teachers_end() -> None:
    draft = row("<think>\né um so", "q", finish="length")
    end = replace(row(" 4\n</think>\n4"), kept={**draft.kept, "student_bytes": len("<think>\né".encode())})
    assert joined(draft, end).text == "<think>\né 4\n</think>\n4"


def test_each_end_finds_its_own_draft_though_some_were_not_revised() -> None:
    drafts = [row(f"{name} and more", name, finish="length") for name in "abc"]
    ends = [replace(row("!", name), kept={"student_bytes": 1}) for name in "ac"]
    assert [one.text for one in revisions(iter(drafts), ends)] == ["a!", "c!"]


def test_a_beginning_that_leaves_the_teacher_no_room_is_not_sent_and_others_get_what_is_left() -> None:
    tokens = StudentTokens(MICRO / "base")
    data = Collect(sources=())
    draft = Draft(student=data, data=data, engine="vllm", sampling=SAMPLING, questions=1)
    revise = Revise(drafts=draft, teacher=data, engine="vllm", sampling=SAMPLING)
    drafts = [row("1+1=2 " * 8, "short", finish="length"), row("1+1=2 " * 200, "long", finish="length")]
    drafts.append(row("<|channel|>" * 9, "forged", finish="length"))
    (sent,) = revise.requests(drafts, tokens)
    assert sent.question == "short"
    assert sent.sampling.max_tokens + tokens.count(sent.prefix) == SAMPLING.max_tokens


def test_too_few_mixed_policy_rows_fail_the_run_with_the_numbers(context: tuple[RunStore, Context]) -> None:
    store, run = context
    mixed, own = Rows(texts=("a",)), Rows(texts=("b", "c"))
    for stage in (mixed, own):
        store.build(stage, run)
    with pytest.raises(StageError, match="1 mixed-policy rows survived the filters, the recipe needs 2"):
        store.build(Mix(mixed=mixed, off_policy=own, off_policy_rows=1, minimum=2), run)


def test_a_mix_holds_all_mixed_rows_and_some_of_the_teachers(context: tuple[RunStore, Context]) -> None:
    store, run = context
    mixed, own = Rows(texts=("a", "b")), Rows(texts=("c", "d", "e"))
    for stage in (mixed, own):
        store.build(stage, run)
    path = store.build(Mix(mixed=mixed, off_policy=own, off_policy_rows=2, minimum=1), run)
    texts = [one.text for one in read_rows(path / "generations.jsonl", Generation)]
    assert {"a", "b"} < set(texts)
    assert len(texts) == 4


def test_a_question_with_rows_of_both_kinds_has_no_draw_twice() -> None:
    rows = list(renumbered([row("mixed", "a", 0), row("own", "a", 0), row("own", "b", 2)]))
    assert [(one.question, one.draw, one.kept["drawn"]) for one in rows] == [
        ("a", 0, 0),
        ("a", 1, 0),
        ("b", 0, 2),
    ]


def test_prompt_tokens_are_never_learned_and_the_end_of_turn_is() -> None:
    tokens = StudentTokens(MICRO / "base")
    from harness.evaluate import conversation

    asked = conversation("Compute 1+1+1.", "You are a helpful assistant.")
    (whole,) = tokens.conversations([(asked, "<think>\nx")])
    learned = tokens.tokenizer.decode(whole.ids[whole.prompt :], skip_special_tokens=False)
    assert learned == "<think>\nx<|im_end|>\n"
