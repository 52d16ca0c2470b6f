"""dasd-30b-a3b: the same stage-1 data for a larger student (report §7, Table 8).

Qwen3-30B-A3B-Instruct-2507 is trained on stage 1's rows and on nothing else.
"""

from functools import partial

from harness.hub import Checkpoint
from harness.recipe import Recipe, Row
from harness.stage import Stage
from pipeline import paper
from pipeline.assumed import ASSUMED
from pipeline.paper import Scale
from pipeline.recipes.dasd_4b import ENTRIES, released_data, sampled_data
from pipeline.sft import Sft

SCALE = Scale(released=paper.RELEASED_30B, benchmarks=paper.BENCHMARKS_30B)


def dasd_30b_a3b(
    entry: str = "questions",
    engine: str = "vllm",
    *,
    scale: Scale = SCALE,
    student: Checkpoint = paper.STUDENT_30B,
) -> Recipe:
    """The recipe from one of its entries. The data is selected for `scale.student`, as the report's was."""
    stages: dict[str, Stage] = {}
    rows: dict[str, Checkpoint | Sft] = {"released": scale.released, "base": student}
    if entry != "checkpoint":
        data = sampled_data(scale, engine) if entry == "questions" else released_data(scale)
        first = {name: stage for name, stage in data.items() if not name.endswith("-high")}
        rows["stage1"] = paper.trained(scale, student, first["selected-low"])
        stages = {**first, "stage1": rows["stage1"]}
    return Recipe(
        name="dasd-30b-a3b" if entry == "questions" else f"dasd-30b-a3b-from-{entry}",
        summary="Stage 1 alone, the same data, for Qwen3-30B-A3B-Instruct-2507 (Table 8)",
        stages=stages,
        models={
            name: Row(model=model, system=None if name == "base" else paper.SYSTEM)
            for name, model in rows.items()
        },
        benchmarks=scale.benchmarks,
        engine=engine,
        assumed=ASSUMED,
        entries=ENTRIES,
        make=partial(dasd_30b_a3b, scale=scale, student=student),
        published="dasd_4b",
        claimed="dasd-30b-a3b",
        limit=scale.limit,
    )


recipe = dasd_30b_a3b()
