"""What two runs folders hold, side by side: one undisturbed, one that something was done to."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.faults.struck import Trouble

PASSING = ("latency", "request_id")
"""Fields of rows that no two runs share."""
OF_THE_MAKING = ("stage", "provenance")
"""Groups of a report's sections that tell how it came about: times, rates, machines."""


def same_runs(calm: Path, struck: Path) -> None:
    """Raises Trouble where the second folder does not hold just what the first one does.

    Rows are compared as sets of all that they say, and no key may be there twice; of reports the entries
    and what they stand on. Files of an interruption (`interrupted/`) may be there, nothing else.
    """
    ours, theirs = files_in(calm), files_in(struck)
    if ours - theirs:
        raise Trouble("lost", f"not there: {sorted(ours - theirs)}")
    if theirs - ours:
        raise Trouble("lost", f"should not be there: {sorted(theirs - ours)}")
    for name in sorted(ours):
        if name.endswith(".jsonl"):
            same_rows(calm / name, struck / name)
        elif name.endswith("report.json"):
            same_reports(calm / name, struck / name)


def files_in(folder: Path) -> set[str]:
    """All files below a folder, but for locks, what interruptions cut short, and what is only a help."""
    every = (file.relative_to(folder) for file in folder.rglob("*") if file.is_file())
    passing = {".locks", "interrupted", ".measured"}
    return {file.as_posix() for file in every if not passing & set(file.parts)}


def same_rows(calm: Path, struck: Path) -> None:
    expected, found = dict(keyed(calm)), list(keyed(struck))
    if twice := [key for key, count in Counter(key for key, _ in found).items() if count > 1]:
        raise Trouble("lost", f"{struck.name} holds rows twice: {twice[:5]}")
    missing = expected.keys() - dict(found).keys()
    if missing or len(found) != len(expected):
        raise Trouble(
            "lost", f"{struck.name}: {len(found)} rows of {len(expected)}, without {list(missing)[:5]}"
        )
    for key, row in found:
        if row != expected[key]:
            fields = [name for name in row if row[name] != expected[key].get(name)]
            told = {name: (expected[key].get(name), row[name]) for name in fields}
            raise Trouble("wrongly graded", f"{struck.name}: the row {key} is another: {str(told)[:600]}")


def keyed(file: Path) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Each row with its key: question and draw, or what else names it."""
    with file.open(encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            key = (row.get("question", row.get("id")), row.get("draw"))
            yield key, {name: value for name, value in row.items() if name not in PASSING}


def same_reports(calm: Path, struck: Path) -> None:
    ours, theirs = (measured(json.loads(file.read_bytes())) for file in (calm, struck))
    if differing := [*differences(ours, theirs)]:
        raise Trouble("wrongly graded", f"report.json differs: {'; '.join(differing[:5])}")


def measured(report: dict[str, Any]) -> dict[str, Any]:
    """A report without the sections on how it came about."""
    kept = [one for one in report["sections"] if one["group"] not in OF_THE_MAKING]
    return {**report, "sections": kept}


def differences(ours: Any, theirs: Any, where: str = "") -> Iterator[str]:
    """The places at which two documents differ."""
    match ours, theirs:
        case dict(), dict():
            for name in ours.keys() | theirs.keys():
                yield from differences(ours.get(name), theirs.get(name), f"{where}.{name}")
        case list(), list() if len(ours) == len(theirs):
            for place, (one, other) in enumerate(zip(ours, theirs, strict=True)):
                yield from differences(one, other, f"{where}[{place}]")
        case _ if ours != theirs:
            yield f"{where}: {str(ours)[:120]} → {str(theirs)[:120]}"
