"""The soak itself, for some seconds, and how it tells rows apart."""

import json
from pathlib import Path

import pytest

from tests.soak.campaign import Effort, soak
from tests.soak.rows import compared, rows_of
from tests.soak.samples import AT_REST
from tests.soak.site import Size
from tests.soak.trends import trends


@pytest.mark.timeout(1800)
def test_some_rounds_with_faults_lose_nothing_and_leave_nothing() -> None:
    effort = Effort(seconds=5, size=Size(math=6, code=2, draws=2), every=0.5, faulty=1.0, rounds=2)
    found = soak(effort)
    assert found.faults
    assert {*found.faults} == {"survived"}, found.notes
    growing = [one.name for one in trends(found, effort) if not one.steady]
    assert not {*growing} & {*AT_REST, "open files", "threads"}


def written(folder: Path, *rows: tuple[str, int, str]) -> Path:
    stage = folder / "stages" / "ask-1"
    stage.mkdir(parents=True)
    (stage / "stage.json").write_text("{}")
    texts = [
        json.dumps({"question": question, "draw": draw, "text": text, "finish_reason": "stop", "prompt": "?"})
        for question, draw, text in rows
    ]
    (stage / "generations.jsonl").write_text("".join(f"{text}\n" for text in texts))
    return folder


ONE, TWO = ("a", 0, "yes"), ("a", 1, "no")


@pytest.mark.parametrize(
    ("rows", "ending"),
    [
        ((ONE, TWO), "survived"),
        ((TWO, ONE), "survived"),
        ((ONE,), "lost"),
        ((ONE, TWO, TWO), "lost"),
        ((ONE, TWO, ("b", 0, "more")), "lost"),
        ((ONE, ("a", 1, "other")), "wrongly graded"),
    ],
)
def test_rows_that_miss_repeat_or_differ_are_told_apart(
    rows: tuple[tuple[str, int, str], ...], ending: str, tmp_path: Path
) -> None:
    undisturbed = rows_of(written(tmp_path / "before", ONE, TWO))
    assert compared(rows_of(written(tmp_path / "after", *rows)), undisturbed)[0] == ending
