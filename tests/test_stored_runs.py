"""Runs that are larger than memory: tests/acceptance/forty_thousand in small."""

from dataclasses import dataclass
from pathlib import Path

from tests.performance.stored import Step, StoredRun, step
from tests.pipeline.rows import row

CHARACTERS = 100_000
ROWS = (200, 1_000)
HELD = 50 * 2**20
"""Bytes by which the memory of a command may differ between the two: the larger run has 200 MB of rows."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    graded: Step
    report: Step
    regrade: Step
    grades: tuple[bytes, bytes]


def measured(folder: Path, rows: int) -> Measured:
    """A run whose responses are all there, graded, reported and graded again by the real commands."""
    folder.mkdir()
    url = "http://127.0.0.1:9/v1"  # nobody is there: nothing is asked
    stored = StoredRun(runs=folder / "runs", url=url, rows=rows, characters=CHARACTERS, missing=0)
    stored.write(row(""), b'{"engine": "remote", "version": "unknown"}')
    graded = step(stored.evaluate(), folder / "evaluate.log")
    report = step(stored.command("report"), folder / "report.log")
    before = stored.grades()
    stored.of_an_older_grader()
    regrade = step(stored.command("regrade"), folder / "regrade.log")
    return Measured(graded=graded, report=report, regrade=regrade, grades=(before, stored.grades()))


def test_no_command_holds_a_run_in_memory_or_takes_longer_than_in_proportion(tmp_path: Path) -> None:
    small, large = (measured(tmp_path / str(rows), rows) for rows in ROWS)
    for name in ("graded", "report", "regrade"):
        before, after = getattr(small, name), getattr(large, name)
        assert after.peak - before.peak < HELD, name
        assert after.cpu < 2 * before.cpu * ROWS[1] / ROWS[0], name
    assert large.grades[0] == large.grades[1]
    assert large.grades[0].count(b"\n") == ROWS[1]
