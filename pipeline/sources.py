"""Where the training questions come from (report §6.1): four data sets, and how a choice is made in each.

Nobody could look the data sets up from where this was written. The columns below are what public
copies of the cards, and code that loads them, say; what nobody says is marked unverified. They are
compared with the files at first download, and machine.toml can rename them (`pipeline.tables`).

| data set                               | files                            | columns                      |
|----------------------------------------|----------------------------------|------------------------------|
| nvidia/AceReason-1.1-SFT               | sft_data.parquet/*.arrow (1)     | input, category (2)          |
| nvidia/OpenCodeReasoning               | split_0, split_1/train-*.parquet | input, dataset, split, index |
|                                        |                                  | (3)                          |
| BAAI/TACO                              | ALL/train-*, test-*.parquet (7)  | question                     |
| codeparrot/apps                        | train.jsonl, test.jsonl (8)      | question                     |
| nvidia/OpenScienceReasoning-2          | train/*.parquet (4)              | input, output, (5)           |
|                                        |                                  | expected_answer              |
| a-m-team/AM-DeepSeek-R1-Distilled-1.4M | am_0.5M, am_0.9M.jsonl.zst (6)   | messages[0].content,         |
|                                        |                                  | messages[0].info.source      |

1. Named `data-00001-of-00187.arrow` by code that loads it with `data_files`; 3,970,332 rows.
2. category, source, input, output: card of the copy tkdrnjs0621/AcReason-1.1-short (2cfced4). Sources of
   the math rows are OpenMathReasoning, which is from AoPS, and NuminaMath-CoT: the report's two. That
   category is "math" for them is unverified.
3. Card at 20a1ca1: 735,255 rows, 28,319 different questions. The 167,405 rows of split_1 have "-" for a
   question and name a row of TACO or APPS instead (`pipeline.references`), where it is looked up. Where one
   of the two is not to be had, its rows are skipped and counted, and the 28,319 are not reached.
4. `train/OpenScienceReasoning-2.parquet`, 15.7 GB (discussion 2 of the data set).
5. input, output: NeMo-Skills, docs/releases/openreasoning/training.md; expected_answer is a letter A to J
   in multiple-choice rows according to code that trains on them. Inputs carry their own instruction.
6. Card (as copied in public repositories): `messages` of role, content, info; info.source of the first
   says where the instruction is from. The report does not say which of them are "instruction following".
   Ours: InfinityInstruct, the one collection of general instructions among the named ones (306,675 rows).
7. Card at 1257571: 25,443 and 1,000 rows. That its rows stand in the order that OpenCodeReasoning counted
   them in, before they were converted to Parquet, is unverified.
8. 5,000 rows each; the card's loading script reads these files.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal, Protocol

from harness.errors import DataError
from harness.hub import UNPINNED, Lock, locked_as
from harness.machine import Machine
from harness.types import Question
from pipeline.references import Elsewhere, LookedUp, Place, Reference
from pipeline.tables import Row, Table, open_table

Domain = Literal["math", "code", "science", "instruction_following"]  # as the released set names them
Preference = Literal["none", "longest example answer"]


@dataclass(frozen=True, kw_only=True)
class Pool:
    """A source's questions, best first, each once. `facts` tell what was read and what was not taken."""

    questions: list[Question]
    facts: dict[str, object]


class Source(Protocol):
    """Where questions come from. `count` is how many of them are wanted."""

    @property
    def name(self) -> str: ...

    @property
    def domain(self) -> str: ...

    @property
    def count(self) -> int: ...

    def pool(self, machine: Machine) -> Pool:
        """Raises DataError where the data is missing or is not what was expected."""
        ...


@dataclass(frozen=True, kw_only=True)
class Distinct:
    """One question of a table, and the length of its longest example answer in characters."""

    text: str
    answer: int = 0


@dataclass(kw_only=True)
class Gathered:
    """What was read of a table: questions by id, rows that were skipped by reason, rows of each subset, and
    how many rows refer to each question of another data set."""

    domain: str
    found: dict[str, Distinct] = field(default_factory=dict)
    skipped: Counter[str] = field(default_factory=Counter)
    subsets: Counter[str] = field(default_factory=Counter)
    references: Counter[Reference] = field(default_factory=Counter)

    def add(self, text: str, answer: int = 0, rows: int = 1) -> None:
        """Adds a question that so many rows have; of two ways to write it the lesser text stays."""
        name = question_id(self.domain, text)
        if name in self.found:
            before = self.found[name]
            text, answer = min(text, before.text), max(answer, before.answer)
            rows += 1
        if rows > 1:
            self.skipped["another response to a question"] += rows - 1
        self.found[name] = Distinct(text=text, answer=answer)


@dataclass(frozen=True, kw_only=True)
class HubSource:
    """Questions of a data set on a hub. Several rows with one question are one.

    `only`: the values of the role `subset` whose rows are taken, all where it is empty. `elsewhere` says
    how rows refer to questions of other data sets. Which questions are chosen depends on their texts and
    on `seed`, not on files or their order.
    """

    domain: Domain
    table: Table
    count: int
    only: tuple[str, ...] = ()
    elsewhere: Elsewhere | None = None
    prefer: Preference = "none"
    seed: int = 0

    @property
    def name(self) -> str:
        return self.table.repo

    def pool(self, machine: Machine) -> Pool:
        """Holds the source's different questions in memory: about 1 GB for the largest."""
        opened = open_table(self.table, machine)
        read = self.gathered(opened.rows())
        looked = self.complete(read, machine)
        if not read.found:
            raise DataError(
                f"{self.table.repo}: no row can be taken ({counted(read.skipped)})",
                f"Rows of {', '.join(self.only)} are wanted; there are {counted(read.subsets)}."
                if self.only
                else "",
            )
        facts: dict[str, object] = {
            "repository": self.table.repo,
            "origin": opened.found.origin,
            "files": len(opened.found.paths),
            "columns": opened.columns,
            **({"elsewhere": looked.origins} if self.elsewhere else {}),
            "skipped": dict(sorted(read.skipped.items())),
            "questions": len(read.found),
            "content": content_of(read.found),
        }
        if opened.found.origin != "local":
            entry = locked_as(self.table.repo, machine.hub)
            Lock().check_rows(entry, self.read_as(opened.columns), {"all questions": content_of(read.found)})
        return Pool(questions=self.ranked(read.found), facts=facts)

    def read_as(self, columns: dict[str, str]) -> str:
        """What the lock calls these questions: read by other columns, they are other questions."""
        told = ", ".join(f"{role} = {column}" for role, column in columns.items())
        only = f", only {', '.join(self.only)}" if self.only else ""
        return f"{self.domain} questions by {told}{only}"

    def gathered(self, rows: Iterable[Row]) -> Gathered:
        read = Gathered(domain=self.domain)
        for row in rows:
            if self.only:
                read.subsets[str(row["subset"]).strip()] += 1
            if reason := self.reason_to_skip(row):
                read.skipped[reason] += 1
            elif self.elsewhere and row["question"].strip() == self.elsewhere.marker:
                read.references[self.elsewhere.reference(row)] += 1
            else:
                read.add(row["question"].strip(), len(row.get("answer") or ""))
        return read

    def complete(self, read: Gathered, machine: Machine) -> LookedUp:
        """Adds the questions that are in other data sets, as far as those are here."""
        if self.elsewhere is None:
            return LookedUp()
        looked = self.elsewhere.look_up(read.references, machine)
        for reference, rows in sorted(read.references.items()):
            if reference in looked.questions:
                read.add(looked.questions[reference], rows=rows)
            else:
                read.skipped[looked.reason(reference)] += rows
        return looked

    def reason_to_skip(self, row: Row) -> str:
        if self.only and str(row["subset"]).strip() not in self.only:
            return "of another subset"
        question = row["question"]
        if not isinstance(question, str) or not question.strip():
            return "no question"
        if not isinstance(row.get("answer", ""), str | None):
            return "example answer is no text"
        return ""

    def ranked(self, found: dict[str, Distinct]) -> list[Question]:
        """The questions best first: by example answer where that counts, else by a hash with the seed."""
        by_length = self.prefer == "longest example answer"

        def key(name: str) -> tuple[int, str]:
            drawn = hashlib.sha256(f"{self.seed}:{name}".encode()).hexdigest()
            return (-found[name].answer if by_length else 0, drawn)

        return [
            Question(id=name, domain=self.domain, prompt=found[name].text, data={"source": self.table.repo})
            for name in sorted(found, key=key)
        ]


def question_id(domain: str, text: str) -> str:
    """`math-3f0c…`: the same for the same text, whatever its case and white space."""
    return f"{domain}-{hashlib.sha256(normalised(text).encode('utf-8', 'surrogatepass')).hexdigest()[:16]}"


def normalised(text: str) -> str:
    """Text without differences of case and white space."""
    return " ".join(text.casefold().split())


def content_of(found: Iterable[str]) -> str:
    """A hash of a set of questions, by their ids: the same whatever their order."""
    return hashlib.sha256("\n".join(sorted(found)).encode()).hexdigest()[:16]


def counted(counts: Counter[str]) -> str:
    """`12 math, 3 code`, the most frequent first."""
    return ", ".join(f"{count:,} {name}" for name, count in counts.most_common(8)) or "no rows at all"


# §6.1 gives ≈105K questions for math and none for the others. Stage 2 keeps 103.3K math responses, 70K of
# instruction following and 65.2K of science: with as many questions for each of them as in math, rounded up
# to hundreds. Code keeps 91.3K, which is more than OpenCodeReasoning has different questions (28,319): so
# all of them are taken, and several responses to each are kept.
COUNTS: dict[Domain, int] = {
    "math": 105_000,
    "code": 28_319,
    "science": 66_300,
    "instruction_following": 71_200,
}

ACEREASON = Table(
    repo="nvidia/AceReason-1.1-SFT",
    revision=UNPINNED,
    files=("sft_data.parquet/*.arrow", "*.arrow", "*.parquet", "*.jsonl"),
    columns=(("question", "input"), ("subset", "category")),
)
OPENCODEREASONING = Table(
    repo="nvidia/OpenCodeReasoning",
    revision=UNPINNED,
    files=("split_?/train-*.parquet",),
    columns=(("question", "input"), ("dataset", "dataset"), ("split", "split"), ("index", "index")),
    optional=("dataset", "split", "index"),
)


def place(dataset: str, split: str, repo: str, file: str) -> Place:
    table = Table(repo=repo, revision=UNPINNED, files=(file,), columns=(("question", "question"),))
    return Place(dataset=dataset, split=split, table=table)


TACO_AND_APPS = Elsewhere(
    marker="-",
    places=(
        place("taco", "train", "BAAI/TACO", "ALL/train-*.parquet"),
        place("taco", "test", "BAAI/TACO", "ALL/test-*.parquet"),
        place("apps", "train", "codeparrot/apps", "train.jsonl"),
        place("apps", "test", "codeparrot/apps", "test.jsonl"),
    ),
)
OPENSCIENCEREASONING = Table(
    repo="nvidia/OpenScienceReasoning-2",
    revision=UNPINNED,
    files=("train/*.parquet", "*.parquet", "*.jsonl"),
    columns=(("question", "input"), ("answer", "output"), ("subset", "expected_answer")),
)
AM_DISTILLED = Table(
    repo="a-m-team/AM-DeepSeek-R1-Distilled-1.4M",
    revision=UNPINNED,
    files=("am_0.[59]M.jsonl.zst", "am_0.[59]M.jsonl"),
    columns=(("question", "messages[0].content"), ("subset", "messages[0].info.source")),
)

SOURCES: tuple[HubSource, ...] = (
    HubSource(domain="math", table=ACEREASON, count=COUNTS["math"], only=("math",)),
    HubSource(domain="code", table=OPENCODEREASONING, count=COUNTS["code"], elsewhere=TACO_AND_APPS),
    HubSource(
        domain="science",
        table=OPENSCIENCEREASONING,
        count=COUNTS["science"],
        only=tuple("ABCDEFGHIJ"),
        prefer="longest example answer",
    ),
    HubSource(
        domain="instruction_following",
        table=AM_DISTILLED,
        count=COUNTS["instruction_following"],
        only=("InfinityInstruct",),
    ),
)
