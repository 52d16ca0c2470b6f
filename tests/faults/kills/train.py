"""Kills of a training: of the command, of its trainer, of what stands between them, again and again.

The trainer stands in for LLaMA-Factory: a launcher and a worker, checkpoints that take their time to be
written, weights that follow from every step. Some workers outlive SIGTERM, and are still at work when
the command is run again, which is at once.
"""

import json
import random
import signal
import sys
import tempfile
import time
from contextlib import suppress
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path

from safetensors import SafetensorError
from safetensors.numpy import load_file

from tests.faults import training
from tests.faults.fault import Fault, Outcome
from tests.faults.forked import forked
from tests.faults.striking import IN_ONE_GO
from tests.faults.struck import INTERRUPTED, INTERRUPTED_CODE, Scene, Trouble
from tests.faults.victims import Start, Strike, Struck, lacking, struck

STANDIN = Path(__file__).parents[2] / "fakes" / "llamafactory_cli.py"
STEPS = 36
AFRESH = 0.1
"""The share of commands that start a Python of their own."""
STUBBORN = 0.25
"""The share of trainings whose worker outlives SIGTERM."""
ROLES = {"launcher": "llamafactory_cli.py -m", "worker": "llamafactory_cli.py worker"}
VICTIMS = (
    "command",
    "command",
    "command",
    "group",
    "launcher",
    "worker",
    "outer",
    "inner",
    "supervisors",
    "all",
)
REAL_STRIKES = 5
REAL_ROLES = {"launcher": "llamafactory.cli"}
REAL_VICTIMS = {"trl": ("command", "group", "all"), "llamafactory": ("command", "launcher", "all")}
DONE = "✓ trained"
GOES_ON = "The same command goes on from the last epoch that was saved."


def placed(folder: Path, stubborn: bool) -> list[str]:
    """The command's arguments, with the stand-in where machine.toml names LLaMA-Factory's interpreter."""
    folder.mkdir(parents=True, exist_ok=True)
    python, machine = folder / "python", folder / "machine.toml"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} -S -E {STANDIN} "$@"\n')
    python.chmod(0o755)
    more = '[engines.llamafactory.environment]\nSTUBBORN = "yes"\n' if stubborn else ""
    machine.write_text(f'gpus = 0\n[engines.llamafactory]\npython = "{python}"\n{more}')
    return ["train", str(folder / "runs"), str(machine), "standin"]


def start_of(scene: Scene, arguments: list[str], afresh: bool) -> Start:
    """A start of the command: of a Python of its own, or of a fork of this one."""
    if afresh:
        return partial(scene.start, [sys.executable, "-m", training.__name__, *arguments])
    return partial(forked, scene, arguments, places=training.PLACES)


def trained(folder: Path) -> Path:
    return (folder / "runs" / "kept" / "trained").resolve()


def files_of(folder: Path) -> dict[str, bytes]:
    """What the finished training is made of, but for times, places and the trainer's own log."""
    stage, own = trained(folder), str(folder).encode()
    return {
        str(file.relative_to(stage)): file.read_bytes().replace(own, b"")
        for file in stage.rglob("*")
        if file.is_file() and file.name not in ("stage.json", "log.txt")
    }


@cache
def undisturbed() -> dict[str, bytes]:
    with tempfile.TemporaryDirectory(prefix="kills-train-") as name:
        folder = Path(name).resolve()
        start = start_of(Scene(folder=folder), placed(folder, stubborn=False), afresh=True)
        ended = struck(start, folder / "said.txt", None, ROLES)
        assert ended.code == 0, ended.said
        return files_of(folder)


def same(folder: Path, calm: dict[str, bytes]) -> None:
    """Raises Trouble where the training did not come to the very result of the undisturbed one."""
    found = files_of(folder)
    if found.keys() != calm.keys():
        raise Trouble("lost", f"other files: {sorted(found.keys() ^ calm.keys())}")
    try:
        load_file(trained(folder) / "model" / "model.safetensors")
    except SafetensorError as error:
        raise Trouble("lost", f"the checkpoint is torn: {error}") from error
    steps = [entry["step"] for entry in json.loads(found["losses.json"])]
    if steps != list(range(1, STEPS + 1)):
        raise Trouble("lost", f"the training's log has other steps than 1 to {STEPS}: {steps}")
    if differing := [name for name in sorted(calm) if found[name] != calm[name]]:
        raise Trouble("wrongly graded", f"not as undisturbed: {differing}")


def drawn(rng: random.Random, number: int, stages: Path) -> Strike:
    """Most strikes fall somewhere into what the trainer writes, others after the last of it, or anywhere.

    What is written counts, and not seconds, since those of a busy machine are longer.
    """
    begun, within = rng.choice(MOMENTS)
    return Strike(
        victim=rng.choice(VICTIMS),
        signal=signal.SIGTERM if number % 2 else signal.SIGKILL,
        after=rng.uniform(0, within),
        begun=partial(begun, stages, printed(stages), rng.uniform(0, WRITTEN)),
    )


def printed(stages: Path) -> int:
    """Bytes that trainers have printed."""
    return sum(log.stat().st_size for log in stages.glob("sft-*/log.txt"))


def at_work(stages: Path, before: int, size: float, command: int) -> bool:
    """Whether a trainer has printed more than before, and so many bytes of checkpoints are written."""
    if printed(stages) == before:
        return False
    written = 0
    for file in stages.glob("sft-*/checkpoints/**/*"):
        with suppress(FileNotFoundError):
            written += file.stat().st_size
    return written >= size


def at_end(stages: Path, before: int, size: float, command: int) -> bool:
    """Whether a trainer writes the finished model."""
    return printed(stages) > before and any(stages.glob("sft-*/checkpoints/config.json"))


def anywhere(stages: Path, before: int, size: float, command: int) -> bool:
    return True


WRITTEN = 70_000
"""Bytes of checkpoints and model, a little less than there are."""
MOMENTS = ((at_work, 0.05), (at_work, 0.05), (at_work, 0.3), (at_end, 0.5), (at_end, 1.0), (anywhere, 1.2))
"""When a strike may fall, and the seconds within which it does."""


def complaint(ended: Struck) -> str:
    """What is wrong with how the command ended."""
    strike = ended.strike
    if "Traceback" in ended.said.partition("its log ends:")[0]:
        return "it traced back"
    if strike is None or ended.code == 0:
        return "" if ended.code == 0 else "it ended by itself"
    if not strike.meets_command:
        return "" if ended.code == 1 and GOES_ON in ended.said else "its trainer's end was not told"
    if ended.code == -strike.signal and (strike.signal == signal.SIGKILL or not ended.caught):
        return ""
    if ended.code == -strike.signal and DONE in ended.said:  # Python has ceased to handle signals
        return ""
    return (
        ""
        if ended.code == INTERRUPTED_CODE and INTERRUPTED in ended.said
        else "it was not told as interrupted"
    )


def run(folder: Path, seed: int) -> Outcome:
    folder, calm = folder.resolve(), undisturbed()
    rng, given = random.Random(f"{seed}:train"), list[Strike]()
    scene, rounds = Scene(folder=folder), 0
    try:
        while len(given) < IN_ONE_GO:
            rounds += 1
            given += disturbed(scene, folder / str(rounds), rng, IN_ONE_GO - len(given))
            same(folder / str(rounds), calm)
        if left := scene.left():
            raise Trouble("escaped", f"left behind: {left}")
    except Trouble as trouble:
        return Outcome(ending=trouble.ending, note=str(trouble), strikes=max(1, len(given)))
    note = f"{rounds} trainings ended alike after {len(given)} strikes"
    return Outcome(ending="survived", note=note, strikes=len(given))


def disturbed(scene: Scene, folder: Path, rng: random.Random, most: int) -> list[Strike]:
    """One training, struck again and again until it is done; by whom."""
    arguments, given = placed(folder, stubborn=rng.random() < STUBBORN), list[Strike]()
    log, told = folder / "said.txt", ""
    while len(given) < most:
        strike = drawn(rng, len(given), folder / "runs" / "stages")
        ended = struck(start_of(scene, arguments, rng.random() < AFRESH), log, strike, ROLES)
        if ended.strike is not None:
            given.append(ended.strike)
        told = ", ".join(map(str, given))
        if wrong := complaint(ended):
            raise Trouble("lost", f"{wrong} ({ended.code}) after {told}: {ended.said[-1500:]}")
        if ended.code == 0:
            return given
    ended = struck(start_of(scene, arguments, afresh=False), log, None, ROLES)
    if ended.code:
        raise Trouble("lost", f"run again after {told}, it ended with {ended.code}: {ended.said[-1500:]}")
    return given


def real(trainer: str, folder: Path, seed: int) -> Outcome:
    """One training by a real trainer, struck five times at any moment of what it takes undisturbed."""
    folder, rng, given = folder.resolve(), random.Random(f"{seed}:{trainer}"), list[Strike]()
    scene = Scene(folder=folder)
    try:
        calm = folder / "calm"
        started = time.monotonic()
        finish(scene, calm, trainer)
        seconds = time.monotonic() - started
        while len(given) < REAL_STRIKES:
            home = folder / f"struck-{len(given)}"
            while len(given) < REAL_STRIKES:
                which = signal.SIGTERM if len(given) % 2 else signal.SIGKILL
                victim = rng.choice(REAL_VICTIMS[trainer])
                strike = Strike(victim=victim, signal=which, after=rng.uniform(0, seconds))
                ended = struck(really(scene, home, trainer), folder / "said.txt", strike, REAL_ROLES)
                given += [ended.strike] if ended.strike is not None else []
                if wrong := complaint(ended):
                    raise Trouble("lost", f"{wrong} ({ended.code}): {ended.said[-1500:]}")
                if ended.code == 0:
                    break
            finish(scene, home, trainer)
            same(home, files_of(calm))
        if left := scene.left():
            raise Trouble("escaped", f"left behind: {left}")
    except Trouble as trouble:
        return Outcome(ending=trouble.ending, note=str(trouble), strikes=max(1, len(given)))
    note = f"the same bytes after {', '.join(map(str, given))}"
    return Outcome(ending="survived", note=note, strikes=len(given))


def really(scene: Scene, home: Path, trainer: str) -> Start:
    home.mkdir(exist_ok=True)
    (home / "machine.toml").write_text("gpus = 0\n")
    arguments = ["train", str(home / "runs"), str(home / "machine.toml"), trainer]
    return start_of(scene, arguments, afresh=True)


def finish(scene: Scene, home: Path, trainer: str) -> None:
    ended = struck(really(scene, home, trainer), scene.folder / "said.txt", None, REAL_ROLES)
    if ended.code:
        raise Trouble("lost", f"run again, it ended with {ended.code}: {ended.said[-1500:]}")


def no_trl() -> str:
    """What to do where TRL is not installed; nothing where it is."""
    return "" if find_spec("trl") else "run: pip install 'dasd-harness[train]'"


train = Fault(name="train", kind="train", run=run)
by_trl = Fault(name="train: TRL", kind="train", run=partial(real, "trl"), slow=True, needs=no_trl)
by_llamafactory = Fault(
    name="train: LLaMA-Factory",
    kind="train",
    run=partial(real, "llamafactory"),
    slow=True,
    needs=partial(lacking, "llamafactory"),
)
