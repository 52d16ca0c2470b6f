"""dasd-released-das: what divergence-aware sampling sees in the released data (report §4, §6).

The authors' responses of both stages, with the teacher's released log-probabilities, against the student's
own: shares of Teacher, Student and shared sentences and the densities of response probabilities, to be laid
beside Figures 3, 5, 6 and 10. The released rows are the selection's outcome, with few candidates to a
question: so all of them are kept, nothing is trained and no benchmark is asked. Only the teacher's tokenizer
is used.
"""

from functools import partial

from harness.recipe import Recipe
from harness.stage import Stage
from pipeline import paper
from pipeline.assumed import ASSUMED
from pipeline.paper import Scale
from pipeline.released import Part, released
from pipeline.released_logprobs import ReleasedLogprobs
from pipeline.score import Score
from pipeline.select import Select

PARTS: tuple[tuple[str, Part], ...] = (("low", "stage1"), ("high", "stage2"))
EVERY = 1_000_000  # responses to a question
MOST_UNSCORED = 0.5  # ours: how much of the set the released log-probabilities cover is not published


def released_das(entry: str = "data", engine: str = "vllm", *, scale: Scale = paper.PAPER) -> Recipe:
    """The recipe; it starts from the released data and from nowhere else, and asks no engine."""
    stages: dict[str, Stage] = {}
    for name, part in PARTS:
        stages |= compared(name, part, scale)
    return Recipe(
        name="dasd-released-das",
        summary="Sentence classes and densities of the released data under the student (no training)",
        stages=stages,
        models={},
        benchmarks=(),
        engine=engine,
        assumed=ASSUMED,
        entries=("data",),
        make=partial(released_das, scale=scale),
        limit=scale.limit,
    )


def compared(name: str, part: Part, scale: Scale) -> dict[str, Stage]:
    """One stage's released responses under both models."""
    responses = released(part, scale.student)
    teacher = ReleasedLogprobs(responses=responses, teacher=scale.teacher)
    student = Score(responses=responses, model=scale.student, system=paper.SYSTEM)
    divergence = Select(
        responses=responses,
        teacher=teacher,
        student=student,
        method="das",
        keep=EVERY,
        minimum_differing=0.0,
        most_unscored=MOST_UNSCORED,
    )
    return {
        f"responses-{name}": responses,
        f"logprobs-{name}": teacher,
        f"scored-{name}": student,
        f"divergence-{name}": divergence,
    }


recipe = released_das()
