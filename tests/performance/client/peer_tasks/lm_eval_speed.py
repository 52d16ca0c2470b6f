"""The work as an lm-eval task; `lm_eval_speed.yaml` names these functions.

By default lm-eval keeps the first of a question's repeats and grades that alone (`lm_eval_default.yaml`
shows it). The task keeps all of them and grades each, so that the work is the same as everybody's.
"""

import os
import re

import datasets

BOX = re.compile(r"\\boxed\{([^{}]*)\}")


def questions(**_):
    """The questions as lm-eval's own loader would give them."""
    file = os.environ["SPEED_QUESTIONS"]
    return {"test": datasets.Dataset.from_json(file, cache_dir=os.environ["SPEED_SCRATCH"])}


def grade_all(doc, results):
    """The share of a question's responses whose last box is its answer, and how many were graded."""
    (responses,) = results
    return grade_given(doc, responses)


def grade_given(doc, responses):
    """The same of the responses that lm-eval itself hands over."""
    boxes = [(BOX.findall(each) or [""])[-1] for each in responses]
    right = [box.strip() == doc["answer"] for box in boxes]
    return {"accuracy": sum(right) / len(right), "graded": len(right)}
