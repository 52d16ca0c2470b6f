"""References: rows that only name their question, as row so-and-so of another data set.

OpenCodeReasoning's split_1 has `-` in the question's place, and dataset, split and index beside it: the
question is `load_dataset(dataset)[split][index]["question"]`, so `index` counts the rows of all files of the
split in their order. (Its card; NVIDIA-NeMo/Skills, recipes/opencodereasoning/scripts/prepare_questions.py.)

A data set that can be had nowhere is no error: its rows are counted as missing. Files that are there and
not as expected are.
"""

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from harness.hub import MissingDataError
from harness.machine import Machine
from pipeline.tables import Row, Table, open_table

Reference = tuple[str, str, int]  # data set, split, row
INDEX = re.compile(r"[0-9]{1,18}")
NOWHERE: Reference = ("", "", -1)


@dataclass(frozen=True, kw_only=True)
class Place:
    """One split of a data set that is referred to by a short name; `table` has the role question."""

    dataset: str
    split: str
    table: Table


@dataclass(kw_only=True)
class LookedUp:
    """The questions found, where each place's files came from, and which places are not to be had."""

    questions: dict[Reference, str] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)
    missing: set[tuple[str, str]] = field(default_factory=set)

    def reason(self, reference: Reference) -> str:
        """Why a reference has no question."""
        if reference == NOWHERE:
            return "question in a data set that is not known"
        if reference[:2] in self.missing:
            return f"question in {reference[0]}, which is not here"
        return f"no such question in {reference[0]}"


@dataclass(frozen=True, kw_only=True)
class Elsewhere:
    """How a table refers to other data sets: by `marker` in the question's place, and the roles dataset,
    split and index."""

    marker: str
    places: tuple[Place, ...]

    def reference(self, row: Row) -> Reference:
        """Where a row's question is; NOWHERE where it names none of the places."""
        dataset, split, index = row["dataset"], row["split"], str(row["index"])
        known = any((place.dataset, place.split) == (dataset, split) for place in self.places)
        return (dataset, split, int(index)) if known and INDEX.fullmatch(index) else NOWHERE

    def look_up(self, references: Iterable[Reference], machine: Machine) -> LookedUp:
        """The questions that are referred to. Reads only the data sets that are named.

        Raises DataError where a data set is here and is not what was expected.
        """
        wanted: dict[tuple[str, str], set[int]] = defaultdict(set)
        for dataset, split, index in references:
            wanted[dataset, split].add(index)
        looked = LookedUp()
        for place in self.places:
            if numbers := wanted[place.dataset, place.split]:
                self.read(place, numbers, machine, looked)
        return looked

    def read(self, place: Place, numbers: set[int], machine: Machine, looked: LookedUp) -> None:
        try:
            opened = open_table(place.table, machine)
        except MissingDataError:
            looked.missing.add((place.dataset, place.split))
            return
        looked.origins[f"{place.dataset} {place.split}"] = opened.found.origin
        for number, row in enumerate(opened.rows()):
            if number in numbers and isinstance(row["question"], str) and row["question"].strip():
                looked.questions[place.dataset, place.split, number] = row["question"].strip()
