"""A disk that is full at some moment of an evaluation, and then has room again."""

import random
from pathlib import Path

from tests.faults.disks import disk, no_mounts, remount
from tests.faults.fault import Fault, Outcome
from tests.faults.filed import check_said, check_whole, evaluate, finished, serving
from tests.faults.struck import Scene, Trouble
from tests.faults.surroundings.damaged_weights import train, weights

ROOM = {"begins": (12, 32), "asks": (32, 60), "grades and reports": (60, 140)}
"""Kilobytes that are free: an evaluation of twenty answers and its report take about 150."""
FREE = "No space left"
OFTEN = 8
"""Times that it may be full: after each there is more room."""


def full(folder: Path, seed: int, while_it: str) -> Outcome:
    """The disk has room for a part; it grows after each time that it was full, until all is done."""
    rng = random.Random(f"{seed}:{while_it}")
    size, place = rng.randrange(*ROOM[while_it]) // 4 * 4, folder / "disk"
    with serving() as url, disk(place, f"{size}k"):
        _, expected = finished(folder, url)
        runs, scene, said = place / "runs", Scene(folder=folder), list[str]()
        words = evaluate(url, runs)
        while (ended := scene.strike(words, None)).code != 0:
            said.append(check_said(ended, FREE))
            check_often(said, size)
            size += rng.randrange(12, 120) // 4 * 4
            assert remount(place, f"size={size}k")
        check_struck(said, size)
        check_whole(runs, expected)
    return Outcome(ending="survived", note="; ".join(said))


def check_often(said: list[str], size: int) -> None:
    """Raises Trouble where there never is enough room."""
    if len(said) > OFTEN:
        raise Trouble("lost", f"full with {size} KB: {said[-1]}")


def check_struck(said: list[str], size: int) -> None:
    """Raises Trouble where the disk was never full."""
    if not said:
        raise Trouble("lost", f"not struck: there was room in {size} KB")


def full_training(folder: Path, seed: int) -> Outcome:
    """The same of a training by the stand-in of LLaMA-Factory; its base takes 1,800 KB of the disk."""
    rng, said = random.Random(f"{seed}:train"), list[str]()
    size, place, scene = rng.randrange(1_200, 1_900) // 4 * 4, folder / "disk", Scene(folder=folder)
    scene.run(train(folder))
    expected = weights(folder)
    with disk(place / "runs", f"{size}k"):
        while (ended := scene.strike(train(place), None)).code != 0:
            said.append(check_said(ended, FREE))
            check_often(said, size)
            size += rng.randrange(100, 600) // 4 * 4
            assert remount(place / "runs", f"size={size}k")
        check_struck(said, size)
        if weights(place) != expected:
            raise Trouble("wrongly graded", "the weights are others")
    return Outcome(ending="survived", note="; ".join(said))


def fault(while_it: str, *, slow: bool = True) -> Fault:
    return Fault(
        name=f"files: the disk is full while it {while_it}",
        kind="files",
        run=lambda folder, seed: full(folder, seed, while_it),
        slow=slow,
        needs=no_mounts,
    )


beginning, grading = fault("begins"), fault("grades and reports")
asking = fault("asks", slow=False)
training = Fault(
    name="files: the disk is full while it trains",
    kind="files",
    run=full_training,
    slow=True,
    needs=no_mounts,
)
