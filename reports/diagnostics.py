"""What divergence-aware selection and training did, as numbers with pictures beside them.

From the files that the stages left: divergence.jsonl of a Select (a row for each candidate response) and
losses.json of an Sft.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from harness.rows import read_rows
from reports.page import Cell, Section
from reports.plots import (
    Probabilities,
    Shares,
    Step,
    class_shares,
    identifier,
    loss_curve,
    mean_loss,
    middle,
    parted,
    probability_densities,
    steps_of,
)

TOLD_STEPS = 8

Model = Literal["teacher", "student"]


class Candidate(msgspec.Struct, frozen=True):
    """What a report reads of a row of divergence.jsonl: sentences by class, mean log-probabilities."""

    domain: str
    sentences: int
    teacher_sentences: int
    student_sentences: int
    teacher: float
    student: float
    kept: bool


def selection_sections(done: Mapping[str, Path]) -> Iterator[Section]:
    """One section for each finished selection that compared teacher and student."""
    for label, path in done.items():
        if (path / "divergence.jsonl").exists():
            found = list(read_rows(path / "divergence.jsonl", Candidate))
            if found:
                yield selection_section(label, found)


def selection_section(label: str, found: Sequence[Candidate]) -> Section:
    groups = list(before_and_after(found))
    name = identifier(label)
    return Section(
        title=f"Selection {label}",
        columns=(
            "responses",
            "number",
            "sentences",
            "Teacher",
            "shared",
            "Student",
            "p teacher",
            "p student",
        ),
        rows=[selection_row(title, group) for title, group in groups],
        totals=2 if len(groups) > 2 else 0,
        note="All candidates against those kept: the teacher's probabilities should stay and the student's "
        "move down (report §4, Figures 3, 5, 6 and 10). Teacher, shared and Student are shares of sentences; "
        "p is the median probability of a response, exp of the mean log-probability of its tokens.",
        pictures=(
            probability_densities(
                f"{name}-densities",
                f"Response probabilities before and after selection {label}",
                [probabilities(found, model) for model in ("teacher", "student")],
            ),
            class_shares(
                f"{name}-classes",
                f"Classes of sentences before and after selection {label}",
                [shares(title, group) for title, group in groups],
            ),
        ),
    )  # fmt: skip


def before_and_after(found: Sequence[Candidate]) -> Iterator[tuple[str, list[Candidate]]]:
    """All candidates and the kept ones of each domain, then of all domains where there are several."""
    domains = sorted({one.domain for one in found})
    for domain in domains:
        own = [one for one in found if one.domain == domain]
        yield f"{domain}, all", own
        yield f"{domain}, kept", [one for one in own if one.kept]
    if len(domains) > 1:
        yield "all domains, all", list(found)
        yield "all domains, kept", [one for one in found if one.kept]


def selection_row(title: str, group: Sequence[Candidate]) -> list[Cell]:
    own = shares(title, group)
    return [
        title,
        len(group),
        sum(one.sentences for one in group),
        *(f"{share:.1%}" for share in (own.teacher, own.shared, own.student)),
        *(middle(probability(group, model)) for model in ("teacher", "student")),
    ]


def shares(title: str, group: Iterable[Candidate]) -> Shares:
    """Shares over all sentences of the responses; of no sentences all are shared."""
    counts = [(one.sentences, one.teacher_sentences, one.student_sentences) for one in group]
    total, teacher, student = (sum(column) for column in zip(*counts, strict=True)) if counts else (0, 0, 0)
    total = max(total, 1)
    return Shares(
        label=title, teacher=teacher / total, student=student / total, shared=1 - (teacher + student) / total
    )


def probabilities(found: Sequence[Candidate], model: Model) -> Probabilities:
    kept = [one for one in found if one.kept]
    return Probabilities(model=model, candidates=probability(found, model), kept=probability(kept, model))


def probability(group: Iterable[Candidate], model: Model) -> NDArray[np.float64]:
    return np.exp(np.fromiter((getattr(one, model) for one in group), np.float64))


def training_sections(done: Mapping[str, Path]) -> Iterator[Section]:
    """The loss curve of each finished training, whichever trainer wrote its log."""
    for label, path in done.items():
        if (path / "losses.json").exists():
            log = json.loads((path / "losses.json").read_bytes())
            steps, unit = steps_of(log)
            if steps:
                yield training_section(label, steps, unit, lost=len(log) - len(steps))


def training_section(label: str, steps: Sequence[Step], unit: str, lost: int = 0) -> Section:
    parts = parted(steps, TOLD_STEPS)
    return Section(
        title=f"Training {label}",
        columns=(unit, "mean loss", "lowest", "highest", "learning rate"),
        rows=[loss_row(part) for part in parts],
        note=f"Each line is over {len(parts[0])} lines of the log, up to the {unit} it names."
        + f" {lost} lines of the log have no finite loss and are left out." * bool(lost),
        pictures=(loss_curve(identifier(label), f"Training loss of {label}", steps, unit),),
    )


def loss_row(part: Sequence[Step]) -> list[Cell]:
    losses, rate = [step.loss for step in part], part[-1].learning_rate
    return [
        f"{part[-1].at:g}",
        f"{mean_loss(part):.4f}",
        f"{min(losses):.4f}",
        f"{max(losses):.4f}",
        None if rate is None else f"{rate:.2e}",
    ]
