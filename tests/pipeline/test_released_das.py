"""dasd-released-das: selection replayed on the released data and its log-probabilities, to its report."""

import json
import math
import random
from dataclasses import replace
from pathlib import Path

from tokenizers import Tokenizer

from harness.rows import count_rows
from pipeline import paper
from pipeline.recipes.dasd_micro import MODELS
from pipeline.recipes.dasd_released_das import released_das
from pipeline.released import REPOSITORY
from tests import standins
from tests.pipeline.standins import released_logprobs
from tests.standins.reproduce import reproduce

ROWS = 24


def logprobs(data: Path) -> None:
    """The teacher's tokens of every released response, and of one that is nowhere."""
    tokenizer = Tokenizer.from_file(str(MODELS / "teacher" / "tokenizer.json"))
    folder, rng = data / REPOSITORY, random.Random(0)
    rows = []
    for file in sorted(folder.glob("*.jsonl")):
        for line in file.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            ids = tokenizer.encode(row["output"]).ids
            told = [math.log(rng.uniform(0.3, 1.0)) for _ in ids]
            rows.append({"sample_uuid": row["uuid"], "token_ids": ids, "logprobs": told})
    released_logprobs(data, [*rows, {**rows[0], "sample_uuid": "nowhere"}])


def test_released_rows_are_compared_with_the_student_and_all_are_kept(tmp_path: Path) -> None:
    data, runs = tmp_path / "data", tmp_path / "runs"
    standins.students(data)
    standins.released_rows(data, ROWS)
    (data / "openai").mkdir()
    (data / paper.TEACHER.source).symlink_to(MODELS / "teacher")
    logprobs(data)
    recipe = released_das(scale=replace(standins.TINY, benchmarks=()))
    store = reproduce(recipe, runs, data)
    for name in ("low", "high"):
        path = store.path(recipe.stages[f"divergence-{name}"])
        told = json.loads((path / "diagnostics.json").read_bytes())
        classes = [told[f"{kind}_sentences"] for kind in ("teacher", "student", "shared")]
        assert math.isclose(sum(classes), 1.0)
        assert told["unscored_responses"] == 0.0
        assert count_rows(path / "generations.jsonl") == count_rows(path / "divergence.jsonl") == ROWS
    report = json.loads((runs / recipe.name / "report.json").read_bytes())
    assert report["entries"] == []
    page = (runs / recipe.name / "report.md").read_text(encoding="utf-8")
    for title in (
        "Divergence-aware selection",
        "Selection 04-divergence-low",
        "Selection 08-divergence-high",
    ):
        assert title in page
