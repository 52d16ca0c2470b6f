"""A bit of a file is flipped, or its end is cut off, in a finished evaluation and in one that was killed."""

import random
from collections.abc import Mapping
from pathlib import Path

from tests.faults.fault import Fault, Outcome
from tests.faults.filed import (
    How,
    check_report,
    check_said,
    damage,
    ends_whole,
    evaluate,
    finished,
    interrupt,
    interrupt_grading,
    mend,
    rows,
    serving,
)
from tests.faults.struck import Scene, Trouble


def damaged(folder: Path, seed: int, pattern: str, how: How, *, killed: bool) -> Outcome:
    """Damages one file below `stages/` or the run, and goes on with the same command."""
    rng = random.Random(f"{seed}:{pattern}:{how}:{killed}")
    with serving() as url:
        runs, expected = finished(folder, url)
        if killed:
            interrupt(runs, rng.randrange(3, 15))
        (file,) = runs.glob(pattern)
        what = damage(file, how, rng)
        told = pattern not in UNTOLD and (pattern, how, killed) != (ROWS, "cut", True)
        said = ends_whole(Scene(folder=folder), evaluate(url, runs), runs, expected, file, found=told)
    return Outcome(ending="survived", note=f"{what}: {said}")


def damaged_verdicts(folder: Path, seed: int) -> Outcome:
    """Flips a bit of the verdicts of a grading that was killed: they have no checksums yet.

    Each answer has to count as it did, and the score has to be right. What else a verdict says, such as what
    was read of the answer, may stay changed.
    """
    rng, scene = random.Random(f"{seed}:verdicts"), Scene(folder=folder)
    with serving() as url:
        runs, expected = finished(folder, url)
        interrupt_grading(runs, rng.randrange(5, 15))
        (file,) = runs.glob(GRADES)
        what, words = damage(file, "flipped", rng), evaluate(url, runs)
        first = scene.strike(words, None)
        said = check_said(first, file.name, "harness verify --mend") if first.code else "went on"
        scene.run(mend(runs))
        scene.run(words)
        found, wanted = (counted(one["grades"]) for one in (rows(runs), expected.rows))
        if found != wanted:
            raise Trouble("wrongly graded", f"{what}: {found} and not {wanted}")
        check_report(runs, expected.rows)
    return Outcome(ending="survived", note=f"{what}: {said}")


def counted(grades: Mapping[tuple[str, int], Mapping[str, object]]) -> dict[tuple[str, int], object]:
    """Which answers count as right."""
    return {key: grade["correct"] for key, grade in grades.items()}


def fault(pattern: str, how: How, *, killed: bool = False, slow: bool = True) -> Fault:
    where = "killed" if killed else "finished"
    return Fault(
        name=f"files: {pattern.rpartition('/')[2]} of the {pattern.split('/')[-2].partition('-')[0]}, "
        f"{where}, {how}",
        kind="files",
        run=lambda folder, seed: damaged(folder, seed, pattern, how, killed=killed),
        slow=slow,
    )


ROWS, PLACES = "stages/ask-*/generations.jsonl", "stages/ask-*/generations.jsonl.places"
GRADES, REPORT = "stages/mark-*/grades.jsonl", "tiny/report.json"
UNTOLD = (PLACES, REPORT)
"""What is written anew without a word. Nor can rows whose end is cut off be told from those of a kill."""
ASK_MANIFEST, MARK_MANIFEST = "stages/ask-*/stage.json", "stages/mark-*/stage.json"
ASK_IDENTITY, MARK_IDENTITY = "stages/ask-*/identity.json", "stages/mark-*/identity.json"

rows_flipped, rows_cut = fault(ROWS, "flipped"), fault(ROWS, "cut")
killed_rows_flipped = fault(ROWS, "flipped", killed=True, slow=False)
killed_rows_cut = fault(ROWS, "cut", killed=True)
places_flipped, places_cut = fault(PLACES, "flipped"), fault(PLACES, "cut")
killed_places_flipped = fault(PLACES, "flipped", killed=True)
killed_places_cut = fault(PLACES, "cut", killed=True)
grades_flipped, grades_cut = fault(GRADES, "flipped", slow=False), fault(GRADES, "cut")
asked_manifest_flipped, asked_manifest_cut = fault(ASK_MANIFEST, "flipped"), fault(ASK_MANIFEST, "cut")
marked_manifest_flipped, marked_manifest_cut = fault(MARK_MANIFEST, "flipped"), fault(MARK_MANIFEST, "cut")
asked_identity_flipped, asked_identity_cut = fault(ASK_IDENTITY, "flipped"), fault(ASK_IDENTITY, "cut")
killed_identity_flipped = fault(ASK_IDENTITY, "flipped", killed=True)
marked_identity_flipped, marked_identity_cut = fault(MARK_IDENTITY, "flipped"), fault(MARK_IDENTITY, "cut")
report_flipped, report_cut = fault(REPORT, "flipped"), fault(REPORT, "cut")
verdicts_flipped = Fault(
    name="files: verdicts of a grading that was killed, flipped",
    kind="files",
    run=damaged_verdicts,
    slow=True,
)
