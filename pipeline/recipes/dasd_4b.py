"""dasd-4b: the DASD report in full, gpt-oss-120b teaching Qwen3-4B (arXiv 2601.09088).

Starts from the questions (everything), from the released data (training stages 1 and 2 and mixed policy)
or from the released checkpoint (evaluation alone). Settings and their sources: `pipeline/paper.py`.
"""

from functools import partial

from harness.hub import Checkpoint
from harness.recipe import Recipe, Row
from harness.stage import Stage
from pipeline import paper
from pipeline.assumed import ASSUMED
from pipeline.paper import Scale
from pipeline.released import released
from pipeline.sft import Sft

ENTRIES = ("questions", "data", "checkpoint")


def dasd_4b(entry: str = "questions", engine: str = "vllm", *, scale: Scale = paper.PAPER) -> Recipe:
    """The recipe from one of ENTRIES. Another `scale` changes ids and counts and nothing else."""
    stages: dict[str, Stage] = {}
    rows: dict[str, Checkpoint | Sft] = {"released": scale.released, "base": scale.student}
    if entry != "checkpoint":
        data = sampled_data(scale, engine) if entry == "questions" else released_data(scale)
        stage1 = paper.trained(scale, scale.student, data["selected-low"])
        stage2 = paper.trained(scale, stage1, data["selected-high"])
        mixed = paper.mixed_policy(scale, stage2, data["selected-high"], engine)
        # §6.4.2; the final run's epochs and learning rate are unpublished: one epoch, as in §5's ablation
        final = paper.trained(scale, stage2, mixed.mix, epochs=1)
        rows |= {"stage1": stage1, "stage2": stage2, "final": final}
        stages = {**data, "stage1": stage1, "stage2": stage2, **mixed.labelled(), "final": final}
    return Recipe(
        name="dasd-4b" if entry == "questions" else f"dasd-4b-from-{entry}",
        summary="The report in full: gpt-oss-120b teaches Qwen3-4B-Instruct-2507",
        stages=stages,
        models={
            name: Row(model=model, system=None if name == "base" else paper.SYSTEM)
            for name, model in rows.items()
        },
        benchmarks=scale.benchmarks,
        engine=engine,
        assumed=ASSUMED,
        entries=ENTRIES,
        make=partial(dasd_4b, scale=scale),
        published="dasd_4b",
        claimed="dasd-4b",
        limit=scale.limit,
    )


def sampled_data(scale: Scale, engine: str) -> dict[str, Stage]:
    """§6.1 to §6.3 and §4: both training sets, made here."""
    asked = paper.questions(scale)
    stages: dict[str, Stage] = {"questions": asked}
    for name, temperature, counts, budget in (
        ("low", paper.LOW, scale.stage1_questions, scale.stage1_rows),
        ("high", paper.HIGH, (), scale.stage2_rows),
    ):
        sampled = paper.sampled(scale, asked, engine, temperature, counts)
        kept = paper.kept(scale, sampled)
        selected = paper.divergent(scale, kept, sampled, budget)
        stages |= {f"sampled-{name}": sampled, f"filtered-{name}": kept}
        stages |= {f"scored-{name}": selected.student, f"selected-{name}": selected}  # type: ignore[dict-item]
    return stages


def released_data(scale: Scale) -> dict[str, Stage]:
    """Both training sets as they were released: sampled, filtered and selected by the authors."""
    return {
        "selected-low": released("stage1", scale.student),
        "selected-high": released("stage2", scale.student),
    }


recipe = dasd_4b()
