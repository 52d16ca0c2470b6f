"""Which nights' responses are removed from the disk. Their counts stay in the history for ever.

Removed are the evaluations of old nights, and the copies of the checkpoint folders that they asked, where
nothing else leads to them: no other run's link, and no stage that stays. What a recipe trained, or a hub
holds, is never removed, nor anything that a process is building.
"""

import json
import shutil
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from harness.nightly.asking import RESUMED, night_seed
from harness.nightly.history import Night
from harness.store import RunStore

KINDS = ("ask-", "mark-", "checkpoint-")


@dataclass(frozen=True, kw_only=True)
class Removal:
    """What goes: the folders of whole nights, with their links, and the stages that only they lead to."""

    runs: tuple[Path, ...]
    stages: tuple[str, ...]


def run_name(name: str, label: str) -> str:
    """What the run of a night is called, for `harness compare`, `view` and `report`."""
    return f"{name}-{label}"


def planned(store: RunStore, nights: Sequence[Night], keep: int, now: float) -> Removal:
    """What would be removed with the responses of the last `keep` nights kept, and of the last that passed.

    A night that was killed keeps its own while the next call would continue it, and until it is older than
    all of those.
    """
    finished = [night for night in nights if night.finished is not None]
    last = finished[-keep:]
    kept = {night.id for night in last}
    kept |= {night.id for night in [one for one in finished if one.outcome == "pass"][-1:]}
    old = [night for night in finished if night.id not in kept]
    old += [
        night
        for night in nights
        if night.finished is None and now - night.began >= RESUMED and last and night.id < last[0].id
    ]
    runs = {store.root / run_name(night.name, night.label): night for night in old}
    there = {run: night for run, night in runs.items() if run.is_dir()}
    seeds = {night_seed(night.name, night.label) for night in there.values()}
    return Removal(runs=tuple(there), stages=tuple(sorted(only_theirs(store, there, seeds))))


def only_theirs(store: RunStore, runs: Iterable[Path], seeds: Collection[int]) -> set[str]:
    """The evaluations that these runs lead to, or began with these seeds, and that nothing else leads to."""
    own = {key for run in runs for key in linked(run)}
    own |= {path.name for path in store.stages.glob("ask-*") if seed_of(path) in seeds}
    asked = {key for mark in own for key in reads(store.stages / mark)}
    models = {key for ask in own | asked for key in reads(store.stages / ask) if is_copy(store.stages / key)}
    going = {key for key in own | asked | models if key.startswith(KINDS)}
    gone = {run.resolve() for run in runs}
    for run in store.root.iterdir() if store.root.is_dir() else ():
        if run.is_dir() and run != store.stages and run.resolve() not in gone:
            going -= set(linked(run))
    stages = [path for path in store.stages.glob("*-*") if path.is_dir()]
    while needed := {key for path in stages if path.name not in going for key in reads(path)} & going:
        going -= needed
    return {key for key in going if (store.stages / key).is_dir()}


def is_copy(stage: Path) -> bool:
    """Whether a checkpoint's files were copied from a folder."""
    try:
        told = json.loads((stage / "source.json").read_bytes())
    except (OSError, ValueError):
        return False
    return bool(told.get("sha256")) and told.get("origin") == "local"


def linked(run: Path) -> Iterator[str]:
    """The keys of the stages that the links of a run lead to."""
    for path in run.rglob("*"):
        if path.is_symlink() and "stages" in path.readlink().parts:
            yield path.readlink().name


def reads(stage: Path) -> set[str]:
    """The keys that a stage's identity names: what it reads. Empty for what is no stage's directory."""
    return set(texts(identity_of(stage)))


def seed_of(ask: Path) -> int | None:
    """The seed of an evaluation. It tells the night also of an unfinished one, to which no link leads."""
    match identity_of(ask):
        case {"sampling": {"seed": int(seed)}}:
            return seed
    return None


def identity_of(stage: Path) -> object:
    try:
        found: object = json.loads((stage / "identity.json").read_bytes())
    except (OSError, ValueError):
        return None
    return found


def texts(value: object) -> Iterator[str]:
    match value:
        case str():
            yield value
        case list():
            for item in value:
                yield from texts(item)
        case dict():
            yield from texts(list(value.values()))


def remove(store: RunStore, removal: Removal) -> Removal:
    """Removes it. Returns what is gone: a stage that another process holds stays, for another night."""
    stages = tuple(key for key in removal.stages if remove_stage(store, key))
    runs = tuple(run for run in removal.runs if not set(linked(run)) & (set(removal.stages) - set(stages)))
    for run in runs:
        remove_links(run)
    return Removal(runs=runs, stages=stages)


def remove_stage(store: RunStore, key: str) -> bool:
    """Takes the directory away as a whole before its files: half a stage never passes for one."""
    locks = store.stages / ".locks"
    locks.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(locks / key, timeout=0):
            aside = store.stages / f".removed-{key}"
            shutil.rmtree(aside, ignore_errors=True)
            (store.stages / key).rename(aside)
            shutil.rmtree(aside)
    except Timeout:
        return False
    return True


def remove_links(run: Path) -> None:
    """The links of a run and the folders that they leave empty. Anything else in it stays."""
    for name in ("recipe.json", "labels.json"):
        (run / name).unlink(missing_ok=True)
    for path in sorted(run.rglob("*"), reverse=True):
        if path.is_symlink():
            path.unlink()
        elif path.is_dir():
            with suppress(OSError):
                path.rmdir()
    with suppress(OSError):
        run.rmdir()
