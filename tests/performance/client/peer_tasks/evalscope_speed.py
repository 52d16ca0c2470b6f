"""The work as an evalscope benchmark, and its run: python evalscope_speed.py BASE_URL CONCURRENCY OUT."""

import os
import re
import sys

from evalscope import TaskConfig, run_task
from evalscope.api.benchmark import BenchmarkMeta, DefaultDataAdapter
from evalscope.api.dataset import Sample
from evalscope.api.metric import Score
from evalscope.api.registry import register_benchmark

BOX = re.compile(r"\\boxed\{([^{}]*)\}")


@register_benchmark(
    BenchmarkMeta(
        name="speed",
        pretty_name="speed",
        description="sums",
        dataset_id=os.path.dirname(os.environ["SPEED_QUESTIONS"]),
        subset_list=["questions"],
        default_subset="questions",
        metric_list=["acc"],
        eval_split="test",
        prompt_template="{question}",
    )
)
class Speed(DefaultDataAdapter):
    """Grades the last box of a response."""

    def load_from_disk(self, **_):
        return super().load_from_disk(use_local_loader=True)

    def record_to_sample(self, record):
        return Sample(input=record["prompt"], target=record["answer"])

    def match_score(self, original_prediction, filtered_prediction, reference, task_state):
        boxes = BOX.findall(original_prediction)
        answer = boxes[-1].strip() if boxes else ""
        score = Score(extracted_prediction=answer, prediction=original_prediction)
        score.value = {"acc": float(answer == reference)}
        score.main_score_name = "acc"
        return score


def main():
    base_url, concurrency, out = sys.argv[1:]
    run_task(
        TaskConfig(
            model="speed",
            api_url=base_url,
            api_key="none",
            eval_type="openai_api",
            datasets=["speed"],
            repeats=64,
            eval_batch_size=int(concurrency),
            generation_config={
                "temperature": 1.0,
                "top_p": 1.0,
                "max_tokens": int(os.environ["SPEED_MAX_TOKENS"]),
                "stream": bool(os.environ["SPEED_STREAM"]),
            },
            collect_perf=False,
            work_dir=out,
            no_timestamp=True,
        )
    )


if __name__ == "__main__":
    main()
