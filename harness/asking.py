"""What is asked: one Request, and the path and JSON body that put it to an endpoint."""

from dataclasses import dataclass, field
from typing import Any

from harness import harmony
from harness.chat import OPEN, ChatTemplate, opens_thinking
from harness.endpoint import Endpoint
from harness.errors import ServerError
from harness.harmony import speaks_harmony
from harness.types import Message, Sampling

PROMPT = "prompt.json"
"""What `as_sent` tells of one request, in the folder of the stage that asks."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """One response to ask for. `(question, draw)` is its key.

    `prefix` is assistant text that the model continues exactly; the Generation's `text` is then the
    continuation alone, its `reasoning` and `answer` those of prefix and continuation together.
    `kept` goes into the row untouched. `effort` is the reasoning effort of models that know one, `date`
    the day that a template which tells the day tells. `logprobs` asks for the tokens as well. `tagged`
    lets the text begin with `<think>` also where the template wrote that.
    """

    question: str
    draw: int
    messages: tuple[Message, ...]
    sampling: Sampling
    seed: int
    prefix: str = ""
    kept: dict[str, Any] = field(default_factory=dict)
    logprobs: bool = False
    effort: str = ""
    date: str = ""
    tagged: bool = False

    @property
    def key(self) -> tuple[str, int]:
        return self.question, self.draw


def asked(request: Request, endpoint: Endpoint) -> tuple[str, dict[str, Any]]:
    """Path and body of a request: every sampling parameter that the engine accepts, and the seed.

    Raises ServerError where a model without a chat template is to be asked at /v1/completions.
    """
    body: dict[str, Any] = {
        "model": endpoint.model,
        "max_tokens": request.sampling.max_tokens,
        "seed": request.seed,
        **{name: getattr(request.sampling, name) for name in endpoint.accepts},
    }
    if is_rendered(request, endpoint):
        return "/completions", {**body, **text_body(request, endpoint)}
    return "/chat/completions", {**body, **chat_body(request, endpoint)}


def text_body(request: Request, endpoint: Endpoint) -> dict[str, Any]:
    template = endpoint.template
    if template is None:
        raise ServerError(
            f"{endpoint.model} has no chat template, and {endpoint.engine.name} is asked with rendered text",
            "add chat_template.jinja to the checkpoint",
        )
    prompt = rendered(request, template)
    logprobs = {"logprobs": 1, **endpoint.engine.token_ids} if wants_tokens(request, endpoint) else {}
    if speaks_harmony(template):
        markers: dict[str, Any] = {"skip_special_tokens": False, "stop": harmony.STOP}
        prompt += harmony.continued(request.prefix) if request.prefix else ""
        return {"prompt": prompt, **endpoint.engine.raw_prompt, **logprobs, **markers}
    prompt += own_part(request.prefix, prompt)
    return {"prompt": prompt, **endpoint.engine.raw_prompt, **logprobs}


def chat_body(request: Request, endpoint: Endpoint) -> dict[str, Any]:
    messages = [{"role": each.role, "content": each.content} for each in request.messages]
    extra: dict[str, Any] = {"reasoning_effort": request.effort} if request.effort else {}
    if request.prefix:
        messages.append({"role": "assistant", "content": request.prefix})
        extra |= {"add_generation_prompt": False, "continue_final_message": True}
    if wants_tokens(request, endpoint):
        extra |= {"logprobs": True, "top_logprobs": 0, **endpoint.engine.token_ids}
    return {"messages": messages, **extra}


def rendered(request: Request, template: ChatTemplate) -> str:
    """The prompt. Raises ServerError where the template does not pass the reasoning effort on."""
    prompt = template.render(request.messages, effort=request.effort, date=request.date)
    if request.effort and f"Reasoning: {request.effort}" not in prompt:
        raise ServerError(
            f"reasoning effort {request.effort!r} is asked for, and the checkpoint's chat template does not "
            "say it in the prompt",
            "take a checkpoint whose template knows reasoning_effort, or ask for no effort",
        )
    return prompt


def own_part(prefix: str, prompt: str) -> str:
    """The prefix without a tag that the template has written already."""
    return prefix.removeprefix(OPEN).removeprefix("\n") if opens_thinking(prompt) else prefix


def as_sent(request: Request, endpoint: Endpoint) -> dict[str, Any]:
    """Path and body of a request, and the text that the checkpoint's own template makes of its messages
    (None where no template is at hand). For the record: no host and no key is in it."""
    path, body = asked(request, endpoint)
    template = endpoint.template
    return {"path": path, "body": body, "rendered": template and rendered(request, template)}


def is_rendered(request: Request, endpoint: Endpoint) -> bool:
    """Whether the harness renders the prompt itself and asks /v1/completions.

    Harmony is never left to the server's own parser, which keeps neither the tokens' borders nor, in
    every engine, their log-probabilities. A prefix is rendered where the template is at hand, because
    templates rewrite earlier reasoning; elsewhere the server's `continue_final_message` must do.
    """
    if not endpoint.engine.chat:
        return True
    return endpoint.template is not None and (bool(request.prefix) or speaks_harmony(endpoint.template))


def wants_tokens(request: Request, endpoint: Endpoint) -> bool:
    return request.logprobs and endpoint.engine.logprobs


def prompt_opens_thinking(request: Request, template: ChatTemplate | None) -> bool:
    """Whether the template itself opens the reasoning block that the response continues."""
    return template is not None and opens_thinking(template.render(request.messages))
