"""AIME: loading, errata, prompt, and every gold answer through the real grader."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.aime import GOLDS, aime24, aime25, aime_prompt, check_golds, gold_of, question
from harness.errors import DataError, UsageError
from tests.benchmarks.offline import complaint
from tests.benchmarks.responses import response

needs_data = pytest.mark.skipif("HARNESS_DATA" not in os.environ, reason="HARNESS_DATA is not set")
BOTH = pytest.mark.parametrize("benchmark", [aime24, aime25], ids=lambda one: one.name)


def made_up_rows(year: str) -> list[dict[str, str]]:
    return [
        {"id": f"{year}-{number}", "problem": f"Made-up problem {number}.", "answer": gold}
        for number, gold in enumerate(GOLDS[year].split())
    ]


def write(path: Path, rows: list[dict[str, str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def test_prompt_is_qwens_to_the_byte():
    assert aime_prompt("Find {x}.") == (
        "Find {x}.\nPlease reason step by step, and put your final answer within \\boxed{}."
    )


@needs_data
@BOTH
def test_every_gold_grades_correct_through_the_grader(benchmark):
    questions = benchmark.load(Path(os.environ["HARNESS_DATA"]))
    assert len(questions) == 30
    for one in questions:
        assert benchmark.grade(one, response(one.id, f"\\boxed{{{one.gold}}}"), None).correct is True
        padded = response(one.id, f"\\boxed{{{int(one.gold):03}}}")
        assert benchmark.grade(one, padded, None).correct is True


@needs_data
@BOTH
def test_changed_row_is_named(benchmark, tmp_path: Path):
    source = Path(os.environ["HARNESS_DATA"]) / "aime" / f"{benchmark.name}.jsonl"
    with source.open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    rows[7]["problem"] += " "
    write(tmp_path / "aime" / f"{benchmark.name}.jsonl", rows)
    with pytest.raises(DataError, match=rows[7]["id"]):
        benchmark.load(tmp_path)


def test_missing_row_is_named(tmp_path: Path):
    write(tmp_path / "aime" / "aime24.jsonl", made_up_rows("2024")[:3])
    with pytest.raises(DataError, match="2024-I-1"):
        aime24.load(tmp_path)


def test_missing_data_says_which_where_and_how(tmp_path: Path):
    told = complaint("aime", "aime24", "0" * 40, tmp_path)
    for part in (
        "DataError",
        "HuggingFaceH4/aime_2024",
        "0" * 40,
        str(tmp_path / "aime/aime24.jsonl"),
        "--data",
    ):
        assert part in told


def test_branch_name_is_refused(tmp_path: Path):
    with pytest.raises(UsageError, match="main"):
        replace(aime24, revision="main").load(tmp_path)


def test_zero_padded_and_degree_golds_become_integers():
    assert gold_of({"answer": "025"}) == 25
    assert gold_of({"answer": r"336^\circ"}) == 336
    assert gold_of({"solution": r"Then it is \boxed{204}."}) == 204


def test_hub_copy_with_the_known_wrong_gold_is_refused():
    rows = [question(row, "2024") for row in made_up_rows("2024")]
    check_golds(rows, "2024", "a copy")
    rows[7] = replace(rows[7], gold="480")
    with pytest.raises(DataError, match=r"2024-7 \(480\).*missing: 197"):
        check_golds(rows, "2024", "a copy")


def test_faulty_pentagon_text_is_refused():
    with pytest.raises(DataError, match="2025-14"):
        question({"id": "2025-14", "problem": r"and $\angle ZBA = 60$", "answer": "60"}, "2025")


def test_gold_out_of_range_names_the_row():
    with pytest.raises(DataError, match="'q9'"):
        question({"id": "q9", "problem": "x", "answer": "1000"}, "2024")
