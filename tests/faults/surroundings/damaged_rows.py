"""A bit of a file is flipped, or its end is cut off, in a finished evaluation and in one that was killed."""

import random
from pathlib import Path

from tests.faults.fault import Fault, Outcome
from tests.faults.filed import How, damage, ends_whole, evaluate, finished, interrupt, serving
from tests.faults.struck import Scene


def damaged(folder: Path, seed: int, pattern: str, how: How, *, killed: bool) -> Outcome:
    """Damages one file below `stages/` or the run, and goes on with the same command."""
    rng = random.Random(f"{seed}:{pattern}:{how}:{killed}")
    with serving() as url:
        runs, expected = finished(folder, url)
        if killed:
            interrupt(runs, rng.randrange(3, 15))
        (file,) = runs.glob(pattern)
        what = damage(file, how, rng)
        return ends_whole(Scene(folder=folder), evaluate(url, runs), runs, expected, what)


def fault(pattern: str, how: How, *, killed: bool = False) -> Fault:
    where = "killed" if killed else "finished"
    return Fault(
        name=f"files: {pattern.rpartition('/')[2]} of the {pattern.split('/')[-2].partition('-')[0]}, "
        f"{where}, {how}",
        kind="files",
        run=lambda folder, seed: damaged(folder, seed, pattern, how, killed=killed),
        slow=True,
    )


ROWS, PLACES = "stages/ask-*/generations.jsonl", "stages/ask-*/generations.jsonl.places"
GRADES, REPORT = "stages/mark-*/grades.jsonl", "tiny/report.json"
ASK_MANIFEST, MARK_MANIFEST = "stages/ask-*/stage.json", "stages/mark-*/stage.json"
ASK_IDENTITY, MARK_IDENTITY = "stages/ask-*/identity.json", "stages/mark-*/identity.json"

rows_flipped, rows_cut = fault(ROWS, "flipped"), fault(ROWS, "cut")
killed_rows_flipped, killed_rows_cut = fault(ROWS, "flipped", killed=True), fault(ROWS, "cut", killed=True)
places_flipped, places_cut = fault(PLACES, "flipped"), fault(PLACES, "cut")
killed_places_flipped = fault(PLACES, "flipped", killed=True)
killed_places_cut = fault(PLACES, "cut", killed=True)
grades_flipped, grades_cut = fault(GRADES, "flipped"), fault(GRADES, "cut")
asked_manifest_flipped, asked_manifest_cut = fault(ASK_MANIFEST, "flipped"), fault(ASK_MANIFEST, "cut")
marked_manifest_flipped, marked_manifest_cut = fault(MARK_MANIFEST, "flipped"), fault(MARK_MANIFEST, "cut")
asked_identity_flipped, asked_identity_cut = fault(ASK_IDENTITY, "flipped"), fault(ASK_IDENTITY, "cut")
killed_identity_flipped = fault(ASK_IDENTITY, "flipped", killed=True)
marked_identity_flipped, marked_identity_cut = fault(MARK_IDENTITY, "flipped"), fault(MARK_IDENTITY, "cut")
report_flipped, report_cut = fault(REPORT, "flipped"), fault(REPORT, "cut")
