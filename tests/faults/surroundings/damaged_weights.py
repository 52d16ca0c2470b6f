"""A bit of what a training reads or writes flips, or its end is lost: of a checkpoint's weights, of rows."""

import random
import shutil
import sys
from pathlib import Path

from harness.integrity import sha256
from tests.faults import training
from tests.faults.fault import Fault, Outcome
from tests.faults.filed import How, check_found, check_said, damage, mend
from tests.faults.kills.train import placed
from tests.faults.struck import Scene, Trouble

READ = {"checkpoint": "model/*.safetensors", "givenrows": "generations.jsonl"}
"""What a training reads, by the kind of the stage that holds it."""


def train(folder: Path) -> list[str]:
    """The command that trains the micro base by the stand-in of LLaMA-Factory."""
    return [sys.executable, "-m", training.__name__, *placed(folder, stubborn=False)]


def weights(folder: Path) -> dict[str, str]:
    """The hash of each file of weights in the store."""
    found = folder.glob("runs/stages/*/model/*.safetensors")
    return {str(file.relative_to(folder)): sha256(file) for file in found}


def damaged(folder: Path, seed: int, kind: str, how: How) -> Outcome:
    """Damages the base (`checkpoint`) or the rows (`givenrows`) before they are trained on again, or what
    came of them (`sft`)."""
    rng = random.Random(f"{seed}:{kind}:{how}")
    scene, words = Scene(folder=folder), train(folder)
    scene.run(words)
    expected = weights(folder)
    if kind in READ:
        (trained,) = folder.glob("runs/stages/sft-*")
        shutil.rmtree(trained)
    (file,) = folder.glob(f"runs/stages/{kind}-*/{READ.get(kind, READ['checkpoint'])}")
    what, said = damage(file, how, rng), "nobody has read it yet"
    check_found(scene, folder / "runs", file)
    if kind in READ:
        said = check_said(scene.strike(words, None), str(file), "harness verify --mend")
    scene.run(mend(folder / "runs"))
    scene.run(words)
    if weights(folder) != expected:
        raise Trouble("wrongly graded", f"{what}: the weights are others now")
    return Outcome(ending="survived", note=f"{what}: {said}")


def fault(kind: str, how: How) -> Fault:
    return Fault(
        name=f"files: {'rows' if kind == 'givenrows' else 'weights'} of the {kind} stage {how}",
        kind="files",
        run=lambda folder, seed: damaged(folder, seed, kind, how),
        slow=True,
    )


base_flipped, base_cut = fault("checkpoint", "flipped"), fault("checkpoint", "cut")
rows_flipped, rows_cut = fault("givenrows", "flipped"), fault("givenrows", "cut")
trained_flipped, trained_cut = fault("sft", "flipped"), fault("sft", "cut")
