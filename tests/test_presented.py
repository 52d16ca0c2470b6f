"""A checkpoint as clients find it: default system prompt, default sampling, context, reasoning."""

import json
from pathlib import Path
from typing import Any

import pytest

from harness.chat import ChatTemplate, compiled, load_template
from harness.errors import DataError
from harness.presented import (
    Presented,
    checked_template,
    context_of,
    own_sampling,
    thinking_of,
    with_default_system,
)
from harness.types import Sampling
from tests.fakes.engine import checkpoint

MICRO = Path(__file__).resolve().parents[1] / "pipeline" / "micro" / "teacher"
PLAIN = "{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}"
FIRST_APART = (
    "{%- if messages[0].role == 'system' %}{{- messages[0].content }}|{%- set rest = messages[1:] %}"
    "{%- else %}{%- set rest = messages %}{%- endif %}{% for m in rest %}{{ m.content }}{% endfor %}"
)
MACRO = "{% macro all() %}{% for m in messages %}{{ m.content }};{% endfor %}{% endmacro %}{{ all() }}"
TEMPLATES = {
    "plain": PLAIN,
    "begins with a line break": "\n" + PLAIN,
    "begins with an indented block": "   " + PLAIN,
    "begins with text": "  <s>\n" + PLAIN,
    "takes the first message apart": FIRST_APART,
    "reads messages in a macro": MACRO,
    "the micro models'": "",
}
PROMPTS = [
    "You are a helpful assistant.",
    """a 'developer', "developer" and \\developer""",
    'a "b" \\n {% endif %} {{ x }} é 😀\n\tend',
    "'",
]


def message(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def rendered(source: str, *messages: dict[str, str]) -> str:
    return compiled(source).render(messages=list(messages), add_generation_prompt=True)


@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize("kind", TEMPLATES)
def test_the_default_system_prompt_renders_as_if_the_request_had_brought_it(kind: str, prompt: str) -> None:
    micro = load_template(MICRO)
    assert micro is not None
    source = TEMPLATES[kind] or micro.source
    wrapped = with_default_system(source, prompt)
    asked = [message("user", "one"), message("assistant", "two"), message("user", "three")]
    assert rendered(wrapped, *asked) == rendered(source, message("system", prompt), *asked)


@pytest.mark.parametrize("role", ["system", "developer"])
@pytest.mark.parametrize("kind", TEMPLATES)
def test_a_request_with_a_system_message_of_its_own_keeps_it_alone(kind: str, role: str) -> None:
    source = TEMPLATES[kind] or PLAIN
    asked = [message(role, "mine"), message("user", "one")]
    assert rendered(with_default_system(source, "ours"), *asked) == rendered(source, *asked)
    later = [message("user", "one"), message(role, "mine"), message("user", "two")]
    assert rendered(with_default_system(source, "ours"), *later) == rendered(source, *later)


@pytest.mark.parametrize("prompt", PROMPTS)
def test_the_wrapper_does_not_look_as_if_the_template_knew_developers(prompt: str) -> None:
    """vLLM searches the template for these two literals, and turns developer into system without them."""
    wrapped = with_default_system(PLAIN, prompt)
    assert '"developer"' not in wrapped
    assert "'developer'" not in wrapped


def test_a_template_that_drops_the_system_prompt_is_refused() -> None:
    dropping = "{% for m in messages if m.role != 'system' %}{{ m.content }}{% endfor %}"
    with pytest.raises(DataError, match="drops the system prompt"):
        checked_template(ChatTemplate(source=dropping), "be brief")


def test_a_template_that_refuses_a_system_message_says_so_and_how_to_serve_it() -> None:
    refusing = "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    with pytest.raises(DataError, match=r"no system role(.|\n)*--system"):
        checked_template(ChatTemplate(source=refusing), "be brief")


def configured(folder: Path, config: dict[str, Any], generation: dict[str, Any] | None = None) -> Path:
    model = checkpoint(folder)
    (model / "config.json").write_text(json.dumps(config))
    if generation is not None:
        (model / "generation_config.json").write_text(json.dumps(generation))
    return model


def test_the_context_is_the_checkpoints_own_wherever_it_says_so(tmp_path: Path) -> None:
    assert context_of(configured(tmp_path / "a", {"max_position_embeddings": 512})) == 512
    assert context_of(configured(tmp_path / "b", {"text_config": {"max_position_embeddings": 9}})) == 9
    assert context_of(configured(tmp_path / "c", {})) == 0


def test_the_sampling_that_publishers_recommend_is_the_default(tmp_path: Path) -> None:
    qwen = {"temperature": 0.7, "top_p": 0.8, "top_k": 20, "eos_token_id": [1, 2]}
    found = own_sampling(configured(tmp_path / "a", {}, qwen))
    assert (found.temperature, found.top_p, found.top_k) == (0.7, 0.8, 20)
    assert own_sampling(configured(tmp_path / "b", {})).temperature == 1.0
    assert own_sampling(configured(tmp_path / "c", {}, {"top_k": 0})).top_k == -1


def test_a_presented_checkpoint_leaves_the_checkpoint_as_it_is(tmp_path: Path) -> None:
    model = configured(tmp_path / "model", {"max_position_embeddings": 8}, {"eos_token_id": 3, "top_k": 50})
    before = {file.name: file.read_bytes() for file in model.iterdir()}
    template = ChatTemplate(source=with_default_system(PLAIN, "be brief"))
    folder = Presented(
        model=model, template=template, sampling=Sampling(temperature=0.6, max_tokens=0, top_p=0.9)
    ).write(tmp_path / "scratch" / "org" / "name")
    assert {file.name: file.read_bytes() for file in model.iterdir()} == before
    assert (folder / "chat_template.jinja").read_text() == template.source
    assert (folder / "config.json").is_symlink()
    assert json.loads((folder / "generation_config.json").read_text()) == {
        "eos_token_id": 3,
        "do_sample": True,
        "temperature": 0.6,
        "top_p": 0.9,
        "top_k": -1,
    }


def test_without_a_system_prompt_the_template_is_the_checkpoints_own(tmp_path: Path) -> None:
    model = checkpoint(tmp_path / "model")
    folder = Presented(
        model=model, template=None, sampling=Sampling(temperature=0.0, max_tokens=0), top_k_off=0
    ).write(tmp_path / "presented")
    assert (folder / "chat_template.jinja").resolve() == model / "chat_template.jinja"
    assert json.loads((folder / "generation_config.json").read_text())["do_sample"] is False


def test_a_tokenizer_that_knows_the_tags_does_not_make_a_model_think(tmp_path: Path) -> None:
    """Qwen3's Instruct models know them and never use them: a parser would call each answer reasoning."""
    model = configured(tmp_path / "instruct", {"model_type": "qwen3"})
    added = [{"content": "<think>"}, {"content": "</think>"}]
    (model / "tokenizer.json").write_text(json.dumps({"added_tokens": added}))
    kind, doubt = thinking_of(model, trained=False)
    assert (kind, "does not say" in doubt) == ("", True)
    assert thinking_of(model, trained=True) == ("tags", "")
    (model / "chat_template.jinja").write_text("{{ '<think>\n' }}")
    assert thinking_of(model, trained=False) == ("tags", "")


def test_gpt_oss_thinks_in_channels(tmp_path: Path) -> None:
    assert thinking_of(configured(tmp_path / "m", {"model_type": "gpt_oss"}), False) == ("harmony", "")
    assert thinking_of(configured(tmp_path / "n", {"model_type": "llama"}), True) == ("", "")
