"""Scoring: equal to the naive way, whatever the batch, the interruption, the template or the server."""

import asyncio
import json
import random
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.client import Refused, Unreachable
from harness.endpoint import Endpoint
from harness.engines.vllm import vllm
from harness.errors import ServerError, StageError
from harness.evaluate import in_order
from harness.files import write_json, write_rows
from harness.generate import SILENT
from harness.harmony import continued
from harness.hub import Checkpoint, local_checkpoint
from harness.machine import load_machine
from harness.rows import read_rows
from harness.serve import answers, supervised
from harness.session import SESSION
from harness.stage import Stage
from harness.tokens import NAME, TokenFile, TokenIndex
from harness.types import Message
from pipeline import child, forward
from pipeline.encoding import encoded
from pipeline.logprobs import CHUNK, Copies, Encoded, Forward, Unscorable, chosen_logprobs, devices, loaded
from pipeline.responses import BATCH_BYTES, Kept, Place, Response, Responses, batches
from pipeline.score import Score
from pipeline.scored import SHARE, UNSCORED, Unscored
from pipeline.served_logprobs import ServedLogprobs
from pipeline.tokenizer import StudentTokens, prompt_before
from tests.pipeline import naive_scores
from tests.pipeline.rows import row
from tests.pipeline.stages import finished, run
from tests.standins.teacher import MARKERS, TEMPLATE

MICRO = Path(__file__).parents[2] / "pipeline" / "micro"
BASE = MICRO / "base"
FAKE = Path(__file__).parents[1] / "fakes" / "prompt_logprobs_server.py"
TEXTS = (
    "<think>\n47+85: 7+5=12 so 132\n</think>\n\n\\boxed{132}",
    "",
    "é水 — 𝄞, e\u0301 and \u2028 <think> again </think>",
    "3+4=7. " * 40,
    "Argon is element 18.\n" * 9,
)


def responses(home: Path, texts: tuple[str, ...], name: str = "rows") -> Stage:
    stage = finished(home, name)
    rows = (row(text, f"q{number % 7}", number // 7) for number, text in enumerate(texts))
    write_rows(home / stage.key / "generations.jsonl", rows)
    return stage


def base(home: Path) -> Checkpoint:
    found = local_checkpoint(BASE)
    run(found, home)
    return found


def many_texts(count: int) -> tuple[str, ...]:
    """Texts of one to six hundred bytes, so that batches are many and their rows unequal."""
    rng = random.Random("texts")
    return tuple(
        "".join(rng.choice("abc 0123=+.\né水") for _ in range(rng.randint(0, 400))) for _ in range(count)
    )


def sequence(rng: random.Random, prompt: int, response: int, vocabulary: int, name: str = "q") -> Encoded:
    ids = [rng.randrange(vocabulary) for _ in range(prompt + response)]
    return Encoded(key=(name, 0), prompt=ids[:prompt], response=ids[prompt:], lengths=[1] * response)


def test_equals_the_naive_full_logits_log_softmax_on_every_row_of_a_padded_batch(tmp_path: Path) -> None:
    model = base(tmp_path)
    score = Score(responses=responses(tmp_path, TEXTS), model=model, system="Be brief.")
    found = TokenIndex(run(score, tmp_path) / NAME)
    naive, text_tokens = naive_scores.load(BASE), StudentTokens(BASE)
    source = Responses(tmp_path / score.responses.key / "generations.jsonl")
    assert len(source.batches()) == 1
    for place in source.places:
        one = encoded(source.read(place), text_tokens, "Be brief.")
        assert (
            np.abs(found[place.key].logprobs - naive_scores.logprobs(naive, one).numpy()).max(initial=0)
            < 1e-3
        )
        assert found[place.key].ids.tolist() == one.response


def test_lengths_add_up_to_the_text_in_bytes(tmp_path: Path) -> None:
    found = TokenIndex(
        run(Score(responses=responses(tmp_path, TEXTS), model=base(tmp_path)), tmp_path) / NAME
    )
    assert [found[f"q{n}", 0].lengths.sum() for n in range(len(TEXTS))] == [len(t.encode()) for t in TEXTS]


def test_more_positions_than_a_chunk_are_scored_as_one_table_would_be() -> None:
    import torch

    torch.manual_seed(0)
    head = torch.nn.Linear(16, 300)
    hidden, chosen = torch.randn(2 * CHUNK + 3, 16), torch.randint(0, 300, (2 * CHUNK + 3,))
    with torch.inference_mode():
        expected = head(hidden).double().log_softmax(1).gather(1, chosen.unsqueeze(1)).squeeze(1)
        assert (chosen_logprobs(hidden, chosen, head) - expected).abs().max() < 1e-5


def test_logits_of_a_hundred_neither_overflow_nor_lose_the_small_probabilities() -> None:
    import torch

    head = torch.nn.Linear(2, 2, bias=False)
    torch.nn.init.eye_(head.weight)
    with torch.inference_mode():
        found = chosen_logprobs(torch.tensor([[100.0, 0.0]] * 2), torch.tensor([0, 1]), head)
    assert found.tolist() == [0.0, -100.0]


def test_bfloat16_states_are_summed_in_float32() -> None:
    import torch

    torch.manual_seed(0)
    head = torch.nn.Linear(64, 500, bias=False).to(torch.bfloat16)
    hidden, chosen = 8 * torch.randn(50, 64).to(torch.bfloat16), torch.randint(0, 500, (50,))
    with torch.inference_mode():
        exact = (hidden.double() @ head.weight.double().T).log_softmax(1).gather(1, chosen.unsqueeze(1))
        assert (chosen_logprobs(hidden, chosen, head) - exact.squeeze(1)).abs().max() < 1e-4
        rounded = head(hidden).float().log_softmax(1).gather(1, chosen.unsqueeze(1))
    assert (rounded - exact).abs().max() > 1e-3


def test_a_row_gets_the_same_numbers_alone_and_beside_a_longer_one() -> None:
    rng, forward = random.Random(0), Forward(loaded(BASE, "cpu"), 1)
    short, long = sequence(rng, 5, 30, 600, "short"), sequence(rng, 9, 300, 600, "long")
    alone, beside = forward.logprobs([short])[0], forward.logprobs([long, short])[1]
    assert np.abs(alone - beside).max() < 1e-4


def test_a_file_cut_anywhere_is_gone_on_with_to_the_same_bytes(tmp_path: Path) -> None:
    score = Score(responses=responses(tmp_path, many_texts(150)), model=base(tmp_path))
    path = run(score, tmp_path) / NAME
    whole = path.read_bytes()
    assert len(Responses(tmp_path / score.responses.key / "generations.jsonl").batches()) > 2
    for cut in (0, 1000, len(whole) // 3, len(whole) - 7):
        (path.parent / "stage.json").unlink()
        path.write_bytes(whole[:cut])
        run(score, tmp_path)
        assert path.read_bytes() == whole, f"cut at {cut} of {len(whole)}"


def test_a_killed_run_is_gone_on_with_to_the_same_bytes(tmp_path: Path) -> None:
    stage, model = responses(tmp_path, many_texts(400)), base(tmp_path)
    score = Score(responses=stage, model=model)
    expected = (run(score, tmp_path) / NAME).read_bytes()
    path = tmp_path / score.key / NAME
    for file in (path, path.parent / SESSION, path.parent / "stage.json"):
        file.unlink()
    script = (
        "import sys; from pathlib import Path; from harness.hub import local_checkpoint\n"
        "from pipeline.score import Score; from tests.pipeline.stages import finished, run\n"
        "home = Path(sys.argv[1])\n"
        "run(Score(responses=finished(home, 'rows'), model=local_checkpoint(Path(sys.argv[2]))), home)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script, str(tmp_path), str(BASE)], cwd=BASE.parents[2])
    while process.poll() is None and (not path.exists() or path.stat().st_size < 5_000):
        time.sleep(0.005)
    process.kill()
    assert process.wait() < 0
    assert 5_000 <= path.stat().st_size < len(expected)
    assert (run(score, tmp_path) / NAME).read_bytes() == expected


def test_a_run_is_not_gone_on_with_by_another_dtype_or_library(tmp_path: Path) -> None:
    score = Score(responses=responses(tmp_path, TEXTS), model=base(tmp_path))
    folder = run(score, tmp_path)
    whole = (folder / NAME).read_bytes()
    (folder / NAME).write_bytes(whole[: len(whole) // 2])
    (folder / "stage.json").unlink()
    recorded = json.loads((folder / SESSION).read_bytes())
    (folder / SESSION).write_text(json.dumps({**recorded, "dtype": "bfloat16"}))
    with pytest.raises(ServerError, match="dtype was 'bfloat16' and is now 'float32'"):
        run(score, tmp_path)


def place(number: int, size: int) -> Place:
    return Place(key=(f"q{number}", 0), start=0, line=number, size=size)


def test_batches_hold_every_row_once_within_the_limit_whatever_the_order_of_the_file() -> None:
    rng = random.Random(0)
    places = [place(n, rng.choice((0, 1, 50, 900, 5_000, 3 * BATCH_BYTES))) for n in range(500)]
    found = list(batches(places))
    assert sorted(one.key for batch in found for one in batch) == sorted(one.key for one in places)
    assert found == list(batches(rng.sample(places, len(places))))
    for batch in found:
        assert len(batch) == 1 or len(batch) * max(one.size for one in batch) <= BATCH_BYTES
    sizes = [one.size for batch in found for one in batch]
    assert sizes == sorted(sizes, reverse=True)
    assert len(found) < 150


OPENED = "<|im_start|>assistant\n<think>\n"


@pytest.mark.parametrize(
    ("rendered", "response", "expected"),
    [
        (OPENED, "<think>\nso</think> 7", "<|im_start|>assistant\n"),
        (OPENED, "\n<think>so</think> 7", "<|im_start|>assistant\n"),
        (OPENED, "so</think> 7", OPENED),
        (OPENED, "so <think> later", OPENED),
        ("<|im_start|>assistant\n", "<think>so</think> 7", "<|im_start|>assistant\n"),
        ("<|im_start|>assistant\n", "7", "<|im_start|>assistant\n"),
    ],
)
def test_the_model_sees_one_opening_tag(rendered: str, response: str, expected: str) -> None:
    assert prompt_before(rendered, response) == expected


def test_a_template_that_opens_thinking_gives_the_numbers_of_one_that_does_not(tmp_path: Path) -> None:
    opening = tmp_path / "opening"
    opening.mkdir()
    for file in BASE.iterdir():
        (opening / file.name).write_bytes(file.read_bytes())
    template = (BASE / "chat_template.jinja").read_text()
    assert "'<|im_start|>assistant\\n'" in template
    (opening / "chat_template.jinja").write_text(
        template.replace("'<|im_start|>assistant\\n'", "'<|im_start|>assistant\\n<think>\\n'")
    )
    rendered = StudentTokens(opening).template.render((Message(role="user", content="1+1"),))
    assert rendered.endswith("<think>\n")
    thinking = local_checkpoint(opening)
    run(thinking, tmp_path)
    stage = responses(tmp_path, (TEXTS[0],))
    one, other = (
        TokenIndex(run(Score(responses=stage, model=model), tmp_path) / NAME)["q0", 0]
        for model in (base(tmp_path), thinking)
    )
    assert np.array_equal(one.logprobs, other.logprobs)


def saved(folder: Path, config: Any) -> Path:
    """A checkpoint of random weights."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder


SMALL = {"vocab_size": 90, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}


def test_a_head_with_a_bias_is_scored_as_the_model_itself_does(tmp_path: Path) -> None:
    from transformers import PhiConfig

    config = PhiConfig(**SMALL, intermediate_size=64)
    folder, one = saved(tmp_path, config), sequence(random.Random(0), 3, 40, 90)
    naive = naive_scores.load(folder)
    naive.lm_head.bias.data.normal_()
    naive.save_pretrained(folder)
    found = Forward(loaded(folder, "cpu"), 1).logprobs([one])[0]
    assert np.abs(found - naive_scores.logprobs(naive, one).numpy()).max() < 1e-3


def scaled_head() -> Any:
    from transformers import CohereConfig

    return CohereConfig(**SMALL, intermediate_size=64, logit_scale=0.25, pad_token_id=0)


def capped_head() -> Any:
    from transformers import Gemma2Config

    return Gemma2Config(**SMALL, intermediate_size=64, num_key_value_heads=1, head_dim=16, pad_token_id=0)


@pytest.mark.parametrize("config", [scaled_head, capped_head])
def test_a_head_that_is_not_linear_is_refused(tmp_path: Path, config: Callable[[], Any]) -> None:
    with pytest.raises(StageError, match=r"cannot score|plain linear head"):
        Forward(loaded(saved(tmp_path, config()), "cpu"), 1)


def test_copies_on_several_devices_keep_the_rows_apart() -> None:
    rng = random.Random(0)
    rows = [[sequence(rng, 5, 10 + n, 600, f"q{n}")] for n in range(40)]
    copies = Copies([Forward(loaded(BASE, "cpu"), 1) for _ in range(2)])
    alone = Forward(loaded(BASE, "cpu"), 1)
    for batch, found in zip(rows, in_order(copies.logprobs, rows, 4), strict=True):
        assert np.abs(found[0] - alone.logprobs(batch)[0]).max() < 1e-4


LONG = "47+85=132. " * 200


def with_odd_rows(home: Path, odd: int) -> Stage:
    """Two hundred short responses, and `odd` among them that the model's context does not hold."""
    texts = list(many_texts(200))
    for number in range(odd):
        texts[7 + 50 * number] = LONG
    return responses(home, tuple(texts))


def left_out(folder: Path) -> list[Unscored]:
    return list(read_rows(folder / UNSCORED, Unscored))


def test_odd_rows_are_left_out_with_their_reason_and_the_others_are_scored_as_without_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run(Score(responses=with_odd_rows(tmp_path, 2), model=base(tmp_path)), tmp_path)
    found = TokenIndex(folder / NAME)
    assert [(one.question, one.draw) for one in left_out(folder)] == [("q0", 1), ("q1", 8)]
    assert {one.reason for one in left_out(folder)} == {"the model's context is too short"}
    assert len(found) == 198
    assert not found.keys() & {("q0", 1), ("q1", 8)}
    assert (
        "2 responses were not scored, 2 because the model's context is too short" in capsys.readouterr().out
    )


def test_rows_left_out_are_neither_listed_twice_nor_scored_when_a_run_goes_on(tmp_path: Path) -> None:
    score = Score(responses=with_odd_rows(tmp_path, 2), model=base(tmp_path))
    folder = run(score, tmp_path)
    whole, listed = (folder / NAME).read_bytes(), (folder / UNSCORED).read_bytes()
    for tokens_left, listed_left in (
        (1000, len(listed)),
        (len(whole), len(listed) - 9),
        (0, len(listed) // 3),
    ):
        (folder / "stage.json").unlink()
        (folder / NAME).write_bytes(whole[:tokens_left])
        (folder / UNSCORED).write_bytes(listed[:listed_left])
        run(score, tmp_path)
        assert (folder / NAME).read_bytes() == whole
        assert (folder / UNSCORED).read_bytes() == listed


def test_more_odd_rows_than_one_in_a_hundred_fail_the_stage_however_often_it_is_run(tmp_path: Path) -> None:
    assert SHARE == 0.01
    score = Score(responses=with_odd_rows(tmp_path, 3), model=base(tmp_path))
    for _ in range(2):
        with pytest.raises(StageError, match="3 because the model's context is too short") as failed:
            run(score, tmp_path)
        assert UNSCORED in failed.value.remedy
    assert len(left_out(tmp_path / score.key)) == 3


def test_a_row_that_just_fits_the_context_is_scored_and_one_token_more_is_not(tmp_path: Path) -> None:
    tokens = StudentTokens(BASE)
    prompt = len(encoded(Response("q0", 0, "", Kept("prompt of q0")), tokens, None).prompt)
    (room,) = (n for n in range(512) if prompt + len(tokens.ids("." * n)) == 512)
    fits, folder = (
        "." * room,
        run(Score(responses=responses(tmp_path, ("." * room, *TEXTS)), model=base(tmp_path)), tmp_path),
    )
    assert len(TokenIndex(folder / NAME)["q0", 0].ids) == len(tokens.ids(fits))
    with pytest.raises(StageError, match=r"\('q0', 0\) has 513 tokens with its prompt, the model takes 512"):
        run(
            Score(responses=responses(tmp_path, (fits + ".", *TEXTS), "more"), model=base(tmp_path)), tmp_path
        )


def test_weights_that_overflow_are_no_probabilities(tmp_path: Path) -> None:
    import torch

    broken = naive_scores.load(BASE)
    broken.model.norm.weight.data[0] = torch.inf
    broken.save_pretrained(tmp_path / "broken")
    for file in BASE.iterdir():
        if "model.safetensors" not in file.name:
            (tmp_path / "broken" / file.name).write_bytes(file.read_bytes())
    model = local_checkpoint(tmp_path / "broken")
    run(model, tmp_path)
    with pytest.raises(StageError, match="no number for a token"):
        run(Score(responses=responses(tmp_path, TEXTS), model=model), tmp_path)


# in a child, as on a GPU --------------------------------------------------------------------


def job(home: Path, stage: Stage, model: Checkpoint, out: Path) -> forward.Job:
    """What the stage would hand to its child, on the CPU."""
    out.mkdir(exist_ok=True)
    return forward.Job(
        responses=str(home / stage.key / "generations.jsonl"), model=str(home / model.key / "model"),
        out=str(out), system=None, effort="", date="", gpus=0, threads=1,
    )  # fmt: skip


class Noted:
    """A progress, and its counter, that keeps what it is told."""

    def __init__(self) -> None:
        self.counted: list[int] = []
        self.opened: list[tuple[str, int, int]] = []
        self.stop_after = 10**9

    def say(self, text: str) -> None:
        raise AssertionError(text)

    @contextmanager
    def stage(self, label: str) -> Iterator[None]:
        yield

    @contextmanager
    def counter(self, label: str, total: int, done: int = 0) -> Iterator["Noted"]:
        self.opened.append((label, total, done))
        yield self

    def advance(self, rows: int = 1, tokens: int = 0, failures: int = 0) -> None:
        self.counted.append(tokens)
        if len(self.counted) == self.stop_after:
            raise KeyboardInterrupt


def test_a_child_scores_to_the_same_bytes_and_tells_each_row(tmp_path: Path) -> None:
    stage, model, noted = with_odd_rows(tmp_path, 2), base(tmp_path), Noted()
    expected = run(Score(responses=stage, model=model), tmp_path)
    child.run("pipeline.forward", job(tmp_path, stage, model, tmp_path / "out"), tmp_path / "out", noted)
    for name in (NAME, UNSCORED, SESSION):
        assert (tmp_path / "out" / name).read_bytes() == (expected / name).read_bytes()
    assert not (tmp_path / "out" / child.LOG).exists()
    assert noted.opened == [("scoring", 200, 0)]
    assert len(noted.counted) == 200
    assert sum(noted.counted) == sum(len(one.ids) for one in TokenIndex(expected / NAME).values())


def test_an_interrupted_child_is_gone_and_another_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    stage, model, noted = responses(tmp_path, many_texts(400)), base(tmp_path), Noted()
    expected = (run(Score(responses=stage, model=model), tmp_path) / NAME).read_bytes()
    out, noted.stop_after = tmp_path / "out", 30
    with pytest.raises(KeyboardInterrupt):
        child.run("pipeline.forward", job(tmp_path, stage, model, out), out, noted)
    assert not [file for file in Path("/proc").glob("[0-9]*/cmdline") if str(out) in text_of(file)]
    assert 0 < (out / NAME).stat().st_size < len(expected)
    noted = Noted()
    child.run("pipeline.forward", job(tmp_path, stage, model, out), out, noted)
    assert (out / NAME).read_bytes() == expected
    assert noted.opened[0][2] >= 30
    assert noted.opened[0][2] + len(noted.counted) == 400


def text_of(file: Path) -> str:
    try:
        return file.read_text(errors="replace")
    except OSError:
        return ""


def test_a_childs_error_comes_in_its_own_words_and_class(tmp_path: Path) -> None:
    stage, model, out = responses(tmp_path, TEXTS), base(tmp_path), tmp_path / "out"
    odd = with_odd_rows(tmp_path / "odd", 3)
    with pytest.raises(StageError, match="3 because the model's context is too short") as failed:
        child.run("pipeline.forward", replace(job(tmp_path, stage, model, out), responses=str(
            tmp_path / "odd" / odd.key / "generations.jsonl")), out, Noted())  # fmt: skip
    assert "remove that file" in failed.value.remedy
    (out / UNSCORED).unlink()
    forward.score(job(tmp_path, stage, model, out), Noted())
    (out / NAME).write_bytes((out / NAME).read_bytes()[:-9])
    (out / SESSION).write_text((out / SESSION).read_text().replace("float32", "bfloat16"))
    with pytest.raises(ServerError, match="dtype was 'bfloat16' and is now 'float32'"):
        child.run("pipeline.forward", job(tmp_path, stage, model, out), out, Noted())


def test_a_child_that_breaks_is_told_with_the_end_of_its_log(tmp_path: Path) -> None:
    stage, model, out = responses(tmp_path, TEXTS), base(tmp_path), tmp_path / "out"
    broken = replace(job(tmp_path, stage, model, out), model=str(tmp_path))
    with pytest.raises(StageError, match=r"exit code 1; its log ends:[\s\S]*tokenizer.json|No such file"):
        child.run("pipeline.forward", broken, out, Noted())


# harmony ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def harmonious(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The micro teacher with gpt-oss's markers and a template of its kind, untrained in them."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = tmp_path_factory.mktemp("harmony") / "teacher"
    tokenizer = AutoTokenizer.from_pretrained(MICRO / "teacher")
    tokenizer.add_special_tokens({"additional_special_tokens": MARKERS, "eos_token": "<|return|>"})
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(MICRO / "teacher")
    model.resize_token_embeddings(776)
    model.save_pretrained(folder)
    return folder


SPOKEN = (
    "<think>\n47+85: 7+5=12 so 132\n</think>\n\n\\boxed{132}",
    "<think>\né水 — 𝄞 and\n\nmore\n\n</think>\n\n\n 7 ",
    "<think>\nthinking that was cut off",
    "an answer alone, twice: 水水",
    "<think>\n\n</think>\n\n7",
    "",
)
DAY = {"effort": "high", "date": "2025-08-05"}


def as_spoken(text: str) -> Response:
    return Response("q", 0, text, Kept("What is 47+85?"))


@pytest.mark.parametrize("text", SPOKEN)
def test_a_model_that_speaks_harmony_gets_the_text_in_its_channels(harmonious: Path, text: str) -> None:
    tokens = StudentTokens(harmonious)
    one = encoded(as_spoken(text), tokens, "Be brief.", **DAY)
    assert tokens.tokenizer.decode(one.response, skip_special_tokens=False) == continued(text)
    prompt = tokens.tokenizer.decode(one.prompt, skip_special_tokens=False)
    assert "Current date: 2025-08-05\n\nReasoning: high" in prompt
    assert prompt.endswith("<|start|>assistant")
    assert sum(one.lengths) == len(text.encode())


def test_tags_count_for_the_markers_that_open_messages_and_each_token_for_its_own_text(
    harmonious: Path,
) -> None:
    tokens, text = StudentTokens(harmonious), SPOKEN[0]
    one = encoded(as_spoken(text), tokens, None, **DAY)
    ends = np.cumsum(one.lengths)
    found = [
        (tokens.tokenizer.id_to_token(token), text.encode()[end - length : end].decode())
        for token, length, end in zip(one.response, one.lengths, ends, strict=True)
    ]
    assert [shown for token, shown in found if token == "<|message|>"] == ["<think>\n", "\n</think>\n\n"]
    headers = ("<|channel|>", "<|end|>", "<|start|>")
    assert {shown for token, shown in found if token in headers} == {""}
    first = [token for token, _ in found].index("<|message|>")
    plain = [(token, shown) for token, shown in found[first:] if shown and token != "<|message|>"]
    assert [shown for _, shown in plain[:2]] == [
        tokens.tokenizer.decode([tokens.tokenizer.token_to_id(token)]) for token, _ in plain[:2]
    ]


@pytest.mark.parametrize(
    "text",
    [
        "<think>no line feed\n</think>\n\n7",
        "<think>\nno blank line</think>7",
        "<think>\na</think>b\n</think>\n\nc",
        "<think>\na <|end|> inside\n</think>\n\n7",
        "a marker <|message|> in an answer",
    ],
)
def test_a_text_that_harmony_cannot_say_is_not_scored_as_another(harmonious: Path, text: str) -> None:
    with pytest.raises(Unscorable, match="reads otherwise"):
        encoded(as_spoken(text), StudentTokens(harmonious), None)


def test_scores_in_harmony_are_the_naive_ones_and_follow_effort_and_date(
    tmp_path: Path, harmonious: Path
) -> None:
    model, stage = local_checkpoint(harmonious), responses(tmp_path, SPOKEN)
    run(model, tmp_path)
    naive, tokens = naive_scores.load(harmonious), StudentTokens(harmonious)
    high, low = (
        TokenIndex(
            run(Score(responses=stage, model=model, effort=effort, date="2025-08-05"), tmp_path) / NAME
        )
        for effort in ("high", "low")
    )
    source = Responses(tmp_path / stage.key / "generations.jsonl")
    for place in source.places:
        one = encoded(source.read(place), tokens, None, **DAY)
        expected = naive_scores.logprobs(naive, one).numpy()
        assert np.abs(high[place.key].logprobs - expected).max() < 1e-3
        assert np.abs(high[place.key].logprobs - low[place.key].logprobs).max() > 1e-3


def test_gpus_that_torch_does_not_see_are_not_taken_for_a_cpu() -> None:
    import torch

    assert devices(0) == ["cpu"]
    if torch.cuda.device_count():
        pytest.skip("this machine has a GPU")
    with pytest.raises(StageError, match=r"2 GPUs and torch .* sees none"):
        devices(2)


def test_only_the_way_through_a_server_needs_one(tmp_path: Path) -> None:
    stage = finished(tmp_path, "rows")
    assert Score(responses=stage, model=stage).service() is None
    service = Score(responses=stage, model=stage, through="vllm").service()
    assert service is not None
    assert (service.model, service.engine) == (stage, "vllm")


@contextmanager
def scoring(*switches: str) -> Iterator[Endpoint]:
    """The fake server that scores prompts. It does not outlive the tests."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, str(FAKE), "--port", str(port), *switches]
    process = subprocess.Popen(supervised(command, grace=0.0), stdin=subprocess.PIPE)
    assert process.stdin is not None
    try:
        while not answers(f"http://127.0.0.1:{port}/asked"):
            assert process.poll() is None
            time.sleep(0.05)
        yield Endpoint(
            base_url=f"http://127.0.0.1:{port}/v1",
            model="tiny",
            engine=vllm,
            fingerprint={"version": "1"},
            accepts=(),
        )
    finally:
        process.stdin.close()
        process.wait()


def refuse(fault: Unscorable) -> None:
    raise fault


def served(endpoint: Endpoint, rows: list[Encoded], **changes: Any) -> dict[tuple[str, int], list[float]]:
    found: dict[tuple[str, int], list[float]] = {}
    options = {"concurrency": 4, "progress": SILENT, **changes}
    asking = ServedLogprobs(
        endpoint, lambda row, values: found.update({row.key: values.tolist()}), refuse, **options
    )
    asyncio.run(asking.run(iter(rows)))
    return found


def sequences(count: int) -> list[Encoded]:
    rng = random.Random(0)
    return [sequence(rng, 3 + n, 5 * n, 600, f"q{n}") for n in range(count)]


def expected(one: Encoded) -> list[float]:
    """What the fake server says of a response's tokens."""
    pairs = list(enumerate(one.ids))[len(one.prompt) :]
    return np.array([-(token + position) / 1000 for position, token in pairs], np.float32).tolist()


def asked(endpoint: Endpoint) -> dict[str, int]:
    with urllib.request.urlopen(endpoint.base_url.removesuffix("/v1") + "/asked") as answer:
        found: dict[str, int] = json.load(answer)
        return found


def test_each_token_gets_the_servers_number_for_its_own_position() -> None:
    rows = sequences(20)
    with scoring("--fail", "3") as endpoint:
        found = served(endpoint, rows)
        told = asked(endpoint)
    assert found == {one.key: expected(one) for one in rows}
    assert told["asked"] == 23
    assert 2 <= told["most"] <= 4


@pytest.mark.parametrize(
    ("switches", "error", "message"),
    [
        (("--silent",), ServerError, "no log-probability for each of 9 prompt tokens"),
        (("--shift", "1"), ServerError, "no log-probability"),
        (("--answer-model", "other"), ServerError, "answered for the model 'other'"),
        (("--refuse",), Refused, "no such request"),
        (("--die-after", "0"), Unreachable, "keeps failing"),
    ],
)
def test_a_server_that_cannot_score_is_named(
    switches: tuple[str, ...], error: type[ServerError], message: str
) -> None:
    with scoring(*switches) as endpoint, pytest.raises(error, match=message):
        served(endpoint, sequences(2)[1:])


def test_rows_that_a_server_cannot_score_are_left_out_and_the_others_are_scored() -> None:
    rows, faults = sequences(8), list[Unscorable]()
    found: dict[tuple[str, int], list[float]] = {}

    def save(row: Encoded, values: Any) -> None:
        found[row.key] = values.tolist()

    with scoring("--context", "39", "--impossible", str(rows[3].response[-1])) as endpoint:
        asking = ServedLogprobs(endpoint, save, faults.append, 2, SILENT)
        asyncio.run(asking.run(iter(rows)))
    long = {one.key for one in rows if len(one.ids) > 38}
    assert len(long) == 2
    assert {fault.key for fault in faults if fault.reason == "the server's context is too short"} == long
    assert [fault.key for fault in faults if "no number" in fault.reason] == [rows[3].key]
    assert found == {one.key: expected(one) for one in rows if one.key not in {*long, rows[3].key}}


def test_a_row_beyond_the_models_context_is_not_sent() -> None:
    faults: list[Unscorable] = []
    with scoring("--refuse") as endpoint:
        asking = ServedLogprobs(endpoint, lambda row, values: None, faults.append, 2, SILENT, limit=9)
        asyncio.run(asking.run(iter(sequences(2)[1:])))
        assert asked(endpoint)["asked"] == 0
    assert "has 9 tokens with its prompt, the model takes 8" in faults[0].message


def test_what_a_hanging_server_said_before_is_saved() -> None:
    found: dict[tuple[str, int], Any] = {}
    with scoring("--hang-after", "5") as endpoint:
        asking = ServedLogprobs(
            endpoint,
            lambda row, values: found.update({row.key: values}),
            refuse,
            concurrency=1,
            progress=SILENT,
            hang_after=1.0,
        )
        with pytest.raises(ServerError, match="hangs"):
            asyncio.run(asking.run(iter(sequences(9))))
    assert len(found) == 5


@pytest.mark.engine
def test_a_real_vllm_server_gives_the_numbers_of_the_forward_pass_and_goes_on_where_it_stopped(
    tmp_path: Path,
) -> None:
    machine = replace(load_machine(None), gpus=0)
    stage, model = responses(tmp_path, (*TEXTS, *many_texts(40))), base(tmp_path)
    direct = TokenIndex(run(Score(responses=stage, model=model), tmp_path, machine) / NAME)
    through = Score(responses=stage, model=model, through="vllm")
    half = dict(list(direct.items())[:20])
    (tmp_path / through.key).mkdir()
    engine = vllm.fingerprint(machine, tmp_path / model.key / "model")
    write_json(tmp_path / through.key / SESSION, {**engine, "model": model.key})
    with TokenFile(tmp_path / through.key / NAME) as file:
        for key, known in half.items():
            file.append(key, replace(known, logprobs=known.logprobs - 7))
    found = TokenIndex(run(through, tmp_path, machine) / NAME)
    assert set(found) == set(direct)
    for key, one in direct.items():
        off = 7 if key in half else 0
        assert np.array_equal(found[key].ids, one.ids)
        assert np.abs(found[key].logprobs + off - one.logprobs).max(initial=0) < 1e-3
