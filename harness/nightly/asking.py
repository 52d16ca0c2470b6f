"""What is asked tonight: the same questions as every night, with seeds that no other night has.

A night's name is the date at which it began (UTC). Its seed follows from that name, and a seed is part of
what an Ask is: so every night asks anew, a night that was killed finds its own responses and asks for the
rest, and no response of one night can stand in for that of another, here or in a cache on the way.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from harness.benchmark import Benchmark
from harness.errors import UsageError
from harness.evaluate import Ask, Mark
from harness.nightly.history import History, Night
from harness.stage import Stage

RESUMED = 12 * 3600.0
"""Seconds after its beginning for which a night that was killed is what the next call continues. After
that the checkpoint is likely to be another night's."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """One benchmark of one checkpoint tonight. `mark` is None where there is no checkpoint to ask, and
    `missing` then says why."""

    checkpoint: str
    benchmark: str
    mark: Mark | None
    published: float | None = None
    missing: str = ""

    @property
    def line(self) -> str:
        return f"{self.checkpoint}/{self.benchmark}"

    @property
    def label(self) -> str:
        return f"eval/{self.line}"


Evaluations = Callable[[str], Sequence[Evaluation]]
"""The tests of the night with a label."""


def night_seed(name: str, label: str) -> int:
    """A seed of 31 bits that follows from the night's name alone."""
    digest = hashlib.sha256(f"night:{name}:{label}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def mark_tonight(
    model: Stage, benchmark: Benchmark, engine: str, system: str | None, name: str, label: str
) -> Mark:
    """The evaluation of one night. Option orders are those of every night: questions stay comparable."""
    sampling = replace(benchmark.sampling, seed=night_seed(name, label))
    asked = Ask(model=model, benchmark=benchmark, engine=engine, system=system, sampling=sampling)
    return Mark(asked=asked, grader=benchmark.grader)


def setting_of(mark: Mark, questions: Sequence[str]) -> dict[str, Any]:
    """How an evaluation is asked and graded: all that must be equal for two nights to be compared.

    The model is not part of it, nor which server runs it, nor the night's seed.
    """
    asked = dict(mark.asked.identity)
    del asked["model"]
    asked["sampling"] = {key: value for key, value in asked["sampling"].items() if key != "seed"}
    ids = hashlib.sha256("\n".join(sorted(questions)).encode()).hexdigest()[:12]
    return {"asked": asked, "grader": mark.grader, "grading": mark.asked.benchmark.grading, "questions": ids}


def digest_of(setting: dict[str, Any]) -> str:
    canonical = json.dumps(setting, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def choose_label(
    history: History,
    name: str,
    tests: Evaluations,
    *,
    wanted: str | None,
    again: bool,
    now: float,
    taken: Callable[[str], bool] = lambda label: False,
) -> str:
    """Which night this is: the one asked for, one that was killed, tonight's, or another of today's.

    A complete result is never replaced by one of another checkpoint or with other settings, nor does a night
    lose one: then this is another night. So it is where a clock that went back makes an old night's name
    today's, and where the name that a night would have is `taken` by what is no night. Raises UsageError
    where the night asked for is such a one.
    """
    nights = {night.label: night for night in history.nights(name)}
    if wanted:
        if wanted not in nights and taken(wanted):
            raise UsageError(
                f"the run of night {wanted} would have the name of another run or recipe",
                "Give another --night, or none.",
            )
        if conflict := conflicting(nights.get(wanted), tests(wanted)):
            raise UsageError(
                f"night {wanted} is recorded, with {conflict}",
                "Its result stands. Give another --night, or none.",
            )
        return wanted
    begun = [one for one in nights.values() if one.finished is None and 0 <= now - one.began < RESUMED]
    if begun and not again:
        return begun[-1].label
    anew = again or any(night.began > now for night in nights.values())
    today = datetime.fromtimestamp(now, UTC).date().isoformat()
    label, number = today, 1
    while (anew or conflicting(nights[label], tests(label))) if label in nights else taken(label):
        number += 1
        label = f"{today}.{number}"
    return label


def conflicting(night: Night | None, tests: Sequence[Evaluation]) -> str:
    """What the night holds complete and these tests would ask otherwise, or not at all. Else nothing."""
    own = {test.line: test for test in tests}
    for one in night.results if night is not None else ():
        if not one.complete:
            continue
        if one.line not in own:
            return f"{one.line}, which is not asked now"
        mark = own[one.line].mark
        if mark is not None and mark.key != one.mark:
            return f"another checkpoint or setting of {one.line}"
    return ""
