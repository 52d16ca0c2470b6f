"""Rows for tests of the pipeline."""

from harness.chat import split_reasoning
from harness.types import FinishReason, Generation, Sampling


def row(text: str, question: str = "q", draw: int = 0, finish: FinishReason = "stop") -> Generation:
    """A response as sampling would have stored it."""
    reasoning, answer = split_reasoning(text, finish)
    return Generation(
        question=question,
        draw=draw,
        prompt="",
        text=text,
        reasoning=reasoning,
        answer=answer,
        finish_reason=finish,
        prompt_tokens=1,
        completion_tokens=len(text.split()),
        latency=0.0,
        seed=0,
        sampling=Sampling(temperature=1.0, max_tokens=100),
        request_id="r",
        model="m",
        engine="fake",
        kept={"domain": "math", "prompt": f"prompt of {question}"},
    )
