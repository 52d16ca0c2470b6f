"""The records that flow: Question → Generation → Grade. One JSON object a line in the store."""

from dataclasses import dataclass, field
from typing import Any, Literal

Role = Literal["system", "user", "assistant"]
FinishReason = Literal["stop", "length", "other"]


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How a response is drawn. Every parameter is sent to the engine explicitly."""

    temperature: float
    max_tokens: int
    draws: int = 1
    top_p: float = 1.0
    top_k: int = -1
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Message:
    role: Role
    content: str


@dataclass(frozen=True, kw_only=True)
class Question:
    """One question of a benchmark or of the training set.

    `data` holds what only the benchmark itself understands (tests, options); it must be JSON.
    """

    id: str
    domain: str
    prompt: str
    gold: str = ""
    data: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Generation:
    """One response. `text` is the raw response; `reasoning` and `answer` are its two parts.

    Units: tokens, seconds. `kept` is what the benchmark chose for this draw (an option order, say).
    `honoured` lists the sampling settings that the engine was shown to honour. The sampled tokens stand
    in a file of their own (`harness.tokens`).
    """

    question: str
    draw: int
    prompt: str
    text: str
    reasoning: str
    answer: str
    finish_reason: FinishReason
    prompt_tokens: int
    completion_tokens: int
    latency: float
    seed: int
    sampling: Sampling
    request_id: str
    model: str
    engine: str
    honoured: tuple[str, ...] = ()
    kept: dict[str, Any] = field(default_factory=dict)

    @property
    def truncated(self) -> bool:
        return self.finish_reason == "length"


@dataclass(frozen=True, kw_only=True)
class Grade:
    """One verdict. `correct` is None where grading failed; `reason` then says why.

    `lenient` is the verdict of the usual lax rule on the whole text, kept to show the difference.
    """

    question: str
    draw: int
    correct: bool | None
    extracted: str | None
    truncated: bool
    reason: str = ""
    lenient: bool | None = None
    detail: dict[str, Any] = field(default_factory=dict)
