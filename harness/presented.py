"""A checkpoint as it is served to people: a folder of links with a chat template and defaults of its own.

    scratch/dasd-micro/final/   chat_template.jinja    the checkpoint's, with a default system prompt
                                generation_config.json the checkpoint's, with the default sampling
                                everything else        links

Every engine reads both files as it would read the checkpoint's, so that nothing of ours stands between
a client and the engine. A request that brings a system message, or a sampling parameter, keeps it.
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from harness.chat import CLOSE, OPEN, ChatTemplate, load_template
from harness.errors import DataError
from harness.files import read_object
from harness.types import Message, Sampling
from harness.weights import is_program, remote_code

Thinking = Literal["", "tags", "harmony"]

PARAMETERS = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")
TEMPLATE = "chat_template.jinja"
GENERATION = "generation_config.json"

# The role developer is not spelt out in quotes: vLLM 0.32 takes a template with that literal for one that
# knows the role, and else turns such messages into system messages (renderers/hf.py,
# _detect_developer_role_support). Whether it does is the checkpoint's own template's to say.
#
# The line break at the end is taken away by trim_blocks, which every engine sets as transformers does; so
# the checkpoint's own template still begins at the beginning of a line.
DEFAULT_SYSTEM = (
    '{%- if not messages | selectattr("role", "in", ["system", "dev" ~ "eloper"]) | list -%}'
    '{%- set messages = [{"role": "system", "content": TEXT}] + (messages | list) -%}'
    "{%- endif %}\n"
)


def with_default_system(source: str, system: str) -> str:
    """The template, with a system message in front of every conversation that has none."""
    return DEFAULT_SYSTEM.replace("TEXT", literal(system), 1) + source


def literal(text: str) -> str:
    """A text as a jinja string, without the word that vLLM looks for (see DEFAULT_SYSTEM). JSON would not
    do: jinja does not join a pair of surrogates."""
    escaped = text.encode("unicode_escape").decode("ascii").replace('"', '\\"')
    escaped = escaped.replace("developer", "\\x64eveloper")
    return f'"{escaped}"'


def checked_template(template: ChatTemplate, system: str) -> ChatTemplate:
    """The template with the default system prompt, once rendering shows that it arrives.

    Raises DataError where the checkpoint's own template refuses or drops a system message.
    """
    remedy = 'Serve without one: --system ""; or give the instruction in the user\'s message.'
    changed = ChatTemplate(source=with_default_system(template.source, system), tokens=template.tokens)
    try:
        prompt = changed.render((Message(role="user", content="Hello"),))
    except DataError as error:
        raise DataError(f"this checkpoint takes no system prompt: {error.message}", remedy) from error
    if system.strip() not in prompt:
        raise DataError("this checkpoint's chat template drops the system prompt", remedy)
    return changed


def configuration(model: Path, name: str) -> dict[str, Any]:
    """A JSON file of a checkpoint; empty where there is none. Raises DataError where it is no JSON object."""
    try:
        return read_object(model / name)
    except FileNotFoundError:
        return {}


def context_of(model: Path) -> int:
    """Tokens of prompt and response together that config.json allows; 0 where it does not say."""
    config = configuration(model, "config.json")
    inner = config.get("text_config") or {}
    return int(config.get("max_position_embeddings") or inner.get("max_position_embeddings") or 0)


def own_sampling(model: Path) -> Sampling:
    """The sampling that the checkpoint's publishers recommend in generation_config.json; what it leaves
    open is as OpenAI's interface has it: temperature 1, everything else off."""
    found = configuration(model, GENERATION)
    given = {name: found[name] for name in PARAMETERS if found.get(name) is not None}
    if given.get("top_k") == 0:
        given["top_k"] = -1
    return Sampling(**{"temperature": 1.0, "max_tokens": 0, **given})


def thinking_of(model: Path, trained: bool) -> tuple[Thinking, str]:
    """How the checkpoint marks its reasoning, and a doubt about that, "" where there is none.

    A template that names the tag decides. Qwen3's tokenizers know the tags in models that never think,
    too, so they decide only for what our recipes `trained` to think.
    """
    if configuration(model, "config.json").get("model_type") == "gpt_oss":
        return "harmony", ""
    template = load_template(model)
    if template is not None and OPEN in template.source:
        return "tags", ""
    if not knows_tags(model):
        return "", ""
    if trained:
        return "tags", ""
    return "", f"its tokenizer knows {OPEN} and its template does not say whether it thinks"


def knows_tags(model: Path) -> bool:
    """Whether both thinking tags are single tokens of the checkpoint's tokenizer."""
    added = configuration(model, "tokenizer.json").get("added_tokens") or []
    return {OPEN, CLOSE} <= {str(each.get("content")) for each in added}


@dataclass(frozen=True, kw_only=True)
class Presented:
    """What a client finds: `template` None is the checkpoint's own. `top_k_off` is how the engine writes that
    top_k is off, `max_new_tokens` the length of an answer where a request sets none (0: the engine's)."""

    model: Path
    template: ChatTemplate | None
    sampling: Sampling
    top_k_off: int = -1
    max_new_tokens: int = 0

    def write(self, folder: Path) -> Path:
        """Makes the folder anew and returns it."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        own, code = {GENERATION} | ({TEMPLATE} if self.template else set()), remote_code(self.model)
        for file in self.model.resolve().iterdir():
            if file.is_file() and file.name not in own and not (is_program(file.name) and not code):
                (folder / file.name).symlink_to(file.resolve())
        written = json.dumps(self.generation_config(), indent=1, ensure_ascii=False) + "\n"
        (folder / GENERATION).write_text(written, encoding="utf-8")
        if self.template:
            (folder / TEMPLATE).write_text(self.template.source, encoding="utf-8")
        return folder

    def generation_config(self) -> dict[str, Any]:
        """The checkpoint's settings (end-of-text tokens above all) with the sampling written out."""
        found = configuration(self.model, GENERATION)
        left_out = (*PARAMETERS, "do_sample", "_from_model_config")
        kept = {name: value for name, value in found.items() if name not in left_out}
        limit = {"max_new_tokens": self.max_new_tokens} if self.max_new_tokens else {}
        return {**kept, **limit, **self.parameters()}

    def parameters(self) -> dict[str, Any]:
        """The sampling as transformers, vLLM and SGLang read it from generation_config.json."""
        chosen = self.sampling
        if chosen.temperature == 0:
            return {"do_sample": False, "temperature": 0.0}
        top_k = chosen.top_k if chosen.top_k > 0 else self.top_k_off
        drawn = {"temperature": chosen.temperature, "top_p": chosen.top_p, "top_k": top_k}
        rarely = {"min_p": (chosen.min_p, 0.0), "repetition_penalty": (chosen.repetition_penalty, 1.0)}
        used = {name: value for name, (value, off) in rarely.items() if value != off}
        return {"do_sample": True, **drawn, **used}
