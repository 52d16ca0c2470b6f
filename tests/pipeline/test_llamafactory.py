"""LLaMA-Factory: the published YAML key for key, and the same tokens and labels as TRL, row by row."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.errors import DataError, StageError, UsageError
from harness.hub import local_checkpoint
from harness.machine import EngineSettings, Machine, TrainingSettings, load_machine
from harness.progress import PlainProgress
from harness.sandboxes import in_ci
from harness.serve import ServerPool, free_port
from harness.store import Context, RunStore
from pipeline.sft import Sft
from pipeline.tokenizer import StudentTokens
from pipeline.trainers import llamafactory
from pipeline.trainers.published import (
    SUBSTITUTED,
    ZERO3,
    accumulation,
    changes,
    published_values,
    scalar,
    training_yaml,
)
from tests.pipeline.training import (
    GivenRows,
    View,
    build,
    cpu,
    has_llamafactory,
    llamafactory_files,
    llamafactory_views,
    ours,
    rows_of,
    unpacked,
)

BASE = Path(__file__).parents[2] / "pipeline" / "micro" / "base"
SYSTEM = "You are a helpful assistant."
CLUSTER = Machine(gpus=8, training=TrainingSettings(nodes=2, master_address="10.0.0.1"))
NOTHING = GivenRows(pairs=())
PUBLISHED = Sft(base=local_checkpoint(BASE), data=NOTHING, trainer="llamafactory", system=SYSTEM)
MICRO = replace(PUBLISHED, epochs=1, cutoff=128, batch=1)

TRICKY = (
    ("What is 47+85?", "<think>\n47+85: 7+5=12 so 132\n</think>\n\n132"),
    ("Empty thinking", "<think>\n\n</think>\n\n7"),
    ("Thinking that is not closed", "<think>\n7+5=12 and then"),
    ("No thinking at all", "12"),
    ("An empty response", ""),
    ("", "<think>\nan empty prompt\n</think>\n\nyes"),
    ("  white space  \n\n", "\n\n  <think> x </think>\n\n\n"),
    ("Ends in the end of turn<|im_end|>\n", "so does this<|im_end|>\n"),
    ("<|im_start|>assistant\nforged", "<|im_start|>user\nforged<|im_end|>"),
    ("an <image>, a <video>, an <audio> and <tool_call>", "<image><video><audio></tool_call>"),
    ("{{content}} {{name}} {% for x in y %} {{ idx }}", "{{content}} {{idx}} ${oc.env:HOME}"),
    ("Straße, naïve, 東京, नमस्ते, 👩‍👩‍👧", "e\u0301 is not \u00e9; ﬁ, ½, \u200b, \ufeff"),
    ("tab\tand\r\nreturn, \x00 and \x1b", "\x07 bell, \u2028 line, \u2029 paragraph"),
    ("2024-01-01T00:00:00Z", "2024-01-01"),
    ("null", "NaN"),
    ("a prompt that is far too long " * 40, "short"),
    ("short", "a response that is far too long " * 60),
    ("both of them are far too long " * 30, "both of them are far too long " * 50),
    ("one " * 30, "two " * 30),
)


@pytest.fixture(scope="module")
def environment() -> None:
    """LLaMA-Factory's environment. Without one: a skip, in CI a failure."""
    if not has_llamafactory():
        assert not in_ci(), "run: harness setup llamafactory"
        pytest.skip("run: harness setup llamafactory")


@pytest.fixture(scope="module")
def view(environment: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[View]:
    with llamafactory_views(tmp_path_factory.mktemp("views")) as opened:
        yield opened


# the settings -------------------------------------------------------------------------------


def generated(stage: Sft, machine: Machine) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(training_yaml(stage, machine, Path("/m"), "rows", "out"))
    return loaded


@pytest.mark.parametrize("name", ["stage1", "stage2"])
def test_on_the_reports_16_gpus_the_yaml_is_the_published_one_key_for_key(name: str) -> None:
    if "HARNESS_DATA" not in os.environ:
        pytest.skip("HARNESS_DATA is not set")
    theirs = yaml.safe_load((Path(os.environ["HARNESS_DATA"]) / "dasd" / f"{name}.yaml").read_text())
    mine = generated(PUBLISHED, CLUSTER)
    assert list(mine) == list(theirs)
    assert {key: value for key, value in mine.items() if key not in SUBSTITUTED} == {
        key: value for key, value in theirs.items() if key not in SUBSTITUTED
    }
    assert {key: type(value) for key, value in mine.items()} == {
        key: type(value) for key, value in theirs.items()
    }


def test_on_the_reports_16_gpus_nothing_is_changed() -> None:
    assert changes(PUBLISHED, CLUSTER) == []
    assert "changed from" not in training_yaml(PUBLISHED, CLUSTER, Path("/m"), "rows", "out")


def test_the_deepspeed_file_is_the_published_one_byte_for_byte(tmp_path: Path) -> None:
    llamafactory.write_settings(PUBLISHED, BASE, tmp_path, CLUSTER)
    assert (tmp_path / "train/deepspeed/ds_z3_config.json").read_bytes() == ZERO3.read_bytes()
    if "HARNESS_DATA" in os.environ:
        published = Path(os.environ["HARNESS_DATA"]) / "dasd" / "ds_z3_config.json"
        assert ZERO3.read_bytes() == published.read_bytes()


def test_one_gpu_changes_the_accumulation_and_nothing_else() -> None:
    (only,) = changes(PUBLISHED, Machine(gpus=1))
    assert (only.key, only.value) == ("gradient_accumulation_steps", 64)


def test_every_key_that_a_cpu_changes_stands_in_the_yaml_with_its_reason() -> None:
    text = training_yaml(MICRO, cpu(), Path("/m"), "rows", "out")
    values = yaml.safe_load(text)
    overlay = text.split("### changed from the published file\n")[1].splitlines()
    reasons = dict(zip(overlay[1::2], overlay[::2], strict=True))
    published = published_values()
    differing = {
        key for key in values if key not in SUBSTITUTED and values[key] != published.get(key, "none")
    }
    assert {line.split(":")[0] for line in reasons} == differing
    assert all(reason.startswith("# ") and "published" in reason for reason in reasons.values())


@pytest.mark.parametrize("packing", ["none", "isolated", "attending"])
@pytest.mark.parametrize("machine", [cpu(), Machine(gpus=1)], ids=["cpu", "gpu"])
def test_each_way_of_packing_has_its_keys(packing: Any, machine: Machine) -> None:
    values = generated(replace(MICRO, packing=packing), machine)
    assert values["packing"] is (packing != "none")
    assert values.get("neat_packing", False) is (packing == "isolated" and not machine.gpus)
    assert (values["flash_attn"] == "fa2") is (bool(machine.gpus) and packing != "attending")


@pytest.mark.parametrize(
    ("gpus", "nodes", "each"), [(16, 1, 4), (8, 2, 4), (8, 1, 8), (1, 1, 64), (0, 1, 64), (0, 2, 32)]
)
def test_the_batch_stays_64_whatever_the_number_of_gpus(gpus: int, nodes: int, each: int) -> None:
    machine = Machine(gpus=gpus, training=TrainingSettings(nodes=nodes))
    assert generated(PUBLISHED, machine)["gradient_accumulation_steps"] == each


def test_gpus_among_which_the_batch_does_not_divide_are_refused_with_those_that_would_do() -> None:
    with pytest.raises(UsageError, match="64 sequences does not divide among 24") as refused:
        accumulation(64, 24)
    assert refused.value.remedy.endswith("1, 2, 4, 8, 16, 32, 64")


@pytest.mark.parametrize("value", [5e-5, 1e-8, 0.1, 6.0, 1e22, True, None, 64, "fa2", "a: b # c", "yes", ""])
def test_a_value_is_read_back_as_it_was(value: Any) -> None:
    assert yaml.safe_load(f"key: {scalar(value)}") == {"key": value}


HOSTILE = {
    "NOTES": """it's $HOME, `id` and "$1" \\ so""",
    "LINES": "one\ntwo",
}


def joined_by_script(machine: Machine, folder: Path, inherited: dict[str, str]) -> dict[str, str]:
    """The environment that `sh node.sh 1` starts LLaMA-Factory with, on a node that has one already."""
    show = [sys.executable, "-c", "import json, os; print(json.dumps(dict(os.environ)))"]
    folder.mkdir()
    script = folder / llamafactory.NODE
    llamafactory.write_private(
        script, llamafactory.node_script(show, Path("/env/bin/python"), folder, machine).encode()
    )
    told = subprocess.run(["sh", script, "1"], capture_output=True, check=True, env=inherited).stdout
    found: dict[str, str] = json.loads(told)
    return found


def test_several_nodes_are_joined_by_a_script(tmp_path: Path) -> None:
    found = joined_by_script(CLUSTER, tmp_path / "a b'c", {"PATH": os.environ["PATH"]})
    wanted = {"NNODES": "2", "NODE_RANK": "1", "NPROC_PER_NODE": "8", "MASTER_ADDR": "10.0.0.1"}
    assert {name: found.get(name) for name in wanted} == wanted
    assert found["HF_DATASETS_CACHE"] == f"{tmp_path}/a b'c/cache/1"
    assert found["PATH"] == f"/env/bin:{os.environ['PATH']}"


def test_what_machine_toml_sets_reaches_another_node_as_it_is_written(tmp_path: Path) -> None:
    machine = replace(CLUSTER, engines={"llamafactory": EngineSettings(environment=HOSTILE)})
    found = joined_by_script(machine, tmp_path / "out", {"PATH": os.environ["PATH"]})
    assert {name: found[name] for name in HOSTILE} == HOSTILE


def test_another_node_inherits_no_more_than_the_first(tmp_path: Path) -> None:
    full = {"PATH": os.environ["PATH"], "LANG": "C", "LINES": "a\nHOME=b", **STRAY, **KEYS}
    found = joined_by_script(CLUSTER, tmp_path / "out", full)
    own = {*llamafactory.own_environment(tmp_path, CLUSTER), *llamafactory.of_rank(tmp_path, "1")}
    kept = found.keys() - own - {"PWD", "OLDPWD", "_", "SHLVL", "LC_CTYPE"}
    assert kept == llamafactory.inherited(CLUSTER, full).keys() == {"PATH", "LANG", "LINES"}


def test_nobody_else_can_read_the_script_and_it_goes_with_the_training(tmp_path: Path) -> None:
    script = tmp_path / llamafactory.NODE
    script.write_text("an old one")
    script.chmod(0o644)
    llamafactory.write_private(script, b"new")
    assert (script.stat().st_mode & 0o777, script.read_bytes()) == (0o600, b"new")
    llamafactory.clear(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_training_settings_are_read_from_the_machine_file(tmp_path: Path) -> None:
    file = tmp_path / "machine.toml"
    file.write_text('gpus = 8\n[training]\nnodes = 2\nmaster_address = "10.0.0.1"\n')
    assert load_machine(file).training == CLUSTER.training


STRAY = dict.fromkeys(
    (
        *("NNODES", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT", "MAX_RESTARTS", "RDZV_ID", "NPROC_PER_NODE"),
        *("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "ROLE_RANK", "OPTIM_TORCH"),
        *("PET_NNODES", "TORCHELASTIC_RUN_ID", "OMPI_COMM_WORLD_SIZE", "PMI_RANK", "ACCELERATE_USE_FSDP"),
        *("USE_V1", "FORCE_TORCHRUN", "PYTHONPATH"),
    ),
    "7",
)
KEYS = dict.fromkeys(
    (
        *("HF_TOKEN", "OPENAI_API_KEY", "hf_token", "AWS_SECRET_ACCESS_KEY", "GITHUB_TOKEN_2", "DB_PASSWORD"),
        *("GOOGLE_APPLICATION_CREDENTIALS", "WANDB_API_KEY", "My_Secret"),
    ),
    "secret",
)


def test_no_key_and_no_misleading_variable_reaches_it() -> None:
    kept = {"LANG": "C", "HOME": "/h", "NCCL_DEBUG": "INFO", "SLURM_JOB_ID": "1", "CUDA_VISIBLE_DEVICES": "0"}
    assert llamafactory.inherited(cpu(), {**kept, **STRAY, **KEYS}) == kept
    named = cpu(engines={"remote": EngineSettings(api_key_env="MINE")})
    assert llamafactory.inherited(named, {"MINE": "secret", "MINER": "C"}) == {"MINER": "C"}


@pytest.mark.parametrize("gpus", [0, 8])
def test_one_node_is_told_that_it_is_alone_whatever_machine_toml_says(tmp_path: Path, gpus: int) -> None:
    settings = {"llamafactory": EngineSettings(environment={"NNODES": "4", "MASTER_ADDR": "10.0.0.1"})}
    machine = Machine(gpus=gpus, engines=settings)
    found = llamafactory.own_environment(tmp_path, machine) | llamafactory.of_rank(tmp_path, "0")
    alone = {"NNODES": "1", "NODE_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MAX_RESTARTS": "0"}
    assert {name: found[name] for name in alone} == alone
    assert "MASTER_PORT" not in found


# the rows -----------------------------------------------------------------------------------


def test_a_prompt_that_it_would_change_is_refused() -> None:
    (row,) = rows_of([("Show {{idx}} in a template", "ok")])
    with pytest.raises(DataError, match="question q0"):
        llamafactory.record(row, SYSTEM)


def test_a_base_that_is_served_with_other_prompts_is_told_and_ours_is_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = (BASE / "chat_template.jinja").read_text()
    opening = source.replace("assistant\\n", "assistant\\n<think>\\n")
    other = "{{- '<|im_start|>system\nBe kind.<|im_end|>\n' }}" + source
    assert opening != source
    for number, (template, told) in enumerate([(source, False), (opening, False), (other, True)]):
        base = tmp_path / str(number)
        base.mkdir()
        for name in ("tokenizer.json", "tokenizer_config.json"):
            (base / name).write_bytes((BASE / name).read_bytes())
        (base / "chat_template.jinja").write_text(template)
        with ServerPool(cpu()) as pool:
            context = Context(RunStore(tmp_path), cpu(), PlainProgress(), pool)
            llamafactory.tell_other_template(MICRO, StudentTokens(base), context)
        assert ("WARNING" in capsys.readouterr().out) is told


def qwen_like(folder: Path) -> Path:
    """A checkpoint folder, without weights, whose tokenizer works as Qwen3's does: byte-level BPE behind
    NFC and Qwen's way of splitting, `<think>` an ordinary added token, `<|im_end|>` a special one."""
    from tokenizers import (
        AddedToken,
        Regex,
        Tokenizer,
        decoders,
        models,
        normalizers,
        pre_tokenizers,
        trainers,
    )

    split = (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
        r"|\s*[\r\n]+|\s+(?!\S)|\s+"
    )
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(split), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=700, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator([text for pair in TRICKY for text in pair], trainer)
    tokenizer.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    tokenizer.add_tokens(
        [AddedToken(word, normalized=False) for word in ("<think>", "</think>", "<tool_call>")]
    )
    folder.mkdir()
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|im_end|>"}
    settings |= {"pad_token": "<|endoftext|>", "model_max_length": 512}  # type: ignore[dict-item]
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    for name in ("config.json", "chat_template.jinja"):
        (folder / name).write_bytes((BASE / name).read_bytes())
    return folder


@pytest.fixture(scope="module", params=["micro", "like Qwen3"])
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return BASE if request.param == "micro" else qwen_like(tmp_path_factory.mktemp("base") / "model")


@pytest.mark.parametrize("system", [SYSTEM, "Be <|im_end|> {{content}} {{idx}}.", None])
def test_both_trainers_see_the_same_tokens_and_labels_row_by_row(
    base: Path, view: View, system: str | None, tmp_path: Path
) -> None:
    stage = replace(MICRO, packing="none", system=system)
    theirs = view("rows", llamafactory_files(stage, base, TRICKY, tmp_path))
    mine = ours(stage, base, TRICKY)
    assert len(theirs) == len(mine) == len(TRICKY)
    for (prompt, _), their, our in zip(TRICKY, theirs, mine, strict=True):
        assert (prompt, their) == (prompt, our)
    assert sum(len(one["input_ids"]) == MICRO.cutoff for one in mine) >= 3  # the cut ones


def test_packed_the_rows_are_the_same_too(base: Path, view: View, tmp_path: Path) -> None:
    theirs = view("rows", llamafactory_files(MICRO, base, TRICKY, tmp_path))
    assert {len(one["input_ids"]) for one in theirs} == {MICRO.cutoff}
    mine = [(one["input_ids"], one["labels"]) for one in ours(MICRO, base, TRICKY)]
    assert sorted(unpacked(theirs)) == sorted(mine)
    counts = json.loads((tmp_path / "data" / "counts.json").read_bytes())
    cut = sum(len(ids) == MICRO.cutoff - 1 for ids, _ in mine)
    assert counts == {"rows": len(TRICKY), "truncated": cut, "tokens": sum(len(ids) for ids, _ in mine)}


SHORT = tuple((f"What is {n}+{n}?", f"<think>\nso {n + n}\n</think>\n\n{n + n}") for n in range(6))


@pytest.mark.parametrize(("packing", "attends"), [("isolated", False), ("attending", True)])
def test_on_a_cpu_packed_rows_attend_to_each_other_only_where_they_should(
    view: View, packing: Any, attends: bool, tmp_path: Path
) -> None:
    stage = replace(MICRO, packing=packing)
    seen = view("attention", llamafactory_files(stage, BASE, SHORT, tmp_path))
    assert len(seen["starts"]) > 2
    assert seen["attends"] is attends


def test_flash_attention_would_keep_rows_apart_under_the_published_packing(
    view: View, tmp_path: Path
) -> None:
    """`packing: true` without `neat_packing`, as published; here with torch's attention in its place."""
    stage = replace(MICRO, packing="attending")
    seen = view("attention", llamafactory_files(stage, BASE, SHORT, tmp_path))
    assert seen["flash_borders"] == [*seen["starts"], MICRO.cutoff]


# a training ---------------------------------------------------------------------------------

SLOW = replace(PUBLISHED, data=GivenRows(pairs=SHORT * 8), epochs=3, cutoff=128, batch=2)


@pytest.fixture(scope="module")
def calm(environment: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training of SLOW that nothing disturbed."""
    return build(SLOW, RunStore(tmp_path_factory.mktemp("calm")))


def losses(out: Path) -> list[float]:
    return [entry["loss"] for entry in json.loads((out / "losses.json").read_bytes())]


def test_it_learns(calm: Path) -> None:
    assert losses(calm)[-1] < losses(calm)[0] - 1


def test_two_nodes_of_one_process_take_the_very_steps_of_one(calm: Path, tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    script = store.path(SLOW) / llamafactory.NODE
    other = f"until test -s {script}; do sleep 0.2; done; exec sh {script} 1"
    second = subprocess.Popen(["sh", "-c", other], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        out = build(SLOW, store, cpu(training=TrainingSettings(nodes=2, master_port=free_port(0))))
        assert second.wait(60) == 0
    finally:
        second.kill()
    assert yaml.safe_load((out / "train.yaml").read_text())["gradient_accumulation_steps"] == 1
    assert losses(out) == pytest.approx(losses(calm), abs=1e-3)


def test_a_training_that_is_killed_goes_on_and_ends_as_if_it_had_not_been(calm: Path, tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    out = store.path(SLOW)
    first = out / llamafactory.OUTPUT / f"checkpoint-{len(losses(calm)) // SLOW.epochs}"
    ended = killed_after(first / "trainer_state.json", store.root)
    assert ended < 0
    assert not (out / "stage.json").exists()
    assert processes_in(out) == []
    build(SLOW, store)
    assert "Resuming training from" in (out / llamafactory.LOG).read_text()
    for name in ("losses.json", "training.json", "train.yaml"):
        same = (calm / name).read_text().replace(str(calm.parent), str(out.parent))
        assert (out / name).read_text() == same
    weights = Path("model") / "model.safetensors"
    assert (out / weights).read_bytes() == (calm / weights).read_bytes()
    left = {path.name for path in out.iterdir()}
    assert left == {"identity.json", "stage.json", "log.txt", "train.yaml", "train", "data", "model"} | {
        "losses.json",
        "training.json",
    }


def killed_after(file: Path, root: Path) -> int:
    """Builds SLOW in a process that is killed as soon as `file` appears; its exit code."""
    code = (
        "from pathlib import Path; from harness.store import RunStore; "
        "from tests.pipeline.test_llamafactory import SLOW; from tests.pipeline.training import build; "
        f"build(SLOW, RunStore(Path({str(root)!r})))"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parents[2])
    deadline = time.monotonic() + 300
    while not file.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
    return process.wait()


def processes_in(folder: Path) -> list[str]:
    """Command lines of processes that work in `folder`, once they have had ten seconds to end."""
    for _ in range(100):
        found = list(working_in(folder))
        if not found:
            return []
        time.sleep(0.1)
    return found


def working_in(folder: Path) -> Iterator[str]:
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").readlink() == folder.resolve():
                yield (process / "cmdline").read_text().replace("\0", " ")
        except OSError:
            continue


@pytest.mark.usefixtures("environment")
def test_a_failure_is_told_with_the_end_of_its_log(tmp_path: Path) -> None:
    (tmp_path / "broken").mkdir()
    for file in BASE.iterdir():
        if file.suffix != ".safetensors":
            (tmp_path / "broken" / file.name).write_bytes(file.read_bytes())
    (tmp_path / "broken" / "model.safetensors").write_bytes(b"not weights")
    broken = replace(SLOW, base=local_checkpoint(tmp_path / "broken"))
    with pytest.raises(StageError, match=r"exit code 1; its log ends:[\s\S]*Error"):
        build(broken, RunStore(tmp_path / "runs"))


def test_a_machine_without_the_environment_says_which_command_makes_it(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="harness setup llamafactory"):
        build(SLOW, RunStore(tmp_path), cpu(environments=tmp_path / "none"))
    missing = {"llamafactory": EngineSettings(python=tmp_path / "python")}
    with pytest.raises(UsageError, match="which is not there"):
        build(SLOW, RunStore(tmp_path), cpu(engines=missing))
