"""AIME: loading, errata, prompt, and every gold answer through the real grader."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.aime import GOLDS, aime24, aime25, aime_prompt, check_errata, check_golds, gold_of, question
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


def hub_copy(folder: Path, rows: list[dict[str, str]]) -> Path:
    """A clone of the Hub's AIME24 in a data folder: no pinned text, so only what is known of it counts."""
    write(folder / aime24.dataset / "train.jsonl", rows)
    return folder


def real_rows(name: str) -> list[dict[str, str]]:
    with (Path(os.environ["HARNESS_DATA"]) / "aime" / f"{name}.jsonl").open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


@needs_data
@pytest.mark.parametrize(
    ("problem", "gold", "told"),
    [
        ("2024-I-8", "480", "2024-I-8: the answer is given as 480; it is 197 (seen in Open-Reasoner-Zero)"),
        ("2024-I-12", "384", "2024-I-12: the answer is given as 384; it is 385"),
    ],
)
@pytest.mark.parametrize("numbered", [True, False])
def test_known_wrong_answer_is_named_whatever_the_copy_calls_its_rows(
    problem: str, gold: str, told: str, numbered: bool, tmp_path: Path
):
    rows = real_rows("aime24")
    for number, row in enumerate(rows, 60):
        row["answer"] = gold if row["id"] == problem else row["answer"]
        row["id"] = str(number) if numbered else row["id"]
    with pytest.raises(DataError) as refused:
        aime24.load(hub_copy(tmp_path, rows))
    assert told in str(refused.value)


@needs_data
def test_known_wrong_answer_in_the_pinned_copy_is_named_before_its_hash(tmp_path: Path):
    rows = [row | {"answer": "480"} if row["id"] == "2024-I-8" else row for row in real_rows("aime24")]
    write(tmp_path / "aime" / "aime24.jsonl", rows)
    with pytest.raises(DataError, match="known erratum of 2024-I-8"):
        aime24.load(tmp_path)


@needs_data
@pytest.mark.parametrize("problem", ["2024-I-5", "2024-I-6", "2024-II-10"])
def test_answer_mixed_into_the_text_is_refused(problem: str, tmp_path: Path):
    rows = real_rows("aime24")
    for row in rows:
        row["problem"] += f" We get ${row['answer']}$." if row["id"] == problem else ""
    with pytest.raises(DataError, match=r"its answer \d+ stands in the text") as refused:
        aime24.load(hub_copy(tmp_path, rows))
    assert "ModelScope" in str(refused.value)
    assert problem in str(refused.value)


@needs_data
@BOTH
def test_hub_copy_without_our_ids_and_with_padded_answers_loads(benchmark, tmp_path: Path):
    rows = [
        {"id": str(number), "problem": row["problem"], "answer": f"{int(row['answer']):03}"}
        for number, row in enumerate(real_rows(benchmark.name))
    ]
    if benchmark is aime25:
        rows[19]["answer"] = r"336^\circ"
    write(tmp_path / benchmark.dataset / "test.jsonl", rows)
    questions = benchmark.load(tmp_path)
    assert [row.gold for row in questions] == GOLDS[benchmark.year].split()
    assert len({row.id for row in questions}) == 30


@needs_data
def test_rows_that_share_an_id_are_refused(tmp_path: Path):
    with pytest.raises(DataError, match="30 rows are called"):
        aime24.load(hub_copy(tmp_path, [row | {"id": "x"} for row in real_rows("aime24")]))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (r"a convex pentagon with $\angle ZBA = 60^\circ$", "2025-I-14"),
        ("three disjoint convex regions … and $B$ is not divisible", "2025-I-12"),
    ],
)
def test_faulty_texts_are_named(text: str, problem: str):
    with pytest.raises(DataError, match=f"known erratum of {problem}"):
        check_errata(question({"id": "7", "problem": text, "answer": "60"}, "2025"))


def test_true_pentagon_text_may_hold_its_answer_and_figures_may_hold_any():
    check_errata(question({"id": "7", "problem": r"a convex pentagon, $60^\circ$", "answer": "60"}, "2025"))
    figure = "How many? [asy] draw((0,0)--(104,1)); [/asy]"
    check_errata(question({"id": "7", "problem": figure, "answer": "104"}, "2024"))


def test_gold_out_of_range_names_the_row():
    with pytest.raises(DataError, match="'q9'"):
        question({"id": "q9", "problem": "x", "answer": "1000"}, "2024")
