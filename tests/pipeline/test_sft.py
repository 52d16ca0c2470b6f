"""Sft: which tokens are learned, what is cut, what the trainers are told, TRL's own view of it."""

import copy
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.evaluate import conversation
from harness.hub import local_checkpoint
from harness.store import RunStore
from pipeline.sft import NOT_LEARNED, Sft, truncated_lengths
from pipeline.tokenizer import StudentTokens
from pipeline.trainers import trl
from pipeline.trainers.checkpoints import discard_torn, last_checkpoint
from tests.pipeline.training import GivenRows, build, ours, rows_of

BASE = Path(__file__).parents[2] / "pipeline" / "micro" / "base"
SYSTEM = "You are a helpful assistant."
PAIRS = (
    ("What is 47+85?", "<think>\n47+85: 7+5=12 4+8+1=13 so 132\n</think>\n\n132"),
    ("What is 3+4?", "<think>\n\n</think>\n\n7"),
)
DATA = GivenRows(pairs=PAIRS)
STAGE = Sft(base=local_checkpoint(BASE), data=DATA, epochs=1, cutoff=128, batch=1, system=SYSTEM)


@pytest.fixture(scope="module")
def tokens() -> StudentTokens:
    return StudentTokens(BASE)


def decoded(tokens: StudentTokens, ids: list[int]) -> str:
    return str(tokens.tokenizer.decode(ids, skip_special_tokens=False))


def test_the_response_and_its_end_of_turn_are_learned_and_nothing_of_the_prompt(
    tokens: StudentTokens,
) -> None:
    for (prompt, response), example in zip(PAIRS, ours(STAGE, BASE, PAIRS), strict=True):
        learned = [label for label in example["labels"] if label != NOT_LEARNED]
        border = len(example["labels"]) - len(learned)
        assert example["labels"] == [NOT_LEARNED] * border + example["input_ids"][border:]
        assert decoded(tokens, learned) == response + "<|im_end|>\n"
        assert decoded(tokens, example["input_ids"][:border]) == (
            f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n"
        )


def test_no_system_prompt_is_none_at_all(tokens: StudentTokens) -> None:
    (example, _) = ours(replace(STAGE, system=None), BASE, PAIRS)
    assert decoded(tokens, example["input_ids"]).startswith("<|im_start|>user\n")


def test_a_tag_that_the_template_opens_is_not_trained_twice(tokens: StudentTokens) -> None:
    opening = copy.copy(tokens)
    opening.template = replace(tokens.template, source=tokens.template.source + "{{ '<think>\\n' }}")
    asked = conversation("1 + 1?", None)
    for response in ("<think>\n2\n</think>\n\n2", "2\n</think>\n\n2"):
        (whole,) = opening.conversations([(asked, response)])
        assert opening.tokenizer.decode(whole.ids, skip_special_tokens=False).count("<think>") == 1


def test_tokenizing_together_gives_what_tokenizing_alone_gives(tokens: StudentTokens) -> None:
    asked = [(conversation(prompt, SYSTEM), response) for prompt, response in PAIRS * 50]
    assert tokens.conversations(asked) == [tokens.conversations([one])[0] for one in asked]


def test_a_masked_beginning_is_not_learned_and_the_rest_is(tokens: StudentTokens) -> None:
    (row, _) = rows_of(PAIRS)
    beginning = "<think>\n47+85: 7+5=12"
    row = replace(row, kept={**row.kept, "student_bytes": len(beginning.encode())})
    (masked,) = replace(STAGE, mask_student=True).examples([row], tokens)
    (whole,) = STAGE.examples([row], tokens)
    assert masked.input_ids == whole.input_ids
    learned = [label for label in masked.labels if label != NOT_LEARNED]
    assert decoded(tokens, learned) == PAIRS[0][1].removeprefix(beginning) + "<|im_end|>\n"


def straddling(text: str, tokens: StudentTokens) -> Iterator[int]:
    """Places in the text, in characters, that lie inside a token."""
    ends = [end for _, end in tokens.tokenizer.encode(text, add_special_tokens=False).offsets]
    yield from (place for place in range(1, len(text)) if place not in ends)


def test_a_token_that_straddles_the_border_is_the_students(tokens: StudentTokens) -> None:
    (row, _) = rows_of(PAIRS)
    found = tokens.tokenizer.encode(row.text, add_special_tokens=False)
    places = list(straddling(row.text, tokens))
    assert places
    for place in places:
        cut = replace(row, kept={**row.kept, "student_bytes": len(row.text[:place].encode())})
        unlearned = replace(STAGE, mask_student=True).unlearned(cut, tokens)
        assert found.offsets[unlearned - 1][1] > place > found.offsets[unlearned - 1][0]


def test_all_tokens_of_the_students_last_character_are_the_students(tokens: StudentTokens) -> None:
    text = "so 水水 7"
    lengths = tokens.ids_and_lengths(text)[1]
    assert lengths.count(0) >= 2
    begun = tokens.beginning(text, len("so 水".encode()))
    assert tokens.tokenizer.decode(tokens.ids(text)[:begun]) == "so 水"
    assert [tokens.beginning(text, size) for size in (0, len(text.encode()))] == [0, len(lengths)]


@pytest.mark.parametrize(
    ("prompt", "response", "kept"),
    [
        (10, 20, (10, 20)),
        (10, 300, (10, 90)),
        (300, 10, (90, 10)),
        (300, 300, (50, 50)),
        (100, 300, (25, 75)),
        (50, 50, (50, 50)),
        (0, 101, (0, 100)),
    ],
)
def test_what_is_too_long_is_cut_on_the_longer_side(
    prompt: int, response: int, kept: tuple[int, int]
) -> None:
    assert truncated_lengths(prompt, response, 100) == kept


def test_a_cut_row_is_counted_and_one_that_just_fits_is_not(tokens: StudentTokens) -> None:
    (row, _) = rows_of(PAIRS)
    (whole,) = STAGE.examples([row], tokens)
    length = len(whole.input_ids)
    (fits,) = replace(STAGE, cutoff=length + 1).examples([row], tokens)
    (cut,) = replace(STAGE, cutoff=length).examples([row], tokens)
    assert (whole.truncated, fits.truncated, cut.truncated) == (False, False, True)
    assert len(cut.input_ids) == length - 1


@pytest.mark.parametrize(
    "settings",
    [
        {"trainer": "trl", "packing": "attending"},
        {"trainer": "llamafactory", "mask_student": True},
        {"trainer": "llamafactory", "system": ""},
    ],
)
def test_a_setting_that_the_trainer_would_ignore_is_refused(settings: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        replace(STAGE, **settings)  # type: ignore[arg-type]


def test_every_setting_is_part_of_the_identity() -> None:
    changed: dict[str, object] = {
        "trainer": "llamafactory",
        "epochs": 2,
        "cutoff": 64,
        "batch": 2,
        "packing": "none",
        "learning_rate": 1e-4,
        "minimum_learning_rate": 1e-6,
        "warmup": 0.2,
        "weight_decay": 0.0,
        "system": None,
        "mask_student": True,
        "seed": 1,
    }
    keys = {replace(STAGE, **{name: value}).key for name, value in changed.items()}  # type: ignore[arg-type]
    assert len(keys | {STAGE.key}) == len(changed) + 1


def test_trl_trains_on_the_very_tokens_and_labels_of_our_examples(tmp_path: Path) -> None:
    pairs = tuple(
        (f"What is {n}+{n}?", f"<think>\n{n}+{n}: so {n + n}\n</think>\n\n{n + n}") for n in range(40)
    )
    examples = list(STAGE.examples(rows_of(pairs), StudentTokens(BASE)))
    trainer = trl.make_trainer(STAGE, BASE, examples, tmp_path, gpus=0)
    found = []
    for sequence in trainer.train_dataset:
        assert len(sequence["input_ids"]) <= STAGE.cutoff
        start = 0
        for length in sequence["seq_lengths"]:
            found.append(
                (sequence["input_ids"][start : start + length], sequence["labels"][start : start + length])
            )
            start += length
    assert len(trainer.train_dataset) < len(pairs)
    assert sorted(found) == sorted((one.input_ids, one.labels) for one in examples)


def test_training_ends_in_a_checkpoint_with_the_chat_files_of_its_base(tmp_path: Path) -> None:
    out = build(STAGE, RunStore(tmp_path))
    for name in ("tokenizer.json", "chat_template.jinja", "generation_config.json"):
        assert (out / "model" / name).read_bytes() == (BASE / name).read_bytes()
    assert (out / "model" / "model.safetensors").exists()
    assert not (out / "work").exists()


def test_a_checkpoint_that_was_being_written_is_not_gone_on_from(tmp_path: Path) -> None:
    for name, state in (("checkpoint-5", "{}"), ("checkpoint-10", "{}"), ("checkpoint-15", '{"step": 1')):
        (tmp_path / name).mkdir()
        (tmp_path / name / "trainer_state.json").write_text(state)
    (tmp_path / "checkpoint-20").mkdir()
    assert last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-10")
    discard_torn(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-10", "checkpoint-5"]
