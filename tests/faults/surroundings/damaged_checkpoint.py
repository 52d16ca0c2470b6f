"""A bit of a checkpoint's weights flips, or their end is lost, before it is evaluated again or served.

The fake server stands where machine.toml names vLLM's interpreter.
"""

import random
import shutil
import signal
import sys
from functools import partial
from pathlib import Path
from typing import Literal

from harness.serve import free_port
from tests.faults.fault import Fault, Outcome
from tests.faults.filed import (
    How,
    check_found,
    check_said,
    check_whole,
    damage,
    evaluating,
    holding,
    mend,
)
from tests.faults.kills.serve import STANDIN, TEACHER, answers
from tests.faults.struck import HARNESS, Scene, Trouble
from tests.faults.victims import Strike, struck

Use = Literal["evaluated", "served"]


def placed(folder: Path) -> Path:
    """The machine.toml with the stand-in in vLLM's place."""
    python, machine = folder / "python", folder / "machine.toml"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} {STANDIN} {folder / "told"} --sums 0.5 -- "$@"\n')
    python.chmod(0o755)
    machine.write_text(f'gpus = 0\n[engines.vllm]\npython = "{python}"\n')
    return machine


def damaged(folder: Path, seed: int, use: Use, how: How) -> Outcome:
    """Evaluates the micro teacher, damages its copy in the store, and wants to use it once more."""
    rng, scene, runs = random.Random(f"{seed}:{use}:{how}"), Scene(folder=folder), folder / "runs"
    place = ["--machine", str(placed(folder)), "--runs", str(runs)]
    evaluate = evaluating(str(TEACHER), *place)
    scene.run(evaluate)
    expected = holding(runs)
    (file,) = runs.glob("stages/checkpoint-*/model/*.safetensors")
    what = damage(file, how, rng)
    check_found(scene, runs, file)
    serve = [*HARNESS, "serve", f"tiny/{TEACHER.name}", "--json", "--port", str(free_port(0)), *place]
    if use == "evaluated":
        for kind in ("ask", "mark"):
            (stage,) = runs.glob(f"stages/{kind}-*")
            shutil.rmtree(stage)
    said = check_said(scene.strike(evaluate if use == "evaluated" else serve, None), str(file), "--mend")
    scene.run(mend(runs))
    scene.run(evaluate)
    check_whole(runs, expected)
    if use == "served":
        check_served(scene, serve)
    return Outcome(ending="survived", note=f"{what}: {said}")


def check_served(scene: Scene, words: list[str]) -> None:
    """Raises Trouble where the server does not answer, or does not stop when it is told to."""
    log = scene.folder / "served.txt"
    stop = Strike(victim="command", signal=signal.SIGTERM, after=0, begun=partial(answers, log))
    ended = struck(partial(scene.start, words), log, stop, {})
    if ended.code or ended.strike is None:
        raise Trouble("lost", f"not served: it ended with {ended.code}: {ended.said[-600:]}")


def fault(use: Use, how: How) -> Fault:
    return Fault(
        name=f"files: weights of a checkpoint that is {use}, {how}",
        kind="files",
        run=lambda folder, seed: damaged(folder, seed, use, how),
        slow=True,
    )


evaluated_flipped, evaluated_cut = fault("evaluated", "flipped"), fault("evaluated", "cut")
served_flipped, served_cut = fault("served", "flipped"), fault("served", "cut")
