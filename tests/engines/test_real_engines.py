"""Real engines: one server start each. They need `harness setup vllm` and `harness setup transformers`.

The model is a Qwen3 of random weights, made here by the transformers environment: engines do not care.
"""

import asyncio
import subprocess
from pathlib import Path

import pytest

from harness.client import Client, Refused
from harness.engines import Engine
from harness.engines.transformers import transformers
from harness.engines.vllm import vllm
from harness.errors import UsageError
from harness.generate import Pace, generate
from harness.machine import load_machine
from harness.preflight import plain_wanted, preflight
from harness.rows import read_rows
from harness.serve import Endpoint, ServerPool
from harness.setup import environment_python
from harness.tokens import TokenIndex
from harness.types import Generation, Message, Sampling
from tests.fakes.engine import request

SAMPLING = Sampling(temperature=1.0, max_tokens=24)

RANDOM_MODEL = """
import sys, torch
from tokenizers import Tokenizer, models, pre_tokenizers, decoders
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM
from pathlib import Path
out = Path(sys.argv[1])
alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
pieces = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *alphabet]
vocabulary = {piece: number for number, piece in enumerate(pieces)}
tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
tokenizer.decoder = decoders.ByteLevel()
fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>",
                               additional_special_tokens=["<|im_start|>"], model_max_length=256)
fast.chat_template = ("{% for m in messages %}<|im_start|>{{ m.role }}\\n"
                      "{{ m.content }}<|im_end|>\\n{% endfor %}"
                      "{% if add_generation_prompt %}<|im_start|>assistant\\n{% endif %}")
fast.save_pretrained(out)
torch.manual_seed(0)
config = Qwen3Config(vocab_size=len(vocabulary), hidden_size=64, intermediate_size=128, num_hidden_layers=2,
                     num_attention_heads=2, num_key_value_heads=1, head_dim=32, max_position_embeddings=256,
                     tie_word_embeddings=True, bos_token_id=None, eos_token_id=2, pad_token_id=0)
Qwen3ForCausalLM(config).save_pretrained(out)
"""

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    machine = load_machine(None)
    for name in ("transformers", "vllm"):
        try:
            environment_python(name, machine)
        except UsageError as error:
            pytest.fail(f"{error}")
    folder = tmp_path_factory.mktemp("models") / "random"
    python = environment_python("transformers", machine)
    subprocess.run([str(python), "-c", RANDOM_MODEL, str(folder)], check=True)
    return folder


def acquired(pool: ServerPool, engine: Engine, model: Path, log: Path) -> Endpoint:
    return pool.acquire(engine, model, "test/random", SAMPLING, log)


async def complete(endpoint: Endpoint, **changes: object) -> Generation:
    async with Client(endpoint) as client:
        return (await client.complete(request(sampling=SAMPLING, **changes))).row


def test_vllm_on_this_machine_does_what_its_rows_claim(model: Path, tmp_path: Path) -> None:
    with ServerPool(load_machine(None)) as pool:
        endpoint = acquired(pool, vllm, model, tmp_path / "server.log")
        report = preflight(endpoint, plain_wanted(SAMPLING))
        assert [check.name for check in report.checks if check.outcome == "failed"] == []
        honoured = report.honoured
        assert honoured == ("temperature", "seed")
        for folder, concurrency in (("alone", 1), ("together", 16)):
            wanted = (request(f"q{number}", 0, sampling=SAMPLING, logprobs=True) for number in range(16))
            rows = tmp_path / folder / "generations.jsonl"
            generate(wanted, endpoint, rows, pace=Pace(requests=concurrency), honoured=honoured)
        alone, together = (
            {row.question: row for row in read_rows(tmp_path / folder / "generations.jsonl", Generation)}
            for folder in ("alone", "together")
        )
        assert {name: row.text for name, row in alone.items()} == {
            name: row.text for name, row in together.items()
        }
        tokens = TokenIndex(tmp_path / "alone" / "tokens.arrow")
        for row in alone.values():
            assert (row.model, row.engine) == ("test/random", endpoint.label)
            kept = tokens[row.question, 0]
            assert kept.lengths.sum() == len(row.text.encode())
            assert len(kept.ids) == len(kept.logprobs) == row.completion_tokens
        plain = asyncio.run(complete(endpoint))
        continued = asyncio.run(complete(endpoint, prefix="abcd"))
        assert continued.prompt_tokens == plain.prompt_tokens + len("abcd")
        with pytest.raises(Refused, match="context"):
            asyncio.run(complete(endpoint, messages=(Message(role="user", content="a" * 400),)))


def test_transformers_on_this_machine_samples_as_its_rows_claim(model: Path, tmp_path: Path) -> None:
    with ServerPool(load_machine(None)) as pool:
        endpoint = acquired(pool, transformers, model, tmp_path / "server.log")
        report = preflight(endpoint, plain_wanted(SAMPLING))
        assert [check.name for check in report.checks if check.outcome == "failed"] == ["seed"]
        assert report.honoured == ("temperature",)
        rows = tmp_path / "generations.jsonl"
        assert generate((request(f"q{n}", 0, sampling=SAMPLING) for n in range(16)), endpoint, rows) == 16
        texts = [row.text for row in read_rows(rows, Generation)]
        assert len(set(texts)) > 10
        assert {row.model for row in read_rows(rows, Generation)} == {"test/random"}
