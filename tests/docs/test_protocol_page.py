"""docs/protocol.md says what the benchmarks are, and leaves no ambiguity about them out."""

import re

import pytest

from benchmarks.aime import aime24, aime25, known_ids
from benchmarks.gpqa import DOMAINS, gpqa_diamond
from benchmarks.livecodebench import DATASET, REVISION, lcb_v5, lcb_v6
from docs.hooks import on_page_markdown
from harness.benchmark import Benchmark
from reports.published import load_ambiguities, load_published
from tests.docs.follow import ROOT

PAGE = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")
PROBLEMS = {
    "aime24": len(known_ids("2024")),
    "aime25": len(known_ids("2025")),
    "gpqa_diamond": sum(DOMAINS.values()),
    "lcb_v5": lcb_v5.window.problems,
    "lcb_v6": lcb_v6.window.problems,
}


@pytest.mark.parametrize(
    "benchmark", [aime24, aime25, gpqa_diamond, lcb_v5, lcb_v6], ids=lambda one: one.name
)
def test_the_table_says_what_is_asked(benchmark: Benchmark) -> None:
    sampling = benchmark.sampling
    margin = load_published("dasd_4b").margins[benchmark.name]
    row = (
        f"| `{benchmark.name}` | {PROBLEMS[benchmark.name]} | {sampling.draws} | {sampling.temperature} "
        f"| {sampling.top_p} | {sampling.max_tokens:,} | {margin} |"
    )
    assert row in PAGE
    assert (sampling.top_k, sampling.min_p, sampling.repetition_penalty) == (-1, 0.0, 1.0)


def test_every_ambiguity_that_needs_no_training_is_discussed() -> None:
    named = set(re.findall(r"\(`([a-z0-9-]+)`\)", PAGE))
    evaluation = {each.id for each in load_ambiguities("dasd_4b") if each.varied_on != "new training"}
    assert named == evaluation


def test_the_register_has_a_row_for_every_ambiguity() -> None:
    register = on_page_markdown(PAGE).partition("## The register")[2]
    rows = re.findall(r"^\| `([a-z0-9-]+)` \|", register, re.MULTILINE)
    assert rows == [each.id for each in load_ambiguities("dasd_4b")]
    assert all(line.count(" | ") == 4 for line in register.splitlines() if line.startswith("| `"))


def test_the_data_set_is_the_pinned_one() -> None:
    assert f"`{DATASET}` at `{REVISION[:8]}`" in PAGE
