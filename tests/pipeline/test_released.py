"""The authors' own data: responses, and the teacher's tokens laid against their texts."""

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.errors import DataError, StageError
from harness.hub import Checkpoint, local_checkpoint
from harness.machine import Machine
from harness.progress import PlainProgress
from harness.rows import read_rows
from harness.serve import ServerPool
from harness.store import Context, RunStore
from harness.tokens import NAME, TokenFile, TokenIndex, tokens
from harness.types import Generation, Question
from harness.vocabulary import Vocabulary
from pipeline.filter import Filter, Thresholds
from pipeline.released import Released, released
from pipeline.released_logprobs import ReleasedLogprobs, lengths_in_text
from pipeline.sources import question_id
from pipeline.tokenizer import StudentTokens
from tests.pipeline import standins

MICRO = Path(__file__).parents[2] / "pipeline" / "micro"
MARKERS = ["<|start|>", "<|channel|>", "<|message|>", "<|end|>", "<|return|>"]
Row = dict[str, Any]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def built(tmp_path: Path, data: Path) -> Iterator[tuple[RunStore, Context]]:
    store, machine = RunStore(tmp_path / "runs"), Machine(data=data, gpus=0)
    with ServerPool(machine) as pool:
        yield store, Context(store, machine, PlainProgress(), pool)


@pytest.fixture
def student(built: tuple[RunStore, Context]) -> Checkpoint:
    found = local_checkpoint(MICRO / "teacher")
    built[0].build(found, built[1])
    return found


def response(number: int, asked: str = "1+2?", domain: str = "math") -> Row:
    """A row as released."""
    text = f"<think>1+{number}={number + 1}</think>The answer is {number + 1}."
    return {"uuid": f"u{number}", "input": asked, "output": text, "domain": domain, "meta": {"n": number}}


def read(store: RunStore, stage: Released) -> tuple[list[Generation], list[Question]]:
    path = store.path(stage)
    return (
        list(read_rows(path / "generations.jsonl", Generation)),
        list(read_rows(path / "questions.jsonl", Question)),
    )


# Responses


def test_responses_to_one_question_are_its_draws_in_the_order_of_the_file(
    built: tuple[RunStore, Context], data: Path, student: Checkpoint
) -> None:
    store, context = built
    rows = [
        response(3),
        response(1, "How  many?", "science"),
        response(2, "1+2? "),
        response(0, "how many?", "science"),
    ]
    standins.released(data, "stage1", rows)
    stage = released("stage1", student)
    store.build(stage, context)
    generations, questions = read(store, stage)
    assert [(row.request_id, row.draw) for row in generations] == [("u3", 0), ("u1", 0), ("u2", 1), ("u0", 1)]
    assert [row.id for row in questions] == [question_id("math", "1+2?"), question_id("science", "How many?")]
    assert {row.question for row in generations} == {row.id for row in questions}


def test_a_response_is_split_and_keeps_what_later_stages_ask_for(
    built: tuple[RunStore, Context], data: Path, student: Checkpoint
) -> None:
    store, context = built
    for part, temperature in (("stage1", 0.6), ("stage2", 1.0)):
        standins.released(data, part, [response(4)])
        stage = released(part, student)  # type: ignore[arg-type]
        store.build(stage, context)
        (row,), _ = read(store, stage)
        assert (row.reasoning, row.answer) == ("1+4=5", "The answer is 5.")
        assert row.sampling.temperature == temperature
        assert row.kept == {"domain": "math", "prompt": "1+2?", "uuid": "u4"}
        assert row.completion_tokens == StudentTokens(MICRO / "teacher").count(row.text)
        kept = Filter(responses=stage, student=student, thresholds=Thresholds(max_tokens=1000))
        assert len(list(read_rows(store.build(kept, context) / "generations.jsonl", Generation))) == 1


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"output": None}, "row 2 .uuid 'u1'. has no text in the column 'output'"),
        ({"uuid": "u0"}, "uuid 'u0' occurs twice"),
        ({"domain": ""}, "'domain'"),
    ],
)
def test_a_row_that_is_not_as_expected_is_named(
    built: tuple[RunStore, Context], data: Path, student: Checkpoint, change: Row, complaint: str
) -> None:
    standins.released(data, "stage1", [response(0), {**response(1), **change}])
    with pytest.raises(DataError, match=complaint):
        built[0].build(released("stage1", student), built[1])
    assert not list(built[0].path(released("stage1", student)).glob("*.jsonl"))


@pytest.mark.parametrize("token", ["<|im_end|>", "<|channel|>", "<|endoftext|>", "<|call|>"])
def test_a_question_with_a_control_token_is_dropped_and_told_of(
    built: tuple[RunStore, Context], data: Path, student: Checkpoint, token: str
) -> None:
    asked = f"What is 1+1?{token}\n"
    standins.released(data, "stage1", [response(0), response(1, asked), response(2, "Is a <| b |> c?")])
    stage = released("stage1", student)
    path = built[0].build(stage, built[1])
    assert [row.request_id for row in read(built[0], stage)[0]] == ["u0", "u2"]
    assert json.loads((path / "removed.jsonl").read_bytes()) == {"uuid": "u1", "reason": "control token"}


def test_a_limit_takes_the_first_rows_and_is_another_identity(
    built: tuple[RunStore, Context], data: Path, student: Checkpoint
) -> None:
    standins.released(data, "stage2", [response(n, f"q{n}") for n in range(9)])
    stage = replace(released("stage2", student), limit=4)
    built[0].build(stage, built[1])
    assert len(read(built[0], stage)[0]) == 4
    assert stage.key != released("stage2", student).key


# Tokens


def vocabulary(folder: Path, added: list[str] = MARKERS) -> Vocabulary:
    """A byte-level tokenizer: one token a byte, some longer ones, and harmony's markers."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("t", "h"), ("th", "e"), ("Ġ", "i"), ("Ġi", "s")]
    words = [*alphabet, *("".join(pair) for pair in merges)]
    made = Tokenizer(models.BPE({word: number for number, word in enumerate(words)}, merges))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([AddedToken(each, special=True) for each in added])
    folder.mkdir(parents=True, exist_ok=True)
    made.save(str(folder / "tokenizer.json"))
    return Vocabulary(folder / "tokenizer.json")


def ids_of(folder: Path, text: str) -> list[int]:
    from tokenizers import Tokenizer

    found: list[int] = Tokenizer.from_file(str(folder / "tokenizer.json")).encode(text).ids
    return found


@pytest.mark.parametrize("text", ["the theory is 42", "naïve — 求和 🙂 the\n\ttab", "", "\u2028 the"])
def test_plain_tokens_are_as_long_as_their_bytes(tmp_path: Path, text: str) -> None:
    found = vocabulary(tmp_path)
    ids = ids_of(tmp_path, text)
    assert b"".join(found.spelt(ids)) == text.encode()
    assert lengths_in_text(ids, found, text) == [len(each) for each in found.spelt(ids)]


def test_a_vocabulary_of_pieces_spells_spaces_and_single_bytes(tmp_path: Path) -> None:
    content = {
        "model": {"vocab": {"\u2581the": 0, "<0xE6>": 1, "<0xB1>": 2, "<0x82>": 3}},
        "decoder": {"type": "Sequence", "decoders": [{"type": "ByteFallback"}]},
    }
    file = tmp_path / "tokenizer.json"
    file.write_text(json.dumps(content), encoding="utf-8")
    assert lengths_in_text([0, 1, 2, 3], Vocabulary(file), " the求") == [4, 1, 1, 1]


HARMONY = "<|channel|>analysis<|message|>{}<|end|><|start|>assistant<|channel|>final<|message|>{}<|return|>"


@pytest.mark.parametrize(
    ("form", "thinking", "answer"),
    [
        ("<think>{}</think>{}", "the 求 is 4", "4"),
        ("<think>\n{}\n</think>\n\n{}", "the 求 is 4", "4 🙂"),
        ("<think>{}</think>\n\n{}\n", "a\n\nb", "is it <b>?"),
    ],
)
def test_channel_markers_become_the_tags_that_stand_in_their_place(
    tmp_path: Path, form: str, thinking: str, answer: str
) -> None:
    found, text = vocabulary(tmp_path), form.format(thinking, answer)
    ids = ids_of(tmp_path, HARMONY.format(thinking, answer))
    lengths = lengths_in_text(ids, found, text)
    assert lengths is not None
    assert sum(lengths) == len(text.encode())
    position, spelt = 0, found.spelt(ids)
    for token, length in zip(spelt, lengths, strict=True):
        shown = text.encode()[position : position + length]
        assert shown in (token, b"") or token in (b"<|message|>", b"<|return|>")
        position += length
    opening, closing = (n for n, token in enumerate(spelt) if token == b"<|message|>")
    assert lengths[opening] == len(form.partition("{}")[0].encode())
    assert lengths[closing] == len(form.split("{}")[1].encode())


def test_white_space_that_the_release_trimmed_at_a_message_edge_is_no_obstacle(tmp_path: Path) -> None:
    found, text = vocabulary(tmp_path), "<think>the is</think>4"
    lengths = lengths_in_text(ids_of(tmp_path, HARMONY.format(" the is\n", "\n4 ")), found, text)
    assert lengths is not None
    assert sum(lengths) == len(text.encode())


@pytest.mark.parametrize(
    "text", ["<think>the is</think>5", "the is 4", "<think>the is</think>4 and more", ""]
)
def test_tokens_of_another_response_are_told_apart(tmp_path: Path, text: str) -> None:
    found = vocabulary(tmp_path)
    assert lengths_in_text(ids_of(tmp_path, HARMONY.format("the is", "4")), found, text) is None


def test_what_is_no_tokenizer_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "tokenizer.json"
    for content in ("{}", "[]", "no json", '{"model": {"vocab": [1]}}'):
        file.write_text(content, encoding="utf-8")
        with pytest.raises(DataError, match="is not a tokenizer"):
            Vocabulary(file)


# Joining


def logprob_rows(responses: list[Row], folder: Path) -> list[Row]:
    ids = [ids_of(folder, each["output"]) for each in responses]
    return [
        {"sample_uuid": row["uuid"], "token_ids": each, "logprobs": [-0.25 * n for n in range(len(each))]}
        for row, each in zip(responses, ids, strict=True)
    ]


@pytest.fixture
def joined(
    built: tuple[RunStore, Context], data: Path, student: Checkpoint
) -> tuple[ReleasedLogprobs, list[Row], list[Row]]:
    """The stage, released responses and their tokens in the micro teacher's vocabulary."""
    rows = [response(n, f"what is 1+{n % 5}?") for n in range(12)]
    standins.released(data, "stage1", rows)
    responses = released("stage1", student)
    built[0].build(responses, built[1])
    return ReleasedLogprobs(responses=responses, teacher=student), rows, logprob_rows(rows, MICRO / "teacher")


def test_tokens_are_keyed_as_their_responses_whatever_their_order(
    built: tuple[RunStore, Context], data: Path, joined: tuple[ReleasedLogprobs, list[Row], list[Row]]
) -> None:
    stage, _, logprobs = joined
    standins.released_logprobs(data, logprobs[::-1])
    path = built[0].build(stage, built[1])
    found = TokenIndex(path / NAME)
    generations = list(read_rows(built[0].path(stage.responses) / "generations.jsonl", Generation))
    assert set(found) == {(row.question, row.draw) for row in generations}
    for row, expected in zip(generations, logprobs, strict=True):
        mine = found[row.question, row.draw]
        assert mine.ids.tolist() == expected["token_ids"]
        assert np.allclose(mine.logprobs, expected["logprobs"])
        assert int(mine.lengths.sum()) == len(row.text.encode())
    assert json.loads((path / "joined.json").read_bytes()) == {"rows": 12, "written": 12, "reasons": {}}


def test_rows_that_cannot_be_used_are_counted_by_reason(
    built: tuple[RunStore, Context], data: Path, joined: tuple[ReleasedLogprobs, list[Row], list[Row]]
) -> None:
    stage, _, logprobs = joined
    logprobs[0]["logprobs"].pop()
    logprobs[1]["token_ids"] = logprobs[2]["token_ids"]
    logprobs[1]["logprobs"] = logprobs[2]["logprobs"]
    logprobs[3]["sample_uuid"] = "unknown"
    logprobs[4]["token_ids"][0] = 10**6
    standins.released_logprobs(data, logprobs)
    told = json.loads((built[0].build(stage, built[1]) / "joined.json").read_bytes())
    assert told == {
        "rows": 12,
        "written": 8,
        "reasons": {
            "ids and logprobs are not two lists of one length": 1,
            "tokens do not make the text": 1,
            "ids outside the teacher's vocabulary": 1,
            "of another response": 1,
            "response without tokens": 1,
        },
    }


def test_what_an_interrupted_join_wrote_stays_and_is_not_written_twice(
    built: tuple[RunStore, Context], data: Path, joined: tuple[ReleasedLogprobs, list[Row], list[Row]]
) -> None:
    stage, _, logprobs = joined
    out = built[0].path(stage)
    out.mkdir(parents=True)
    generations = list(read_rows(built[0].path(stage.responses) / "generations.jsonl", Generation))
    first = (generations[0].question, generations[0].draw)
    with TokenFile(out / NAME) as file:
        file.append(first, tokens([7], [math.log(0.5)], [1]))
    with (out / NAME).open("ab") as torn:
        torn.write(b"\xff\xff\xff\xff torn")
    standins.released_logprobs(data, logprobs)
    built[0].build(stage, built[1])
    found = TokenIndex(out / NAME)
    assert len(found) == 12
    assert found[first].ids.tolist() == [7]


def test_a_set_of_another_release_fails_the_stage(
    built: tuple[RunStore, Context], data: Path, joined: tuple[ReleasedLogprobs, list[Row], list[Row]]
) -> None:
    stage, _, logprobs = joined
    standins.released_logprobs(data, [{**row, "sample_uuid": f"x{n}"} for n, row in enumerate(logprobs)])
    with pytest.raises(StageError, match="no response has tokens"):
        built[0].build(stage, built[1])


def test_ids_of_another_vocabulary_fail_the_stage_and_say_so(
    built: tuple[RunStore, Context], data: Path, joined: tuple[ReleasedLogprobs, list[Row], list[Row]]
) -> None:
    stage, _, logprobs = joined
    foreign = [{**row, "token_ids": [10**6 + n for n in row["token_ids"]]} for row in logprobs]
    standins.released_logprobs(data, foreign)
    with pytest.raises(StageError, match=r"outside the teacher's vocabulary.: 12"):
        built[0].build(stage, built[1])
