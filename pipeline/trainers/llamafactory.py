"""LLaMA-Factory 0.9.5, which the report trained with, as a process of its own environment.

It runs in the stage's directory on files laid out as the report's are: `train.yaml`,
`train/deepspeed/ds_z3_config.json`, `data/dataset_info.json` and `data/train.jsonl`. Its output is in
`log.txt`. It goes on from its newest whole checkpoint by itself. What a command that was killed has left at
work there is ended before another begins.
"""

import json
import os
import re
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
from harness.machine import Machine
from harness.rows import read_rows
from harness.secrets import SECRET_NAMES
from harness.serve import MARK, end_marked, supervised
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

# Names of variables that LLaMA-Factory must not inherit, in any case: those that would have it run something
# else than its trainer or look for data elsewhere, those by which a job's scheduler or launcher would have it
# wait for other processes, and keys. A POSIX extended expression, because `node.sh` hands it to grep.
HIDDEN = "|".join(
    (
        "^(USE_V1|USE_RAY|USE_KT|USE_MCA|USE_MODELSCOPE_HUB|USE_OPENMIND_HUB|ALLOW_EXTRA_ARGS)$",
        "^(LLAMABOARD_ENABLED|PYTHONPATH|PYTHONHOME|VIRTUAL_ENV|OPTIM_TORCH|FORCE_TORCHRUN)$",
        "^(NNODES|NODE_RANK|MASTER_ADDR|MASTER_PORT|NPROC_PER_NODE|MAX_RESTARTS|RDZV_ID|MIN_NNODES)$",
        "^(MAX_NNODES|RANK|WORLD_SIZE|((LOCAL|GROUP|ROLE)_(RANK|WORLD_SIZE))|GROUP_WORLD_SIZE|ROLE_NAME)$",
        "^(PET|TORCHELASTIC|ACCELERATE|OMPI_COMM|PMI|MV2_COMM)_",
        SECRET_NAMES,
    )
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
    end_marked(str(out))
    write_data(stage, context.path(stage.data) / "generations.jsonl", tokens, out)
    discard_torn(out / OUTPUT)
    command = [str(python), "-m", "llamafactory.cli", "train", "train.yaml"]
    if machine.training.nodes > 1:
        write_private(out / NODE, node_script(command, python, out, machine).encode())
        context.progress.say(f"on each other node, run: sh {out / NODE} RANK (from 1)")
    follow(command, environment(python, out, machine), out, context)


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


def hidden(machine: Machine) -> str:
    """HIDDEN, and the name of the key of the remote engine."""
    return f"{HIDDEN}|^{re.escape(machine.engine('remote').api_key_env)}$"


def inherited(machine: Machine, found: Mapping[str, str]) -> dict[str, str]:
    """The harness's environment without what would mislead LLaMA-Factory, and without keys."""
    unwanted = re.compile(hidden(machine), re.IGNORECASE)
    return {name: value for name, value in found.items() if not unwanted.search(name)}


def environment(python: Path, out: Path, machine: Machine) -> dict[str, str]:
    """The whole environment of the process on the first node."""
    return {
        **inherited(machine, os.environ),
        "PATH": f"{python.parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        **own_environment(out, machine),
        **of_rank(out, "0"),
    }


def own_environment(out: Path, machine: Machine) -> dict[str, str]:
    """What the process needs beyond an ordinary environment, the same on every node."""
    training, several = machine.training, machine.training.nodes > 1
    settings = {
        "PYTHONUNBUFFERED": "1",
        "HF_HUB_OFFLINE": "1",
        "WANDB_MODE": "disabled",
        **machine.engine("llamafactory").environment,
        "NNODES": str(training.nodes),
        "MASTER_ADDR": training.master_address if several else "127.0.0.1",
        "MAX_RESTARTS": "0",
    }
    if not machine.gpus:
        settings |= {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": str(machine.train_threads)}
    if machine.gpus or several:
        # DeepSpeed wants torchrun even for one GPU.
        settings |= {"FORCE_TORCHRUN": "1", "NPROC_PER_NODE": str(max(1, machine.gpus))}
    if several:
        settings["MASTER_PORT"] = str(training.master_port)
    return settings


def of_rank(out: Path, rank: str) -> dict[str, str]:
    """What differs between the nodes."""
    return {"NODE_RANK": rank, "HF_DATASETS_CACHE": f"{out / CACHE}/{rank}"}


def node_script(command: list[str], python: Path, out: Path, machine: Machine) -> str:
    """What joins another node: `sh node.sh RANK`, with the same folders mounted.

    It hides of that node's environment what is hidden of this one's.
    """
    assigned = [f"{name}={shlex.quote(value)}" for name, value in own_environment(out, machine).items()]
    ranked = [f'{name}={shlex.quote(value)}"$1"' for name, value in of_rank(out, "").items()]
    names = "env | sed -n 's/^\\([A-Za-z_][A-Za-z0-9_]*\\)=.*/\\1/p'"
    return f"""#!/bin/sh
cd {shlex.quote(str(out))} || exit 1
for name in $({names} | grep -Ei {shlex.quote(hidden(machine))}); do
    unset "$name"
done
PATH={shlex.quote(str(python.parent))}:"$PATH"
export PATH
exec env {" ".join([*assigned, *ranked])} {shlex.join(command)}
"""


def write_private(path: Path, content: bytes) -> None:
    """Writes a file that nobody else could ever read: it holds what machine.toml sets, keys perhaps."""
    aside = path.with_name(f".{path.name}")
    aside.unlink(missing_ok=True)
    with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
    aside.rename(path)


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
            env={**environment, MARK: str(out)},
            start_new_session=True,
        )
        assert process.stdin is not None
        try:
            yield process
        finally:
            process.stdin.close()
            process.wait()
            end_marked(str(out))


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
    """Removes what only an unfinished training needs: optimizer states, copies of the data, node.sh."""
    for leftover in (out / OUTPUT, out / CACHE):
        shutil.rmtree(leftover, ignore_errors=True)
    for file in (out / ROWS, out / NODE):
        file.unlink(missing_ok=True)
