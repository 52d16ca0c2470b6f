"""
name:
Faults

dataset:
questions.jsonl

abstract:
The work as a lighteval task: one sample of each question, its last box graded.

languages:
english

tags:
math
"""

import importlib.util
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
from lighteval.metrics.metrics_sample import SampleLevelComputation
from lighteval.metrics.utils.metric_utils import SampleLevelMetric
from lighteval.tasks.requests import SamplingMethod

place = Path(os.environ["SPEED_SCRATCH"]) / "lighteval_speed.py"
spec = importlib.util.spec_from_file_location("lighteval_speed", place)
speed = importlib.util.module_from_spec(spec)
spec.loader.exec_module(speed)


class LastBox(SampleLevelComputation):
    """1 where the last box of the response is the answer."""

    def compute(self, doc, model_response, **_):
        return speed.last_box(doc, model_response)


TASKS_TABLE = [
    replace(
        speed.TASKS_TABLE[0],
        name="faults",
        metrics=[
            SampleLevelMetric(
                metric_name="accuracy",
                category=SamplingMethod.GENERATIVE,
                higher_is_better=True,
                sample_level_fn=LastBox(),
                corpus_level_fn=np.mean,
            )
        ],
    )
]
