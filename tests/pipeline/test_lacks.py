"""What a machine lacks: told from what is there, never from a network."""

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.aime import aime24
from benchmarks.gpqa import gpqa_diamond
from benchmarks.livecodebench import FILES, lcb_v5
from benchmarks.micro import micro_math
from harness.benchmark import Benchmark
from harness.cost import Assumptions, Estimator, Size, Work
from harness.evaluate import Ask
from harness.hardware import Hardware
from harness.hub import Checkpoint
from harness.machine import EngineSettings, Machine, SandboxSettings, TrainingSettings
from harness.sandboxes import bubblewrap, docker
from harness.store import RunStore
from pipeline.lacks import Lacks, present

MODEL = Checkpoint(source="org/large", revision="unpinned")
LARGE = Size(parameters=4e9, active=4e9, bytes=8e9, source="a test")
NONE = Hardware(device="CPU", gpus=0)
GENERATE = Work(kind="generate", model=MODEL, engine="vllm")
TRAIN = Work(kind="train", model=MODEL, engine="llamafactory")


def cards(count: int, gigabytes: float) -> Hardware:
    return Hardware(device="GPU X", gpus=count, gpu_bytes=gigabytes * 1e9)


def gpu_lacks(work: Work, here: Hardware, size: Size = LARGE, nodes: int = 1) -> list[str]:
    machine = Machine(gpus=here.gpus, training=TrainingSettings(nodes=nodes))
    return [f"{lack.what}: {lack.remedy}" for lack in Lacks(machine, here).gpus(work, size)]


def test_a_large_model_on_a_cpu_lacks_gpus_and_is_told_how_many() -> None:
    (told,) = gpu_lacks(GENERATE, NONE, replace(LARGE, parameters=117e9, bytes=200e9))
    assert "no GPU for 117B parameters to run" in told
    assert "4 × 80 GB" in told


def test_a_small_model_runs_on_a_cpu() -> None:
    assert gpu_lacks(GENERATE, NONE, replace(LARGE, parameters=5e8)) == []


@pytest.mark.parametrize(
    ("work", "here", "lacks"),
    [
        (GENERATE, cards(1, 80), False),
        (GENERATE, cards(1, 8), True),
        (GENERATE, cards(2, 8), False),
        (replace(GENERATE, kind="score", engine="torch"), cards(8, 8), True),
        (TRAIN, cards(1, 80), True),
        (TRAIN, cards(2, 80), False),
        (replace(TRAIN, engine="trl"), cards(8, 80), True),
    ],
)
def test_memory_of_all_gpus_counts_but_not_for_what_runs_on_one(
    work: Work, here: Hardware, lacks: bool
) -> None:
    assert bool(gpu_lacks(work, here)) is lacks


def test_the_gpus_of_other_nodes_train_too() -> None:
    assert gpu_lacks(TRAIN, cards(1, 80), nodes=2) == []


def test_a_server_does_not_reach_the_gpus_of_other_nodes() -> None:
    assert gpu_lacks(GENERATE, cards(1, 8), nodes=2)
    assert gpu_lacks(replace(GENERATE, kind="score"), cards(1, 8), nodes=2)


def test_gpus_whose_memory_is_unknown_are_not_doubted() -> None:
    assert gpu_lacks(TRAIN, Hardware(device="GPU", gpus=1)) == []


def test_an_environment_that_is_not_set_up_is_named_with_its_command(tmp_path: Path) -> None:
    lacks = Lacks(Machine(environments=tmp_path, gpus=0), NONE)
    (lack,) = lacks.engine("sglang")
    assert lack.what == "the environment of sglang is not set up"
    assert lack.remedy == "run: harness setup sglang"


def test_a_remote_engine_lacks_its_url_and_never_a_gpu(tmp_path: Path) -> None:
    asked = Ask(model=MODEL, benchmark=micro_math, engine="remote")
    estimator = Estimator(RunStore(tmp_path), Assumptions(models={"org/large": LARGE}))
    work = estimator.work(asked)
    (lack,) = Lacks(Machine(gpus=0), NONE)(asked, work, estimator)
    assert "no URL" in lack.what
    there = Machine(gpus=0, engines={"remote": EngineSettings(base_url="https://example.org/v1")})
    assert list(Lacks(there, NONE)(asked, work, estimator)) == []


@pytest.mark.parametrize("name", ["docker", "bubblewrap"])
def test_a_sandbox_is_lacking_where_opening_one_fails(name: str) -> None:
    machine = Machine(gpus=0, sandbox=SandboxSettings(name=name, workers=1))
    trouble = (docker if name == "docker" else bubblewrap).trouble()
    assert [lack.what for lack in Lacks(machine, NONE).sandbox()] == (
        [f"no sandbox for programs: {trouble}"] if trouble else []
    )


@pytest.mark.parametrize(
    ("benchmark", "file"),
    [
        (aime24, "aime/aime24.jsonl"),
        (gpqa_diamond, "gpqa/gpqa_diamond.csv"),
        (aime24, "HuggingFaceH4/aime_2024/test.jsonl"),
    ],
)
def test_a_benchmark_in_the_data_folder_is_here(tmp_path: Path, benchmark: Benchmark, file: str) -> None:
    machine = Machine(data=tmp_path)
    assert not present(benchmark, machine)
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).write_text("{}\n")
    assert present(benchmark, machine)


def test_a_part_of_livecodebench_is_not_livecodebench(tmp_path: Path) -> None:
    names = [FILES[number][0] for number in lcb_v5.window.files]
    (tmp_path / "lcb").mkdir()
    for name in names:
        assert not present(lcb_v5, Machine(data=tmp_path))
        (tmp_path / "lcb" / name).write_text("{}\n")
    assert present(lcb_v5, Machine(data=tmp_path))


def test_a_checkpoint_is_where_its_path_says_or_in_the_data_folder(tmp_path: Path) -> None:
    assert present(Checkpoint(source="mine", sha256="0", path=tmp_path), Machine())
    assert not present(MODEL, Machine(data=tmp_path))
    (tmp_path / "org" / "large").mkdir(parents=True)
    assert present(MODEL, Machine(data=tmp_path))


def test_what_a_hub_has_is_told_with_its_size(tmp_path: Path) -> None:
    estimator = Estimator(RunStore(tmp_path), Assumptions(models={"org/large": LARGE}))
    (lack,) = Lacks(Machine(data=tmp_path, gpus=0), NONE)(MODEL, estimator.work(MODEL), estimator)
    assert lack.what == "model org/large (8 GB) is neither in the data folder nor in the hub's cache"
    assert lack.remedy == "it will be downloaded from the hub"
