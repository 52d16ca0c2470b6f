"""An export takes the place of the one before it: what that one wrote and this one does not is deleted.

Names of files hold dates and identities, so that a run graded again would otherwise lie beside its former
scores. Runs and rows may share a folder, and a folder may hold files of other people: `.FORMAT.json` beside
it names the files that exports wrote, each with its run and row, and no other file is deleted.
"""

import glob
from collections.abc import Callable, Mapping
from pathlib import Path

from harness.files import read_json, write_json
from harness.scratch import locked_folder
from harness.supervise import remove_abandoned
from reports.exports.source import EVERY_ROW, Source, Written

About = tuple[str, str]
"""Run and row of a file."""


def renew(write: Callable[[Source, Path], Written], source: Source, row: str, folder: Path) -> Written:
    """Writes one format into `folder`. `row` is the only one that is exported, or EVERY_ROW.

    The files are written aside and take their places once all are whole: where `write` fails, the former
    export stands. What an export that was killed had written aside is removed. Raises DataError where the
    list of its files cannot be understood.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    record = folder.with_name(f".{folder.name}.json")
    before = recorded(record)
    for left in folder.parent.glob(f".{glob.escape(folder.name)}.????????"):
        remove_abandoned(str(left))
    with locked_folder(folder.parent, f".{folder.name}.") as fresh:
        written = write(source, fresh)
        now = {file.relative_to(fresh): (source.run, own) for file, own in written.files.items()}
        former = {file for file, about in before.items() if replaced(about, source.run, row)}
        stale = former - set(now)
        for file in stale:
            delete(folder, file)
        kept = {file: about for file, about in before.items() if file not in stale} | now
        if kept or before:
            write_json(record, {file.as_posix(): kept[file] for file in sorted(kept)})
        for file in now:
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (fresh / file).replace(folder / file)
    return Written(files={folder / file: own for file, (_, own) in now.items()}, left_out=written.left_out)


def recorded(record: Path) -> Mapping[Path, About]:
    """The files that earlier exports wrote, by their path below the format's folder."""
    if not record.exists():
        return {}
    remedy = "Delete it, and the exports beside it that are out of date."
    return {Path(file): about for file, about in read_json(record, dict[str, About], remedy).items()}


def replaced(about: About, run: str, row: str) -> bool:
    """Whether an export of this run and row takes the place of a file."""
    return about[0] == run and row in (EVERY_ROW, about[1])


def delete(folder: Path, file: Path) -> None:
    """Deletes a file and the folders that are then empty; nothing where its path leads out of `folder`."""
    path, home = (folder / file).resolve(), folder.resolve()
    if not path.is_relative_to(home) or not path.is_file():
        return
    path.unlink()
    for parent in path.parents:
        if not parent.is_relative_to(home) or any(parent.iterdir()):
            return
        parent.rmdir()
