"""Benchmarks drawn in rounds, each until every claim on it is decided (`--until-resolved`).

    runs/NAME/rounds.json     the numbers of draws at which each evaluation is looked at, by label

A round is an ordinary evaluation of so many draws, which begins with the draws of the round before
(`harness.adopt`): killed anywhere, the same command goes on and decides the same. `rounds.json` is
written before the first round, and an evaluation's rounds are never replaced by others: each new set of
them would be a fresh 5 % on the same draws. From then on every verdict of this run is the sequential one
(`harness.sequential`), also that of all draws; after any other number of draws it is `inconclusive`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from harness.errors import UsageError
from harness.evaluate import Mark, asked_counts
from harness.files import read_json, write_json
from harness.rows import read_rows
from harness.sequential import decided, judge_round, registered_for, rounds_of
from harness.stage import Stage
from harness.statistics import Claim, Score, Verdict, score
from harness.store import Runner, RunStore
from harness.types import Grade

FILE = "rounds.json"
Rounds = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Saving:
    """What a run did not have to generate: responses, and tokens at the mean of those that it did."""

    generations: int
    tokens: int


def draw_until_resolved(
    runner: Runner,
    name: str,
    marks: Mapping[str, Mark],
    claims: Mapping[str, Sequence[Claim]],
    say: Callable[[str], None],
) -> dict[str, Mark]:
    """Draws each evaluation in rounds until all claims on it are decided. Returns where each ended.

    `marks` have all draws of the protocol. What nothing is claimed about is drawn in full. Labels that
    share an evaluation end together, claimed or not. Tells each claim's state after each round.

    Raises UsageError where the run is registered for other rounds.
    """
    rounds = planned(marks, claims, say)
    keep_rounds(runner.store, name, registration(marks, claims))
    reached, going, number = dict(marks), dict(marks), 0
    while going:
        now = {label: with_draws(mark, rounds[label][number]) for label, mark in going.items()}
        runner.build(name, dict(now))
        reached |= now
        undecided = {
            going[label].key
            for label, mark in now.items()
            if claims.get(label)
            and not look(runner.store, label, mark, claims[label], rounds[label], say)
            and number + 1 < len(rounds[label])
        }
        for label in (label for label, mark in going.items() if mark.key not in undecided):
            say(ending(label, rounds[label], number, saving(runner.store, now[label], rounds[label])))
        going, number = {label: mark for label, mark in going.items() if mark.key in undecided}, number + 1
    return reached


def planned(
    marks: Mapping[str, Mark], claims: Mapping[str, Sequence[Claim]], say: Callable[[str], None]
) -> dict[str, Rounds]:
    """The rounds of each evaluation: one of all draws where nothing is claimed about it under any label."""
    rounds, tested = {}, keys_with_claims(marks, claims)
    for label, mark in marks.items():
        draws = mark.asked.drawn.draws
        rounds[label] = rounds_of(draws) if mark.key in tested else (draws,)
        if mark.key not in tested:
            say(f"{label}: nothing is claimed, so there is nothing to decide: all draws")
    return rounds


def registration(marks: Mapping[str, Mark], claims: Mapping[str, Sequence[Claim]]) -> dict[str, Rounds]:
    """The rounds that are registered: those of evaluations about which something is claimed."""
    tested = keys_with_claims(marks, claims)
    return {label: rounds_of(mark.asked.drawn.draws) for label, mark in marks.items() if mark.key in tested}


def keys_with_claims(marks: Mapping[str, Mark], claims: Mapping[str, Sequence[Claim]]) -> set[str]:
    """The evaluations that something is claimed about. Rows of one model share theirs."""
    return {mark.key for label, mark in marks.items() if claims.get(label)}


def look(
    store: RunStore,
    label: str,
    mark: Mark,
    claims: Sequence[Claim],
    rounds: Rounds,
    say: Callable[[str], None],
) -> bool:
    """Whether a finished round decides all claims; says of each how it stands."""
    measured, reason = score_of(store, mark)
    if reason:
        say(f"{label}: not a score ({reason}), so nothing can be decided: all draws")
        return False
    found = [(claim, judge_round(measured, claim, rounds)) for claim in claims]
    for claim, verdict in found:
        say(f"{label}, {measured.draws} of {rounds[-1]} draws: {standing(measured, claim, verdict)}")
    return all(decided(verdict) for _, verdict in found)


def score_of(store: RunStore, mark: Mark) -> tuple[Score, str]:
    """The score of a finished round, and why it is none of the benchmark where a grade says so."""
    grades = list(read_rows(store.whole(mark) / "grades.jsonl", Grade))
    told = {str(grade.detail["not_a_score"]) for grade in grades if "not_a_score" in grade.detail}
    return score(grades, *asked_counts(store.path(mark.asked))), "; ".join(sorted(told))


def standing(measured: Score, claim: Claim, verdict: Verdict) -> str:
    """`87.9 for 88.5 ± 2.0, Δ -0.6 [-4.1, +2.9]: undecided`."""
    named = verdict.name if decided(verdict) else "undecided"
    if verdict.delta is None or measured.average is None:
        return f"{named} ({verdict.reason})"
    low, high = verdict.interval or (-float("inf"), float("inf"))
    return (
        f"{measured.average:.1f} for {claim.value:.1f} ± {claim.margin:.1f}, "
        f"Δ {verdict.delta:+.1f} [{low:+.1f}, {high:+.1f}]: {named}"
    )


def ending(label: str, rounds: Rounds, number: int, saved: Saving) -> str:
    made = rounds[number]
    if made == rounds[-1]:
        return f"{label}: all {made} draws made"
    return f"{label}: stopped after {made} of {rounds[-1]} draws; {in_words(saved)} saved"


def in_words(saved: Saving) -> str:
    """`1,680 generations, about 21,300,000 tokens`; three digits of an estimate are enough."""
    digits = max(0, len(str(saved.tokens)) - 3)
    return f"{saved.generations:,} generations, about {round(saved.tokens, -digits):,} tokens"


class Length(msgspec.Struct):
    completion_tokens: int


def saving(store: RunStore, mark: Mark, rounds: Rounds) -> Saving:
    """What a finished round leaves to the draws that were planned."""
    path = store.path(mark.asked)
    questions, draws = asked_counts(path)
    made = sum(row.completion_tokens for row in read_rows(path / "generations.jsonl", Length))
    spared = rounds[-1] - draws
    return Saving(generations=questions * spared, tokens=round(made / draws * spared))


def with_draws(mark: Mark, draws: int) -> Mark:
    """The same evaluation with another number of draws."""
    asked = mark.asked
    benchmark = replace(asked.benchmark, sampling=replace(asked.benchmark.sampling, draws=draws))
    sampling = asked.sampling and replace(asked.sampling, draws=draws)
    return replace(mark, asked=replace(asked, benchmark=benchmark, sampling=sampling))


# What a run keeps of it ---------------------------------------------------------------------


def keep_rounds(store: RunStore, name: str, rounds: Mapping[str, Rounds]) -> None:
    """Registers the rounds of a run's evaluations, beside those that it has. Without any, no file.

    Raises UsageError, and registers nothing, where an evaluation has other rounds already.
    """
    file, kept = store.root / name / FILE, rounds_kept(store.root / name)
    for label, own in rounds.items():
        if kept.get(label, own) != own:
            raise registered_otherwise(label, own, kept[label], file)
    if not rounds:
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    write_json(file, {**kept, **rounds})


def registered_otherwise(label: str, wanted: Rounds, kept: Rounds, file: Path) -> UsageError:
    return UsageError(
        f"{label} cannot be decided in rounds of {wanted[-1]} draws: it is {registered_for(kept)} ({file}). "
        "Other rounds would be one more test of the same draws, with an error of its own.",
        f"Ask for {kept[-1]} draws again, or give `harness evaluate` another --name: a test of its own.",
    )


def rounds_kept(run: Path) -> dict[str, Rounds]:
    """The registered rounds by label; none for a run that is not drawn until resolved."""
    try:
        return read_json(run / FILE, dict[str, tuple[int, ...]], "Restore it: it says what was registered.")
    except FileNotFoundError:
        return {}


def as_reached(store: RunStore, name: str, labels: Mapping[str, Stage]) -> dict[str, Stage]:
    """The stages of a run, with each evaluation drawn in rounds at the one that its link leads to."""
    rounds, reached = rounds_kept(store.root / name), dict(labels)
    for label, stage in labels.items():
        link = store.root / name / label
        if isinstance(stage, Mark) and link.is_symlink():
            every = {mark.key: mark for mark in (with_draws(stage, own) for own in rounds.get(label, ()))}
            reached[label] = every.get(link.readlink().name, stage)
    return reached
