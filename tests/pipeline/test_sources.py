"""The four sources and the tables that they are read from."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from harness.errors import DataError, UsageError
from harness.machine import Machine, load_machine
from pipeline.needs import column_lines
from pipeline.sources import ACEREASON, AM_DISTILLED, OPENSCIENCEREASONING, SOURCES, question_id
from pipeline.tables import Table, columns_of, json_rows, open_table, present, steps
from tests.pipeline import standins

MATH, CODE, SCIENCE, INSTRUCTION = SOURCES


def machine(data: Path, **columns: dict[str, str]) -> Machine:
    return Machine(
        data=data, gpus=0, columns={name.replace("__", "/"): value for name, value in columns.items()}
    )


def numbered(count: int) -> list[str]:
    return [f"What is the sum of {n} and {n * n}?" for n in range(count)]


# Sources


def test_several_responses_to_a_question_are_one_question_and_other_categories_are_counted(tmp_path: Path):
    standins.acereason(tmp_path, numbered(7))
    pool = MATH.pool(machine(tmp_path))
    assert sorted(question.prompt for question in pool.questions) == sorted(numbered(7))
    assert pool.facts["skipped"] == {"another response to a question": 7, "of another subset": 1}
    assert all(question.id == question_id("math", question.prompt) for question in pool.questions)


def test_the_choice_does_not_depend_on_shards_or_their_order(tmp_path: Path):
    standins.acereason(tmp_path / "a", numbered(50), shards=2)
    standins.acereason(tmp_path / "b", numbered(50)[::-1], shards=5)
    one, other = (MATH.pool(machine(tmp_path / name)) for name in "ab")
    assert one.questions == other.questions
    assert one.facts["content"] == other.facts["content"]
    again = replace(MATH, seed=1).pool(machine(tmp_path / "a"))
    assert again.questions != one.questions
    assert set(map(str, again.questions)) == set(map(str, one.questions))


def test_a_question_written_in_two_ways_is_kept_in_the_same_way_whatever_comes_first(tmp_path: Path):
    ways = ["What is  2+2?", "what is 2+2?"]
    for name, order in (("a", ways), ("b", ways[::-1])):
        standins.acereason(tmp_path / name, order, shards=1)
    one, other = (MATH.pool(machine(tmp_path / name)).questions for name in "ab")
    assert one == other
    assert len(one) == 1


def test_rows_that_name_a_question_of_another_data_set_get_it_from_there(tmp_path: Path):
    standins.opencodereasoning(tmp_path, numbered(4), there=["Paint the fence.", "Count the bridges."])
    pool = CODE.pool(machine(tmp_path))
    found = {question.prompt for question in pool.questions}
    assert found == {*numbered(4), "Paint the fence.", "Count the bridges."}
    assert pool.facts["skipped"] == {"another response to a question": 3}
    assert pool.facts["elsewhere"] == {"taco train": "local"}
    assert all(question.id == question_id("code", question.prompt) for question in pool.questions)


def test_a_row_is_counted_over_all_files_of_a_split(tmp_path: Path):
    pools = []
    for shards in (1, 2, 5):
        data = tmp_path / str(shards)
        standins.opencodereasoning(data, numbered(4), there=["Paint the fence."])
        for file in (data / "BAAI" / "TACO" / "ALL").iterdir():
            file.unlink()
        questions = [*(f"Nobody asks for problem {n}." for n in range(7)), numbered(1)[0], "Paint the fence."]
        standins.taco(data, questions, shards)
        pools.append(CODE.pool(machine(data)))
    assert pools[0].questions == pools[1].questions == pools[2].questions
    assert len(pools[0].questions) == 5


def split_1(data: Path, rows: list[dict[str, str | None]]) -> None:
    standins.opencodereasoning(data, numbered(2))
    folder = data / "nvidia" / "OpenCodeReasoning" / "split_1"
    standins.write_parquet(folder / "train-00000-of-00001.parquet", [{"input": "-", **row} for row in rows])


def test_references_that_lead_nowhere_are_counted_by_reason(tmp_path: Path):
    named = [
        ("taco", "train", "999"),
        ("taco", "train", "9" * 5000),
        ("taco", "train", None),
        ("taco", "validation", "1"),
        ("kattis", "train", "1"),
        ("apps", "train", "1"),
        ("apps", "train", "2"),
    ]
    split_1(tmp_path, [{"dataset": d, "split": s, "index": i} for d, s, i in named])
    standins.apps(tmp_path, ["Sort it.", "  Add them.  ", ""])
    pool = CODE.pool(machine(tmp_path))
    assert {question.prompt for question in pool.questions} == {*numbered(2), "Add them."}
    assert pool.facts["skipped"] == {
        "no such question in taco": 1,
        "no such question in apps": 1,
        "question in a data set that is not known": 4,
    }


def test_a_data_set_that_is_not_to_be_had_costs_its_rows_and_no_more(tmp_path: Path):
    split_1(
        tmp_path,
        [{"dataset": name, "split": "train", "index": "7"} for name in ("taco", "apps", "apps")],
    )
    code = (
        "import sys; from pathlib import Path; from harness.machine import Machine;"
        "from pipeline.sources import SOURCES;"
        "pool = SOURCES[1].pool(Machine(data=Path(sys.argv[1]), gpus=0));"
        "print(len(pool.questions), pool.facts['skipped'])"
    )
    told = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        cwd=tmp_path,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert told.splitlines()[-1] == (
        "2 {'another response to a question': 1, 'question in apps, which is not here': 2}"
    )


def test_a_data_set_that_is_here_and_not_as_expected_is_an_error_not_a_gap(tmp_path: Path):
    split_1(tmp_path, [{"dataset": "taco", "split": "train", "index": "7"}])
    for file in (tmp_path / "BAAI" / "TACO" / "ALL").iterdir():
        standins.write_parquet(file, [{"text": "Sort it."}])
    with pytest.raises(DataError, match="BAAI/TACO: no column 'question'"):
        CODE.pool(machine(tmp_path))


def test_what_is_locked_is_named_by_columns_and_subsets(tmp_path: Path):
    named = {
        MATH.read_as(columns_of(MATH.table, machine(tmp_path))),
        replace(MATH, only=("math", "code")).read_as(columns_of(MATH.table, machine(tmp_path))),
        MATH.read_as({"question": "problem", "subset": "category"}),
    }
    assert len(named) == 3
    assert "math questions by question = input, subset = category, only math" in named


def test_science_prefers_long_example_answers_and_takes_choices_only(tmp_path: Path):
    lengths = {text: 100 + 37 * n % 50 for n, text in enumerate(numbered(20))}
    standins.opensciencereasoning(tmp_path, lengths)
    pool = SCIENCE.pool(machine(tmp_path))
    found = [lengths[question.prompt] for question in pool.questions]
    assert found == sorted(lengths.values(), reverse=True)


def test_instructions_are_read_from_compressed_lines_whose_nulls_become_objects_later(tmp_path: Path):
    standins.am_distilled(tmp_path, numbered(9))
    pool = INSTRUCTION.pool(machine(tmp_path))
    assert len(pool.questions) == 9
    assert pool.facts["skipped"] == {"of another subset": 1}
    assert pool.facts["files"] == 2


def test_a_filter_that_takes_nothing_names_what_there_is(tmp_path: Path):
    standins.am_distilled(tmp_path, numbered(3))
    with pytest.raises(DataError, match="3 InfinityInstruct, 1 KodCode"):
        replace(INSTRUCTION, only=("Infinity-Instruct",)).pool(machine(tmp_path))


def test_a_missing_shard_is_not_taken_for_the_whole(tmp_path: Path):
    folder = standins.acereason(tmp_path, numbered(7), shards=4)
    (folder / "data-00002-of-00004.arrow").unlink()
    with pytest.raises(DataError, match="3 of the 4 files"):
        MATH.pool(machine(tmp_path))


# Columns


def test_a_column_that_is_not_there_is_named_with_what_is_and_how_to_rename_it(tmp_path: Path):
    folder = tmp_path / "nvidia" / "AceReason-1.1-SFT" / "sft_data.parquet"
    standins.write_arrow(folder / "data-00000-of-00001.arrow", [{"problem": "2+2?", "category": "math"}])
    with pytest.raises(DataError) as error:
        MATH.pool(machine(tmp_path))
    assert "no column 'input' (the question)" in error.value.message
    assert "There are: problem, category" in error.value.message
    assert '[columns."nvidia/AceReason-1.1-SFT"]\nquestion = ' in error.value.remedy
    renamed = machine(tmp_path, **{"nvidia__AceReason-1.1-SFT": {"question": "problem"}})
    assert [question.prompt for question in MATH.pool(renamed).questions] == ["2+2?"]


def test_renaming_an_unknown_role_is_refused_with_the_nearest(tmp_path: Path):
    wrong = machine(tmp_path, **{"nvidia__AceReason-1.1-SFT": {"questions": "problem"}})
    with pytest.raises(UsageError, match="Did you mean 'question'"):
        columns_of(ACEREASON, wrong)
    with pytest.raises(UsageError, match=r"Did you mean 'nvidia/AceReason-1\.1-SFT'"):
        list(column_lines(machine(tmp_path, **{"nvidia__AceReason-1.1": {"question": "problem"}})))


def test_machine_toml_holds_renamings_and_the_hub(tmp_path: Path):
    file = tmp_path / "machine.toml"
    file.write_text('hub = "modelscope"\n[columns."nvidia/AceReason-1.1-SFT"]\nquestion = "problem"\n')
    found = load_machine(file)
    assert found.hub == "modelscope"
    assert columns_of(ACEREASON, found) == {"question": "problem", "subset": "category"}
    file.write_text('hub = "github"\n')
    with pytest.raises(UsageError, match="hub"):
        load_machine(file)


def test_every_folder_of_a_data_set_is_checked(tmp_path: Path):
    folder = standins.opencodereasoning(tmp_path, numbered(2))
    standins.write_parquet(folder / "split_1" / "train-00000-of-00001.parquet", [{"text": "-"}])
    with pytest.raises(DataError, match=r"'input' .the question. in .*split_1"):
        CODE.pool(machine(tmp_path))


@pytest.mark.parametrize("kind", ["arrow", "parquet", "jsonl"])
def test_a_later_shard_without_the_column_is_named_and_not_read_as_nothing(tmp_path: Path, kind: str):
    write = {"arrow": standins.write_arrow, "parquet": standins.write_parquet}.get(kind, standins.write_jsonl)
    for number, column in enumerate(("input", "input", "text")):
        write(tmp_path / "org" / "set" / f"data-{number:05}-of-00003.{kind}", [{column: "q", "other": 1}])
    table = Table(repo="org/set", revision="unpinned", files=(f"*.{kind}",), columns=(("question", "input"),))
    with pytest.raises(DataError, match=rf"'input' .the question. in .*data-00002-of-00003.{kind}"):
        open_table(table, machine(tmp_path))


@pytest.mark.parametrize("kind", ["arrow", "parquet", "jsonl"])
def test_a_column_that_only_some_files_need_is_nothing_in_the_others_and_must_be_in_one(
    tmp_path: Path, kind: str
):
    write = {"arrow": standins.write_arrow, "parquet": standins.write_parquet}.get(kind, standins.write_jsonl)
    write(tmp_path / "org" / "set" / f"a.{kind}", [{"input": "q"}])
    write(tmp_path / "org" / "set" / f"b.{kind}", [{"input": "-", "index": "7"}])
    table = Table(
        repo="org/set",
        revision="unpinned",
        files=(f"*.{kind}",),
        columns=(("question", "input"), ("index", "index")),
        optional=("index",),
    )
    assert list(open_table(table, machine(tmp_path)).rows()) == [
        {"question": "q", "index": None},
        {"question": "-", "index": "7"},
    ]
    with pytest.raises(DataError, match=r"'row' .the index. in any of the files"):
        open_table(replace(table, columns=(("question", "input"), ("index", "row"))), machine(tmp_path))


def test_a_shard_without_a_line_is_no_shard_without_a_column(tmp_path: Path):
    folder = tmp_path / "org" / "set"
    standins.write_jsonl(folder / "a.jsonl", [])
    standins.write_jsonl(folder / "b.jsonl", [{"input": "q"}])
    table = Table(repo="org/set", revision="unpinned", files=("*.jsonl",), columns=(("question", "input"),))
    assert list(open_table(table, machine(tmp_path)).rows()) == [{"question": "q"}]


def test_paths_lead_into_lists_and_objects(tmp_path: Path):
    folder = standins.am_distilled(tmp_path, numbered(1))
    there = present(folder / "am_0.9M.jsonl.zst")
    assert "messages[0].content" in there
    assert "messages[0].info.test_case?" in there
    nested = {"messages": [{"role": "user", "content": "q", "info": {"source": "s"}}]}
    columns = (
        ("question", "messages[0].content"),
        ("subset", "messages[0].info.source"),
        ("x", "messages[1].content"),
    )
    for suffix, write in (("parquet", standins.write_parquet), ("jsonl", standins.write_jsonl)):
        write(tmp_path / "org" / "set" / f"t.{suffix}", [nested])
        table = Table(repo="org/set", revision="unpinned", files=(f"*.{suffix}",), columns=columns)
        assert list(open_table(table, machine(tmp_path)).rows()) == [
            {"question": "q", "subset": "s", "x": None}
        ]


@pytest.mark.parametrize("path", ["", "a..b", "a[x]", "a]", "a[0", ".a"])
def test_what_is_no_path_is_refused(path: str):
    with pytest.raises(UsageError, match="no path of a column"):
        steps(path)


# Formats


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.zst", "rows.jsonl.gz"])
def test_lines_are_read_whole_whatever_their_compression(tmp_path: Path, name: str):
    rows = [{"input": f"a\u2028b {n} \x85"} for n in range(1000)]
    assert list(json_rows(standins.write_jsonl(tmp_path / name, rows))) == rows


def test_two_frames_of_a_compressed_file_are_one_file(tmp_path: Path):
    parts = [standins.write_jsonl(tmp_path / f"{n}.jsonl.zst", [{"n": n}]) for n in range(2)]
    both = tmp_path / "both.jsonl.zst"
    both.write_bytes(b"".join(part.read_bytes() for part in parts))
    assert list(json_rows(both)) == [{"n": 0}, {"n": 1}]


@pytest.mark.parametrize("name", ["rows.jsonl.zst", "rows.jsonl", "rows.parquet", "rows.arrow"])
def test_a_truncated_file_is_an_error_not_a_shorter_data_set(tmp_path: Path, name: str):
    rows = [{"input": f"question {n} " + "x" * (n % 97)} for n in range(5000)]
    writers = {".parquet": standins.write_parquet, ".arrow": standins.write_arrow}
    path = writers.get(Path(name).suffix, standins.write_jsonl)(tmp_path / "org" / "set" / name, rows)
    path.write_bytes(path.read_bytes()[:-100])
    table = Table(repo="org/set", revision="unpinned", files=(name,), columns=(("question", "input"),))
    with pytest.raises(DataError):
        list(open_table(table, machine(tmp_path)).rows())


def test_arrow_is_read_in_both_of_its_forms(tmp_path: Path):
    rows = [{"input": f"q{n}", "output": "x"} for n in range(700)]
    table = pa.Table.from_pylist(rows)
    path = tmp_path / "org" / "set" / "data.arrow"
    path.parent.mkdir(parents=True)
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    standins.write_arrow(tmp_path / "org" / "other" / "data.arrow", rows)
    for repo in ("org/set", "org/other"):
        found = Table(repo=repo, revision="unpinned", files=("*.arrow",), columns=(("question", "input"),))
        assert [row["question"] for row in open_table(found, machine(tmp_path)).rows()] == [
            f"q{n}" for n in range(700)
        ]


def test_text_that_is_not_utf8_is_an_error_not_a_crash_later(tmp_path: Path):
    bad = pa.StringArray.from_buffers(1, pa.py_buffer(b"\0\0\0\0\2\0\0\0"), pa.py_buffer(b"\xff\xfe"))
    table = pa.table({"input": bad})
    path = tmp_path / "org" / "set" / "data.arrow"
    path.parent.mkdir(parents=True)
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
        stream.write_table(table)
    found = Table(repo="org/set", revision="unpinned", files=("*.arrow",), columns=(("question", "input"),))
    with pytest.raises(DataError, match="UTF8"):
        list(open_table(found, machine(tmp_path)).rows())


def test_a_broken_line_is_named(tmp_path: Path):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"a": 1}) + "\n[1]\n", encoding="utf-8")
    with pytest.raises(DataError, match="line 2"):
        list(json_rows(path))


def test_the_sources_are_those_of_the_report_and_unpinned_until_looked_up():
    assert [source.domain for source in SOURCES] == ["math", "code", "science", "instruction_following"]
    assert {source.table.revision for source in SOURCES} == {"unpinned"}
    assert MATH.count == 105_000
    assert SCIENCE.table is OPENSCIENCEREASONING
    assert INSTRUCTION.table is AM_DISTILLED
