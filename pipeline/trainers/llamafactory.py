"""LLaMA-Factory 0.9.5, which the report trained with, as a process of its own environment.

It runs in the stage's directory on files laid out as the report's are: `train.yaml`,
`train/deepspeed/ds_z3_config.json`, `data/dataset_info.json` and `data/train.jsonl`. Its output is in
`log.txt`. It goes on from its newest whole checkpoint by itself.
"""

import json
import os
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from harness.chat import OPEN
from harness.errors import DataError, StageError
from harness.evaluate import conversation
from harness.files import write_json, write_rows, write_whole
from harness.generate import read_rows
from harness.machine import Machine
from harness.serve import supervised
from harness.setup import environment_python
from harness.store import Context
from harness.types import Generation, Message
from pipeline.tokenizer import StudentTokens, prompt_before
from pipeline.trainers.checkpoints import STATE, copy_chat_files, discard_torn
from pipeline.trainers.published import ZERO3, ZERO3_PATH, training_yaml

if TYPE_CHECKING:
    from pipeline.sft import Sft

OUTPUT = "checkpoints"
CACHE = "cache"
LOG = "log.txt"
NODE = "node.sh"
TOLD = "training.json"
ROWS = Path("data") / "train.jsonl"
COUNTS = Path("data") / "counts.json"
WEIGHTS = ("config.json", "*.safetensors", "*.safetensors.index.json")
INDEX = "{{idx}}"
POLL = 0.5
GRACE = 10.0

# What would have LLaMA-Factory run something else than its trainer, or look for data elsewhere.
MISLEADING = (
    *("USE_V1", "USE_RAY", "USE_KT", "USE_MCA", "USE_MODELSCOPE_HUB", "USE_OPENMIND_HUB"),
    *("ALLOW_EXTRA_ARGS", "RDZV_ID", "MIN_NNODES", "MAX_NNODES", "LLAMABOARD_ENABLED"),
    *("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "HF_TOKEN"),
)


def train(stage: "Sft", out: Path, context: Context) -> None:
    """Trains on all rows of the stage's data and writes what Sft promises.

    Raises UsageError where the batch does not divide among the processes or the environment is not set
    up, DataError for a row that LLaMA-Factory would change, StageError where it fails.
    """
    base, out = (context.path(stage.base) / "model").resolve(), out.resolve()
    if not (out / TOLD).exists():
        run(stage, base, out, context)
        keep(stage, base, out)
    clear(out)


def run(stage: "Sft", base: Path, out: Path, context: Context) -> None:
    """One whole training, from the start or from where an earlier one ended."""
    machine = context.machine
    python = environment_python("llamafactory", machine)
    write_settings(stage, base, out, machine)
    tokens = StudentTokens(base)
    tell_other_template(stage, tokens, context)
    write_data(stage, context.path(stage.data) / "generations.jsonl", tokens, out)
    discard_torn(out / OUTPUT)
    command = [str(python), "-m", "llamafactory.cli", "train", "train.yaml"]
    if machine.training.nodes > 1:
        write_whole(out / NODE, node_script(command, python, out, machine).encode())
        (out / NODE).chmod(0o700)  # it holds what machine.toml sets, keys perhaps
        context.progress.say(f"on each other node, run: sh {out / NODE} RANK (from 1)")
    environment = {**inherited(machine, os.environ), **own_environment(python, out, machine, "0")}
    follow(command, environment, out, context)


def write_settings(stage: "Sft", base: Path, out: Path, machine: Machine) -> None:
    """train.yaml, the DeepSpeed file and dataset_info.json."""
    dataset = stage.data.key
    yaml = training_yaml(stage, machine, base, dataset, OUTPUT)
    (out / ZERO3_PATH).parent.mkdir(parents=True, exist_ok=True)
    (out / ROWS).parent.mkdir(exist_ok=True)
    write_whole(out / "train.yaml", yaml.encode())
    write_whole(out / ZERO3_PATH, ZERO3.read_bytes())
    columns = {"prompt": "input", "response": "output"}
    if stage.system is not None:
        columns["system"] = "system"
    info = {dataset: {"file_name": ROWS.name, "formatting": "alpaca", "columns": columns}}
    write_json(out / "data" / "dataset_info.json", info)


def write_data(stage: "Sft", rows: Path, tokens: StudentTokens, out: Path) -> None:
    """The rows for LLaMA-Factory, and their count, tokens and truncations; once a stage."""
    if (out / COUNTS).exists():
        return
    write_rows(out / ROWS, (record(row, stage.system) for row in read_rows(rows, Generation)))
    counts = {"rows": 0, "truncated": 0, "tokens": 0}
    for example in stage.examples(read_rows(rows, Generation), tokens):
        counts["rows"] += 1
        counts["truncated"] += example.truncated
        counts["tokens"] += len(example.input_ids)
    write_json(out / COUNTS, counts)


def record(row: Generation, system: str | None) -> dict[str, str]:
    """One row in LLaMA-Factory's `alpaca` form.

    Raises DataError where the prompt holds `{{idx}}`: LLaMA-Factory 0.9.5 takes it for a place of its
    own and would write a number there (StringFormatter).
    """
    prompt = row.kept["prompt"]
    if INDEX in prompt:
        raise DataError(
            f"the prompt of question {row.question} holds {INDEX}, which LLaMA-Factory would replace",
            "leave this question out of the data, or train with TRL",
        )
    plain = {"input": prompt, "output": row.text}
    return plain if system is None else {"system": system, **plain}


def qwen_prompt(messages: tuple[Message, ...]) -> str:
    """A prompt as LLaMA-Factory's `qwen` template writes it."""
    turns = [f"<|im_start|>{message.role}\n{message.content}<|im_end|>\n" for message in messages]
    return "".join(turns) + "<|im_start|>assistant\n"


def tell_other_template(stage: "Sft", tokens: StudentTokens, context: Context) -> None:
    """Says so where the model will be asked with prompts other than those that it is trained on.

    A template that opens `<think>` in the prompt is no other: the rows bring the tag themselves.
    """
    probe = conversation("1 + 1?", stage.system)
    served = prompt_before(tokens.template.render(probe), OPEN)
    if served != qwen_prompt(probe):
        context.progress.say(
            "WARNING: LLaMA-Factory trains with its template `qwen`, and the base's own chat template, by "
            "which the model will be served, differs:\n"
            f"  trained {qwen_prompt(probe)!r}\n  served  {served!r}"
        )


def inherited(machine: Machine, environment: Mapping[str, str]) -> dict[str, str]:
    """The harness's environment without what would mislead LLaMA-Factory, and without keys."""
    hidden = {*MISLEADING, machine.engine("remote").api_key_env}
    return {name: value for name, value in environment.items() if name not in hidden}


def own_environment(python: Path, out: Path, machine: Machine, rank: str) -> dict[str, str]:
    """What the process needs beyond an ordinary environment. `rank` is the node's."""
    settings = {
        "PATH": f"{python.parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "PYTHONUNBUFFERED": "1",
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_CACHE": f"{out / CACHE}/{rank}",
        "WANDB_MODE": "disabled",
        **machine.engine("llamafactory").environment,
    }
    if not machine.gpus:
        settings |= {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": str(machine.train_threads)}
    if machine.gpus or machine.training.nodes > 1:
        # DeepSpeed wants torchrun even for one GPU.
        settings |= {"FORCE_TORCHRUN": "1", "NPROC_PER_NODE": str(max(1, machine.gpus))}
    if machine.training.nodes > 1:
        settings |= {
            "NNODES": str(machine.training.nodes),
            "NODE_RANK": rank,
            "MASTER_ADDR": machine.training.master_address,
            "MASTER_PORT": str(machine.training.master_port),
        }
    return settings


def node_script(command: list[str], python: Path, out: Path, machine: Machine) -> str:
    """What joins another node: `sh node.sh RANK`, with the same folders mounted."""
    settings = own_environment(python, out, machine, "$1")
    assigned = " ".join(f'{name}="{value}"' for name, value in settings.items() if name != "PATH")
    return (
        f'#!/bin/sh\ncd {shlex.quote(str(out))} && exec env PATH={shlex.quote(str(python.parent))}:"$PATH" '
        f"{assigned} {shlex.join(command)}\n"
    )


def follow(command: list[str], environment: dict[str, str], out: Path, context: Context) -> None:
    """Runs LLaMA-Factory to its end and shows its steps. It dies when this process does."""
    steps_file = out / OUTPUT / "trainer_log.jsonl"
    seen = steps_file.stat().st_size if steps_file.exists() else 0
    context.progress.say("LLaMA-Factory reads, tokenizes and packs the rows")
    with running(command, environment, out) as process:
        steps = new_steps(process, steps_file, seen)
        if (first := next(steps, None)) is not None:
            number, total = first
            with context.progress.counter("training steps", total, done=number - 1) as counter:
                counter.advance()
                for _ in steps:
                    counter.advance()
    if process.returncode:
        raise StageError(
            f"LLaMA-Factory ended with exit code {process.returncode}; its log ends:\n{tail(out / LOG)}",
            f"The whole log is {out / LOG}. The same command goes on from the last epoch that was saved.",
        )


@contextmanager
def running(command: list[str], environment: dict[str, str], out: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process below a supervisor that ends it, and all that it started, when the `with` ends."""
    with (out / LOG).open("ab") as log:
        process = subprocess.Popen(
            supervised(command, GRACE),
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            cwd=out,
            env=environment,
            start_new_session=True,
        )
        assert process.stdin is not None
        try:
            yield process
        finally:
            process.stdin.close()
            process.wait()


def new_steps(process: "subprocess.Popen[bytes]", file: Path, seen: int) -> Iterator[tuple[int, int]]:
    """Number and total of each step that LLaMA-Factory logs beyond the first `seen` bytes, as it does."""
    ended = False
    while not ended:
        ended = process.poll() is not None
        if not ended:
            time.sleep(POLL)
        for line in whole_lines(file, seen):
            seen += len(line)
            told = json.loads(line)
            if "loss" in told:
                yield told["current_steps"], told["total_steps"]


def whole_lines(file: Path, start: int) -> list[bytes]:
    """The complete lines of a growing file from a position on."""
    if not file.exists():
        return []
    with file.open("rb") as lines:
        lines.seek(start)
        return [line for line in lines if line.endswith(b"\n")]


def tail(log: Path, lines: int = 15) -> str:
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])


def keep(stage: "Sft", base: Path, out: Path) -> None:
    """Moves the weights to model/ and writes losses.json and, last of all, training.json."""
    output, model = out / OUTPUT, out / "model"
    state = json.loads((output / STATE).read_bytes())
    counts = json.loads((out / COUNTS).read_bytes())
    model.mkdir(exist_ok=True)
    for file in [file for pattern in WEIGHTS for file in output.glob(pattern)]:
        os.replace(file, model / file.name)
    copy_chat_files(base, model)
    write_json(out / "losses.json", [entry for entry in state["log_history"] if "loss" in entry])
    tokens = counts["tokens"] * stage.epochs
    write_json(out / TOLD, {**counts, "tokens": tokens, "steps": state["global_step"]})


def clear(out: Path) -> None:
    """Removes what only an unfinished training needs: optimizer states and copies of the data."""
    for leftover in (out / OUTPUT, out / CACHE):
        shutil.rmtree(leftover, ignore_errors=True)
    (out / ROWS).unlink(missing_ok=True)
