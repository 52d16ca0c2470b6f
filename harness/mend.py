"""Puts aside what is damaged in a store, so that the same command makes it again.

Nothing is removed: rows go into `generations.jsonl.damaged`, files get that ending, and whole stages move to
`stages/.damaged/`. The manifest goes last: who is killed here and runs it again comes to the same end.
"""

from collections.abc import Collection, Iterable, Iterator
from os.path import lexists
from pathlib import Path

import msgspec

from harness import places, tokens
from harness.adopt import about_file, about_line, digest
from harness.errors import DataError
from harness.files import write_json, write_pieces
from harness.integrity import (
    IDENTITY,
    MANIFEST,
    MEASURED,
    Say,
    is_of,
    known_file,
    quiet,
    read_manifest,
    told_identity,
)
from harness.places import Place
from harness.rows import Key, key_of, lines_from
from harness.runs import Stored
from harness.session import SESSION
from harness.store import RunStore, writable
from harness.types import Generation
from harness.verify import ASIDE, ASKED, GRADED, Damage, damages, foreign, refuse_links, vouched_for


def mend(store: RunStore, found: Iterable[Damage], say: Say = quiet) -> Iterator[str]:
    """Puts aside what is damaged in the stages in which something was found. Says what was done.

    Each is looked at again once nobody builds it: what stood in the tenth line may stand elsewhere then.
    Raises DataError where a folder of the store is a link, HarnessError where it cannot be written.
    """
    keys = dict.fromkeys(one.stage for one in found)
    with writable(store.root):
        refuse_links(store)
        for key in keys:
            folder = store.stages / key
            with store.locked(Stored(stored=key), say):
                if own := list(damages(folder)) if folder.exists() else []:
                    yield from mended(store, folder, own, say)


def mended(store: RunStore, folder: Path, found: list[Damage], say: Say) -> Iterator[str]:
    """One stage, whose lock is held."""
    if not all(one.read for one in found):
        yield (
            f"{folder} is left as it is: what cannot be read may be whole. Make it readable, or move the "
            "folder away; the same command then makes it again"
        )
        return
    found = [one for one in found if not (one.file == IDENTITY and restored(folder))]
    if not found:
        yield f"{folder / IDENTITY}: written anew from {MANIFEST}"
        return
    for name in (f"{folder.name}.json", f"{folder.name}.lengths.json", known_file(folder).name):
        (store.stages / MEASURED / name).unlink(missing_ok=True)
    files = {one.file for one in found}
    if tokens.NAME in files:
        yield from unmarked(store, folder, (), say)
        yield (
            f"{folder} is now {whole_aside(store, folder)}: nobody can tell which responses' tokens are "
            "damaged. To keep the responses and do without tokens, move it back, "
            f"but for {tokens.NAME} and {MANIFEST}"
        )
    elif files != {MANIFEST} and not any((folder / name).exists() for name in (ASKED, GRADED)):
        yield f"{folder} is now {whole_aside(store, folder)}"
    else:
        if ASKED not in files and (folder / ASKED).exists():  # without verdicts to reach nobody comes by
            yield from unmarked(store, folder, whole_rows(folder / ASKED, ()), say)
        for one in sorted(found, key=lambda one: one.file == MANIFEST):
            yield from file_mended(store, folder, one, say)
        if (folder / MANIFEST).exists():
            file_aside(folder / MANIFEST)
        yield f"{folder} counts as unfinished now"


def file_mended(store: RunStore, folder: Path, one: Damage, say: Say) -> Iterator[str]:
    """One file of a stage that has rows; its stage.json is left to the end."""
    file, vouched = folder / one.file, one.file == ASKED and not one.lines and vouched_for(folder / one.file)
    if one.file == ASKED:
        rows = whole_rows(file, one.lines) if one.lines or vouched else ()
        yield from unmarked(store, folder, rows, say)
    if one.lines:
        yield f"{file}: {len(one.lines)} rows are now in {rows_aside(file, one.lines).name}"
    elif vouched:
        yield f"{file}: its rows are whole, and others are missing"
    elif file.exists() and one.file != MANIFEST:
        yield f"{file} is now {file_aside(file).name}"
    if one.file == SESSION:
        yield f"{folder}: no rows are added to those there, since nobody can say which engine wrote them"


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


# Aside --------------------------------------------------------------------------------------


def whole_aside(store: RunStore, folder: Path) -> Path:
    home = store.stages / ASIDE
    home.mkdir(exist_ok=True)
    number, target = 1, home / folder.name
    while lexists(target):
        number += 1
        target = home / f"{folder.name}-{number}"
    return folder.rename(target)


def file_aside(file: Path) -> Path:
    return file.rename(free(file))


def free(file: Path) -> Path:
    """`NAME.damaged` beside a file, or `NAME.2.damaged` and so on, where nothing stands yet."""
    number, target = 1, file.with_name(f"{file.name}{ASIDE}")
    while lexists(target):
        number += 1
        target = file.with_name(f"{file.name}.{number}{ASIDE}")
    return target


def rows_aside(file: Path, numbers: Collection[int]) -> Path:
    """Takes lines out of a file of rows. They are written elsewhere before they are missing here."""

    def lines(wanted: bool) -> Iterator[bytes]:
        return (line for number, line in enumerate(lines_from(file), 1) if (number in numbers) is wanted)

    aside, numbers = free(file), frozenset(numbers)
    with aside.open("xb") as taken:
        taken.writelines(lines(True))
    places.forget(file)
    write_pieces(file, lines(False))
    if file.name == ASKED:
        places.write(file, told(lines_from(file)))
    return aside


def told(lines: Iterable[bytes]) -> Iterator[Place]:
    """The places of rows that stand one after the other."""
    end = 0
    for line in lines:
        key, end = msgspec.json.decode(line, type=Key), end + len(line)
        yield Place(key.question, key.draw, end, places.content_of(line))


# What depends on it -------------------------------------------------------------------------


def whole_rows(file: Path, damaged: Collection[int]) -> Iterator[Generation]:
    """The responses of a file but for those of the damaged lines."""
    decoder, damaged = msgspec.json.Decoder(Generation), frozenset(damaged)
    return (decoder.decode(line) for number, line in enumerate(lines_from(file), 1) if number not in damaged)


def unmarked(store: RunStore, asked: Path, rows: Iterable[Generation], say: Say) -> Iterator[str]:
    """Verdicts on responses that are asked for again are reached again: the new one may be another. Those on
    `rows` stay."""
    about = [about_line(key_of(row), digest(row)) for row in rows]
    for folder in sorted(store.stages.glob("mark-*")):
        if foreign(folder) or (told_identity(folder) or {}).get("asked") != asked.name:
            continue
        if not (folder / MANIFEST).exists():
            continue
        with store.locked(Stored(stored=folder.name), say):
            grades = folder / GRADED
            if grades.exists():
                write_pieces(about_file(grades), about)
            file_aside(folder / MANIFEST)
        yield f"{folder} counts as unfinished now: it grades what will be asked for again"
