"""The paper's recipes: what they share, what they would train on, and what they are compared with."""

import pytest

import pipeline.recipes
from harness.discover import discover
from harness.recipe import Recipe
from harness.stage import Stage, ordered
from harness.store import readable
from pipeline import paper
from pipeline.recipes.dasd_4b import ENTRIES, dasd_4b
from pipeline.sample import Sample
from pipeline.score import Score
from pipeline.select import Select
from pipeline.sft import Sft
from reports.published import claims, load_published

RECIPES = discover(pipeline.recipes, Recipe)
OF_THE_PAPER = {name: recipe for name, recipe in RECIPES.items() if recipe.published == "dasd_4b"}


def stages(recipe: Recipe) -> list[Stage]:
    return ordered(list(recipe.labels().values()))


@pytest.mark.parametrize("name", OF_THE_PAPER)
def test_every_claim_on_a_recipe_has_its_row_and_its_benchmark(name: str) -> None:
    recipe = OF_THE_PAPER[name]
    marks = {tuple(label.split("/")[1:]) for label in recipe.marks()}
    claimed = {(one.row, one.benchmark) for one in claims(load_published("dasd_4b"), recipe.claimed)}
    assert claimed
    assert claimed <= marks


@pytest.mark.parametrize("name", OF_THE_PAPER)
def test_every_stage_of_a_recipe_has_a_label_of_its_own_but_checkpoints(name: str) -> None:
    """What the plan shows is all that will be run: nothing works unnamed."""
    recipe = OF_THE_PAPER[name]
    named = {stage.key for stage in recipe.labels().values()}
    unnamed = {stage.kind for stage in stages(recipe) if stage.key not in named}
    assert unnamed <= {"checkpoint", "ask", "score"}
    assert set(readable(recipe.labels())) == {stage.key for stage in stages(recipe)}


@pytest.mark.parametrize("name", RECIPES)
def test_every_stage_of_a_recipe_can_run(name: str) -> None:
    assert {stage.kind for stage in stages(RECIPES[name]) if type(stage).run is Stage.run} == set()


@pytest.mark.parametrize("entry", ENTRIES)
def test_dasd_4b_from_every_entry_measures_the_released_checkpoint_alike(entry: str) -> None:
    marks = {label: mark.key for label, mark in dasd_4b(entry).marks().items()}
    released = {label: mark.key for label, mark in dasd_4b("checkpoint").marks().items()}
    assert released.items() <= marks.items()


def test_the_larger_student_is_trained_on_the_same_rows() -> None:
    small, large = RECIPES["dasd-4b"], RECIPES["dasd-30b-a3b"]
    assert small.stages["selected-low"].key == large.stages["selected-low"].key
    assert small.stages["stage1"].key != large.stages["stage1"].key


def test_ablations_share_the_rows_that_two_tables_have_in_common() -> None:
    das, schedule = RECIPES["dasd-ablation-das"], RECIPES["dasd-ablation-temperature"]
    assert das.models["low-random"].model.key == schedule.models["low"].model.key
    assert das.models["high-random-100k"].model.key == schedule.models["high-100k"].model.key


def test_the_two_methods_of_an_ablation_differ_in_the_method_alone() -> None:
    stages = RECIPES["dasd-ablation-das"].stages
    random, das = stages["selected-low-random"], stages["selected-low-das"]
    assert isinstance(random, Select)
    assert isinstance(das, Select)
    assert (random.responses, random.budget, random.keep, random.seed) == (
        das.responses,
        das.budget,
        das.keep,
        das.seed,
    )
    assert (random.method, das.method) == ("random", "das")


def test_published_counts_temperatures_and_settings_stand_in_the_stages() -> None:
    made = RECIPES["dasd-4b"].stages
    low, high = made["selected-low"], made["selected-high"]
    assert isinstance(low, Select)
    assert isinstance(high, Select)
    assert sum(count for _, count in low.budget) == 104_900
    assert sum(count for _, count in high.budget) == 329_800
    temperatures = [stage.sampling.temperature for stage in made.values() if isinstance(stage, Sample)]
    assert temperatures == [0.6, 1.0]
    trained = [stage for stage in made.values() if isinstance(stage, Sft)]
    assert [stage.epochs for stage in trained] == [6, 6, 1]
    for stage in trained:
        assert (stage.cutoff, stage.batch, stage.learning_rate) == (65_536, 64, 5e-5)
        assert (stage.trainer, stage.packing, stage.system) == ("llamafactory", "isolated", paper.SYSTEM)
    assert trained[1].base == trained[0]


def test_every_teacher_of_the_paper_is_told_its_effort_and_its_day() -> None:
    for stage in RECIPES["dasd-4b"].stages.values():
        if isinstance(stage, Sample):
            assert (stage.effort, stage.date) == ("high", "2025-08-05")


def test_an_engine_without_log_probabilities_has_the_teacher_score_its_own_text() -> None:
    select = dasd_4b("questions", "transformers").stages["selected-low"]
    assert isinstance(select, Select)
    assert isinstance(select.teacher, Score)
    assert (select.teacher.effort, select.teacher.date) == ("high", "2025-08-05")
    assert select.teacher.through == "vllm"


def test_no_revision_was_invented() -> None:
    """Nobody could look a commit up: an unpinned one is resolved at its first download."""
    for recipe in OF_THE_PAPER.values():
        for stage in stages(recipe):
            if stage.kind == "checkpoint":
                assert stage.identity["revision"] == "unpinned"


@pytest.mark.parametrize("name", RECIPES)
def test_every_stage_of_a_recipe_says_what_it_takes(name: str) -> None:
    silent = {stage.kind for stage in stages(RECIPES[name]) if type(stage).work is Stage.work}
    assert silent <= {"checkpoint"}
