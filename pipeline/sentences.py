"""The sentences of one response as divergence-aware selection saw them, from what a run left behind.

    runs/NAME/05-selected-low → ../stages/select-06a00c89

Nothing is computed again but the classes: text, tokens and settings are read where the stages put them.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from harness.discover import suggestion
from harness.errors import DataError, UsageError
from harness.integrity import MANIFEST
from harness.rows import Key, decode, read_rows
from harness.runs import identity_of
from harness.store import RunStore
from harness.tokens import NAME, TokenIndex
from harness.types import Generation
from pipeline.select import Candidate, Sentence, classify


@dataclass(frozen=True, kw_only=True)
class Selection:
    """A finished Select: the run's label, its folder, and the folders of what it read."""

    label: str
    path: Path
    responses: Path
    teacher: Path
    student: Path
    margin: float

    def candidates(self) -> Iterator[Candidate]:
        return read_rows(self.path / "divergence.jsonl", Candidate)


@dataclass(frozen=True, kw_only=True)
class Told:
    """One response, how it stood in the selection, and its sentences."""

    response: Generation
    candidate: Candidate
    sentences: list[Sentence]

    @property
    def prompt(self) -> str:
        prompt: str = self.response.kept["prompt"]
        return prompt

    @property
    def facts(self) -> dict[str, str]:
        """What a reader should know of the response, in words."""
        one = self.candidate
        shared = one.sentences - one.teacher_sentences - one.student_sentences
        return {
            "domain": one.domain,
            "selection": "kept" if one.kept else "not kept",
            "sentences": f"{one.teacher_sentences} teacher, {one.student_sentences} student, {shared} shared",
            "probability of the response": f"{math.exp(one.teacher):.3f} under the teacher, "
            f"{math.exp(one.student):.3f} under the student",
            "sampled at": f"temperature {self.response.sampling.temperature:g}, "
            f"{self.response.completion_tokens} tokens",
        }


def find_selection(store: RunStore, text: str) -> Selection:
    """The selection that `RUN/LABEL` names; the label with its number or without.

    Raises UsageError for an unknown run or label, with the nearest ones.
    """
    run, _, label = text.partition("/")
    if run not in (known := runs(store)):
        raise UsageError(
            f"no run {run!r} with a finished selection in {store.root}. {suggestion(run, known)}",
            "A selection at random compares nothing and is not among them.",
        )
    labels = {name: link for link in selections(store, run) for name in (link.name, unnumbered(link.name))}
    if label not in labels:
        raise UsageError(
            f"{run} has no finished selection {label!r}. {suggestion(label, labels)}", f"Give {run}/LABEL."
        )
    return opened(store, labels[label])


def runs(store: RunStore) -> list[str]:
    """Names of the runs that hold a finished selection which compared teacher and student."""
    folders = (folder for folder in store.root.iterdir() if folder.is_dir()) if store.root.is_dir() else ()
    return sorted(folder.name for folder in folders if next(selections(store, folder.name), None))


def selections(store: RunStore, run: str) -> Iterator[Path]:
    """The links of a run that lead to such a selection."""
    for link in sorted((store.root / run).iterdir()):
        if link.is_symlink() and (link / MANIFEST).exists() and (link / "divergence.jsonl").exists():
            yield link


def unnumbered(label: str) -> str:
    """The label as the recipe has it: `selected-low` of `05-selected-low`."""
    number, _, name = label.partition("-")
    return name if number.isdigit() else label


def opened(store: RunStore, link: Path) -> Selection:
    identity = identity_of(link.resolve())
    return Selection(
        label=link.name,
        path=link.resolve(),
        responses=store.stages / identity["responses"],
        teacher=store.stages / identity["teacher"],
        student=store.stages / identity["student"],
        margin=identity["margin"],
    )


def tell(selection: Selection, wanted: str = "") -> Told:
    """The response `QUESTION[:DRAW]` with its sentences and their classes.

    Without a draw the kept response of the question, else its best; without a question the kept response
    with the largest share of Teacher Sentences. Raises UsageError where there is no such candidate.
    """
    candidate = find_candidate(list(selection.candidates()), wanted)
    response = find_response(selection.responses / "generations.jsonl", candidate.key)
    teacher, student = (
        TokenIndex(folder / NAME)[candidate.key] for folder in (selection.teacher, selection.student)
    )
    return Told(
        response=response,
        candidate=candidate,
        sentences=classify(response.text, teacher, student, selection.margin),
    )


def find_candidate(found: list[Candidate], wanted: str) -> Candidate:
    """The candidate that `QUESTION[:DRAW]` names; see `tell`. Raises UsageError where there is none."""
    question, _, draw = wanted.rpartition(":")
    groups = (
        [one for one in found if one.kept and not wanted],
        [one for one in found if one.question == wanted],
        [one for one in found if draw.isdecimal() and one.key == (question, int(draw))],
    )
    group = next((group for group in groups if group), None)
    if group is None:
        raise UsageError(unknown(found, wanted))
    return max(group, key=lambda one: (one.kept, one.rank, one.sentences))


def unknown(found: list[Candidate], wanted: str) -> str:
    """What is wrong with a name that no candidate has."""
    draws = sorted(one.draw for one in found if one.question == wanted.rpartition(":")[0])
    if draws:
        return f"no candidate {wanted!r}. The question has the draws {', '.join(map(str, draws))}"
    if not wanted:
        return "the selection kept nothing. Give a QUESTION"
    return f"no candidate of a question {wanted!r}. {suggestion(wanted, {one.question for one in found})}"


def find_response(path: Path, key: tuple[str, int]) -> Generation:
    """One row of a file of responses, which may be large. Raises DataError where it is not there."""
    keys, rows = msgspec.json.Decoder(Key), msgspec.json.Decoder(Generation)
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            row = decode(keys, line, path, number)
            if (row.question, row.draw) == key:
                return decode(rows, line, path, number)
    raise DataError(f"{path} has no response {key}", "Was the file changed after the selection?")
