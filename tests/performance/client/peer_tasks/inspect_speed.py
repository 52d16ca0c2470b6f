"""The work as an Inspect task: every epoch of a question is a draw."""

import os
import re

from inspect_ai import Task, task
from inspect_ai.dataset import FieldSpec, json_dataset
from inspect_ai.scorer import CORRECT, INCORRECT, Score, accuracy, scorer
from inspect_ai.solver import generate

BOX = re.compile(r"\\boxed\{([^{}]*)\}")


@scorer(metrics=[accuracy()])
def last_box():
    """Whether the last box of the response is the answer."""

    async def score(state, target):
        boxes = BOX.findall(state.output.completion)
        answer = boxes[-1].strip() if boxes else ""
        return Score(value=CORRECT if answer == target.text else INCORRECT, answer=answer)

    return score


@task
def speed():
    fields = FieldSpec(input="prompt", target="answer", id="id")
    return Task(
        dataset=json_dataset(os.environ["SPEED_QUESTIONS"], fields), solver=generate(), scorer=last_box()
    )
