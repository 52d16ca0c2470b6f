"""Files that somebody changed, cut or made to harm: each was once a traceback, a crash or a hang."""

import json
import struct
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from benchmarks.gpqa import read_rows as csv_rows
from harness import places
from harness.adaptive import FILE, rounds_kept
from harness.answering import Response
from harness.batch import COLLECTED, answers
from harness.chat import ChatTemplate, load_template
from harness.client import understood
from harness.engines import is_mixture
from harness.engines.transformers import generation_config
from harness.engines.vllm import context_length
from harness.errors import DataError, HarnessError, UsageError
from harness.files import UNREADABLE
from harness.grading.code import verdict_of
from harness.hub import Lock, read_jsonl
from harness.machine import load_machine
from harness.nightly.config import load_nightly
from harness.patience import Transient, seconds_to_wait
from harness.preflight.model import configured
from harness.rows import RowFile
from harness.runs import RECIPE, commands_of, evaluations, order_of
from harness.sandboxes import Limits, Program
from harness.sandboxes.pool import Conversation, decoded_outcome
from harness.session import check_session
from harness.stage import Json, key_of_identity
from harness.store import RunStore
from harness.tokens import TokenFile, TokenIndex, encoded, header, tokens
from harness.toml import LONGEST_LINE, table_in
from harness.types import Message, Sampling
from harness.unfinished import read_partial
from harness.vocabulary import Vocabulary
from pipeline.tables import present
from reports.published import Register, load
from tests.fuzz.answering import ENDPOINT, kept
from tests.fuzz.targets.guest_outcomes import Deaf
from tests.pipeline.rows import row

DEEP = b"[" * 100_000
NO_TEXT = b'{"a": "\xff"}'


@pytest.mark.parametrize("content", [NO_TEXT, DEEP, b"3\n", b"{} {}", b"9" * 5000])
def test_rows_of_a_data_set_that_are_no_objects_are_named_by_their_line(
    tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "rows.jsonl").write_bytes(b"{}\n" + content)
    with pytest.raises(DataError, match="line 2"):
        list(read_jsonl(tmp_path / "rows.jsonl"))


@pytest.mark.parametrize("content", [DEEP, b'{"a":' * 960 + b"1" + b"}" * 960, NO_TEXT, b"3"])
def test_training_data_that_is_no_rows_is_a_data_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "rows.jsonl").write_bytes(content + b"\n")
    with pytest.raises(DataError, match=r"rows\.jsonl"):
        present(tmp_path / "rows.jsonl")


@pytest.mark.parametrize("content", [b"a,b\n\xff,2\n", b"a,b\n" + b"1" * 200_000 + b",2\n"])
def test_a_csv_file_that_is_none_is_a_data_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "rows.csv").write_bytes(content)
    with pytest.raises(DataError, match=r"rows\.csv"):
        csv_rows(tmp_path / "rows.csv")


@pytest.mark.parametrize(
    "content", [b"a = " + DEEP, b"a = 1\nb = \xff", b"a = " + b"9" * 5000, b"a." * 30_000]
)
def test_toml_that_cannot_be_read_is_a_usage_error_and_soon_one(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "some.toml"
    file.write_bytes(content)
    for read in (load_machine, load_nightly):
        with pytest.raises(UsageError, match=r"some\.toml"):
            read(file)
    with pytest.raises(DataError, match=r"some\.toml"):
        load(str(tmp_path), "some.toml", Register)


def test_toml_nested_too_deeply_within_a_short_line_is_refused() -> None:
    with pytest.raises(ValueError, match="nested too deeply"):
        table_in(b"a = " + b"[" * (LONGEST_LINE - 10))


@pytest.mark.parametrize("value", ["3", "-inf", "[]", "1979-05-27"])
def test_a_path_that_is_no_text_is_told_with_its_setting(tmp_path: Path, value: str) -> None:
    (tmp_path / "machine.toml").write_text(f"data = {value}\n")
    with pytest.raises(UsageError, match=r"\$\.data"):
        load_machine(tmp_path / "machine.toml")


def test_the_home_of_an_unknown_user_is_told_as_such(tmp_path: Path) -> None:
    (tmp_path / "machine.toml").write_text('data = "~nobody-of-this-name/x"\n')
    with pytest.raises(UsageError, match="nobody-of-this-name"):
        load_machine(tmp_path / "machine.toml")


@pytest.mark.parametrize("content", [b"", b"[]", b'{"a/b": []}', NO_TEXT, DEEP, b'{"a/b": {"revision": 3}}'])
def test_a_damaged_lock_is_named_and_never_taken_for_an_empty_one(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "harness.lock").write_bytes(content)
    with pytest.raises(DataError, match=r"harness\.lock"):
        Lock(tmp_path / "harness.lock").revision("a/b")


@pytest.mark.parametrize(
    "content", [b"", b"[]", b'{"published": "\xff"}', DEEP, b'{"rows": 3}', b'{"commands": [3]}']
)
def test_a_damaged_recipe_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / RECIPE).write_bytes(content)
    with pytest.raises(DataError, match=r"recipe\.json"):
        order_of(tmp_path / "run")
    with pytest.raises(DataError, match=r"recipe\.json"):
        commands_of(RunStore(tmp_path), "run")


@pytest.mark.parametrize("content", [b"", b"[]", NO_TEXT, DEEP, b'{"engine": 3}'])
def test_a_damaged_session_lets_no_rows_of_two_engines_mix(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "session.json").write_bytes(content)
    with pytest.raises(DataError, match=r"session\.json"):
        check_session(tmp_path / "session.json", {"engine": "a"}, has_rows=True)


MARK = b'{"asked": "ASK", "grader": 1}'


@pytest.mark.parametrize("mark", [b"", b"{}", b"[]", b'{"asked": 3, "grader": 1}', MARK])
@pytest.mark.parametrize("ask", [b"{}", b'{"benchmark": {}}', DEEP, NO_TEXT])
def test_identities_that_lack_what_they_need_are_no_traceback(
    tmp_path: Path, mark: bytes, ask: bytes
) -> None:
    store = RunStore(tmp_path)
    asked = told(store, "ask", ask)
    marked = told(store, "mark", mark.replace(b"ASK", asked.name.encode()))
    (tmp_path / "run" / "eval" / "a").mkdir(parents=True)
    (tmp_path / "run" / "eval" / "a" / "b").symlink_to(marked)
    with pytest.raises(DataError, match="is not a stage's directory"):
        evaluations(store, "run", {})


def told(store: RunStore, kind: str, content: bytes) -> Path:
    """A stage's folder with this identity, under the name that belongs to it, where it is one."""
    try:
        key = key_of_identity(kind, msgspec.json.decode(content, type=dict[str, Json]))
    except UNREADABLE:
        key = f"{kind}-1"
    (store.stages / key).mkdir(parents=True)
    (store.stages / key / "identity.json").write_bytes(content)
    return store.stages / key


def test_a_damaged_record_of_batch_answers_makes_all_of_them_new(tmp_path: Path) -> None:
    (tmp_path / "output-1.jsonl").write_bytes(b'{"custom_id": "a"}\n')
    for record in (b"", b"{}", DEEP, NO_TEXT):
        (tmp_path / COLLECTED).write_bytes(record)
        assert answers(tmp_path).fresh == {"a"}


@pytest.mark.parametrize("head", [NO_TEXT, DEEP, b'{"question": "\xff", "draw": 0}'])
def test_a_half_heard_response_whose_head_is_damaged_is_none(tmp_path: Path, head: bytes) -> None:
    (tmp_path / "000").write_bytes(head + b"\ntext")
    assert read_partial(tmp_path / "000") is None


@pytest.mark.parametrize("content", [DEEP, NO_TEXT, b'{"model": {"vocab": []}}'])
def test_a_hostile_tokenizer_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(DataError, match="not a tokenizer"):
        Vocabulary(tmp_path / "tokenizer.json")


def reported(message: str) -> bytes:
    head = json.dumps(
        {"status": "runtime_error", "message": message, "seconds": 0.1, "alarmed": False}
    ).encode()
    return struct.pack(">II", len(head), 0) + head


def test_a_program_that_raises_half_a_character_leaves_a_verdict_that_can_be_written() -> None:
    data = bytearray(reported("ValueError: \ud800"))
    talk = Conversation(channel=Deaf(), program=Program(code=""), inputs=["1"], limits=Limits())
    talk.take(bytes(data), lambda index, outcome: True)
    verdict = verdict_of(talk.ended(talk.outcomes[-1]), True)
    assert b"\\\\ud800" in msgspec.json.encode(verdict)
    assert decoded_outcome(data, len(data) - 8, 0).status == "runtime_error"


TOKENS = encoded(("q", 0), tokens([1, 2], [-0.1, -0.2], [3, 4]))


def test_no_flipped_bit_of_a_token_file_is_a_crash_or_other_tokens_than_arrays_of_one_length(
    tmp_path: Path,
) -> None:
    """pyarrow aborts the process on lists that reach beyond their values, unless they are looked at first."""
    path = tmp_path / "tokens.arrow"
    whole = header() + TOKENS
    for place in range(len(header()), len(whole)):
        for bit in (0, 7):
            flipped = bytearray(whole)
            flipped[place] ^= 1 << bit
            path.write_bytes(flipped)
            try:
                index = TokenIndex(path)
                rows = [index[key] for key in index]
            except HarnessError:
                continue
            assert all(len(row.logprobs) == len(row.lengths) for row in rows)


def test_tokens_that_are_damaged_are_named_and_others_are_still_read(tmp_path: Path) -> None:
    path = tmp_path / "tokens.arrow"
    with TokenFile(path) as file:
        file.append(("q", 0), tokens([1, 2], [-0.1, -0.2], [3, 4]))
        file.append(("r", 1), tokens([5], [-0.5], [1]))
    data = bytearray(path.read_bytes())
    at = data.index(b"\x28\xb5\x2f\xfd", data.index(b"\x28\xb5\x2f\xfd", len(header()) + 300) + 100)
    data[at : at + 4] = b"\x00\x00\x00\x00"
    path.write_bytes(data)
    index = TokenIndex(path)
    with pytest.raises(DataError, match="damaged"):
        [index[key] for key in index]


def test_a_place_with_one_wrong_bit_is_no_place_so_that_no_row_is_asked_for_twice(tmp_path: Path) -> None:
    path = tmp_path / "generations.jsonl"
    with RowFile(path) as file:
        file.append(Response(row=replace(row("text", "q"), draw=draw)) for draw in range(3))
    told = places.file_of(path).read_bytes()
    for place in range(len(told)):
        flipped = bytearray(told)
        flipped[place] ^= 1
        places.file_of(path).write_bytes(flipped)
        with RowFile(path) as file:
            assert file.keys == {("q", 0), ("q", 1), ("q", 2)}


def test_a_wait_until_a_date_that_no_clock_has_is_no_wait() -> None:
    assert seconds_to_wait("Wed, 21 Oct 99999999999999999999 07:28:00 GMT") is None
    assert seconds_to_wait("Wed, 21 Oct 0001 07:28:00 +9999999999999") is None


def test_tokens_of_numbers_that_are_no_bytes_and_ids_that_are_none_do_not_end_a_run() -> None:
    token = {"token": "a", "logprob": -0.1, "bytes": [300, -1]}
    answer = {
        "model": "m",
        "choices": [{"text": "a", "logprobs": {"content": [token]}, "token_ids": [2**40]}],
    }
    found = kept(understood(json.dumps(answer).encode(), ENDPOINT))
    assert found.tokens is not None
    assert list(found.tokens.lengths) == [1]
    assert not len(found.tokens.ids)


@pytest.mark.parametrize("count", [-1, 2**31, 10**30])
def test_a_count_that_no_answer_has_is_no_completion(count: int) -> None:
    answer = {"model": "m", "choices": [{"text": "a"}], "usage": {"completion_tokens": count}}
    with pytest.raises(Transient, match="no OpenAI completion"):
        understood(json.dumps(answer).encode(), ENDPOINT)


@pytest.mark.parametrize(
    "content", [b"", b"[]", b'"text"', DEEP, b"\xff\xfe", b'{"max_position_embeddings": "x"}']
)
def test_a_configuration_of_any_shape_is_told_or_passed_over(tmp_path: Path, content: bytes) -> None:
    for name in ("config.json", "tokenizer_config.json", "generation_config.json"):
        (tmp_path / name).write_bytes(content)
    assert not is_mixture(tmp_path)
    assert configured(tmp_path) is None
    if content.startswith(b"{"):
        assert context_length(tmp_path) == 0
        return
    for read in (context_length, load_template):
        with pytest.raises(DataError, match=r"config\.json"):
            read(tmp_path)
    with pytest.raises(DataError, match=r"generation_config\.json"):
        generation_config(tmp_path / "generation_config.json", Sampling(temperature=1.0, max_tokens=1))


def test_infinity_in_a_configuration_is_a_number(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(
        '{"num_experts": 8, "x": Infinity, "max_position_embeddings": 4096}'
    )
    assert is_mixture(tmp_path)
    assert context_length(tmp_path) == configured(tmp_path) == 4096


@pytest.mark.parametrize("source", ["{{ 1 // 0 }}", "{{ messages[0] + 1 }}", "{{ [] | first | int + none }}"])
def test_a_template_whose_own_expressions_fail_refuses_the_messages(source: str) -> None:
    with pytest.raises(DataError, match="refused the messages"):
        ChatTemplate(source=source).render((Message(role="user", content="?"),))


def test_a_template_that_is_no_text_is_told(tmp_path: Path) -> None:
    (tmp_path / "chat_template.jinja").write_bytes(b"\xff{{ messages }}")
    with pytest.raises(DataError, match="is no text"):
        load_template(tmp_path)


@pytest.mark.parametrize("content", [b"", b"[]", b'{"a": 3}', b'{"a": ["x"]}', DEEP])
def test_damaged_registered_rounds_are_never_taken_for_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(DataError, match=FILE):
        rounds_kept(tmp_path)
