"""Wanted: what a run is going to ask of an endpoint, as far as a preflight must know it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice

from harness.asking import Request
from harness.types import Message, Sampling

LOOKED_THROUGH = 4096
"""Requests among which the longest is looked for: all questions of any benchmark here, and few enough to
hold. A stage with more questions is judged by these."""
BYTES_A_TOKEN = 3.0
"""Of a prompt, to compare lengths before anything is asked; the longest is then counted by the server."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """`first` is a typical request, `longest` the one that needs most room. `seeds` says whether a run may
    not go on without them; `prompt_logprobs` whether it scores prompts."""

    first: Request
    longest: Request
    sampling: Sampling
    seeds: bool = False
    prompt_logprobs: bool = False

    @property
    def system(self) -> bool:
        """Whether the run sends a system prompt."""
        return any(message.role == "system" for message in self.first.messages)


def look_through(requests: Iterable[Request]) -> tuple[list[Request], Iterator[Request]]:
    """The first requests of a run, and all of them again."""
    source = iter(requests)
    seen = list(islice(source, LOOKED_THROUGH))
    return seen, chain(seen, source)


def wanted_by(requests: list[Request], sampling: Sampling, seeds: bool = False) -> Wanted:
    """What these requests, of which there is at least one, want."""
    return Wanted(first=requests[0], longest=max(requests, key=room), sampling=sampling, seeds=seeds)


def room(request: Request) -> float:
    """Tokens that prompt and response may take together, roughly."""
    text = "".join(message.content for message in request.messages) + request.prefix
    return len(text.encode()) / BYTES_A_TOKEN + request.sampling.max_tokens


def plain_wanted(sampling: Sampling, system: str | None = None, seeds: bool = False) -> Wanted:
    """What is wanted where no benchmark is named: one short conversation."""
    user = Message(role="user", content="What is the capital of France?")
    messages = (user,) if system is None else (Message(role="system", content=system), user)
    request = Request(question="preflight", draw=0, messages=messages, sampling=sampling, seed=1)
    return Wanted(first=request, longest=request, sampling=sampling, seeds=seeds)
