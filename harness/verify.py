"""Whether what a store holds is what was written, and a way back where it is not.

Compared are each file of a finished stage with the hash in its stage.json, each row with its checksum, each
identity with the name of its folder. `mend` removes nothing: rows go into `generations.jsonl.damaged`, files
get that ending, and whole stages move to `stages/.damaged/`. What is then missing, the same command makes.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from harness import places
from harness.adopt import about_file, about_line, digest
from harness.cost import MEASURED
from harness.errors import DataError, UsageError
from harness.files import UNREADABLE, read_json, write_json, write_pieces
from harness.integrity import IDENTITY, MANIFEST, differing, is_of, read_manifest, sealed, told_identity
from harness.nightly.retention import linked, reads
from harness.places import Place
from harness.rows import Key, key_of, lines_from, read_rows, reordered
from harness.runs import Stored
from harness.store import LABELS, RunStore
from harness.types import Generation, Grade

ASKED, GRADED = "generations.jsonl", "grades.jsonl"
ASIDE = ".damaged"


@dataclass(frozen=True, kw_only=True)
class Damage:
    """One file of a stage that is not what was written. `lines` are the numbers of damaged rows, where it is
    known which they are: all others are whole."""

    stage: str
    file: str
    what: str
    lines: tuple[int, ...] = ()


# Looking ------------------------------------------------------------------------------------


def stages_of(store: RunStore, run: str | None) -> list[str]:
    """The keys of the stages that a run is made of, those that they read included; of all without a run.

    Raises UsageError where there is no such run.
    """
    there = sorted(path.name for path in store.stages.glob("*-*") if path.is_dir())
    if run is None:
        return there
    home = store.root / run
    if not home.is_dir():
        raise UsageError(f"no run {run!r} in {store.root}")
    labels = home / LABELS
    begun = read_json(labels, dict[str, str], "Remove it and run again.") if labels.exists() else {}
    found, left = set[str](), {*linked(home), *begun.values()}
    while left:
        found |= left
        left = {name for key in left for name in reads(store.stages / key)} & set(there) - found
    return sorted(found & set(there))


def damages(folder: Path) -> Iterator[Damage]:
    """What is not as it was written in a stage's folder, finished or not."""
    identity, manifest = told_identity(folder), {}
    if (folder / MANIFEST).exists():
        try:
            manifest = read_manifest(folder)
            sealed(manifest)
        except DataError as error:
            manifest = {}
            yield Damage(stage=folder.name, file=MANIFEST, what=error.message)
    if identity is None:
        what = f"{folder / IDENTITY} is not that of its folder"
        yield Damage(stage=folder.name, file=IDENTITY, what=what)
    rows = {name: damaged_lines(folder / name) for name in (ASKED, GRADED) if (folder / name).exists()}
    told = dict(differing(folder, {k: v for k, v in sealed(manifest).items() if k != IDENTITY or identity}))
    for name, lines in rows.items():
        if lines:
            numbers = ", ".join(map(str, lines[:5])) + (", …" if len(lines) > 5 else "")
            what = f"{folder / name}: {len(lines)} rows are damaged, in line {numbers}"
            yield Damage(stage=folder.name, file=name, what=what, lines=lines)
    for name, what in told.items():
        if not rows.get(name):
            yield Damage(stage=folder.name, file=name, what=f"{folder / name} {what}")


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


# Mending ------------------------------------------------------------------------------------


def mend(store: RunStore, found: Iterable[Damage]) -> Iterator[str]:
    """Puts aside what is damaged, so that the same command makes it again. Says what was done."""
    by_stage: dict[str, list[Damage]] = {}
    for one in found:
        by_stage.setdefault(one.stage, []).append(one)
    for key, own in by_stage.items():
        with store.locked(Stored(stored=key), lambda text: None):
            yield from mended(store, store.stages / key, own)


def mended(store: RunStore, folder: Path, found: list[Damage]) -> Iterator[str]:
    """One stage, whose lock is held."""
    found = [one for one in found if not (one.file == IDENTITY and restored(folder))]
    if not found:
        yield f"{folder / IDENTITY}: written anew from {MANIFEST}"
        return
    for name in (f"{folder.name}.json", f"{folder.name}.lengths.json"):
        (store.stages / MEASURED / name).unlink(missing_ok=True)
    told_alone = all(one.file == MANIFEST for one in found)
    if not told_alone and not any((folder / name).exists() for name in (ASKED, GRADED)):
        yield f"{folder} is now {whole_aside(store, folder)}"
        return
    if (folder / MANIFEST).exists():
        file_aside(folder / MANIFEST)
    for one in found:
        file = folder / one.file
        if one.lines:
            rows_aside(file, set(one.lines))
            yield f"{file}: {len(one.lines)} rows are now in {file.name}{ASIDE}"
        elif one.file == ASKED and vouched_for(file):
            yield f"{file}: its rows are whole, and others are missing"
        elif file.exists() and one.file != MANIFEST:
            yield f"{file} is now {file_aside(file).name}"
        if one.file == ASKED:
            yield from unmarked(store, folder)
    yield f"{folder} counts as unfinished now"


def restored(folder: Path) -> bool:
    """Whether a damaged identity could be written anew from stage.json."""
    try:
        told = read_manifest(folder).get("identity")
    except (OSError, DataError):
        return False
    if not isinstance(told, dict) or not is_of(told, folder.name):
        return False
    write_json(folder / IDENTITY, told)
    return True


def whole_aside(store: RunStore, folder: Path) -> Path:
    home = store.stages / ASIDE
    home.mkdir(exist_ok=True)
    return folder.rename(free(home / folder.name))


def file_aside(file: Path) -> Path:
    return file.rename(free(file.with_name(f"{file.name}{ASIDE}")))


def free(path: Path) -> Path:
    """The path, or one with a number after it that is not taken yet."""
    number = 1
    while (found := path if number == 1 else path.with_name(f"{path.name}-{number}")).exists():
        number += 1
    return found


def rows_aside(file: Path, numbers: set[int]) -> None:
    """Takes lines out of a file of rows. They are written elsewhere before they are missing here."""

    def lines(wanted: bool) -> Iterator[bytes]:
        return (line for number, line in enumerate(lines_from(file), 1) if (number in numbers) is wanted)

    with file.with_name(f"{file.name}{ASIDE}").open("ab") as aside:
        aside.writelines(lines(True))
    places.forget(file)
    write_pieces(file, lines(False))
    if file.name == ASKED:
        places.write(file, told(lines_from(file)))


def told(lines: Iterable[bytes]) -> Iterator[Place]:
    """The places of rows that stand one after the other."""
    end = 0
    for line in lines:
        key, end = msgspec.json.decode(line, type=Key), end + len(line)
        yield Place(key.question, key.draw, end, places.content_of(line))


def unmarked(store: RunStore, asked: Path) -> Iterator[str]:
    """Verdicts on rows that are asked for again are reached again: the new response may be another."""
    for folder in sorted(store.stages.glob("mark-*")):
        identity, grades = told_identity(folder) or {}, folder / GRADED
        if identity.get("asked") != asked.name or not (folder / MANIFEST).exists():
            continue
        with store.locked(Stored(stored=folder.name), lambda text: None):
            rows = read_rows(asked / ASKED, Generation) if (asked / ASKED).exists() else ()
            if grades.exists():
                write_pieces(about_file(grades), (about_line(key_of(row), digest(row)) for row in rows))
            file_aside(folder / MANIFEST)
        yield f"{folder} counts as unfinished now: it grades what will be asked for again"
