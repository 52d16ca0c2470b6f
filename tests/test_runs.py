"""Runs found again from their folders: regraded, compared and varied without asking anything."""

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.livecodebench import V5_167, V5_279, V6_454, WINDOWS, LiveCodeBench, lcb_v5
from benchmarks.micro import micro_code, micro_math
from harness.benchmark import Benchmark
from harness.cli.found import find_recipe, find_run
from harness.errors import DataError, UsageError
from harness.evaluate import Ask, Mark
from harness.files import write_json, write_rows
from harness.machine import Machine
from harness.progress import PlainProgress
from harness.rows import read_rows
from harness.runs import (
    Stored,
    as_recipe,
    commands_of,
    compared_with,
    evaluations,
    order_of,
    regraded,
    with_settings,
    write_recipe,
)
from harness.serve import ServerPool
from harness.stage import key_of_identity
from harness.store import Context, Runner, RunStore
from harness.types import Grade
from reports.assemble import assemble
from reports.comparison import compare_runs
from reports.sensitivity import sensitivity
from tests.pipeline.rows import row

needs_data = pytest.mark.skipif("HARNESS_DATA" not in os.environ, reason="HARNESS_DATA is not set")
BENCHMARKS: dict[str, Benchmark] = {one.name: one for one in (lcb_v5, micro_code, micro_math)}


@pytest.fixture
def place(tmp_path: Path) -> Iterator[tuple[RunStore, Context]]:
    store, machine = RunStore(tmp_path), Machine()
    with ServerPool(machine) as pool:
        yield store, Context(store, machine, PlainProgress(), pool)


def answered(store: RunStore, model: str, right: int, draws: int = 2) -> Mark:
    """A finished Ask of ten sums by a model that knows the first `right` of them."""
    benchmark = replace(micro_math, count=10, sampling=replace(micro_math.sampling, draws=draws))
    ask = Ask(model=Stored(stored=model), benchmark=benchmark, engine="vllm", system="Be brief.")
    path = store.path(ask)
    path.mkdir(parents=True)
    write_json(path / "identity.json", ask.identity)
    rows = []
    for number, question in enumerate(benchmark.load(None)):
        answer = question.gold if number < right else "-1"
        for draw in range(draws):
            one = row(f"<think>\nx\n</think>\n\n\\boxed{{{answer}}}", question.id)
            rows.append(replace(one, draw=draw))
    write_rows(path / "generations.jsonl", rows)
    write_json(path / "asked.json", {"questions": 10, "draws": draws})
    write_json(path / "stage.json", {"key": ask.key, "seconds": 1.0})
    return Mark(asked=ask, grader=benchmark.grader)


def finished(place: tuple[RunStore, Context], name: str, model: str, right: int) -> Mark:
    """A run of that name, as `harness evaluate` leaves it."""
    store, context = place
    mark = answered(store, model, right)
    store.build(mark, context)
    store.view(name, {"eval/student/micro_math": mark})
    return mark


def test_a_run_is_found_from_its_folder_alone(place: tuple[RunStore, Context]) -> None:
    store, _ = place
    mark = finished(place, "mine", "sft-1", right=4)
    (found,) = evaluations(store, "mine", BENCHMARKS)
    assert (found.row, found.benchmark) == ("student", "micro_math")
    assert found.mark.key == mark.key
    assert found.mark.asked.key == mark.asked.key
    assert found.mark.asked.benchmark == mark.asked.benchmark


def test_the_report_of_a_run_needs_no_recipe(place: tuple[RunStore, Context]) -> None:
    store, _ = place
    finished(place, "mine", "sft-1", right=4)
    found = evaluations(store, "mine", BENCHMARKS)
    report = assemble(store, as_recipe("mine", found), {one.label: one.mark for one in found})
    assert [entry.measured for entry in report.entries] == [40.0]


def test_a_run_keeps_the_claims_that_it_was_made_for(place: tuple[RunStore, Context]) -> None:
    store, _ = place
    finished(place, "mine", "sft-1", right=4)
    assert compared_with(store, "mine") == {}
    recipe = as_recipe("mine", evaluations(store, "mine", BENCHMARKS), "dasd_micro")
    write_recipe(store, recipe)
    assert compared_with(store, "mine") == {"published": "dasd_micro"}


def test_evaluations_that_stay_keep_the_command_that_made_them(place: tuple[RunStore, Context]) -> None:
    """Two evaluations of one name: a page of both needs both commands, a page of the second its own alone."""
    store, _ = place
    finished(place, "mine", "sft-1", right=4)
    first = replace(
        as_recipe("mine", evaluations(store, "mine", BENCHMARKS), "dasd_micro"), commands=(("a",),)
    )
    second = replace(first, benchmarks=(micro_code,), published="", commands=(("b",),))
    for recipe in (first, second, second):
        write_recipe(store, recipe)
    assert commands_of(store, "mine") == (("a",), ("b",))
    assert compared_with(store, "mine") == {"published": "dasd_micro"}
    assert list(order_of(store.root / "mine")) == ["eval/student/micro_math", "eval/student/micro_code"]
    again = replace(first, benchmarks=(micro_math, micro_code), commands=(("c",),))
    write_recipe(store, again)
    assert commands_of(store, "mine") == (("c",),)


def test_a_run_is_found_again_on_the_engine_that_it_was_made_on(place: tuple[RunStore, Context]) -> None:
    store, _ = place
    made = find_recipe("dasd-micro", "transformers")
    write_recipe(store, made)
    found, labels = find_run(store, "dasd-micro", None)
    assert found.engine == "transformers"
    assert {label: stage.key for label, stage in labels.items()} == {
        label: stage.key for label, stage in made.labels().items()
    }
    with pytest.raises(UsageError, match="nothing of dasd-micro is measured on sglang"):
        find_run(store, "dasd-micro", "sglang")
    mark = find_recipe("dasd-micro", "sglang").marks()["eval/base/micro_math"]
    store.path(mark).mkdir(parents=True)
    write_json(store.path(mark) / "stage.json", {})
    assert find_run(store, "dasd-micro", "sglang")[0].engine == "sglang"


def test_a_run_from_another_entry_is_its_recipe_with_all_stages(place: tuple[RunStore, Context]) -> None:
    store, _ = place
    made = find_recipe("dasd-4b", "sglang", "data")
    write_recipe(store, made)
    found, labels = find_run(store, "dasd-4b-from-data", None)
    assert (found.name, found.engine) == ("dasd-4b-from-data", "sglang")
    assert [stage.key for stage in labels.values()] == [stage.key for stage in made.labels().values()]


def test_a_run_is_regraded_though_its_checkpoint_is_gone(place: tuple[RunStore, Context]) -> None:
    store, context = place
    finished(place, "mine", "sft-1", right=4)
    (found,) = evaluations(store, "mine", BENCHMARKS)
    newer = Mark(asked=found.mark.asked, grader=99)
    assert not store.path(newer.asked.model).exists()
    Runner(store, context).build("mine", {found.label: newer})
    assert store.state(newer) == "done"


def test_runs_without_a_common_question_are_refused(place: tuple[RunStore, Context]) -> None:
    store, _ = place
    finished(place, "mine", "sft-1", right=4)
    (found,) = evaluations(store, "mine", BENCHMARKS)
    file = store.path(found.mark) / "grades.jsonl"
    other = replace(found, mark=replace(found.mark, grader=98))
    path = store.path(other.mark)
    path.mkdir()
    write_rows(path / "grades.jsonl", [replace(one, question="else") for one in read_rows(file, Grade)])
    with pytest.raises(UsageError, match="no graded question in common"):
        compare_runs(store, [found], [other])


def test_rows_keep_the_order_of_the_recipe_not_of_the_alphabet(place: tuple[RunStore, Context]) -> None:
    store, context = place
    for name, model in (("zero", "sft-0"), ("alpha", "sft-1")):
        mark = answered(store, model, right=1)
        store.build(mark, context)
        store.view("mine", {f"eval/{name}/micro_math": mark})
    recipe = as_recipe("mine", evaluations(store, "mine", BENCHMARKS))
    write_recipe(store, replace(recipe, models=dict(sorted(recipe.models.items(), reverse=True))))
    assert [one.row for one in evaluations(store, "mine", BENCHMARKS)] == ["zero", "alpha"]


def test_an_unknown_run_suggests_a_known_one(place: tuple[RunStore, Context]) -> None:
    store, _ = place
    finished(place, "mine", "sft-1", right=4)
    with pytest.raises(UsageError, match=r"no run 'mien'.*Did you mean 'mine'"):
        evaluations(store, "mien", BENCHMARKS)


def test_answers_to_other_prompts_are_not_regraded(place: tuple[RunStore, Context]) -> None:
    store, _ = place
    mark = finished(place, "mine", "sft-1", right=4)
    benchmark = {**mark.asked.identity["benchmark"], "version": 0}
    asked = renamed(store, mark.asked.key, {**mark.asked.identity, "benchmark": benchmark})
    link = store.root / "mine" / "eval" / "student" / "micro_math"
    link.unlink()
    link.symlink_to(store.stages / renamed(store, mark.key, {**mark.identity, "asked": asked}))
    with pytest.raises(DataError, match="asked with other questions or prompts"):
        evaluations(store, "mine", BENCHMARKS)


def renamed(store: RunStore, key: str, identity: dict[str, Any]) -> str:
    """Makes a stage one of another identity, as an earlier version left it; returns its key."""
    now = key_of_identity(key.partition("-")[0], identity)
    write_json(store.stages / key / "identity.json", identity)
    (store.stages / key).rename(store.stages / now)
    return now


def test_an_identity_that_was_changed_is_not_that_of_its_folder(place: tuple[RunStore, Context]) -> None:
    """Verdicts by another grader than the one that the folder is named after."""
    store, _ = place
    mark = finished(place, "mine", "sft-1", right=4)
    write_json(store.path(mark) / "identity.json", {**mark.identity, "grader": mark.grader + 1})
    with pytest.raises(DataError, match=r"identity\.json is not that of its folder"):
        evaluations(store, "mine", BENCHMARKS)


def test_regrading_without_a_new_grader_changes_no_key(place: tuple[RunStore, Context]) -> None:
    store, _ = place
    mark = finished(place, "mine", "sft-1", right=4)
    (again,) = regraded(evaluations(store, "mine", BENCHMARKS), {}).values()
    assert again.key == mark.key


def test_a_setting_that_no_grader_has_is_refused(place: tuple[RunStore, Context]) -> None:
    store, _ = place
    finished(place, "mine", "sft-1", right=4)
    with pytest.raises(UsageError, match="no benchmark of this run has a grading setting 'seconds'"):
        regraded(evaluations(store, "mine", BENCHMARKS), {"seconds": "30"})


def test_a_time_limit_marks_again_and_a_prompt_asks_again() -> None:
    def ask(benchmark: LiveCodeBench) -> Ask:
        return Ask(model=Stored(stored="sft-1"), benchmark=benchmark, engine="vllm")

    slow = with_settings(lcb_v5, {"seconds": "30"})
    assert isinstance(slow, LiveCodeBench)
    assert slow.seconds == 30.0
    assert ask(slow).key == ask(lcb_v5).key
    assert Mark(asked=ask(slow), grader=1).key != Mark(asked=ask(lcb_v5), grader=1).key
    generic = with_settings(lcb_v5, {"prompt": "generic"})
    assert isinstance(generic, LiveCodeBench)
    assert ask(generic).key != ask(lcb_v5).key


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"second": "30"}, "has no setting 'second'. Did you mean 'seconds'"),
        ({"seconds": "long"}, "seconds=long"),
        ({"stdin": "old"}, "stdin=old"),
        ({"name": "x"}, "has no setting 'name'"),
    ],
)
def test_a_setting_that_does_not_fit_is_named(settings: dict[str, str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        with_settings(lcb_v5, settings)


def test_two_runs_are_compared_by_question_and_flips_are_listed(place: tuple[RunStore, Context]) -> None:
    store, _ = place
    finished(place, "before", "sft-1", right=4)
    finished(place, "after", "sft-2", right=7)
    first, second = (evaluations(store, name, BENCHMARKS) for name in ("before", "after"))
    (found,) = compare_runs(store, first, second)
    assert found.comparison.difference == pytest.approx(30.0)
    assert (found.gained, found.lost, found.common) == (3, 0, 10)
    assert found.otherwise == ()


def test_what_was_asked_otherwise_is_said(place: tuple[RunStore, Context]) -> None:
    store, context = place
    finished(place, "before", "sft-1", right=4)
    mark = answered(store, "sft-2", right=4, draws=3)
    store.build(mark, context)
    store.view("after", {"eval/other/micro_math": mark})
    first, second = (evaluations(store, name, BENCHMARKS) for name in ("before", "after"))
    (found,) = compare_runs(store, first, second)
    assert found.row == "student → other"
    assert "benchmark.sampling.draws: 2 → 3" in found.otherwise


def test_runs_without_a_common_benchmark_cannot_be_compared(place: tuple[RunStore, Context]) -> None:
    store, _ = place
    finished(place, "before", "sft-1", right=4)
    found = evaluations(store, "before", BENCHMARKS)
    other = [replace(one, benchmark="aime24") for one in found]
    with pytest.raises(UsageError, match="no row and benchmark in common"):
        compare_runs(store, found, other)


def test_the_lenient_reading_stands_beside_the_reported_one(place: tuple[RunStore, Context]) -> None:
    store, context = place
    mark = answered(store, "sft-1", right=4)
    file = store.path(mark.asked) / "generations.jsonl"
    file.write_text(file.read_text().replace('"finish_reason":"stop"', '"finish_reason":"length"'))
    store.build(mark, context)
    (varied,) = sensitivity(store, {"eval/student/micro_math": mark}, context)
    assert varied.ambiguity == "answer-extraction"
    assert (varied.reported, varied.score.average) == (0.0, 40.0)


def test_each_reading_of_lcb_is_tied_to_the_register() -> None:
    from reports.published import load_ambiguities

    register = {one.id: one for one in load_ambiguities("dasd_4b")}
    for variation in lcb_v5.variations():
        assert register[variation.ambiguity].varied_on == "stored generations"
    windows = [one.of for one in lcb_v5.variations() if one.holds is not None]
    assert windows == [V5_167.problems, V5_279.problems]
    assert {one.ambiguity for one in lcb_v5.variations() if one.holds} == {"lcb-v5-window"}


@needs_data
def test_the_largest_window_gives_the_score_of_all_others() -> None:
    index = json.loads((Path(os.environ["HARNESS_DATA"]) / "lcb" / "problem_index.json").read_bytes())
    dates = {one["question_id"]: one["contest_date"] for one in index}
    held = {name for name, date in dates.items() if V6_454.holds(name, date)}
    for windows in WINDOWS.values():
        for window in windows:
            assert {name for name, date in dates.items() if window.holds(name, date)} <= held


def test_grades_stand_in_the_order_of_question_and_draw(place: tuple[RunStore, Context]) -> None:
    store, context = place
    mark = answered(store, "sft-1", right=4)
    file = store.path(mark.asked) / "generations.jsonl"
    file.write_bytes(b"".join(reversed(file.read_bytes().splitlines(keepends=True))))
    store.build(mark, context)
    keys = [(one.question, one.draw) for one in read_rows(store.path(mark) / "grades.jsonl", Grade)]
    assert keys == sorted(keys)
