"""What the page says of each stage: rows, tokens, time, money, and why rows were dropped."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.micro import micro_code, micro_math
from harness.evaluate import Ask, Mark
from harness.files import write_json, write_rows
from harness.hub import Checkpoint
from harness.integrity import MANIFEST
from harness.stage import Stage
from harness.store import RunStore
from harness.types import Sampling
from pipeline.collect import Collect, MicroSource
from pipeline.filter import Filter, Thresholds
from pipeline.sample import Sample
from pipeline.select import Select
from pipeline.sft import Sft
from reports.names import names_of
from reports.page import Section
from reports.provenance import hashes_section
from reports.stage_facts import facts
from reports.stages import duration, stage_sections
from tests.pipeline.rows import row

BASE = Checkpoint(source="base", sha256="ab")
QUESTIONS = Collect(sources=(MicroSource(domain="math", count=6, seed=0),))
SAMPLE = Sample(
    questions=QUESTIONS,
    teacher=BASE,
    engine="vllm",
    sampling=Sampling(temperature=1.0, max_tokens=100, draws=2),
)
FILTER = Filter(responses=SAMPLE, student=BASE, thresholds=Thresholds(max_tokens=100))
RANDOM = Select(responses=FILTER, method="random", keep=1)
STUDENT = Sft(base=BASE, data=RANDOM, epochs=2)
ASKED = Ask(model=STUDENT, benchmark=micro_math, engine="vllm")
MARKED = Mark(asked=ASKED, grader=2)
LABELS: dict[str, Stage] = {
    "01-questions": QUESTIONS,
    "02-sampled": SAMPLE,
    "03-filtered": FILTER,
    "04-selected": RANDOM,
    "05-final": STUDENT,
    "eval/final/micro_math": MARKED,
}
GPUS = {"gpus": 8, "nodes": 2, "price_per_gpu_hour": 2.5, "currency": "EUR"}
CPU = {"gpus": 0, "nodes": 1}
SECONDS = 7200.0


def finish(store: RunStore, stage: Stage, rows: int | None = None, **more: Any) -> Path:
    folder = store.path(stage)
    folder.mkdir(parents=True)
    manifest = {"seconds": SECONDS, "rows": rows, "resumed": False, "finished": "2026-01-01T00:00:00Z"}
    write_json(folder / MANIFEST, {**manifest, "workplace": GPUS, **more})
    return folder


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    """A run of 6 questions, 12 responses of 5 tokens, 9 of them kept, 6 chosen, and a training on those."""
    store = RunStore(tmp_path)
    finish(store, BASE)
    collected = finish(store, QUESTIONS, 6)
    told = {"name": "micro <math>", "wanted": 6, "taken": 6, "removed": 4, "skipped": {"empty": 1}}
    write_json(collected / "sources.json", [told])
    removed = [{"question": f"r{n}", "reason": "duplicate" if n else "benchmark question"} for n in range(4)]
    write_rows(collected / "removed.jsonl", removed)
    sampled = finish(store, SAMPLE, 12)
    write_rows(sampled / "generations.jsonl", responses(12))
    filtered = finish(store, FILTER, 9)
    write_rows(filtered / "generations.jsonl", responses(9))
    counts = {"domain": "math", "temperature": 1.0, "kept": 9, "dropped": {"truncated": 2, "no answer": 1}}
    write_json(filtered / "counts.json", [counts])
    chosen = finish(store, RANDOM, 6)
    write_rows(chosen / "generations.jsonl", responses(6))
    trained = finish(store, STUDENT)
    write_json(trained / "training.json", {"rows": 6, "tokens": 72_000, "steps": 4, "truncated": 1})
    losses = [
        {"step": 1, "loss": 2.0, "learning_rate": 1e-5},
        {"step": 2, "loss": 1.0, "learning_rate": 1e-5},
    ]
    write_json(trained / "losses.json", losses)
    asked = finish(store, ASKED, 10)
    write_rows(asked / "generations.jsonl", responses(10))
    write_json(asked / "asked.json", {"questions": 5, "draws": 2})
    finish(store, MARKED, 10, seconds=100.0)
    return store


def responses(count: int) -> list[Any]:
    return [replace(row("a b c d e", f"q{n}"), prompt_tokens=3) for n in range(count)]


def section(store: RunStore, title: str) -> Section:
    return next(one for one in stage_sections(store, LABELS) if one.title == title)


def lines(section: Section) -> dict[Any, Mapping[str, Any]]:
    return {row[0]: dict(zip(section.columns, row, strict=True)) for row in section.rows}


def rewritten(store: RunStore, stage: Stage, **told: Any) -> None:
    file = store.path(stage) / MANIFEST
    write_json(file, {**json.loads(file.read_bytes()), **told})


# All stages


def test_rows_go_in_and_out_of_each_stage(store: RunStore) -> None:
    found = lines(section(store, "All stages"))
    rows = {name: (line["rows in"], line["rows out"]) for name, line in found.items()}
    assert rows["01-questions"] == (10, 6)
    assert rows["02-sampled"] == (6, 12)
    assert rows["03-filtered"] == (12, 9)
    assert rows["04-selected"] == (9, 6)
    assert rows["05-final"] == (6, 6)


def test_tokens_and_speed_are_those_of_the_rows_over_the_wall_time(store: RunStore) -> None:
    rewritten(store, SAMPLE, seconds=4.0)
    found = lines(section(store, "All stages"))
    assert (found["02-sampled"]["tokens in"], found["02-sampled"]["tokens out"]) == (12 * 3, 12 * 5)
    assert found["02-sampled"]["tokens/s"] == "15"
    assert (found["05-final"]["tokens in"], found["05-final"]["tokens/s"]) == (72_000, "10")
    assert found["03-filtered"]["tokens/s"] is None


def test_hours_are_those_of_all_gpus_and_cost_what_they_did_then(store: RunStore) -> None:
    found = lines(section(store, "All stages"))
    assert (found["02-sampled"]["hours"], found["02-sampled"]["EUR"]) == ("16 GPU", "40.00")
    assert (found["05-final"]["hours"], found["05-final"]["EUR"]) == ("32 GPU", "80.00")
    assert (found["03-filtered"]["hours"], found["03-filtered"]["EUR"]) == (None, None)
    assert (found["all"]["hours"], found["all"]["EUR"]) == ("64 GPU", "160.00")


def test_without_a_price_money_is_said_to_be_unknown(store: RunStore) -> None:
    for stage in (SAMPLE, STUDENT, ASKED):
        rewritten(store, stage, workplace=CPU)
    told = section(store, "All stages")
    assert "EUR" not in told.columns
    assert "No money is told" in told.note
    assert lines(told)["02-sampled"]["hours"] == "2 CPU"


def test_a_server_of_somebody_else_costs_no_hours_of_ours(store: RunStore) -> None:
    remote = replace(SAMPLE, engine="remote")
    write_rows(finish(store, remote, 2) / "generations.jsonl", responses(2))
    (own,) = [one for one in facts(store, {"a": remote}) if one.stage == remote]
    assert (own.hours, own.cost, own.device) == (None, None, "")


def test_a_continued_stage_has_a_least_time_and_no_speed(store: RunStore) -> None:
    assert "≥" not in section(store, "All stages").note
    rewritten(store, SAMPLE, resumed=True)
    told = section(store, "All stages")
    assert lines(told)["02-sampled"]["wall time"] == "≥ 2 h 0 min"
    assert lines(told)["02-sampled"]["tokens/s"] is None
    assert "≥: the stage was continued" in told.note


def test_a_training_that_was_resumed_has_a_least_time_and_no_speed(store: RunStore) -> None:
    rewritten(store, STUDENT, resumed=True)
    line = lines(section(store, "All stages"))["05-final"]
    assert (line["wall time"], line["tokens/s"]) == ("≥ 2 h 0 min", None)


def test_draws_of_another_run_count_for_no_speed(store: RunStore) -> None:
    write_json(store.path(ASKED) / "asked.json", {"questions": 5, "draws": 2, "adopted": 4})
    assert lines(section(store, "All evaluations"))["final/micro_math"]["tokens/s"] is None


def test_what_an_earlier_version_ran_has_a_time_and_no_hours(store: RunStore) -> None:
    file = store.path(SAMPLE) / MANIFEST
    write_json(file, {"seconds": 60.0, "rows": 12})
    told = section(store, "All stages")
    line = lines(told)["02-sampled"]
    assert (line["wall time"], line["hours"], line["tokens/s"]) == ("1 min 0 s", None, "1")
    assert "kept no machine" in told.note


def test_a_sum_has_an_evaluations_time_once_though_asking_and_grading_overlap(store: RunStore) -> None:
    rewritten(store, MARKED, seconds=SECONDS + 60)
    found = lines(section(store, "All stages"))
    assert found["evaluations, below"]["wall time"] == "2 h 1 min"
    stages = len([BASE, *LABELS])
    assert found["all"]["wall time"] == duration(stages * SECONDS + 60)


def test_what_is_a_least_time_makes_least_hours_least_money_and_least_sums(store: RunStore) -> None:
    rewritten(store, STUDENT, resumed=True)
    found = lines(section(store, "All stages"))
    assert (found["05-final"]["hours"], found["05-final"]["EUR"]) == ("≥ 32 GPU", "≥ 80.00")
    assert (found["02-sampled"]["hours"], found["02-sampled"]["EUR"]) == ("16 GPU", "40.00")
    assert (found["all"]["hours"], found["all"]["EUR"]) == ("≥ 64 GPU", "≥ 160.00")
    assert found["all"]["wall time"].startswith("≥ ")
    assert "≥" not in found["evaluations, below"]["wall time"]


def test_evaluations_that_rows_share_are_told_under_all_of_them(store: RunStore) -> None:
    labels = {**LABELS, "eval/late/micro_math": MARKED}
    found = {one.title: one for one in stage_sections(store, labels)}
    assert list(lines(found["All evaluations"])) == ["final/micro_math, late/micro_math"]
    assert "evaluations of final, late 2" in found["All stages"].pictures[0].description
    done = [STUDENT, ASKED, MARKED]
    hashed = hashes_section(store, done, names_of(labels))
    assert {row[0] for row in hashed.rows if row[1] == "losses.json"} == {"05-final"}
    assert names_of(labels)[MARKED.key] == "eval/final/micro_math, eval/late/micro_math"


def test_a_model_that_only_evaluations_read_is_called_after_all_of_its_rows() -> None:
    first, second = (
        Mark(asked=Ask(model=BASE, benchmark=one, engine="vllm"), grader=2)
        for one in (micro_math, micro_code)
    )
    names = names_of({"eval/base/micro_math": first, "eval/late/micro_code": second})
    assert names[BASE.key] == "base, late · checkpoint"
    assert names[first.asked.key] == "eval/base/micro_math · ask"
    assert names_of(LABELS)[STUDENT.key] == "05-final"


def test_what_is_not_done_is_listed_as_missing(store: RunStore) -> None:
    other = replace(STUDENT, epochs=9)
    labels = {**LABELS, "06-more": other}
    found = lines(next(iter(stage_sections(store, labels))))
    assert found["06-more"]["state"] == "missing"
    assert found["06-more"]["wall time"] is None


def test_evaluations_tell_asking_and_grading_apart(store: RunStore) -> None:
    line = lines(section(store, "All evaluations"))["final/micro_math"]
    assert (line["responses"], line["tokens in"], line["tokens out"]) == (10, 30, 50)
    assert (line["asking"], line["grading"], line["graded"]) == ("2 h 0 min", "1 min 40 s", 10)


def test_the_picture_of_times_names_every_stage(store: RunStore) -> None:
    (picture,) = section(store, "All stages").pictures
    for name in ("01-questions", "05-final", "evaluations of final"):
        assert f"{name} 2" in picture.description


# Each stage


def test_every_finished_stage_has_a_section_in_the_recipes_order(store: RunStore) -> None:
    titles = [one.title for one in stage_sections(store, LABELS)]
    own = [title for title in titles if title.startswith("Stage ")]
    assert own == [f"Stage {label}" for label in LABELS if not label.startswith("eval/")]
    assert titles.index("Kept and dropped by 03-filtered") == titles.index("Stage 03-filtered") + 1
    assert titles.index("Training 05-final") == titles.index("Stage 05-final") + 1
    assert {one.group for one in stage_sections(store, LABELS)} == {"stage"}


def test_reasons_for_drops_are_counted(store: RunStore) -> None:
    rows = section(store, "Kept and dropped by 03-filtered").rows
    assert [(row[2], row[3], row[5]) for row in rows] == [
        ("kept", 9, "75.0%"),
        ("truncated", 2, "16.7%"),
        ("no answer", 1, "8.3%"),
    ]
    assert section(store, "Questions or rows left out by 01-questions").rows == [
        ["duplicate", 3],
        ["benchmark question", 1],
    ]


def test_sources_tell_what_was_wanted_and_what_else_is_known(store: RunStore) -> None:
    (row,) = section(store, "Sources of 01-questions").rows
    assert row == ["micro <math>", 6, 6, 4, "skipped: {'empty': 1}"]


def test_a_training_tells_its_steps_and_losses(store: RunStore) -> None:
    told = {row[0]: row[1] for row in section(store, "Stage 05-final").rows}
    assert told["optimiser steps"] == 4
    assert told["rows cut to the training context"] == 1
    assert told["loss, first and last"] == "2.000 → 1.000"
    assert told["made from"] == f"{BASE.key}, {RANDOM.key}"


@dataclass(frozen=True, kw_only=True)
class Strange(Stage):
    """A stage of somebody else's recipe."""

    size: int = 1


def test_a_stage_that_nobody_here_knows_is_told_all_the_same(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    finish(store, Strange())
    titles = [one.title for one in stage_sections(store, {"01-strange": Strange()})]
    assert titles == ["All stages", "Stage 01-strange"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (59.9, "59.9 s"), (59.97, "1 min 0 s"), (60, "1 min 0 s"), (3599.6, "1 h 0 min"),
     (7384, "2 h 3 min"), (86_399, "1 d 0 h"), (90_000, "1 d 1 h")],
)  # fmt: skip
def test_durations_are_told_in_two_units(seconds: float, text: str) -> None:
    assert duration(seconds) == text
