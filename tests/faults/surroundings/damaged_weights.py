"""A bit of a checkpoint's weights flips, or their end is lost: before they are trained on, and afterwards."""

import random
import shutil
import sys
from pathlib import Path

from harness.integrity import sha256
from tests.faults import training
from tests.faults.fault import Fault, Outcome
from tests.faults.filed import How, check_said, damage, mend
from tests.faults.struck import Scene, Trouble

STANDIN = Path(__file__).parents[2] / "fakes" / "llamafactory_cli.py"


def train(folder: Path) -> list[str]:
    """The command that trains the micro base by the stand-in of LLaMA-Factory."""
    python, machine = folder / "python", folder / "machine.toml"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} -S -E {STANDIN} "$@"\n')
    python.chmod(0o755)
    machine.write_text(f'gpus = 0\n[engines.llamafactory]\npython = "{python}"\n')
    return [sys.executable, "-m", training.__name__, "train", str(folder / "runs"), str(machine), "standin"]


def weights(folder: Path) -> dict[str, str]:
    """The hash of each file of weights in the store."""
    found = folder.glob("runs/stages/*/model/*.safetensors")
    return {str(file.relative_to(folder)): sha256(file) for file in found}


def damaged(folder: Path, seed: int, kind: str, how: How) -> Outcome:
    """Damages the base (`checkpoint`) before it is trained on again, or what came of it (`sft`)."""
    rng = random.Random(f"{seed}:{kind}:{how}")
    scene, words = Scene(folder=folder), train(folder)
    scene.run(words)
    expected = weights(folder)
    if kind == "checkpoint":
        (trained,) = folder.glob("runs/stages/sft-*")
        shutil.rmtree(trained)
    (file,) = folder.glob(f"runs/stages/{kind}-*/model/*.safetensors")
    what, said = damage(file, how, rng), "nobody has read it yet"
    if kind == "checkpoint":
        said = check_said(scene.strike(words, None))
        if file.name not in said:
            raise Trouble("lost", f"{what} was not told: {said}")
    mended = scene.run(mend(folder / "runs"))
    if str(file) not in mended.said.replace("\n", ""):
        raise Trouble("lost", f"{what} was not found: {mended.said[-400:]}")
    scene.run(words)
    if weights(folder) != expected:
        raise Trouble("wrongly graded", f"{what}: the weights are others now")
    return Outcome(ending="survived", note=f"{what}: {said}")


def fault(kind: str, how: How) -> Fault:
    return Fault(
        name=f"files: weights of the {kind} stage {how}",
        kind="files",
        run=lambda folder, seed: damaged(folder, seed, kind, how),
        slow=True,
    )


base_flipped, base_cut = fault("checkpoint", "flipped"), fault("checkpoint", "cut")
trained_flipped, trained_cut = fault("sft", "flipped"), fault("sft", "cut")
