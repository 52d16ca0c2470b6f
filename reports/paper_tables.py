"""The paper's own tables with our columns beside its values; peers, whom nobody measured here, are greyed."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from reports.claim_table import RELEASED, SYMBOLS
from reports.page import Cell, Section
from reports.published import Model, Published
from reports.table import Entry, score_text

MAIN = (6, 7, 8)
TABLE = re.compile(r"^Tables? (\d+)(?: and (\d+))?")
AVERAGE = re.compile(r"its average: ([\d.]+)")
NOTE = (
    "In each pair of columns the paper’s value, then ours where this recipe measured the row: ✓ reproduced, "
    "✗ not reproduced, ≈ inconclusive, ○ no verdict: not a score of the benchmark, or not complete. Grey "
    "rows are as published and were not measured here."
)


def paper_tables(published: Published, recipe: str, entries: Sequence[Entry]) -> list[Section]:
    """Tables 6 to 8 of the paper, and each other table that claims something about `RECIPE` or `RECIPE/ROW`.

    Nothing for values that are not a paper's.
    """
    recipe = recipe.partition("/")[0]
    if published.kind != "paper":
        return []
    own = {table for model in published.models if model.recipe == recipe for table in tables_of(model)}
    measured = {(one.row, one.benchmark): one for one in entries if one.questions}
    tables = [paper_table(number, published, recipe, measured) for number in sorted({*MAIN, *own})]
    return [replace(tables[0], note=f"{NOTE} {tables[0].note}".strip()), *tables[1:]]


def tables_of(model: Model) -> tuple[int, ...]:
    """The paper's tables that a model stands in, as its source says."""
    found = TABLE.match(model.source)
    return tuple(int(number) for number in found.groups() if number) if found else ()


def paper_table(
    number: int, published: Published, recipe: str, measured: Mapping[tuple[str, str], Entry]
) -> Section:
    models = [model for model in published.models if number in tables_of(model)]
    fullest = sorted(
        models, key=lambda model: -len(model.values)
    )  # the paper's order, where nothing is left out
    benchmarks = list(dict.fromkeys(name for model in fullest for name in model.values))
    averaged = number in MAIN and any(AVERAGE.search(model.source) for model in models)
    rows: list[list[Cell]] = []
    greyed: set[int] = set()
    for model in models:
        for row in model.rows if model.recipe == recipe else ("",):
            cells = pairs(model, row, benchmarks, measured)
            if all(value is None for value in cells[1::2]):
                greyed.add(len(rows))
            rows.append([model.name, standing(row), *cells, *([average(model)] if averaged else ())])
    remarks = dict.fromkeys(remark for model in models if (remark := remark_on(model)))
    return Section(
        title=f"Table {number}",
        columns=[
            "model",
            "here",
            *(f"{name} {whose}" for name in benchmarks for whose in ("published", "ours")),
            *(["average published"] if averaged else ()),
        ],
        spans=[("", 2), *((name, 2) for name in benchmarks), *([("average", 1)] if averaged else ())],
        rows=rows,
        note=" ".join(remarks),
        group="tables",
        greyed=frozenset(greyed),
    )


def pairs(
    model: Model, row: str, benchmarks: Sequence[str], measured: Mapping[tuple[str, str], Entry]
) -> list[Cell]:
    """The published value and ours, benchmark by benchmark."""
    cells: list[Cell] = []
    for name in benchmarks:
        entry = measured.get((row, name))
        cells += [model.values.get(name), ours(entry) if entry else None]
    return cells


def ours(entry: Entry) -> str:
    """Our number with what came of it; one that is no score is never bare, claimed or not."""
    verdict = entry.verdict or ("not measured" if entry.not_a_score or entry.ungraded else "")
    return f"{score_text(entry)} {SYMBOLS.get(verdict, '')}".rstrip()


def standing(row: str) -> str:
    if not row:
        return "as published"
    return "authors’ checkpoint" if row == RELEASED else row


def average(model: Model) -> Cell:
    found = AVERAGE.search(model.source)
    return float(found[1]) if found else None


def remark_on(model: Model) -> str:
    """What the source says beyond the table's number."""
    told = model.source.partition(";")[2].strip()
    return f"{model.name}: {told}." if told else ""
