"""The transformers engine on a randomly initialised Qwen3-4B: tokens a second, and what the client adds.

Our loop and the bare one take turns on the same 64 requests. The end of text is never sampled
(`suppress_tokens`), so that every response has the same length, and a turn with a token less does not
count. The tokenizer is the micro models', with entries of
its own for the rest of Qwen3's vocabulary.
"""

import asyncio
import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from harness.asking import Request, asked
from harness.endpoint import Endpoint
from harness.engines.transformers import transformers as engine
from harness.generate import Pace, generate
from harness.machine import Machine
from harness.rows import read_rows
from harness.serve import ServerPool
from harness.types import Generation, Message, Sampling
from pipeline.quiet import quiet
from pipeline.recipes.dasd_micro import MODELS
from tests.performance.client.bare import ask_all
from tests.performance.score_rate import QWEN3_4B, SLIM

REQUESTS = 64
TOKENIZER_FILES = ("tokenizer_config.json", "chat_template.jinja")
END_OF_TEXT = 2


@dataclass(frozen=True, kw_only=True)
class Size:
    """What is served, how long its responses are in tokens, and how often both loops take their turn."""

    config: dict[str, Any]
    max_tokens: int
    rounds: int
    dtype: str = "bfloat16"


QWEN3 = Size(config=QWEN3_4B, max_tokens=512, rounds=3)
TINY = Size(config={**SLIM, "vocab_size": 2_048}, max_tokens=16, rounds=1, dtype="float32")
"""The same steps on a CPU in a minute: no figure of any model."""


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One pass over all requests. `busy` is the processor time of this process, in seconds, `tokens` those
    of all responses as the server counts them."""

    seconds: float
    busy: float
    responses: int
    tokens: int


def faults(pair: tuple[Turn, Turn], size: Size) -> Iterator[str]:
    """What keeps a round from being the whole work of both loops, bare and ours."""
    wanted = (REQUESTS, REQUESTS * size.max_tokens)
    for name, turn in zip(("bare", "ours"), pair, strict=True):
        if (turn.responses, turn.tokens) != wanted:
            yield (
                f"{name}: {turn.responses} responses with {turn.tokens:,} tokens, "
                f"not {wanted[0]} with {wanted[1]:,}"
            )


def tokens_in(answer: bytes) -> int:
    """The tokens of a response as its server counts them; 0 where it does not say."""
    usage = json.loads(answer).get("usage") or {}
    return int(usage.get("completion_tokens") or 0)


def padded_tokenizer(size: int) -> dict[str, Any]:
    """The micro models' tokenizer with `size` entries: what it lacks is spelt `pad700`, `pad701`, …"""
    found: dict[str, Any] = json.loads((MODELS / "base" / "tokenizer.json").read_bytes())
    vocabulary = found["model"]["vocab"]
    taken = {*vocabulary.values(), *(each["id"] for each in found["added_tokens"])}
    vocabulary |= {f"pad{number}": number for number in range(size) if number not in taken}
    return found


def random_checkpoint(folder: Path, size: Size) -> Path:
    """A Qwen3 with random weights and a whole tokenizer."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    quiet()
    torch.manual_seed(0)
    torch.set_default_dtype(getattr(torch, size.dtype))
    config = Qwen3Config(**size.config, eos_token_id=END_OF_TEXT, pad_token_id=0, bos_token_id=None)
    Qwen3ForCausalLM(config).save_pretrained(folder)
    torch.set_default_dtype(torch.float32)
    for name in TOKENIZER_FILES:
        shutil.copy(MODELS / "base" / name, folder / name)
    ending = {"eos_token_id": END_OF_TEXT, "pad_token_id": 0, "suppress_tokens": [END_OF_TEXT]}
    (folder / "generation_config.json").write_text(json.dumps(ending), encoding="utf-8")
    tokenizer = padded_tokenizer(size.config["vocab_size"])
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    return folder


def requests(sampling: Sampling) -> Iterator[Request]:
    for number in range(REQUESTS):
        prompt = f"Compute {number}+{number}*{number}."
        yield Request(
            question=str(number),
            draw=0,
            messages=(Message(role="user", content=prompt),),
            sampling=sampling,
            seed=number,
        )


def our_turn(endpoint: Endpoint, sampling: Sampling, folder: Path) -> Turn:
    rows = folder / "generations.jsonl"
    started, busy = time.perf_counter(), time.process_time()
    generate(requests(sampling), endpoint, rows, pace=Pace(requests=REQUESTS))
    seconds, busy = time.perf_counter() - started, time.process_time() - busy
    tokens = [row.completion_tokens for row in read_rows(rows, Generation)]
    return Turn(seconds=seconds, busy=busy, responses=len(tokens), tokens=sum(tokens))


def bare_turn(endpoint: Endpoint, sampling: Sampling) -> Turn:
    bodies = [asked(each, endpoint) for each in requests(sampling)]
    encoded = [msgspec.json.encode(body) for _, body in bodies]
    answered: list[bytes] = []
    started, busy = time.perf_counter(), time.process_time()
    asyncio.run(ask_all(f"{endpoint.base_url}{bodies[0][0]}", encoded, REQUESTS, answered))
    seconds, busy = time.perf_counter() - started, time.process_time() - busy
    tokens = sum(map(tokens_in, answered))
    return Turn(seconds=seconds, busy=busy, responses=len(answered), tokens=tokens)


def turns(folder: Path, size: Size) -> list[tuple[Turn, Turn]]:
    """Bare and ours in turn, after one pass that is not counted; whole answers, as the bare loop's."""
    model = random_checkpoint(folder / "model", size)
    sampling = Sampling(temperature=1.0, max_tokens=size.max_tokens)
    found = []
    with ServerPool(Machine(stream_from=0)) as pool:
        endpoint = pool.acquire(engine, model, "random", sampling, folder / "server.log")
        for number in range(size.rounds + 1):
            bare = bare_turn(endpoint, sampling)
            found.append((bare, our_turn(endpoint, sampling, folder / f"rows-{number}")))
    return found[1:]
