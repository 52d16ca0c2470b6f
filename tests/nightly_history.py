"""A made history for tests: nights written by the gate's own code, from counts that are drawn here."""

from collections.abc import Sequence
from pathlib import Path

from harness.nightly.asking import digest_of
from harness.nightly.gate import Judged
from harness.nightly.history import Concluded, Counted, History, Night, Result
from harness.nightly.night import worst
from harness.nightly.result import Judging, error_of, judged
from harness.statistics import Array
from tests.grading.verdict_rates import generator
from tests.nightly_rates import DROP, USUAL, Test, asked

NAME = "nightly"


def counts_of(test: Test, right: Array, cut: int) -> list[Counted]:
    return [
        Counted(
            question=f"{test.name}-{place:03}",
            correct=int(correct),
            draws=test.draws,
            ungraded=0,
            truncated=cut if place == 0 else 0,
            tokens=test.draws * (9_000 + 10 * place),
        )
        for place, correct in enumerate(right)
    ]


def add_night(history: History, label: str, drawn: Sequence[tuple[Test, Array]], texts: str = "") -> Night:
    """One night of one checkpoint, judged and recorded; `texts` stands for what its responses say."""
    night = history.begin(NAME, label)
    by = Judging(history=history, night=night, rule=USUAL.rule, most=None)
    found = [concluded(test, right, by, texts or label) for test, right in drawn]
    history.record(night, worst([result.judged.outcome for result, _, _ in found]), "0.1.0", found)
    return night


def concluded(test: Test, right: Array, by: Judging, texts: str) -> Concluded:
    cut = int(right.sum()) % test.draws
    counts = counts_of(test, right, cut)
    setting = {"asked": {"sampling": {"draws": test.draws}}, "questions": test.questions}
    responses = test.questions * test.draws
    result = Result(
        checkpoint="dasd-4b",
        benchmark=test.name,
        setting=digest_of(setting),
        mark=f"mark-{by.night.id:08x}",
        model=f"checkpoint-{by.night.id // 8:08x}",
        judged=Judged(outcome="inconclusive", reason="", nights=0),
        questions=test.questions,
        draws=test.draws,
        responses=responses,
        truncated=cut,
        tokens=sum(one.tokens for one in counts),
        score=100 * float(right.sum()) / responses,
        error=error_of(counts),
        published=88.5 if test.name == "aime24" else None,
        versions={"engine": "vllm", "version": "0.32.0" if by.night.id < 23 else "0.33.0"},
        texts=texts,
    )
    return judged(result, counts, setting, 1.0, by), counts, setting


def made_history(path: Path, nights: int, drop_on: int) -> History:
    """A history of the usual plan in which every benchmark drops by three points from night `drop_on` on."""
    history = History(path)
    for number in range(1, nights + 1):
        rng = generator("made", number)
        drop = DROP if number >= drop_on else 0.0
        drawn = [(test, asked(test, drop, 0.0, 1, rng)[0]) for test in USUAL.tests]
        add_night(history, f"2026-{10 + number // 31:02}-{1 + number % 31:02}", drawn)
    return history
