"""Whether what a store holds is what was written.

Compared are each file of a finished stage with the hash in its stage.json, each row with its checksum, each
identity with the name of its folder. A runs folder may be another's: no link is followed, nothing is opened
but ordinary files below it. `harness/mend.py` puts aside what is found here.
"""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from harness import places
from harness.errors import DataError, UsageError
from harness.files import UNREADABLE, read_json
from harness.integrity import (
    IDENTITY,
    MANIFEST,
    MEASURED,
    Sealed,
    differing,
    read_manifest,
    sealed,
    told_identity,
)
from harness.nightly.retention import linked, reads
from harness.rows import lines_from, reordered
from harness.store import LABELS, RunStore
from harness.types import Generation, Grade

ASKED, GRADED = "generations.jsonl", "grades.jsonl"
ASIDE = ".damaged"


@dataclass(frozen=True, kw_only=True)
class Damage:
    """One file of a stage that is not what was written. `lines` are the numbers of damaged rows, where it is
    known which they are: all others are whole. What could not be `read` may be whole."""

    stage: str
    file: str
    what: str
    lines: tuple[int, ...] = ()
    read: bool = True


# Where --------------------------------------------------------------------------------------


def stages_of(store: RunStore, run: str | None) -> list[str]:
    """The keys of the stages that a run is made of, those that they read included; of all without a run.

    Raises UsageError where there is no such run, and DataError where a folder of the store is a link.
    """
    refuse_links(store)
    there = sorted(path.name for path in store.stages.glob("*-*") if path.is_dir() and is_name(path.name))
    if run is None:
        return there
    home = store.root / run
    if not home.is_dir():
        raise UsageError(f"no run {run!r} in {store.root}")
    found, left = set[str](), {*linked(home), *begun(home)} & set(there)
    while left:
        found |= left
        folders = [store.stages / key for key in left]
        left = {name for folder in folders if not foreign(folder) for name in reads(folder)} & set(there)
        left -= found
    return sorted(found)


def begun(home: Path) -> Iterator[str]:
    """The keys of the stages that a run's labels name."""
    labels = home / LABELS
    if home.is_symlink() or labels.is_symlink() or (labels.exists() and not labels.is_file()):
        raise DataError(f"{labels} is a link, or no file", "Remove it, or verify without the run's name.")
    if labels.exists():
        yield from read_json(labels, dict[str, str], "Remove it and run again.").values()


def is_name(name: str) -> bool:
    """Whether a terminal may be given a name."""
    return name.isprintable()


def refuse_links(store: RunStore) -> None:
    """Raises DataError where a folder that the store keeps is a link: it may lead anywhere."""
    for path in (store.stages, *(store.stages / name for name in (".locks", MEASURED, ASIDE))):
        if path.is_symlink():
            raise DataError(
                f"{path} is a link, and none is followed here",
                "Put the folder itself in its place, or mount it there.",
            )


def foreign(folder: Path) -> str:
    """What stands in a stage's folder and is no file of it, as a sentence; empty where nothing does.

    No stage writes anything but files and folders there.
    """
    if folder.is_symlink():
        return f"{folder} is a link, and none is followed here"
    with os.scandir(folder) as entries:
        for entry in entries:
            mode = entry.stat(follow_symlinks=False).st_mode
            if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
                return f"{folder} holds {entry.name!a}, which is a link or no file: it is not looked at"
    return ""


# Looking ------------------------------------------------------------------------------------


def damages(folder: Path) -> Iterator[Damage]:
    """What is not as it was written in a stage's folder, finished or not."""
    try:
        what = foreign(folder)
    except OSError as error:
        what = f"{folder} cannot be read: {error.strerror}"
    if what:
        yield Damage(stage=folder.name, file="", what=what, read=False)
        return
    told = dict[str, Sealed]()
    if (folder / MANIFEST).exists():
        try:
            told = sealed(folder, read_manifest(folder))
        except DataError as error:
            yield Damage(stage=folder.name, file=MANIFEST, what=error.message)
        except OSError as error:
            yield unread(folder, MANIFEST, error)
    if told_identity(folder) is None:
        told.pop(IDENTITY, None)
        if (folder / IDENTITY).exists() or (folder / MANIFEST).exists():  # else it was just begun
            what = f"{folder / IDENTITY} is not that of its folder"
            yield Damage(stage=folder.name, file=IDENTITY, what=what)
    for found in damaged_rows(folder):
        told.pop(found.file, None)
        yield found
    for one in differing(folder, told):
        what = f"{folder / one.name} {one.what}"
        yield Damage(stage=folder.name, file=one.name, what=what, read=one.read)


def unread(folder: Path, name: str, error: OSError) -> Damage:
    what = f"{folder / name} cannot be read: {error.strerror}"
    return Damage(stage=folder.name, file=name, what=what, read=False)


def damaged_rows(folder: Path) -> Iterator[Damage]:
    """The files of responses and verdicts in which a row is damaged."""
    for name in (ASKED, GRADED):
        file = folder / name
        try:
            lines = damaged_lines(file) if file.exists() else ()
        except OSError as error:
            yield unread(folder, name, error)
            continue
        if lines:
            numbers = ", ".join(map(str, lines[:5])) + (", …" if len(lines) > 5 else "")
            what = f"{file}: {len(lines)} rows are damaged, in line {numbers}"
            yield Damage(stage=folder.name, file=name, what=what, lines=lines)


def damaged_lines(file: Path) -> tuple[int, ...]:
    """The numbers of the lines that are no rows, or not those that were written."""
    kind = msgspec.json.Decoder(Generation if file.name == ASKED else Grade)
    known, end, found = places.told(file), 0, list[int]()
    if known and reordered(file):
        known = []
    for number, line in enumerate(lines_from(file), start=1):
        end += len(line)
        told = known[number - 1] if number <= len(known) and known[number - 1].end == end else None
        try:
            kind.decode(line)
        except UNREADABLE:
            found.append(number)
            continue
        if told and told.content != places.UNKNOWN and places.content_of(line) != told.content:
            found.append(number)
    return tuple(found)


def vouched_for(file: Path) -> bool:
    """Whether each row of a file is told to be the one that was written."""
    if not file.exists() or not (known := {place.content for place in places.told(file)} - {places.UNKNOWN}):
        return False
    return all(places.content_of(line) in known for line in lines_from(file))
