r"""AIME 2024 and 2025: 30 problems each, integer answers from 0 to 999 in `\boxed{}`.

DASD §7.3: temperature 1.0, top-p 1.0, 64 responses a question, at most 102,400 tokens, mean accuracy.
Prompt, data copy and grader are unpublished; this prompt is Qwen's (QwenLM/QwQ `eval/data`).

    2024-I-1: Every morning Aya goes for a $9$-kilometer-long walk … → 204

Texts: the local copies are NVIDIA-NeMo/Skills' (`nemo_skills/dataset/aime24`, `aime25`), each row
pinned by hash. A Hub copy words some problems otherwise; its answers must be the known ones: all 60
agree over eight and five independent copies. `ERRATA` lists the known faults of public copies; a row
that has one is refused by name, whatever copy it comes from.
"""

import importlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from harness.benchmark import Benchmark
from harness.errors import DataError
from harness.grading.answers import grade_answer, last_box
from harness.grading.integers import integer_in
from harness.hub import UNPINNED, Lock, check_rows, find_file, read_jsonl, row_hash
from harness.sandboxes import Sandbox
from harness.types import Generation, Grade, Question, Sampling

SAMPLING = Sampling(temperature=1.0, top_p=1.0, draws=64, max_tokens=102_400)

HUB_FILES = (
    "test.jsonl",
    "train.jsonl",
    "data/test-00000-of-00001.parquet",
    "data/train-00000-of-00001.parquet",
)

GOLDS = {
    "2024": "204 25 809 116 104 294 540 197 480 113 371 385 110 104 721 "
    "73 236 45 33 80 55 699 127 902 468 601 23 321 211 315",
    "2025": "70 588 16 117 279 504 821 77 62 81 259 510 204 60 735 "
    "468 49 82 106 336 293 237 610 149 907 113 19 248 104 240",
}

ROWS = {
    "2024": """
        34b794fe0d000eb6 8c783e76675df99d deba96f980284aa6 f6ffc643cfdb8ede d33959054d1fbf71
        66b92c75e3ed1110 13f9a1e783ccd1f7 f481707c9de9ebbf f94611c31b31faa7 f709aff280d0b53d
        bed18d847aca099d bfcdb9b94392be8a 2ca58d8278fc07ef 8d031cf57a220929 51f5f677208fc0ee
        4fac39369d79e714 073bfdac672c2488 ebf69f79cdc3a3ef 6c12c129b63db9d0 2f6369bdaa74c525
        dae35116efc67cb1 69245a34cf628c8c b4953d97f5289eeb 4932cfc53d9c5a02 3a8597d643320c04
        071cc4d86694c68d e619fc06b2394eba 674c45ccb6844fb3 a336ca5a99112b04 415b8a7161c554f1
    """,
    "2025": """
        aecfe5f4b0aa4e7b 52dc12322ad56d69 3a48e5a73520ccd7 03dc86c5fc4db724 1cee5e1a4279d4a9
        fb89771fc1d43780 a25a72804412c943 6a9054e3598fc37f 38f8c24c2276890f e3f7a668611dc3ab
        3402df275f3d117f d01c62feed7c351c 42635c7803bc07d6 7c7fcbb6398cbacf 8389abc5a5f85444
        d142c82b5fb40b04 1db5498832cfca9a 7ac9a9192f001ec0 3434b4735508268f c617a6fb4663058b
        6b3081e0faf21aaa 4281b68572931fbf 8beb7d1659ef4d24 78edcc6b4c996a05 b6fde631248a66b2
        cf0cc23fdc1a31eb 3a9f2c965ebabaa9 6624572841e06aba d429eb3d61b0d7a9 467e2b6913d18a0f
    """,
}


def aime_prompt(problem: str) -> str:
    """Qwen's wording, byte for byte."""
    return f"{problem}\nPlease reason step by step, and put your final answer within \\boxed{{}}."


def known_ids(year: str) -> list[str]:
    return [f"{year}-{part}-{number}" for part in ("I", "II") for number in range(1, 16)]


def pinned_rows(year: str) -> dict[str, str]:
    """Row id → hash of problem and answer in the pinned copy."""
    return dict(zip(known_ids(year), ROWS[year].split(), strict=True))


# Known faults of public copies ---------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Erratum:
    """A fault of some copies of a problem, known by words of its text and, if given, a wrong answer.

    The rows themselves were not all at hand, so what is known of them stands here and not their hashes.
    """

    problem: str
    words: tuple[str, ...]
    gold: str = ""
    fault: str
    copies: str


ERRATA = (
    Erratum(
        problem="2024-I-8",
        words=("ircles of radius", "inradius"),
        gold="480",
        fault="the answer is given as 480; it is 197",
        copies="Open-Reasoner-Zero",
    ),
    Erratum(
        problem="2024-I-12",
        words=("intersections of the graphs",),
        gold="384",
        fault="the answer is given as 384; it is 385",
        copies="old copies of the AoPS wiki and of NeMo-Skills",
    ),
    Erratum(
        problem="2025-I-14",
        words=("pentagon", "ZBA"),
        fault="the text has ∠ZBA = 60° for ∠B = ∠E = 60°, which leaves the problem underdetermined",
        copies="GAIR-NLP/AIME-Preview and evalchemy",
    ),
    Erratum(
        problem="2025-I-12",
        words=("disjoint convex regions", "$B$"),
        fault="the text has $B$ for $b$",
        copies="an old copy of matharena",
    ),
)

MIXED_IN = (
    "AI-ModelScope/AIME_2024 has the answer mixed into the text of 2024-I-5, 2024-I-6 and 2024-II-10. "
    "Take another copy of the data set."
)
TRUE_TEXT_HAS_ITS_ANSWER = "convex pentagon"
"""2025-I-14: an angle of 60°, and the answer 60. In no other problem does the answer stand in the text."""

FIGURE = re.compile(r"\[asy\].*?\[/asy\]", re.DOTALL)


def check_errata(row: Question) -> None:
    """Raises DataError that says which known fault of public copies a row has."""
    problem: str = row.data["problem"]
    for erratum in ERRATA:
        if erratum.gold in ("", row.gold) and all(word in problem for word in erratum.words):
            raise DataError(
                f"AIME row {row.id!r} has the known erratum of {erratum.problem}: {erratum.fault} "
                f"(seen in {erratum.copies})",
                "Take another copy of the data set.",
            )
    if TRUE_TEXT_HAS_ITS_ANSWER not in problem and stands_in(row.gold, problem):
        raise DataError(f"AIME row {row.id!r}: its answer {row.gold} stands in the text", MIXED_IN)


def stands_in(number: str, problem: str) -> bool:
    """Whether a number stands alone in a problem's text, figures left out."""
    return bool(re.search(rf"(?<![\d.]){number}(?![\d]|\.\d)", FIGURE.sub("", problem)))


# Rows ---------------------------------------------------------------------------------------


def first_of(row: Mapping[str, Any], *columns: str) -> str:
    """The first column of these that a row has; copies name them differently."""
    return next((str(row[column]) for column in columns if row.get(column) is not None), "")


def gold_of(row: Mapping[str, Any]) -> int | None:
    r"""The answer as an integer: "025" → 25, `336^\circ` (OpenCompass) → 336; or the box of a solution."""
    answer = first_of(row, "answer", "Answer") or last_box(first_of(row, "solution", "Solution")) or ""
    return integer_in(answer)


def question(row: Mapping[str, Any], year: str) -> Question:
    """A question from a row of any of the copies. Raises DataError that names the row."""
    name = first_of(row, "id", "ID", "problem_idx")
    problem = first_of(row, "problem", "Problem", "question")
    gold = gold_of(row)
    if not problem or gold is None or not 0 <= gold <= 999:
        raise DataError(f"AIME row {name!r}: a problem and an integer answer from 0 to 999 are expected")
    return Question(
        id=name if name.startswith(year) else f"{year}-{name}",
        domain="math",
        prompt=aime_prompt(problem),
        gold=str(gold),
        data={"problem": problem},
    )


def check_ids(questions: list[Question], where: str) -> None:
    """Raises DataError where a copy does not tell its rows apart."""
    name, count = Counter(row.id for row in questions).most_common(1)[0]
    if count > 1:
        raise DataError(f"{where}: {count} rows are called {name!r}", "Each row needs an id of its own.")


def check_golds(questions: list[Question], year: str, where: str) -> None:
    """Raises DataError where a copy's answers are not the known ones, and names the rows in doubt."""
    known, found = Counter(GOLDS[year].split()), Counter(row.gold for row in questions)
    if found == known:
        return
    doubtful = [f"{row.id} ({row.gold})" for row in questions if found[row.gold] > known[row.gold]]
    missing = sorted((known - found).elements(), key=int)
    raise DataError(
        f"AIME {year}: the answers in {where} are not the known ones. "
        f"In doubt: {', '.join(doubtful) or 'no row'}; missing: {', '.join(missing) or 'no answer'}",
        "This copy has an erratum or is another set; take another copy.",
    )


def read_table(path: Path) -> Iterable[dict[str, Any]]:
    """Rows of a JSON-lines or parquet file."""
    if path.suffix != ".parquet":
        return read_jsonl(path)
    try:
        parquet = importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise DataError(f"{path} is parquet, and pyarrow is missing", "Run `pip install pyarrow`.") from error
    rows: list[dict[str, Any]] = parquet.read_table(path).to_pylist()
    return rows


@dataclass(frozen=True, kw_only=True)
class Aime(Benchmark):
    """One year's thirty problems."""

    grader: ClassVar[int] = 2

    year: str

    def load(self, data: Path | None) -> list[Question]:
        alias = f"aime/{self.name}.jsonl"
        found = find_file(self.dataset, self.revision, HUB_FILES, data, [alias])
        rows = list(read_table(found.path))
        questions = [question(row, self.year) for row in rows]
        for row in questions:
            check_errata(row)
        hashes = {row.id: row_hash({"problem": row.data["problem"], "gold": row.gold}) for row in questions}
        if data is not None and found.path == data / alias:
            check_rows(self.name, hashes, pinned_rows(self.year), str(found.path))
        elif found.origin != "local":
            Lock().check_rows(self.dataset, self.name, hashes)
        check_golds(questions, self.year, str(found.path))
        check_ids(questions, str(found.path))
        return questions

    def grade(self, question: Question, generation: Generation, sandbox: Sandbox | None) -> Grade:
        return grade_answer(question, generation)


aime24 = Aime(
    name="aime24", year="2024", dataset="HuggingFaceH4/aime_2024", revision=UNPINNED, sampling=SAMPLING
)
aime25 = Aime(name="aime25", year="2025", dataset="math-ai/aime25", revision=UNPINNED, sampling=SAMPLING)
