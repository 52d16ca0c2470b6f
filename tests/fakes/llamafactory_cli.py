"""Stands where machine.toml names LLaMA-Factory's interpreter: takes its command line and trains nothing.

    llamafactory_cli.py -m llamafactory.cli train train.yaml

A launcher and a worker, as torchrun and its process are. The worker writes what the real one does, in its
order: a checkpoint after each epoch, with the state last, and the model at the end. It goes on from the
checkpoint with the highest number, whole or not. Its weights follow from every row of every step: whoever
goes on from the wrong place, or misses a step, ends in other ones.

SLOWNESS, in the environment, is the seconds that a step and a piece of a file take. STUBBORN lets the worker
outlive SIGTERM.
"""

import hashlib
import json
import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

SLOWNESS = float(os.environ.get("SLOWNESS", "0.012"))
PIECES = 3
FLOATS = 4096


def settings(file: Path) -> dict[str, str]:
    """The top level of a train.yaml whose values are scalars."""
    lines = [line for line in file.read_text().splitlines() if ": " in line and line[0] not in "# "]
    return {name: value.strip('"') for name, _, value in (line.partition(": ") for line in lines)}


def write_slowly(file: Path, content: bytes) -> None:
    """As a file of gigabytes grows: whoever looks, or kills, meets a part of it."""
    size = -(-len(content) // PIECES) or 1
    with file.open("wb", buffering=0) as growing:
        for start in range(0, len(content), size):
            growing.write(content[start : start + size])
            time.sleep(SLOWNESS)


def weights(state: str) -> bytes:
    """A safetensors file of numbers that follow from the state."""
    numbers = hashlib.shake_256(state.encode()).digest(4 * FLOATS)
    tensor = {"dtype": "I32", "shape": [FLOATS], "data_offsets": [0, len(numbers)]}
    header = json.dumps({"model.embed_tokens.weight": tensor}).encode()
    return struct.pack("<Q", len(header)) + header + numbers


def state_of(checkpoint: Path) -> tuple[int, str, list[dict[str, float]]]:
    """Where a checkpoint goes on: its step, what was learned, and the log. Fails where it is torn."""
    told = json.loads((checkpoint / "trainer_state.json").read_bytes())
    learned = (checkpoint / "optimizer.pt").read_text()
    if (checkpoint / "model.safetensors").read_bytes() != weights(learned):
        raise SystemExit(f"SafetensorError: {checkpoint} is incomplete")
    return told["global_step"], learned, told["log_history"]


def save_model(folder: Path, learned: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_slowly(folder / "config.json", b'{"model_type": "qwen3"}')
    write_slowly(folder / "model.safetensors", weights(learned))


def save_state(folder: Path, step: int, log: list[dict[str, float]]) -> None:
    state = json.dumps({"global_step": step, "log_history": log}, indent=2)
    write_slowly(folder / "trainer_state.json", state.encode())


def checkpoints(output: Path) -> Iterator[tuple[int, Path]]:
    for folder in output.glob("checkpoint-*"):
        yield int(folder.name.partition("-")[2]), folder


def work() -> None:
    """The worker: all steps, from the beginning or the last checkpoint."""
    given = settings(Path("train.yaml"))
    output = Path(given["output_dir"])
    rows = (Path("data") / "train.jsonl").read_bytes().splitlines()
    batch, epochs = int(given["gradient_accumulation_steps"]), int(float(given["num_train_epochs"]))
    each = -(-len(rows) // batch)
    begun, learned = 0, given["seed"]
    log: list[dict[str, float]] = []
    print(f"{len(rows)} rows, {each * epochs} steps", flush=True)
    output.mkdir(exist_ok=True)
    if found := sorted(checkpoints(output)):
        print(f"Resuming training from {found[-1][1]}.", flush=True)
        begun, learned, log = state_of(found[-1][1])
    for step in range(begun + 1, each * epochs + 1):
        place = (step - 1) % each * batch
        learned = hashlib.sha256(learned.encode() + b"".join(rows[place : place + batch])).hexdigest()
        log = [*log, {"loss": int(learned[:6], 16) / 2**24, "step": step}]
        time.sleep(SLOWNESS)
        with (output / "trainer_log.jsonl").open("a") as told:
            line = {"current_steps": step, "total_steps": each * epochs, "loss": log[-1]["loss"]}
            told.write(json.dumps(line) + "\n")
        if step % each == 0:
            checkpoint = output / f"checkpoint-{step}"
            save_model(checkpoint, learned)
            for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
                write_slowly(checkpoint / name, learned.encode())
            save_state(checkpoint, step, log)
    save_model(output, learned)
    write_slowly(output / "train_results.json", b"{}")
    save_state(output, each * epochs, log)


def main() -> None:
    if sys.argv[1:] == ["worker"]:
        if os.environ.get("STUBBORN"):
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        work()
        return
    assert sys.argv[1:] == ["-m", "llamafactory.cli", "train", "train.yaml"], sys.argv
    sys.exit(subprocess.run([sys.executable, "-S", "-E", __file__, "worker"], check=False).returncode)


if __name__ == "__main__":
    main()
