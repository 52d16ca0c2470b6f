"""What a recipe needs from outside, whether it is here, and its pins."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.micro import micro_math
from harness.hub import Checkpoint, local_checkpoint
from harness.machine import Machine
from harness.stage import Stage
from pipeline.collect import Collect
from pipeline.needs import looked_at, needs, pinned, verified
from pipeline.released import released
from pipeline.released_logprobs import ReleasedLogprobs
from pipeline.sources import SOURCES, TACO_AND_APPS
from tests.pipeline import standins

MICRO = Path(__file__).parents[2] / "pipeline" / "micro"
COMMIT = "c" * 40
MATH, CODE, SCIENCE, INSTRUCTION = SOURCES


def told(stages: Sequence[Stage], machine: Machine) -> dict[str, tuple[bool, str]]:
    """What is verified, by the first word of each line."""
    return {one.need: (one.fine, one.line) for one in looked_at(stages, machine, verified)}


def test_needs_are_found_inside_fields_and_behind_other_stages_each_once() -> None:
    student = Checkpoint(source="org/student", revision="unpinned")
    responses = released("stage1", student)
    stages = [
        Collect(sources=(MATH, CODE), decontaminate=(micro_math,)),
        ReleasedLogprobs(responses=responses, teacher=student),
        responses,
    ]
    found = needs(stages)
    there = [place.table for place in TACO_AND_APPS.places]
    assert found == [MATH.table, CODE.table, *there, micro_math, student, responses.table, stages[1].table]


def test_what_is_here_is_told_with_its_columns_and_what_is_not_with_a_remedy(tmp_path: Path) -> None:
    standins.acereason(tmp_path, ["1+1?"], shards=3)
    folder = standins.opensciencereasoning(tmp_path, {"Why?": 3})
    stages = [Collect(sources=SOURCES, decontaminate=(micro_math,)), local_checkpoint(MICRO / "base")]
    machine = Machine(data=tmp_path, gpus=0)
    found = told(stages, machine)
    assert {name.split(" ")[0]: fine for name, (fine, _) in found.items()} == {
        "nvidia/AceReason-1.1-SFT": True,
        "nvidia/OpenCodeReasoning": False,
        "BAAI/TACO": False,
        "codeparrot/apps": False,
        "nvidia/OpenScienceReasoning-2": True,
        "a-m-team/AM-DeepSeek-R1-Distilled-1.4M": False,
        "benchmark": True,
        "model": True,
    }
    assert "3 files" in found["nvidia/AceReason-1.1-SFT"][1]
    assert "question = input, subset = category" in found["nvidia/AceReason-1.1-SFT"][1]
    standins.write_parquet(folder / "train" / "OpenScienceReasoning-2.parquet", [{"prompt": "Why?"}])
    fine, line = told(stages, machine)["nvidia/OpenScienceReasoning-2"]
    assert not fine
    assert "There are: prompt" in line


def test_only_what_is_on_a_hub_has_a_pin(tmp_path: Path) -> None:
    machine = Machine(gpus=0)
    assert pinned(micro_math, machine) == "needs no pin"
    assert pinned(local_checkpoint(MICRO / "base"), machine) == "needs no pin"
    fixed = replace(MATH.table, revision=COMMIT)
    assert pinned(fixed, machine) == f"{COMMIT} (pinned by the recipe)"
