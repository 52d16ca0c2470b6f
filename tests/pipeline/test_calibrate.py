"""Calibration: what counts as a speed, and that the real stages give one and leave nothing behind."""

import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.gpqa import gpqa_diamond
from benchmarks.micro import micro_math
from harness.errors import StageError
from harness.hardware import Hardware
from harness.hub import Checkpoint
from harness.machine import EngineSettings, Machine, TrainingSettings
from harness.recipe import Recipe, Row
from harness.store import RunStore
from pipeline.calibrate import (
    Arrival,
    Calibration,
    Posed,
    Recorder,
    Recording,
    Texts,
    TimeUp,
    between,
    own_prefix,
    prompts_of,
    sweep,
)
from pipeline.filter import Filter, Thresholds
from pipeline.recipes.dasd_micro import recipe
from pipeline.score import Score
from pipeline.sft import Sft

HERE = Hardware(device="CPU (a test)", gpus=0)
SECONDS = 0.5


def bursts(count: int, size: int, seconds: float) -> list[Arrival]:
    """Answers that all take the same time: `size` at once come together."""
    return [Arrival(at=(n + 1) * seconds, rows=1, tokens=100) for n in range(count) for _ in range(size)]


def test_answers_that_come_in_bursts_are_not_counted_one_burst_too_often() -> None:
    rows, seconds = between(bursts(count=4, size=8, seconds=2.0), skipped=8)
    assert sum(row.tokens for row in rows) / seconds == pytest.approx(8 * 100 / 2.0)


def test_too_few_answers_are_counted_from_the_start() -> None:
    rows, seconds = between(bursts(count=1, size=8, seconds=2.0), skipped=8)
    assert (len(rows), seconds) == (8, 2.0)


def test_the_slow_first_step_of_a_training_does_not_count() -> None:
    steps = [Arrival(at=at, rows=1, tokens=0) for at in (30.0, 31.0, 32.0)]
    rows, seconds = between(steps, skipped=1)
    assert (len(rows), seconds) == (2, 2.0)


def test_time_is_up_only_once_there_is_something_to_count() -> None:
    recording = Recording(total=10, seconds=0.0, least=2)
    recording.advance(rows=0)
    recording.advance()
    with pytest.raises(TimeUp):
        recording.advance()


def test_a_stage_that_finished_nothing_has_no_speed() -> None:
    recorder = Recorder(1.0, 1, print)
    with recorder.counter("scoring", 10):
        pass
    with pytest.raises(StageError, match="no speed"):
        recorder.recording()


def calibration(home: Path, said: list[str], stage: Score | Sft, **changed: object) -> Calibration:
    only = replace(recipe, stages={"stage": stage}, models={}, **changed)
    machine = Machine(gpus=0, environments=home / "none")
    return Calibration(RunStore(home / "runs"), only, machine, HERE, SECONDS, False, said.append)


def first(kind: type[Score] | type[Sft]) -> Score | Sft:
    found = [
        one for stage in recipe.labels().values() for one in (stage, *stage.inputs) if isinstance(one, kind)
    ]
    return found[0]


@pytest.mark.parametrize(("kind", "engine"), [(Score, "torch"), (Sft, "trl")])
def test_the_real_stage_gives_a_speed_and_leaves_its_model_alone(
    tmp_path: Path, kind: type[Score] | type[Sft], engine: str
) -> None:
    said: list[str] = []
    rates = list(calibration(tmp_path, said, first(kind)).rates())
    (rate,) = (one for one in rates if one.engine == engine)
    assert rate.model == "base"
    assert rate.tokens > 0
    assert rate.tokens_per_second == pytest.approx(rate.tokens / rate.seconds, rel=0.01)
    left = {path.name.partition("-")[0] for path in (tmp_path / "runs" / "stages").iterdir()}
    assert left <= {"checkpoint", ".locks"}
    assert not list((tmp_path / "runs").glob(".calibrate-*"))
    assert any("vllm): not measured, the environment of vllm is not set up" in line for line in said)


def process_that_ended() -> int:
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def test_what_a_killed_calibration_left_is_removed_and_what_a_living_one_uses_is_not(tmp_path: Path) -> None:
    here, others = own_prefix(), ".calibrate-another computer-"
    dead = process_that_ended()
    names = [f"{here}{dead}-a", f"{here}{os.getpid()}-b", f"{others}{dead}-c", "stages"]
    for name in names:
        (tmp_path / name / "stages").mkdir(parents=True)
    sweep(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == set(names[1:])


def test_no_question_of_a_benchmark_is_part_of_an_identity() -> None:
    model = Checkpoint(source="org/absent", revision="unpinned")
    stages = (Texts(model=model, benchmark=micro_math, rows=2, length=3), Posed(benchmark=micro_math))
    prompts = prompts_of(micro_math, None)
    assert len(prompts) > 10
    for stage in stages:
        told = json.dumps(stage.identity, ensure_ascii=False)
        assert micro_math.name in told
        assert not [prompt for prompt in prompts if json.dumps(prompt, ensure_ascii=False)[1:-1] in told]


def test_other_nodes_do_not_take_part(tmp_path: Path) -> None:
    machine = Machine(gpus=0, training=TrainingSettings(nodes=4))
    made = Calibration(RunStore(tmp_path), recipe, machine, HERE, SECONDS, False, print)
    assert made.machine.training.nodes == made.lacks.machine.training.nodes == 1


def test_what_cannot_run_here_is_said_with_its_reason_and_nothing_is_downloaded(tmp_path: Path) -> None:
    absent = Checkpoint(source="org/absent", revision="unpinned")
    said: list[str] = []
    kept = Filter(responses=first(Score).responses, student=absent, thresholds=Thresholds(max_tokens=9))
    made = calibration(tmp_path, said, Score(responses=kept, model=absent))
    assert [rate.model for rate in made.rates()] == []
    assert "score org/absent (torch): not measured, the model is not on this machine" in said[-1]


def test_without_a_benchmark_here_nothing_is_measured(tmp_path: Path) -> None:
    said: list[str] = []
    made = calibration(tmp_path, said, first(Score), benchmarks=(gpqa_diamond,))
    assert list(made.rates()) == []
    assert "no benchmark's questions are on this machine" in said[-1]


def test_a_server_of_somebody_else_is_not_measured(tmp_path: Path) -> None:
    machine = Machine(gpus=0, engines={"remote": EngineSettings(base_url="https://example.org/v1")})
    model = Checkpoint(source="org/absent", revision="unpinned")
    only = Recipe(
        name="r", summary="", stages={}, models={"m": Row(model=model)}, benchmarks=recipe.benchmarks,
        engine="remote",
    )  # fmt: skip
    said: list[str] = []
    made = Calibration(RunStore(tmp_path), only, machine, HERE, SECONDS, False, said.append)
    assert list(made.rates()) == []
    assert said == ["generate org/absent (remote): not measured, it is somebody else's machine"]
