"""The result of one benchmark of one checkpoint: counted, compared with the history, explained."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from importlib.metadata import version
from typing import Any

import numpy as np

from harness.evaluate import Mark, asked_counts
from harness.nightly.asking import Evaluation, digest_of, setting_of
from harness.nightly.gate import Judged, Rule, judge
from harness.nightly.history import Concluded, Counted, Flip, History, Night, Result
from harness.rows import key_of, read_rows
from harness.session import SESSION
from harness.statistics import POINTS, Array, se_rerun
from harness.store import RunStore, differences
from harness.types import Generation, Grade

ROWS = "generations.jsonl"


@dataclass(frozen=True, kw_only=True)
class Judging:
    """What every result of a night is judged with; at most the last `most` nights of history count."""

    history: History
    night: Night
    rule: Rule
    most: int | None


def stands(history: History, night: Night, result: Result) -> Concluded:
    """A result that was recorded before, as it was."""
    counts = history.counted(night.id, result.checkpoint, result.benchmark)
    return result, counts, dict(history.setting(result.setting))


def concluded(test: Evaluation, store: RunStore, failure: str, by: Judging) -> Concluded:
    """The result of one test, complete or not; `failure` is what kept it from its end, if anything did."""
    if test.mark is None or failure:
        return unfinished(test, test.missing or failure), [], {}
    counts, texts = count(store, test.mark)
    setting = setting_of(test.mark, [one.question for one in counts])
    questions, draws = asked_counts(store.whole(test.mark.asked))
    rows = sum(one.draws for one in counts)
    right = sum(one.correct for one in counts)
    graded = rows - sum(one.ungraded for one in counts)
    result = Result(
        checkpoint=test.checkpoint,
        benchmark=test.benchmark,
        setting=digest_of(setting),
        mark=test.mark.key,
        model=test.mark.asked.model.key,
        judged=Judged(outcome="inconclusive", reason="", nights=0),
        questions=questions,
        draws=draws,
        responses=rows,
        missing=questions * draws - rows,
        ungraded=rows - graded,
        truncated=sum(one.truncated for one in counts),
        tokens=sum(one.tokens for one in counts),
        score=POINTS * right / graded if graded else None,
        error=error_of(counts),
        published=test.published,
        versions=versions_of(store, test.mark),
        texts=texts,
    )
    return judged(result, counts, setting, test.mark.asked.drawn.temperature, by), counts, setting


def unfinished(test: Evaluation, failure: str) -> Result:
    """What is known of a test that has no responses to count."""
    return Result(
        checkpoint=test.checkpoint,
        benchmark=test.benchmark,
        setting="",
        mark=test.mark.key if test.mark is not None else "",
        model=test.mark.asked.model.key if test.mark is not None else "",
        judged=Judged(outcome="inconclusive", reason=failure, nights=0),
        published=test.published,
    )


def error_of(counts: Sequence[Counted]) -> float | None:
    return se_rerun(
        [[True] * one.correct + [False] * (one.draws - one.ungraded - one.correct) for one in counts]
    )


def judged(
    result: Result, counts: Sequence[Counted], setting: dict[str, Any], temperature: float, by: Judging
) -> Result:
    """The result with its outcome, its flips and what changed."""
    nights = by.history.baseline_nights(by.night.id, result, by.most)
    result = replace(result, changed=tuple(new_history(result, setting, nights, by)))
    if temperature > 0:
        result = replace(result, replayed=by.history.same_texts(by.night.id, result))
    if not result.complete:
        return replace(
            result, judged=Judged(outcome="inconclusive", reason=incomplete(result), nights=len(nights))
        )
    questions = [one.question for one in counts]
    baseline = by.history.baseline(nights, result, questions)
    right = np.array([one.correct for one in counts], dtype=np.float64)
    told = judge(baseline, right, result.draws, by.rule)
    good = by.history.last_good(by.night.id, result)
    if good is None or not baseline.nights:
        return replace(result, judged=told)
    night, before = good
    last = by.history.counted(night, result.checkpoint, result.benchmark)
    return replace(
        result,
        judged=told,
        flips=tuple(flips(counts, baseline.right / (baseline.nights * result.draws), last)),
        changed=tuple(changes(before, result)),
    )


def incomplete(result: Result) -> str:
    """Why a result cannot be compared, in words."""
    if result.replayed:
        return (
            f"every response is that of night {result.replayed}, word for word: something between here and "
            "the model replays them, or samples alike each time"
        )
    parts = [
        f"{number} of {result.questions * result.draws} responses {what}"
        for number, what in ((result.ungraded, "could not be graded"), (result.missing, "are missing"))
        if number
    ]
    return "; ".join(parts) or "nothing was graded"


def new_history(result: Result, setting: dict[str, Any], nights: Sequence[int], by: Judging) -> Iterator[str]:
    """What sets this night apart from all earlier ones of its line, where that keeps them from being
    compared."""
    before = by.history.last_setting(by.night.id, result)
    if nights or before is None or before == result.setting:
        return
    for difference in differences(by.history.setting(before), setting):
        yield f"a new history begins: {difference}"


def flips(counts: Sequence[Counted], means: Array, last: Sequence[Counted]) -> Iterator[Flip]:
    """The questions whose share is not that of the last good night, those first that lost most of their
    mean."""
    before = {one.question: one.correct / one.draws for one in last}
    found = [
        Flip(
            question=one.question,
            before=round(float(mean), 4),
            last=before[one.question],
            tonight=one.correct / one.draws,
        )
        for one, mean in zip(counts, means, strict=True)
        if before[one.question] != one.correct / one.draws
    ]
    yield from sorted(found, key=lambda flip: (flip.tonight - flip.before, flip.question))


def changes(before: Result, now: Result) -> Iterator[str]:
    """What is not as it was then, and may be the reason: the checkpoint, the engine, the harness."""
    yield from differences({**before.versions, "model": before.model}, {**now.versions, "model": now.model})


# Counting -----------------------------------------------------------------------------------


def count(store: RunStore, mark: Mark) -> tuple[list[Counted], str]:
    """A finished evaluation's counts by question, and a digest of all its texts."""
    grades = {key_of(one): one for one in read_rows(store.whole(mark) / "grades.jsonl", Grade)}
    by_question: dict[str, list[tuple[Grade, int]]] = {}
    texts: dict[tuple[str, int], bytes] = {}
    for row in read_rows(store.whole(mark.asked) / ROWS, Generation):
        if (grade := grades.get(key_of(row))) is not None:
            by_question.setdefault(row.question, []).append((grade, row.completion_tokens))
        texts[key_of(row)] = blake2b(row.text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    found = [counted(question, own) for question, own in sorted(by_question.items())]
    whole = blake2b(b"".join(texts[key] for key in sorted(texts)), digest_size=8).hexdigest()
    return found, whole


def counted(question: str, rows: Sequence[tuple[Grade, int]]) -> Counted:
    return Counted(
        question=question,
        correct=sum(bool(grade.correct) for grade, _ in rows),
        draws=len(rows),
        ungraded=sum(grade.correct is None for grade, _ in rows),
        truncated=sum(grade.truncated for grade, _ in rows),
        tokens=sum(tokens for _, tokens in rows),
    )


def versions_of(store: RunStore, mark: Mark) -> dict[str, str]:
    """Which engine answered, as its session says, and which harness asked."""
    file = store.path(mark.asked) / SESSION
    session: dict[str, str] = json.loads(file.read_bytes()) if file.exists() else {}
    return {**session, "harness": version("dasd-harness")}
