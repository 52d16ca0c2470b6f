"""
name:
Speed

dataset:
questions.jsonl

abstract:
The work as a lighteval task: 64 samples of each question, the last box of each graded.

languages:
english

tags:
math
"""

import os
import re

import numpy as np
from lighteval.metrics.metrics_sample import AvgAtN
from lighteval.metrics.utils.metric_utils import SampleLevelMetric
from lighteval.tasks.lighteval_task import LightevalTaskConfig
from lighteval.tasks.requests import Doc, SamplingMethod

BOX = re.compile(r"\\boxed\{([^{}]*)\}")


def document(line, task_name):
    return Doc(query=line["prompt"], choices=[line["answer"]], gold_index=0, task_name=task_name)


def last_box(doc, response):
    """1 where the last box of one response is the answer."""
    boxes = BOX.findall(response.text[0] or "")
    return int(bool(boxes) and boxes[-1].strip() == doc.choices[0])


TASKS_TABLE = [
    LightevalTaskConfig(
        name="speed",
        prompt_function=document,
        hf_repo=os.path.dirname(os.environ["SPEED_QUESTIONS"]),
        hf_subset="default",
        hf_avail_splits=["train"],
        evaluation_splits=["train"],
        generation_size=int(os.environ["SPEED_MAX_TOKENS"]),
        metrics=[
            SampleLevelMetric(
                metric_name="accuracy",
                category=SamplingMethod.GENERATIVE,
                higher_is_better=True,
                sample_level_fn=AvgAtN(n=64, sample_scoring_function=last_box),
                corpus_level_fn=np.mean,
            )
        ],
        stop_sequence=[],
        version=1,
    )
]
