"""What every export reads: a run's evaluations with their scores, and their samples one at a time.

Texts of a gated data set are blanked here, before any format sees them: its terms forbid showing them in
public, and a response may quote its question. Ids, verdicts, letters, finish reasons and tokens stay.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from itertools import zip_longest
from pathlib import Path
from typing import Any

from harness.benchmark import Benchmark
from harness.errors import DataError
from harness.evaluate import Mark
from harness.grading.choices import LETTERS, gold_letter
from harness.hub import COMMIT
from harness.rows import Span, key_of, read_spans
from harness.session import SESSION
from harness.store import RunStore
from harness.types import Generation, Grade, Question, Sampling
from reports.table import Entry

Choose = Callable[[Iterator[Span]], Iterable[Span]]

EVERY_ROW = ""
WITHHELD = "texts left out: the data set is gated"


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One response with its question and verdict. Where texts are withheld they are empty."""

    question: Question
    generation: Generation
    grade: Grade

    @property
    def target(self) -> str:
        """The gold answer as a response must give it: a letter where the draw had options in an order."""
        order = self.generation.kept.get("order")
        return gold_letter(order) if order else self.question.gold

    @property
    def options(self) -> list[str]:
        """The texts of the options in the order that this draw showed; none where there are no options."""
        order, options = self.generation.kept.get("order"), self.question.data.get("options")
        return [options[place] for place in order] if order and options else []


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """A row of a run on one benchmark, finished and graded.

    `checkpoint` is the identity of the model's stage, `session` what is known of the engine. `finished` is
    when grading ended, `seconds` what asking took. `texts`: prompts and responses may be shown. `data` is
    the folder of data sets that the questions are read from.
    """

    run: str
    row: str
    entry: Entry
    mark: Mark
    asked: Path
    marked: Path
    checkpoint: Mapping[str, Any]
    session: Mapping[str, str]
    finished: datetime
    seconds: float
    texts: bool
    data: Path | None

    @property
    def benchmark(self) -> Benchmark:
        return self.mark.asked.benchmark

    @property
    def name(self) -> str:
        return self.benchmark.name

    @property
    def label(self) -> str:
        return f"{self.row}/{self.name}"

    @property
    def sampling(self) -> Sampling:
        return self.mark.asked.drawn

    @property
    def hub_model(self) -> str:
        """The model's repository on the Hub; empty for one that came from elsewhere."""
        named = self.checkpoint.get("class") == "Checkpoint" and self.checkpoint.get("revision")
        return str(self.checkpoint["source"]) if named else ""

    @property
    def model(self) -> str:
        """The model's repository on the Hub, else RUN/ROW: a folder's path is nobody's business."""
        return self.hub_model or f"{self.run}/{self.row}"

    @property
    def dataset_revision(self) -> str | None:
        revision = self.benchmark.revision
        return revision if COMMIT.fullmatch(revision) else None

    @property
    def no_score(self) -> tuple[str, ...]:
        """Why the measured number is no score of the benchmark."""
        entry = self.entry
        counted = ((entry.ungraded, "ungraded"), (entry.short, "missing"))
        missing = tuple(f"{what} responses: {count}" for count, what in counted if count)
        unknown = ("nothing is graded",) if entry.measured is None and not missing else ()
        return entry.not_a_score + missing + unknown

    @cached_property
    def questions(self) -> dict[str, Question]:
        """The questions that were asked, by id in the data set's order.

        Raises DataError where the data set is not here.
        """
        loaded = self.benchmark.load(self.data)[: self.mark.asked.limit]
        return {question.id: question for question in loaded}

    def samples(self) -> Iterator[Sample]:
        """All samples, draw by draw in the data set's order; one in memory.

        Raises DataError where responses and verdicts are not about the same samples, or about questions
        that the data set does not have.
        """
        return self.read(self.ordered(self.questions), self.questions.__getitem__)

    def verdicts(self) -> Iterator[Sample]:
        """The samples without their questions, in the order of question and draw; no data set is needed.

        Raises DataError where responses and verdicts are not about the same samples.
        """
        return self.read(sorted, lambda name: Question(id=name, domain="", prompt=""))

    def read(self, choose: Choose, question_of: Callable[[str], Question]) -> Iterator[Sample]:
        generations = read_spans(self.asked / "generations.jsonl", Generation, choose)
        grades = read_spans(self.marked / "grades.jsonl", Grade, choose)
        for generation, grade in zip_longest(generations, grades):
            if generation is None or grade is None or key_of(generation) != key_of(grade):
                raise DataError(
                    f"{self.label}: {self.marked.name} is not about the responses of {self.asked.name}",
                    f"Grade it again: harness regrade {self.run}",
                )
            sample = Sample(question=question_of(grade.question), generation=generation, grade=grade)
            yield sample if self.texts else without_texts(sample)

    def ordered(self, questions: Mapping[str, Question]) -> Choose:
        places = {name: place for place, name in enumerate(questions)}

        def choose(spans: Iterator[Span]) -> Iterable[Span]:
            found = list(spans)
            if unknown := {span.question for span in found} - set(places):
                raise DataError(
                    f"{self.label}: the data set has no question {min(unknown)!r}",
                    "Give --data with the data set that the run was asked with.",
                )
            return sorted(found, key=lambda span: (span.draw, places[span.question]))

        return choose


def without_texts(sample: Sample) -> Sample:
    """The sample with ids, verdict, letters, finish reason and tokens, and nothing that quotes a text."""
    row, grade = sample.generation, sample.grade
    kept = {"order": row.kept["order"]} if "order" in row.kept else {}
    extracted = grade.extracted if grade.extracted in tuple(LETTERS) else None
    return Sample(
        question=Question(id=row.question, domain=sample.question.domain, prompt=""),
        generation=replace(row, prompt="", text="", reasoning="", answer="", kept=kept),
        grade=replace(grade, extracted=extracted, detail={}),
    )


@dataclass(frozen=True, kw_only=True)
class Source:
    """What is exported: the evaluations of a run that are done, and all of its report's entries.

    `hub_tasks` are the leaderboards that the user named, by benchmark: data set and task on the Hub.
    """

    run: str
    entries: tuple[Entry, ...]
    evaluations: tuple[Evaluation, ...]
    hub_tasks: Mapping[str, tuple[str, str]]

    @property
    def by_row(self) -> dict[str, list[Evaluation]]:
        rows: dict[str, list[Evaluation]] = {}
        for one in self.evaluations:
            rows.setdefault(one.row, []).append(one)
        return rows


@dataclass(frozen=True, kw_only=True)
class Written:
    """What a format wrote: each file with the row that it is about, EVERY_ROW for all of them.

    `left_out` are the evaluations that it has no place for, with the reason.
    """

    files: Mapping[Path, str]
    left_out: tuple[tuple[str, str], ...] = ()


def evaluation(
    store: RunStore, run: str, entry: Entry, mark: Mark, data: Path | None, gated_texts: bool
) -> Evaluation:
    """One finished evaluation as the exports read it."""
    asked, marked = store.whole(mark.asked), store.whole(mark)
    finished = datetime.strptime(store.manifest(mark)["finished"], "%Y-%m-%dT%H:%M:%SZ")
    return Evaluation(
        run=run,
        row=entry.row,
        entry=entry,
        mark=mark,
        asked=asked,
        marked=marked,
        checkpoint=told(store.path(mark.asked.model) / "identity.json"),
        session=told(asked / SESSION),
        finished=finished.replace(tzinfo=UTC),
        seconds=store.manifest(mark.asked)["seconds"],
        texts=gated_texts or not mark.asked.benchmark.gated,
        data=data,
    )


def told(file: Path) -> dict[str, Any]:
    """What a JSON file of the store says; nothing where there is none."""
    try:
        found: dict[str, Any] = json.loads(file.read_bytes())
    except FileNotFoundError:
        return {}
    return found


def path_part(text: str) -> str:
    """A name that is one harmless part of a path: no separator, no leading or trailing dot."""
    return re.sub(r"[^\w.-]+", "-", text, flags=re.ASCII).strip(".-") or "unnamed"
