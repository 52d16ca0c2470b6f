"""A disk that is full at some moment of an evaluation, and then has room again."""

import random
from pathlib import Path

from tests.faults.fault import Fault, Outcome
from tests.faults.filed import check_said, check_whole, disk, evaluate, finished, no_mounts, remount, serving
from tests.faults.struck import Scene
from tests.faults.surroundings.damaged_weights import train, weights

ROOM = {"begins": (12, 32), "asks": (32, 60), "grades and reports": (60, 140)}
"""Kilobytes that are free: an evaluation of twenty answers and its report take about 150."""
FREE = "No space left"


def full(folder: Path, seed: int, while_it: str) -> Outcome:
    """The disk has room for a part; it grows after each time that it was full, until all is done."""
    rng = random.Random(f"{seed}:{while_it}")
    size, place = rng.randrange(*ROOM[while_it]) // 4 * 4, folder / "disk"
    with serving() as url, disk(place, f"{size}k"):
        _, expected = finished(folder, url)
        runs, scene, said = place / "runs", Scene(folder=folder), list[str]()
        words = evaluate(url, runs)
        while (ended := scene.strike(words, None)).code != 0:
            said.append(check_said(ended))
            if FREE not in said[-1] or len(said) > 8:
                return Outcome(ending="lost", note=f"{size} KB: {said[-1]}", strikes=len(said))
            size += rng.randrange(12, 120) // 4 * 4
            assert remount(place, f"size={size}k")
        check_whole(runs, expected)
    return Outcome(ending="survived", note="; ".join(said) or "there was room", strikes=max(1, len(said)))


def full_training(folder: Path, seed: int) -> Outcome:
    """The same of a training by the stand-in of LLaMA-Factory; its base takes 1,800 KB of the disk."""
    rng, said = random.Random(f"{seed}:train"), list[str]()
    size, place, scene = rng.randrange(1_200, 1_900) // 4 * 4, folder / "disk", Scene(folder=folder)
    scene.run(train(folder))
    expected = weights(folder)
    with disk(place / "runs", f"{size}k"):
        while (ended := scene.strike(train(place), None)).code != 0:
            said.append(check_said(ended))
            if len(said) > 8:
                return Outcome(ending="lost", note=f"{size} KB: {said[-1]}", strikes=len(said))
            size += rng.randrange(100, 600) // 4 * 4
            assert remount(place / "runs", f"size={size}k")
        if weights(place) != expected:
            return Outcome(ending="wrongly graded", note="the weights are others", strikes=len(said))
    return Outcome(ending="survived", note="; ".join(said) or "there was room", strikes=max(1, len(said)))


def fault(while_it: str) -> Fault:
    return Fault(
        name=f"files: the disk is full while it {while_it}",
        kind="files",
        run=lambda folder, seed: full(folder, seed, while_it),
        slow=True,
        needs=no_mounts,
    )


beginning, asking, grading = map(fault, ROOM)
training = Fault(
    name="files: the disk is full while it trains",
    kind="files",
    run=full_training,
    slow=True,
    needs=no_mounts,
)
