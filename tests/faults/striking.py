"""Many blows on one command, which is then run to its end and compared with an undisturbed run."""

import os
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.faults.fault import Outcome
from tests.faults.forked import Fork, forked
from tests.faults.noted import load_modules
from tests.faults.struck import HARNESS, Blow, Ended, Scene, Start, Trouble, blow_of, complaint

IN_ONE_GO = int(os.environ.get("IN_ONE_GO", "4"))
"""Blows of one fault. What it needs to begin is made once for all of them."""
FROM_THE_START = 0.15
"""Of the blows: on commands that load their modules first. All others are forked (tests/faults/forked.py)."""


@dataclass(frozen=True, kw_only=True)
class Play:
    """One stage kind's play. `prepare` readies a new runs folder, `words` is the command on it; `check`
    compares it with the undisturbed one (calm, struck) and raises Trouble; `glance` looks at what is there
    right after a blow, which may be anything but torn."""

    words: Callable[[Path], Sequence[str]]
    check: Callable[[Path, Path], None]
    prepare: Callable[[Path], None] = lambda runs: None
    glance: Callable[[Path, Path], None] = lambda calm, runs: None
    containers: bool = False


def strikes(scene: Scene, play: Play, rng: random.Random, wanted: int) -> Outcome:
    """So many blows, up to four in one run before it may finish, each as good as the last one."""
    given, rounds, blows = 0, 0, list[Blow]()

    def fork(words: Sequence[str], log: Path) -> Fork:
        return forked(scene, words[len(HARNESS) :], log)

    try:
        calm = scene.folder / "calm"
        play.prepare(calm)
        cold, warm = undisturbed(scene, play, calm, fork)
        while given < wanted:
            rounds += 1
            runs, blows = scene.folder / f"struck-{rounds}", []
            play.prepare(runs)
            for _ in range(min(rng.randint(1, 4), wanted - given)):
                warmed = rng.random() > FROM_THE_START
                blow = blow_of(rng, given, warm if warmed else cold)
                ended = scene.strike(play.words(runs), blow, fork if warmed else None)
                aftermath(scene, play, ended)
                play.glance(calm, runs)
                if ended.blow is None:
                    break
                given += 1
                blows.append(ended.blow)
            scene.run(play.words(runs), fork)
            play.check(calm, runs)
        aftermath(scene, play, None)
    except Trouble as trouble:
        told = "; ".join(map(str, blows))
        return Outcome(ending=trouble.ending, note=f"{trouble} [after {told}]", strikes=given + 1)
    return Outcome(ending="survived", note=f"{rounds} runs, {given} strikes", strikes=given)


def undisturbed(scene: Scene, play: Play, calm: Path, fork: Start) -> tuple[float, float]:
    """Runs the command alone, in `calm`. Returns the seconds that it takes, and those of a fork of this
    process, in which its modules are loaded from now on."""
    modules, warm = scene.folder / "modules.txt", scene.folder / "warm"
    noting = [sys.executable, "-m", "tests.faults.noted", str(modules), *play.words(calm)[len(HARNESS) :]]
    seconds = scene.run(noting).seconds
    load_modules(modules)
    play.prepare(warm)
    return seconds, scene.run(play.words(warm), fork).seconds


def aftermath(scene: Scene, play: Play, ended: Ended | None) -> None:
    """Raises Trouble where a command said the wrong thing, or left something alive."""
    if ended is not None and (wrong := complaint(ended)):
        raise Trouble("lost", wrong)
    if left := [*scene.left(), *(scene.containers() if play.containers else ())]:
        raise Trouble("escaped", f"left behind: {left}")
