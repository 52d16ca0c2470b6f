"""What `harness publish` writes: cards that the Hub reads, data in the released schema, whole or nothing."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import DatasetCard, ModelCard

from benchmarks.micro import micro_math, micro_science
from harness.errors import StageError, UsageError
from harness.files import write_json, write_rows
from harness.hub import Checkpoint, local_checkpoint
from harness.integrity import MANIFEST
from harness.recipe import Recipe, Row
from harness.rows import read_rows
from harness.stage import Stage, ordered
from harness.store import RunStore
from harness.types import Generation, Grade, Sampling
from pipeline.collect import Collect, MicroSource
from pipeline.filter import Filter, Thresholds
from pipeline.mix import Mix
from pipeline.recipes.dasd_micro import MODELS
from pipeline.recipes.dasd_micro import recipe as micro
from pipeline.sample import Sample
from pipeline.select import Select
from pipeline.sft import Sft
from reports.publish import COLUMNS, Publication, Terms, as_released, publication, publish
from reports.table import LIMITED
from tests.pipeline.rows import row

SYSTEM = "You are a helpful assistant."
COMMIT = "0123456789abcdef0123456789abcdef01234567"
RIGHT = "<think>\nyes\n</think>\n\n\\boxed{1}"


def tiny(limit: int | None = None, hub: bool = False) -> Recipe:
    """Two trainings, the second on mixed data, and two benchmarks."""
    teacher = local_checkpoint(MODELS / "teacher")
    base = Checkpoint(source="org/base", revision=COMMIT) if hub else local_checkpoint(MODELS / "base")
    questions = Collect(sources=(MicroSource(domain="math", count=2),))
    sampling = Sampling(temperature=0.6, max_tokens=32, draws=2)
    sampled = Sample(questions=questions, teacher=teacher, engine="vllm", sampling=sampling)
    kept = Filter(responses=sampled, student=base, thresholds=Thresholds(max_tokens=64))
    low = Select(responses=kept, method="random")
    stage1 = Sft(base=base, data=low, epochs=1, system=SYSTEM)
    mix = Mix(mixed=kept, off_policy=low, off_policy_rows=1, minimum=0)
    final = Sft(base=stage1, data=mix, epochs=1, system=SYSTEM)
    return Recipe(
        name="dasd-micro",
        summary="small",
        stages={
            "questions": questions,
            "selected-low": low,
            "stage1": stage1,
            "mixed-policy": mix,
            "final": final,
        },
        models={name: Row(model=model, system=SYSTEM) for name, model in (("base", base), ("final", final))},
        benchmarks=(micro_math, micro_science),
        engine="vllm",
        published="dasd_micro",
        limit=limit,
    )


def rows_of(stage: Stage) -> Iterable[Generation]:
    mixed = {"student_bytes": 5} if stage.kind == "mix" else {}
    for number, domain in enumerate(("math", "code", "math")):
        one = row(RIGHT, question=f"q{number}")
        yield replace(one, kept={"domain": domain, "prompt": f"Say {number} | <b>.", "drawn": 0, **mixed})


def finish(store: RunStore, stage: Stage, right: int = 2) -> None:
    """Leaves what a finished stage leaves."""
    path = store.path(stage)
    path.mkdir(parents=True, exist_ok=True)
    match stage.kind:
        case "sft" | "checkpoint":
            shutil.copytree(MODELS / "base", path / "model", dirs_exist_ok=True)
            write_json(path / "training.json", {"rows": 3, "tokens": 1234, "steps": 5, "truncated": 0})
            write_json(path / "losses.json", [{"loss": 1.0, "step": 1}, {"loss": 0.5, "step": 2}])
        case "select" | "mix" | "filter" | "sample":
            write_rows(path / "generations.jsonl", rows_of(stage))
        case "ask":
            write_json(path / "asked.json", {"questions": 4, "draws": 2})
        case "mark":
            write_rows(path / "grades.jsonl", grades(right))
    write_json(path / MANIFEST, {"key": stage.key, "seconds": 1.0})


def grades(right: int) -> list[Grade]:
    return [
        Grade(question=f"q{question}", draw=draw, correct=question < right, extracted="1", truncated=False)
        for question in range(4)
        for draw in range(2)
    ]


def finished(root: Path, recipe: Recipe) -> RunStore:
    """All of the recipe done, but micro_science of the final model not measured."""
    store = RunStore(root)
    for stage in ordered(list(recipe.stages.values())):
        finish(store, stage)
    for label, mark in recipe.marks().items():
        if label == "eval/final/micro_math":
            finish(store, mark.asked)
            finish(store, mark)
    return store


def prepared(root: Path, recipe: Recipe | None = None, **terms: str) -> Publication:
    made = recipe or tiny()
    return publication(finished(root, made), made, made.labels(), "final", Terms(**terms))


def texts(out: Path) -> dict[str, str]:
    return {str(file.relative_to(out)): file.read_text() for file in out.rglob("README.md")}


def test_the_hubs_own_reader_finds_licence_base_data_and_scores(tmp_path: Path) -> None:
    what = prepared(tmp_path / "runs", tiny(hub=True), licence="apache-2.0", repository="me/tiny")
    publish(what, tmp_path / "out")
    data = ModelCard.load(tmp_path / "out" / "model" / "README.md").data
    assert (data.license, data.base_model, data.pipeline_tag) == ("apache-2.0", "org/base", "text-generation")
    assert data.datasets == ["me/tiny-selected-low", "me/tiny-mixed-policy"]
    (result,) = data.eval_results
    assert (result.dataset_name, result.metric_name, result.metric_value) == ("micro_math", "avg@2", 50.0)


def test_benchmarks_of_one_data_set_are_not_one_result(tmp_path: Path) -> None:
    made = tiny()
    store = finished(tmp_path / "runs", made)
    science = made.marks()["eval/final/micro_science"]
    finish(store, science.asked)
    finish(store, science, right=1)
    publish(publication(store, made, made.labels(), "final", Terms()), tmp_path / "out")
    results = ModelCard.load(tmp_path / "out" / "model" / "README.md").data.eval_results
    scores = {one.dataset_name: one.metric_value for one in results}
    assert scores == {"micro_math": 50.0, "micro_science": 25.0}
    assert len({one.dataset_type for one in results}) == 1


def test_a_base_from_a_folder_is_no_name_on_the_hub(tmp_path: Path) -> None:
    publish(prepared(tmp_path / "runs"), tmp_path / "out")
    data = ModelCard.load(tmp_path / "out" / "model" / "README.md").data
    assert data.base_model is None
    assert data.datasets is None
    assert (data.license, data.license_name) == ("other", "unspecified")


def test_card_and_report_say_the_same_of_each_benchmark(tmp_path: Path) -> None:
    what = prepared(tmp_path / "runs")
    publish(what, tmp_path / "out")
    card = (tmp_path / "out" / "model" / "README.md").read_text()
    entry = next(one for one in what.report.entries if (one.row, one.benchmark) == ("final", "micro_math"))
    assert f"| final | micro_math | {entry.published:.1f}" in card
    assert entry.verdict in card
    assert "4 × 2" in card
    assert "- micro_science: " in card.split("Without a number:")[1].split("How each")[0]


def test_a_limited_run_is_published_as_no_score(tmp_path: Path) -> None:
    publish(prepared(tmp_path / "runs", tiny(limit=4)), tmp_path / "out")
    card = ModelCard.load(tmp_path / "out" / "model" / "README.md")
    assert card.data.eval_results is None
    assert f"> **Not a score:** {LIMITED}" in card.text


def test_data_have_the_released_columns_and_all_of_them_are_strings(tmp_path: Path) -> None:
    publish(prepared(tmp_path / "runs"), tmp_path / "out")
    for label in ("selected-low", "mixed-policy"):
        rows = list(read_rows(tmp_path / "out" / "data" / label / "train.jsonl", dict))
        assert len(rows) == 3
        assert {tuple(one) for one in rows} == {COLUMNS}
        assert all(isinstance(value, str) for one in rows for value in one.values())
        assert rows[0]["output"] == RIGHT
        assert len({one["uuid"] for one in rows}) == 3


def test_the_data_cards_front_matter_names_file_and_features(tmp_path: Path) -> None:
    publish(prepared(tmp_path / "runs", data_licence="cc-by-4.0"), tmp_path / "out")
    card = DatasetCard.load(tmp_path / "out" / "data" / "mixed-policy" / "README.md")
    (config,) = card.data.configs
    assert config["data_files"] == [{"split": "train", "path": "train.jsonl"}]
    assert [one["name"] for one in card.data.dataset_info["features"]] == list(COLUMNS)
    assert (card.data.license, card.data.size_categories) == ("cc-by-4.0", "n<1K")
    assert "| math | 2 |" in card.text
    assert "| total | 3 |" in card.text


def test_a_row_has_one_name_in_all_sets_and_a_released_one_keeps_its_own() -> None:
    own = replace(row(RIGHT), kept={"domain": "math", "prompt": "p"})
    mixed = replace(own, draw=3, kept={**own.kept, "drawn": 0})
    assert as_released(own)["uuid"] == as_released(mixed)["uuid"]
    assert as_released(own)["uuid"] != as_released(replace(own, text="else"))["uuid"]
    assert as_released(replace(own, kept={**own.kept, "uuid": "theirs"}))["uuid"] == "theirs"
    told = json.loads(as_released(replace(own, kept={**own.kept, "student_bytes": 7}))["meta"])
    assert (told["policy"], told["student_bytes"]) == ("mixed", 7)


def test_no_path_of_this_machine_is_in_any_card(tmp_path: Path) -> None:
    publish(prepared(tmp_path / "runs"), tmp_path / "out")
    found = texts(tmp_path / "out")
    assert len(found) == 3
    for text in (*found.values(), (tmp_path / "out" / "publish.json").read_text()):
        assert str(tmp_path) not in text
        assert str(MODELS.parent) not in text
        assert str(Path.home()) not in text


def test_markdown_tables_of_the_cards_are_whole(tmp_path: Path) -> None:
    publish(prepared(tmp_path / "runs"), tmp_path / "out")
    for name, text in texts(tmp_path / "out").items():
        tables = [block.split("\n") for block in text.split("\n\n") if block.lstrip().startswith("|")]
        assert tables
        for lines in tables:
            widths = {line.replace("\\|", "").count("|") for line in lines if line}
            assert len(widths) == 1, (name, lines[0])


def test_weights_are_the_checkpoints_and_editing_the_rest_leaves_the_run_alone(tmp_path: Path) -> None:
    what = prepared(tmp_path / "runs")
    publish(what, tmp_path / "out")
    own = what.store.path(what.model) / "model"
    assert (tmp_path / "out" / "model" / "model.safetensors").read_bytes() == (
        own / "model.safetensors"
    ).read_bytes()
    before = (own / "config.json").read_bytes()
    with (tmp_path / "out" / "model" / "config.json").open("r+b") as file:
        file.write(b"XX")
    assert (own / "config.json").read_bytes() == before


def test_publishing_again_gives_the_same_bytes_and_drops_what_is_old(tmp_path: Path) -> None:
    out = tmp_path / "out"
    publish(prepared(tmp_path / "runs"), out)
    before = {file: file.read_bytes() for file in out.rglob("*") if file.is_file()}
    (out / "stale.txt").write_text("old")
    publish(prepared(tmp_path / "runs"), out)
    assert {file: file.read_bytes() for file in out.rglob("*") if file.is_file()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "runs"]


def test_an_interrupted_publication_goes_on_with_whole_files_and_shows_nothing_before(tmp_path: Path) -> None:
    what, out = prepared(tmp_path / "runs"), tmp_path / "out"
    shutil.rmtree(what.store.path(what.data["mixed-policy"]))
    with pytest.raises(FileNotFoundError):
        publish(what, out)
    assert not out.exists()
    kept = tmp_path / ".out.partial" / "data" / "selected-low" / "train.jsonl"
    place = kept.stat().st_ino
    finish(what.store, what.data["mixed-policy"])
    publish(what, out)
    assert (out / "data" / "selected-low" / "train.jsonl").stat().st_ino == place
    assert not kept.exists()


def test_what_an_interrupted_call_left_of_other_stages_is_not_taken(tmp_path: Path) -> None:
    left = tmp_path / ".out.partial" / "data" / "selected-low"
    left.mkdir(parents=True)
    (left / "train.jsonl").write_text('{"of": "another run"}\n')
    publish(prepared(tmp_path / "runs"), tmp_path / "out")
    assert "another run" not in (tmp_path / "out" / "data" / "selected-low" / "train.jsonl").read_text()


def test_an_earlier_publication_survives_a_kill_between_the_two_renames(tmp_path: Path) -> None:
    out = tmp_path / "out"
    publish(prepared(tmp_path / "runs"), out)
    out.rename(tmp_path / ".out.earlier")
    publish(prepared(tmp_path / "runs"), out)
    assert (out / "model" / "README.md").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "runs"]


def test_a_folder_that_is_not_a_publication_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("mine")
    with pytest.raises(UsageError, match="was not written by"):
        publish(prepared(tmp_path / "runs"), tmp_path / "out")
    assert (tmp_path / "out" / "thesis.tex").read_text() == "mine"


def test_rows_that_cannot_be_published_say_why(tmp_path: Path) -> None:
    made = tiny()
    store = finished(tmp_path / "runs", made)
    with pytest.raises(UsageError, match="Did you mean 'final'"):
        publication(store, made, made.labels(), "finall", Terms())
    with pytest.raises(UsageError, match="did not train the row 'base'"):
        publication(store, made, made.labels(), "base", Terms())
    with pytest.raises(UsageError, match="ORG/NAME is expected"):
        publication(store, made, made.labels(), "final", Terms(repository="no slash"))
    with pytest.raises(StageError, match="is not finished"):
        publication(RunStore(tmp_path / "empty"), made, made.labels(), "final", Terms())


def test_the_commands_name_every_folder_and_nothing_is_sent(tmp_path: Path) -> None:
    commands = publish(prepared(tmp_path / "runs", repository="me/tiny"), tmp_path / "out")
    assert commands == [
        f"hf upload me/tiny {tmp_path}/out/model",
        f"hf upload me/tiny-selected-low {tmp_path}/out/data/selected-low --repo-type dataset",
        f"hf upload me/tiny-mixed-policy {tmp_path}/out/data/mixed-policy --repo-type dataset",
    ]


def test_the_command_line_says_that_nothing_is_finished(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "harness.cli",
            "publish",
            "dasd-micro",
            str(tmp_path / "out"),
            "--runs",
            str(tmp_path),
        ],
        capture_output=True,
        text=True,
        check=False,
        env=dict(os.environ),
    )
    assert done.returncode == 1
    assert "harness reproduce dasd-micro" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_the_real_recipes_label_every_data_set_that_trains_them() -> None:
    for made in (micro, tiny()):
        labelled = {stage.key for stage in made.stages.values()}
        trainings = [stage for stage in ordered([made.models["final"].model]) if stage.kind == "sft"]
        assert trainings
        assert all(stage.identity["data"] in labelled for stage in trainings)
