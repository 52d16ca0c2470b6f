"""Builds the two micro checkpoints from seeds: `python -m pipeline.micro.build OUT [NAME]`.

The tokenizer is a byte-level BPE with single digits, as Qwen's. Both models have the Qwen3
architecture. The base reads little and answers briefly; the teacher is wider, reads much more and
works its answers out. The built checkpoints are committed beside this file (`base/`, `teacher/`).
About half an hour on one core.

The sums of training depend on the processor, so a build elsewhere is another model of the same kind. The
committed base is one of three: two others, built with more reading or on another processor, left gaps
between the stages of dasd-micro that some seeds could not tell from noise.
"""

import json
import random
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from pipeline.micro.textbook import Domain, Style, drill, lesson

END_OF_TEXT, TURN_START, TURN_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
SYSTEM = "You are a helpful assistant."
CONTEXT = 512
BLOCK = 256
ROWS = 12

CHAT_TEMPLATE = (
    "{%- for message in messages %}"
    "{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)

PRE_TOKENIZER = r" ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What a model is and how much it reads."""

    name: str
    hidden: int
    feed_forward: int
    layers: int
    heads: int
    cycles: tuple[int, ...]
    learning_rate: float
    lessons: float
    styles: dict[Style, float]
    subjects: dict[Domain, float]
    seed: int


BASE = Reading(
    name="base", hidden=128, feed_forward=384, layers=4, heads=4,
    cycles=(4_000_000, 3_000_000), learning_rate=2e-3, lessons=0.6,
    styles={"direct": 0.3, "short": 0.35, "full": 0.25, "checked": 0.1},
    subjects={"math": 0.45, "science": 0.35, "code": 0.2}, seed=1,
)  # fmt: skip
TEACHER = Reading(
    name="teacher", hidden=160, feed_forward=448, layers=4, heads=6,
    cycles=(6_500_000, 2_500_000, 2_500_000), learning_rate=2e-3, lessons=0.8,
    styles={"direct": 0.02, "short": 0.06, "full": 0.52, "checked": 0.4},
    subjects={"math": 0.5, "science": 0.25, "code": 0.25}, seed=2,
)  # fmt: skip


def chat(question: str, answer: str) -> str:
    """A conversation as the chat template renders it."""
    turns = (("system", SYSTEM), ("user", question), ("assistant", answer))
    return "".join(f"{TURN_START}{role}\n{text}{TURN_END}\n" for role, text in turns)


def documents(reading: Reading, cycle: int) -> Iterator[str]:
    """An endless stream of drills and lessons, another one in each cycle."""
    rng = random.Random(f"{reading.seed}:{reading.name}" + (f":{cycle}" if cycle else ""))
    while True:
        if rng.random() < reading.lessons:
            told = lesson(rng, reading.styles, reading.subjects)
            yield chat(told.question, told.answer)
        else:
            yield "\n".join(drill(rng) for _ in range(4)) + END_OF_TEXT


def build_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE trained on the teacher's reading."""
    stream = documents(TEACHER, 0)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PRE_TOKENIZER), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        (next(stream) for _ in range(20_000)),
        trainers.BpeTrainer(
            vocab_size=761,
            special_tokens=[END_OF_TEXT, TURN_START, TURN_END],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    tokenizer.add_tokens([AddedToken("<think>"), AddedToken("</think>")])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=TURN_END,
        pad_token=END_OF_TEXT,
        chat_template=CHAT_TEMPLATE,
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )


def blocks(reading: Reading, cycle: int, tokenizer: PreTrainedTokenizerFast) -> Iterator[torch.Tensor]:
    """Endless (ROWS, BLOCK) batches of token ids, documents end to end."""
    stream, ids = documents(reading, cycle), list[int]()
    while True:
        while len(ids) < ROWS * BLOCK:
            texts = [next(stream) for _ in range(64)]
            for encoded in tokenizer(texts, add_special_tokens=False)["input_ids"]:
                ids.extend(encoded)
        yield torch.tensor(ids[: ROWS * BLOCK]).view(ROWS, BLOCK)
        ids = ids[ROWS * BLOCK :]


def read(reading: Reading, tokenizer: PreTrainedTokenizerFast, out: Path) -> None:
    """Pretrains one model, a cycle of the learning rate after the other; each ends in a checkpoint.

    A cycle whose checkpoint is there is not read again, so an interrupted build goes on.
    """
    torch.manual_seed(reading.seed)
    model = new_model(reading, tokenizer)
    for cycle, tokens in enumerate(reading.cycles):
        last = cycle == len(reading.cycles) - 1
        folder = out / (reading.name if last else f"{reading.name}-cycle{cycle}")
        if not folder.exists():
            read_cycle(reading, model, blocks(reading, cycle, tokenizer), tokens)
            save(model, tokenizer, folder)
        model = Qwen3ForCausalLM.from_pretrained(folder, dtype=torch.float32)


def new_model(reading: Reading, tokenizer: PreTrainedTokenizerFast) -> Qwen3ForCausalLM:
    config = Qwen3Config(
        vocab_size=768,
        hidden_size=reading.hidden,
        intermediate_size=reading.feed_forward,
        num_hidden_layers=reading.layers,
        num_attention_heads=reading.heads,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.convert_tokens_to_ids(TURN_END),
        pad_token_id=tokenizer.convert_tokens_to_ids(END_OF_TEXT),
    )
    return Qwen3ForCausalLM(config)


def read_cycle(
    reading: Reading, model: Qwen3ForCausalLM, source: Iterator[torch.Tensor], tokens: int
) -> None:
    """One cycle: AdamW, the learning rate up for a twentieth of the steps, then down along a cosine."""
    model.train()
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=reading.learning_rate, betas=(0.9, 0.95), weight_decay=0.1, fused=True
    )
    steps = tokens // (ROWS * BLOCK)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=reading.learning_rate, total_steps=steps, pct_start=0.05, cycle_momentum=False
    )
    started = time.time()
    for step in range(steps):
        batch = next(source)
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(input_ids=batch, labels=batch, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if step % 50 == 0 or step == steps - 1:
            speed = (step + 1) * ROWS * BLOCK / (time.time() - started)
            told = f"{step + 1}/{steps} loss {loss.item():.3f} {speed:.0f} tokens/s"
            print(reading.name, told, flush=True)


def save(model: Qwen3ForCausalLM, tokenizer: PreTrainedTokenizerFast, out: Path) -> None:
    state = {name: tensor.to(torch.bfloat16) for name, tensor in model.state_dict().items()}
    half = Qwen3ForCausalLM(model.config).to(torch.bfloat16)
    half.load_state_dict(state)
    half.save_pretrained(out)
    tokenizer.save_pretrained(out)


def main() -> None:
    out = Path(sys.argv[1])
    torch.set_num_threads(1)
    tokenizer = build_tokenizer()
    for reading in (BASE, TEACHER):
        if sys.argv[2:] in ([], [reading.name]):
            read(reading, tokenizer, out)
    print(json.dumps({"vocabulary": len(tokenizer)}))


if __name__ == "__main__":
    main()
