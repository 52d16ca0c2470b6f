"""A micro teacher that speaks harmony: `python -m tests.standins.teacher OUT [STEPS]`. Minutes on a core.

The committed micro teacher gets gpt-oss's special tokens and a chat template of gpt-oss's kind, and reads
worked problems in its channels until it answers in them.
"""

import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from harness.chat import ChatTemplate, split_reasoning
from harness.harmony import continued
from harness.types import Message
from pipeline.recipes.dasd_micro import MODELS
from tests.standins import CONTEXT, lessons

MARKERS = [f"<|{name}|>" for name in ("start", "channel", "message", "constrain", "end", "return", "call")]
TEMPLATE = (
    "{{- '<|start|>system<|message|>Current date: ' + strftime_now('%Y-%m-%d') }}"
    "{{- '\\n\\nReasoning: ' + (reasoning_effort or 'medium') + '<|end|>' }}"
    "{%- for message in messages %}"
    "{%- if message.role == 'assistant' %}"
    "{{- '<|start|>assistant<|channel|>final<|message|>' + message.content + '<|end|>' }}"
    "{%- else %}"
    "{{- '<|start|>' + ('developer' if message.role == 'system' else message.role) }}"
    "{{- '<|message|>' + message.content + '<|end|>' }}"
    "{%- endif %}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|start|>assistant' }}{%- endif %}"
)
ROWS, BLOCK, RATE = 12, 384, 1e-3


def conversations(seed: str) -> Iterator[str]:
    """Worked problems as gpt-oss would answer them, at every effort and on many days."""
    template, rng = ChatTemplate(source=TEMPLATE), random.Random(seed)
    for told in lessons(seed):
        prompt = template.render(
            (Message(role="user", content=told.question),),
            effort=rng.choice(("low", "medium", "high")),
            date=f"20{rng.randrange(24, 27)}-{rng.randrange(1, 13):02}-{rng.randrange(1, 29):02}",
        )
        thinking, answer = split_reasoning(told.answer, "stop")
        yield prompt + continued(f"<think>\n{thinking}\n</think>\n\n{answer}") + "<|return|>"


def batches(tokenizer: AutoTokenizer) -> Iterator[torch.Tensor]:
    """(ROWS, BLOCK) token ids, conversations end to end."""
    ids: list[int] = []
    for text in conversations("harmony"):
        ids += tokenizer(text, add_special_tokens=False)["input_ids"]
        if len(ids) >= ROWS * BLOCK:
            yield torch.tensor(ids[: ROWS * BLOCK]).view(ROWS, BLOCK)
            ids = ids[ROWS * BLOCK :]


def build(out: Path, steps: int) -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(MODELS / "teacher")
    tokenizer.add_special_tokens({"additional_special_tokens": MARKERS, "eos_token": "<|return|>"})
    tokenizer.chat_template = TEMPLATE
    model = AutoModelForCausalLM.from_pretrained(MODELS / "teacher", dtype=torch.float32)
    model.resize_token_embeddings(776)
    model.config.eos_token_id = tokenizer.convert_tokens_to_ids("<|return|>")
    model.config.max_position_embeddings = CONTEXT
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, betas=(0.9, 0.95), weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=RATE, total_steps=steps, pct_start=0.1)
    for step, batch in zip(range(steps), batches(tokenizer), strict=False):
        loss = model(input_ids=batch, labels=batch, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if step % 20 == 0 or step == steps - 1:
            print(f"teacher of harmony {step + 1}/{steps} loss {loss.item():.3f}", flush=True)
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    config = {"eos_token_id": model.config.eos_token_id, "do_sample": True}
    (out / "generation_config.json").write_text(json.dumps(config))


if __name__ == "__main__":
    build(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 150)
