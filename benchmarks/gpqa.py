"""GPQA-Diamond: 198 four-choice science questions, gated.

DASD §7.3: temperature 1.0, top-p 1.0, 64 responses a question, at most 81,920 tokens. Prompt and
option order are unpublished. The prompt is openai/simple-evals'; the order is a fresh permutation for
each draw, keyed by (seed, Record ID, draw) and kept with the generation, so that grading again never
reshuffles.

The authors ask that the text never appears online in plain text: no row of it is in this repository,
and reports never print a question. The loader knows only facts about the file: 198 rows (chemistry
93, physics 86, biology 19), a canary string in each, unique record ids. Fields are stripped: 47 rows
have white space at an edge. Two rows have two identical wrong options, so the right letter follows
from the permutation, never from a text.
"""

import csv
import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from harness.benchmark import Benchmark
from harness.errors import DataError
from harness.grading.choices import LETTERS, grade_choice
from harness.hub import UNPINNED, Lock, find_file, row_hash
from harness.sandboxes import Sandbox
from harness.types import Generation, Grade, Question, Sampling

OPTION_COLUMNS = ("Correct Answer", "Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3")
DOMAINS = {"Chemistry": 93, "Physics": 86, "Biology": 19}
TERMS = (
    "GPQA is gated: accept its terms at huggingface.co/datasets/Idavidrein/gpqa "
    "(among them: never to reveal its examples in plain text online)."
)
INSTRUCTION = (
    "Answer the following multiple choice question. The last line of your response should be of the "
    "following format: 'Answer: $LETTER' (without quotes) where LETTER is one of ABCD. "
    "Think step by step before answering."
)


def gpqa_prompt(question: str, options: list[str]) -> str:
    """The wording of openai/simple-evals, byte for byte."""
    lines = [f"{letter}) {option}" for letter, option in zip(LETTERS, options, strict=True)]
    return "\n\n".join([INSTRUCTION, question, "\n".join(lines)])


def question(row: Mapping[str, str]) -> Question:
    """A question from a row; option 0 is the right one. Raises DataError that names the row."""
    name = (row.get("Record ID") or "").strip()
    text = (row.get("Question") or "").strip()
    options = [(row.get(column) or "").strip() for column in OPTION_COLUMNS]
    if not name or not text or not all(options):
        raise DataError(f"GPQA row {name!r}: Record ID, Question and four answers are expected")
    if options[0] in options[1:]:
        raise DataError(f"GPQA row {name!r}: a wrong option has the text of the right one")
    return Question(
        id=name,
        domain="science",
        prompt=text,
        gold=options[0],
        data={"options": options, "field": (row.get("High-level domain") or "").strip()},
    )


def option_order(seed: int, question: str, draw: int) -> list[int]:
    """Which option stands at each letter. Depends on nothing but its arguments."""
    return random.Random(f"{seed}:{question}:{draw}").sample(range(len(LETTERS)), len(LETTERS))


def ordered_options(question: Question, order: list[int]) -> list[str]:
    return [question.data["options"][index] for index in order]


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of gpqa_diamond.csv. Fields hold line breaks, so the file is read as CSV, not by lines.

    Raises DataError where it is none.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return list(csv.DictReader(file))
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"{path} is no CSV file of UTF-8 text ({error})", "Download it again.") from error


def check_file(rows: list[dict[str, str]], questions: list[Question], where: Path) -> None:
    """Raises DataError unless the file looks like GPQA-Diamond: counts, fields of science, canaries, ids."""
    fields = Counter(question.data["field"] for question in questions)
    if fields != DOMAINS:
        raise DataError(f"{where} is not GPQA-Diamond: rows by field {dict(fields)}; {DOMAINS} are expected")
    repeated = [name for name, count in Counter(row.id for row in questions).items() if count > 1]
    if repeated:
        raise DataError(f"{where}: Record ID {repeated[0]!r} occurs twice")
    for row, loaded in zip(rows, questions, strict=True):
        if "canary" not in (row.get("Canary String") or "").lower():
            raise DataError(
                f"{where}: row {loaded.id!r} has no canary string",
                "This copy was edited; take the authors' own, so that leaked text can be recognised.",
            )


@dataclass(frozen=True, kw_only=True)
class Gpqa(Benchmark):
    """The diamond set."""

    grader: ClassVar[int] = 2
    gated: ClassVar[bool] = True

    def load(self, data: Path | None) -> list[Question]:
        names = ["gpqa_diamond.csv"]
        aliases = ["gpqa/gpqa_diamond.csv", "gpqa_diamond.csv"]
        found = find_file(self.dataset, self.revision, names, data, aliases, terms=TERMS)
        rows = read_rows(found.path)
        questions = [question(row) for row in rows]
        check_file(rows, questions, found.path)
        if found.origin != "local":
            Lock().check_rows(self.dataset, self.name, content_hashes(questions))
        return questions

    def render(self, question: Question, draw: int) -> tuple[str, dict[str, Any]]:
        order = option_order(self.sampling.seed, question.id, draw)
        return gpqa_prompt(question.prompt, ordered_options(question, order)), {"order": order}

    def public(self, question: Question) -> Question:
        """Placeholders in the texts' places; the order of the options is that of the question itself."""
        options = [f"{{{column}}}" for column in OPTION_COLUMNS]
        return replace(question, prompt="{Question}", gold="", data={"options": options})

    def grade(self, question: Question, generation: Generation, sandbox: Sandbox | None) -> Grade:
        return grade_choice(question, generation)


def content_hashes(questions: list[Question]) -> dict[str, str]:
    """Record ID → hash of the stripped question and options; hashes reveal no text."""
    return {row.id: row_hash({"question": row.prompt, "options": row.data["options"]}) for row in questions}


gpqa_diamond = Gpqa(
    name="gpqa_diamond",
    dataset="Idavidrein/gpqa",
    revision=UNPINNED,
    sampling=Sampling(temperature=1.0, top_p=1.0, draws=64, max_tokens=81_920),
)
