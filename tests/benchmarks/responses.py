"""A generation with only what a grader looks at."""

from typing import Any

from harness.types import FinishReason, Generation, Sampling


def response(
    question: str,
    answer: str,
    text: str | None = None,
    finish: FinishReason = "stop",
    kept: dict[str, Any] | None = None,
) -> Generation:
    """`answer` is what follows `</think>`, `text` the whole response where it says more."""
    return Generation(
        question=question,
        draw=0,
        prompt="?",
        text=answer if text is None else text,
        reasoning="",
        answer=answer,
        finish_reason=finish,
        prompt_tokens=1,
        completion_tokens=1,
        latency=0.0,
        seed=0,
        sampling=Sampling(temperature=1.0, max_tokens=1),
        request_id="",
        model="m",
        engine="e",
        kept=kept or {},
    )
