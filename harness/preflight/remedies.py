"""The setting that mends a failed check, in each engine's own words.

vLLM 0.32.0 and SGLang 0.5.23, as their argument parsers spell them; `[engines.NAME] arguments` of
machine.toml passes arguments on; the harness's own command lines hold most of these already.
"""

from harness.engines import Engine

ANY = "any"

REMEDIES: dict[str, dict[str, str]] = {
    "model": {
        "vllm": "start it with --model CHECKPOINT --served-model-name NAME, or ask for a name that it serves",
        "sglang": "start it with --model-path CHECKPOINT --served-model-name NAME, or ask for that name",
        ANY: "ask for a model that the server lists, and check --base-url",
    },
    "context": {
        "vllm": "lower --max-tokens, or start it with a larger --max-model-len",
        "sglang": "lower --max-tokens, or start it with a larger --context-length",
        ANY: "lower --max-tokens, or serve the model with a larger context (vLLM: --max-model-len)",
    },
    "streaming": {ANY: "stream_from = 0 in machine.toml: nothing is streamed then"},
    "temperature": {
        ANY: "rows would claim a temperature that was not used; use another engine (vllm honours it)",
    },
    "seed": {
        "sglang": 'arguments = ["--enable-deterministic-inference"] under [engines.sglang] of machine.toml',
        "transformers": "transformers serve honours no seed of a request: use --engine vllm",
        ANY: "vLLM honours seeds, SGLang does with --enable-deterministic-inference, and a router must not "
        "drop them",
    },
    "parameter": {
        "transformers": "transformers serve ignores it: use --engine vllm",
        ANY: "leave the parameter off, or use an engine that honours it (vllm)",
    },
    "server defaults": {
        "vllm": "start it with --generation-config vllm",
        "sglang": "start it with --sampling-defaults openai",
        ANY: "start vLLM with --generation-config vllm, SGLang with --sampling-defaults openai, or take the "
        "sampling out of the checkpoint's generation_config.json",
    },
    "prompt": {
        ANY: "start it without --chat-template or with the checkpoint's own chat_template.jinja; or put the "
        "template that you want into the checkpoint",
    },
    "system prompt": {
        ANY: "serve a chat template that writes the system message (--chat-template FILE), or leave out "
        "--system",
    },
    "logprobs": {
        ANY: "divergence-aware selection needs them: sample through vllm or sglang",
    },
    "logprobs before temperature": {
        "vllm": "start it with --logprobs-mode raw_logprobs",
        "sglang": "set SGLANG_RETURN_ORIGINAL_LOGPROB=1 in its environment",
        ANY: "selection compares models, not samplers: sample through vllm or sglang",
    },
    "prompt_logprobs": {
        ANY: "score through vllm, or by a forward pass in process",
    },
    "reasoning": {
        ANY: "start it without --reasoning-parser, or with the model's own (--reasoning-parser qwen3)",
    },
    "truncated": {ANY: "the server must cut at max_tokens and say finish_reason length (vllm does)"},
    "stopped": {ANY: "the server must end at a stop and say finish_reason stop (vllm does)"},
    "usage": {ANY: "token counts of the report would be wrong: use an engine that counts (vllm does)"},
}
REMEDIES["whole distribution"] = REMEDIES["server defaults"]


def remedy(engine: Engine, check: str) -> str:
    """What would mend a failure of `check` on a server of this kind."""
    told = REMEDIES[check]
    return told.get(engine.name, told[ANY])
