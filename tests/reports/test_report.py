"""What a report shows, and what it never shows."""

import json
import re
from pathlib import Path

import pytest

from harness.errors import DataError
from harness.types import Grade
from reports.claim_table import full_table
from reports.page import Report, Section, ambiguities_section, mark_down, write_report
from reports.paper_tables import paper_tables
from reports.published import Model, Published, claims, load_ambiguities, load_published
from reports.table import LIMITED, Measurement, build_entries, cell, verdict_cell, voted_cell

BENCHMARKS = ("aime24", "aime25", "lcb_v5", "lcb_v6", "gpqa_diamond")

REFERENCE = Published(
    kind="reference",
    title="five seeds of our own",
    sampling="temperature 1.0",
    margins={"micro_math": 10.0},
    models=(
        Model(
            name="final", recipe="dasd-micro", rows=("final",), source="seeds 1 to 5",
            values={"micro_math": 50.0}, se={"micro_math": 2.0},
        ),
    ),
)  # fmt: skip


def graded(right: int, questions: int, draws: int, ungraded: int = 0, **detail: object) -> list[Grade]:
    """`right` right draws a question, the rest wrong; the last `ungraded` of the first without a verdict."""
    rows = []
    for question in range(questions):
        for draw in range(draws):
            lost = question == 0 and draw >= draws - ungraded
            rows.append(
                Grade(
                    question=f"q{question}",
                    draw=draw,
                    correct=None if lost else draw < right,
                    extracted="1",
                    truncated=False,
                    lenient=draw < right,
                    detail=dict(detail),
                )
            )
    return rows


def measured(row: str, benchmark: str, grades: list[Grade], draws: int, **fields) -> Measurement:
    questions = len({grade.question for grade in grades})
    return Measurement(
        row=row, benchmark=benchmark, grades=grades, questions=questions, draws=draws, **fields
    )


def only(measurement: Measurement, published: Published | None = REFERENCE):
    return build_entries("dasd-micro", published, [measurement])[0]


# Published values


def test_tables_6_7_and_8_say_what_the_paper_says():
    by_row = {
        (one.row, one.benchmark): one.claim.value for one in claims(load_published("dasd_4b"), "dasd-4b")
    }
    table7 = {
        "base": (None, 47.4, None, 35.1, 62.5),
        "stage1": (84.2, 74.0, 56.6, 50.6, 67.7),
        "stage2": (87.7, 83.0, 68.4, 67.2, 67.6),
        "final": (88.5, 83.3, 69.3, 67.5, 68.4),
        "released": (88.5, 83.3, 69.3, 67.5, 68.4),
    }
    for row, values in table7.items():
        assert tuple(by_row.get((row, name)) for name in BENCHMARKS) == values
    eight = load_published("dasd_4b").models[4]
    assert tuple(eight.values.values()) == (86.7, 72.8, 72.3)


def test_every_claim_has_a_margin_and_a_source():
    for one in claims(load_published("dasd_4b"), "dasd-4b"):
        assert one.claim.margin > 0
        assert "Table" in one.source


def test_published_averages_of_table_8_are_the_means_of_its_values():
    averages = {
        "gpt-oss-20b": 74.7, "Qwen3-30B-A3B-Thinking-2507": 74.8, "NVIDIA-Nemotron-3-Nano-30B-A3B": 76.8,
        "DASD-30B-A3B-Thinking-Preview": 77.3,
    }  # fmt: skip
    for model in load_published("dasd_4b").models:
        if model.name in averages:
            assert sum(model.values.values()) / 3 == pytest.approx(averages[model.name], abs=0.051)


def test_base_row_says_that_it_was_published_under_other_settings():
    base = next(one for one in claims(load_published("dasd_4b"), "dasd-4b") if one.row == "base")
    assert "Qwen's own settings" in base.sampling
    assert base.claim.draws is None
    entries = build_entries("dasd-4b", load_published("dasd_4b"), [])
    assert all("Qwen's own settings" in one.notes[0] for one in entries if one.row == "base")


def test_register_names_default_and_alternatives_once_each():
    register = load_ambiguities("dasd_4b")
    assert len({one.id for one in register}) == len(register) >= 9
    assert all(one.default and one.alternatives for one in register)


def test_missing_claims_file_is_named():
    with pytest.raises(DataError, match=r"reports/nowhere/published\.toml"):
        load_published("nowhere")


# Entries


def test_cell_shows_the_error_over_re_runs():
    entry = only(measured("final", "micro_math", graded(2, 20, 4), 4))
    assert cell(entry) == "50.0 ± 6.5"
    assert entry.verdict == "inconclusive"
    assert (entry.questions, entry.draws, entry.delta) == (20, 4, 0.0)


def test_one_draw_says_that_there_is_no_error():
    entry = only(measured("final", "micro_math", graded(1, 20, 1), 1))
    assert entry.se_rerun is None
    assert "no error over re-runs from 1 draw" in cell(entry)


def test_ungraded_gives_bounds_and_never_a_bare_number():
    entry = only(measured("final", "micro_math", graded(2, 20, 4, ungraded=1), 4))
    assert entry.measured is None
    assert entry.verdict == "not measured"
    assert cell(entry) == "50.0 to 51.2 (1 ungraded)"


def test_claims_without_a_measurement_stay_visible():
    entries = build_entries("dasd-4b", load_published("dasd_4b"), [])
    assert len(entries) == 23
    assert {entry.verdict for entry in entries} == {"not measured"}


def test_measurement_without_a_claim_is_shown_without_a_verdict():
    entry = only(measured("base", "micro_code", graded(1, 5, 4), 4), None)
    assert (entry.published, entry.verdict) == (None, None)
    assert verdict_cell(entry) == "no claim"


def test_limited_run_is_not_a_score_and_gets_no_verdict():
    entry = only(measured("final", "micro_math", graded(2, 20, 4), 4, limited=True))
    assert entry.verdict == "not measured"
    assert LIMITED in entry.not_a_score


def test_what_is_no_score_is_bare_in_no_table():
    measurement = measured("final", "aime24", graded(2, 20, 4), 4, limited=True)
    for published in (REFERENCE, None):
        (entry,) = [one for one in build_entries("dasd-micro", published, [measurement]) if one.questions]
        ((_, cells),) = full_table([entry]).lines
        assert "50.0 ± 6.5 (not a score)" in map(str, cells)
    entries = build_entries("dasd-4b", load_published("dasd_4b"), [measurement])
    first = paper_tables(load_published("dasd_4b"), "dasd-4b", entries)[0]
    assert "50.0 ± 6.5 ○" in [cell for row in first.rows for cell in row]
    assert "○ no verdict: not a score" in first.note


def test_one_draw_does_not_promise_that_two_decide():
    entry = only(measured("final", "micro_math", graded(1, 20, 1), 1))
    assert entry.draws_needed is None
    assert verdict_cell(entry) == "inconclusive (one draw: no error over re-runs, which takes two)"


def test_the_warning_names_the_lines_that_it_is_about():
    whole = measured("final", "micro_math", graded(2, 20, 4), 4)
    part = measured("final", "micro_code", graded(2, 20, 4), 4, limited=True)
    both = build_entries("dasd-micro", REFERENCE, [whole, part])
    alone = build_entries("dasd-micro", REFERENCE, [part])
    assert Report(recipe="r", summary="", entries=both).not_a_score == (f"final: micro_code: {LIMITED}",)
    assert Report(recipe="r", summary="", entries=alone).not_a_score == (LIMITED,)


def test_partial_tests_are_not_a_score():
    entry = only(measured("final", "micro_math", graded(2, 20, 4, not_a_score="partial tests"), 4))
    assert entry.not_a_score == ("partial tests",)
    assert entry.verdict == "not measured"


def test_micro_run_is_never_set_beside_the_papers_numbers():
    with pytest.raises(DataError, match="claims nothing about the recipe 'dasd-micro'"):
        build_entries("dasd-micro", load_published("dasd_4b"), [])


# Pages


def written(tmp_path: Path) -> tuple[dict, str, str]:
    entries = build_entries(
        "dasd-micro",
        REFERENCE,
        [
            measured("final", "micro_math", graded(2, 20, 4), 4, protocol={"temperature": "1.0"}),
            measured("base", "micro_math", graded(1, 20, 4, ungraded=1), 4, limited=True),
        ],
    )
    report = Report(
        recipe="dasd-micro",
        summary="A small <run>.",
        entries=entries,
        kind="reference",
        claims_title=REFERENCE.title,
        differences=["20 questions instead of 100"],
        provenance={"final": "sft-12345678"},
        engines={"vllm": "0.0.0"},
        sections=[
            Section(title="Dropped", columns=["reason", "rows"], rows=[["too | long", 3], ["other", None]])
        ],
    )
    write_report(tmp_path, report)
    return (
        json.loads((tmp_path / "report.json").read_bytes()),
        (tmp_path / "report.md").read_text(encoding="utf-8"),
        (tmp_path / "report.html").read_text(encoding="utf-8"),
    )


def test_three_pages_say_the_same(tmp_path: Path):
    told, markdown, page = written(tmp_path)
    for entry in told["entries"]:
        assert f"| {entry['row']} | {entry['benchmark']} |" in markdown
        assert f">{entry['row']}</th>" in page
    for text in (
        "50.0 ± 6.5",
        "20 × 4",
        LIMITED,
        "sft-12345678",
        "0.0.0",
        "20 questions instead of 100",
    ):
        assert text in markdown
        assert text in page


def test_json_has_the_fields_of_the_design(tmp_path: Path):
    told, _, _ = written(tmp_path)
    wanted = (
        "recipe row benchmark published measured draws questions se_rerun se_questions delta margin verdict "
        "truncated no_answer ungraded protocol"
    )
    assert set(wanted.split()) <= set(told["entries"][0])


def test_page_is_self_contained_and_escaped(tmp_path: Path):
    _, markdown, page = written(tmp_path)
    assert "A small &lt;run&gt;." in page
    assert "http:" not in page
    assert "https:" not in page
    assert "prefers-color-scheme: dark" in page
    assert "too \\| long" in markdown


def test_markdown_tables_have_as_many_cells_as_columns(tmp_path: Path):
    _, markdown, _ = written(tmp_path)
    tables = [
        {line.replace("\\|", "").count("|") for line in block.splitlines() if line.startswith("|")}
        for block in markdown.split("\n\n")
        if block.startswith("|")
    ]
    assert tables == [{8}, {12}, {3}, {7}, {4}, {3}, {3}]


def test_register_fits_into_its_section():
    register = ambiguities_section(load_ambiguities("dasd_4b"))
    assert all(len(row) == len(register.columns) for row in register.rows)


# The paper's tables


def by_title(recipe: str, measurements: list[Measurement]) -> dict[str, Section]:
    published = load_published("dasd_4b")
    entries = build_entries(recipe, published, measurements)
    return {section.title: section for section in paper_tables(published, recipe, entries)}


def test_paper_tables_have_all_models_and_only_what_was_measured_is_not_grey():
    tables = by_title("dasd-4b", [measured("final", "aime24", graded(2, 20, 4), 4)])
    assert list(tables) == ["Table 6", "Table 7", "Table 8"]
    six = tables["Table 6"]
    names = [row[0] for row in six.rows]
    assert len(names) == 18  # 15 peers, the base, and ours twice: the authors' checkpoint and our own
    assert [number for number in range(18) if number not in six.greyed] == [
        names.index("DASD-4B-Thinking") + 1
    ]
    assert [row[0] for row in tables["Table 7"].rows] == [
        "Qwen3-4B-Instruct-2507", "+ low-temperature training", "+ high-temperature training",
        "DASD-4B-Thinking", "DASD-4B-Thinking",
    ]  # fmt: skip
    assert all(len(row) == len(table.columns) for table in tables.values() for row in table.rows)
    assert all(sum(width for _, width in table.spans) == len(table.columns) for table in tables.values())


def test_our_columns_stand_beside_the_published_ones():
    tables = by_title("dasd-4b", [measured("final", "aime24", graded(2, 20, 4), 4)])
    row = next(row for row in tables["Table 7"].rows if row[1] == "final")
    own = dict(zip(tables["Table 7"].columns, row, strict=True))
    assert (own["aime24 published"], own["aime24 ours"]) == (88.5, "50.0 ± 6.5 ✗")
    assert own["aime25 ours"] is None


def test_table_8_has_the_published_averages_and_is_all_grey_for_another_recipe():
    eight = by_title("dasd-4b", [])["Table 8"]
    assert [row[-1] for row in eight.rows] == [77.3, 74.7, 74.8, 76.8]
    assert eight.greyed == {0, 1, 2, 3}
    assert "Nemotron-3 report" in eight.note


def test_an_ablation_shows_its_own_table_too():
    assert list(by_title("dasd-ablation-mixed-policy", [])) == ["Table 5", "Table 6", "Table 7", "Table 8"]


def test_reference_values_of_our_own_have_no_paper_tables():
    assert paper_tables(REFERENCE, "dasd-micro", []) == []


def test_our_own_reference_values_are_never_headed_as_published(tmp_path):
    _, markdown, page = written(tmp_path)
    head = next(line for line in markdown.split("\n") if line.startswith("| row "))
    assert "| reference |" in head
    assert "published" not in head
    assert not re.search(r">\s*published\s*<", page)


def test_programs_have_no_majority_and_one_draw_has_neither():
    voted = only(measured("final", "aime24", graded(2, 3, 4), 4), None)
    programs = only(measured("final", "lcb_v6", graded(2, 3, 4), 4, voted=False), None)
    single = only(measured("final", "aime24", graded(1, 3, 1), 1), None)
    assert [voted_cell(line) for line in (voted, programs, single)] == ["50.0 / 100.0", "– / 100.0", "–"]


def test_a_cell_of_the_markdown_report_is_neither_tag_nor_link():
    assert mark_down("<script>a|b</script> [x](javascript:y) `z`") == (
        "&lt;script>a\\|b&lt;/script> \\[x\\](javascript:y) \\`z\\`"
    )
