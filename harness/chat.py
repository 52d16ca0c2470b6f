"""Chat templates rendered here, and a response split into its reasoning and its answer."""

import functools
import json
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import jinja2
from jinja2.ext import Extension, loopcontrols
from jinja2.nodes import Node
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from harness.errors import DataError
from harness.files import ANOTHER_COPY, read_object
from harness.types import FinishReason, Message

FAULTS = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
"""What a template's own expressions raise."""

OPEN = "<think>"
CLOSE = "</think>"


def split_reasoning(
    text: str, finish_reason: FinishReason, prompt_opens_thinking: bool = False
) -> tuple[str, str]:
    """Reasoning and answer of a response, both without the tags and without outer white space.

    The answer is what follows the last `</think>`. Thinking that was opened, by the response or by
    the template, and never closed leaves no answer; neither does a response without any tag that
    was cut off at its token limit.
    """
    before, closed, after = text.rpartition(CLOSE)
    if closed and OPEN not in after:
        return before.strip().removeprefix(OPEN).strip(), after.strip()
    if OPEN in text or prompt_opens_thinking or finish_reason == "length":
        return text.strip().removeprefix(OPEN).strip(), ""
    return "", text.strip()


def opens_thinking(prompt: str) -> bool:
    """Whether a rendered prompt ends inside a reasoning block that the template opened."""
    return prompt.rstrip().endswith(OPEN)


@dataclass(frozen=True, kw_only=True)
class ChatTemplate:
    """A checkpoint's chat template and the special tokens that it may name."""

    source: str
    tokens: dict[str, str] = field(default_factory=dict)

    def render(
        self,
        messages: tuple[Message, ...],
        add_generation_prompt: bool = True,
        effort: str = "",
        date: str = "",
    ) -> str:
        """The prompt, as transformers' `apply_chat_template(tokenize=False)` renders it.

        `effort` is the reasoning effort, of templates that know one. `date` (2025-08-05) is the day
        that a template which tells the day tells; today where it is empty.
        Raises DataError where the template refuses the messages.
        """
        plain = [{"role": message.role, "content": message.content} for message in messages]
        given: dict[str, Any] = {"reasoning_effort": effort} if effort else {}
        if date:
            given["strftime_now"] = datetime.fromisoformat(date).strftime
        try:
            return compiled(self.source).render(
                messages=plain, add_generation_prompt=add_generation_prompt, **self.tokens, **given
            )
        except (jinja2.TemplateError, *FAULTS) as error:
            raise DataError(f"the chat template refused the messages: {error}") from error


def load_template(model: Path) -> ChatTemplate | None:
    """The chat template of a checkpoint folder; None where it has none (a base model).

    Raises DataError where tokenizer_config.json is no JSON object, or the template no text.
    """
    try:
        config = read_object(model / "tokenizer_config.json")
    except FileNotFoundError:
        config = {}
    file = model / "chat_template.jinja"
    try:
        source = file.read_text(encoding="utf-8") if file.exists() else default_template(config)
    except UnicodeDecodeError as error:
        raise DataError(f"{file} is no text: {error}", ANOTHER_COPY) from error
    if source is None:
        return None
    return ChatTemplate(source=source, tokens=special_tokens(config))


def default_template(config: dict[str, Any]) -> str | None:
    """The template in tokenizer_config.json, which may be one text or a list of named ones."""
    match config.get("chat_template"):
        case str() as source:
            return source
        case list() as named:
            tables = (each for each in named if isinstance(each, dict) and each.get("name") == "default")
            return next((str(each["template"]) for each in tables if "template" in each), None)
    return None


def special_tokens(config: dict[str, Any]) -> dict[str, str]:
    """`bos_token` and its like; each is a text, or an object that holds one."""
    found = {}
    for name in ("bos_token", "eos_token", "pad_token", "unk_token"):
        match config.get(name):
            case str() as token:
                found[name] = token
            case {"content": str() as token}:
                found[name] = token
    return found


class GenerationTag(Extension):
    """`{% generation %}…{% endgeneration %}` marks what a trainer learns from; here it is transparent."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> Node | list[Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


@functools.cache
def compiled(source: str) -> jinja2.Template:
    """The template in jinja's sandbox: checkpoints come from strangers."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[GenerationTag, loopcontrols]
    )
    environment.filters["tojson"] = to_json
    environment.globals["raise_exception"] = refuse
    environment.globals["strftime_now"] = lambda layout: datetime.now().strftime(layout)
    return environment.from_string(source)


def to_json(value: object, ensure_ascii: bool = False, indent: int | None = None) -> str:
    """JSON without the HTML escapes of jinja's own filter."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent)


def refuse(message: str) -> None:
    raise jinja2.TemplateError(message)
