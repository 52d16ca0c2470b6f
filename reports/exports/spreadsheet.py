"""CSV: `scores.csv`, a line for each entry of the report, and `samples.csv`, a line for each response.

For pandas and for spreadsheets. A spreadsheet runs a cell that begins like a formula, and names and
answers here come from strangers: such a cell begins with an apostrophe. Numbers are left as they are.
No text of a response is in it but the extracted answer.
"""

import csv
import dataclasses
import io
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from harness.files import write_pieces
from reports.exports.source import EVERY_ROW, Evaluation, Source, Written
from reports.table import Entry

FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "'")
NUMBER = re.compile(r"[+-]?\d+(\.\d+)?")
PAIRS = ("spread", "interval")
LISTS = ("counts", "not_a_score", "notes")
SAMPLES = (
    *("run", "row", "benchmark", "question", "draw", "correct", "lenient", "extracted", "reason"),
    *("truncated", "finish_reason", "prompt_tokens", "completion_tokens", "latency_seconds", "seed"),
    *("model", "engine", "not_a_score"),
)


def write(source: Source, out: Path) -> Written:
    """Writes both files; a row at a time."""
    files = (out / "scores.csv", out / "samples.csv")
    out.mkdir(parents=True, exist_ok=True)
    lines = [scored(source.run, entry) for entry in source.entries]
    columns = list(scored(source.run, Entry(recipe="", row="", benchmark="")))
    write_pieces(files[0], table(columns, (list(line.values()) for line in lines)))
    write_pieces(files[1], table(SAMPLES, sample_lines(source.evaluations)))
    return Written(files=dict.fromkeys(files, EVERY_ROW))


def table(columns: Sequence[str], lines: Iterable[Sequence[Any]]) -> Iterator[bytes]:
    """UTF-8 CSV as RFC 4180 has it: quotes where needed, CRLF after each line."""
    for line in chain([columns], lines):
        text = io.StringIO()
        csv.writer(text).writerow([cell(value) for value in line])
        yield text.getvalue().encode()


def cell(value: Any) -> Any:
    """A value as a cell: nothing for None, true and false in JSON's words, text that is no formula."""
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case str():
            text = value.replace("\x00", "\ufffd")
            formula = text.lstrip(" ").startswith(FORMULA) and not NUMBER.fullmatch(text)
            return f"'{text}" if formula else text
    return value


def scored(run: str, entry: Entry) -> dict[str, Any]:
    """All fields of a report's entry as cells: pairs as two, lists with semicolons, tables as JSON."""
    cells: dict[str, Any] = {"run": run}
    for field in dataclasses.fields(entry):
        value = getattr(entry, field.name)
        if field.name in PAIRS:
            cells |= {f"{field.name}_low": value and value[0], f"{field.name}_high": value and value[1]}
        elif field.name in LISTS:
            cells[field.name] = "; ".join(map(str, value))
        elif field.name == "protocol":
            cells[field.name] = json.dumps(value, ensure_ascii=False) if value else None
        elif field.name == "in_rounds":
            cells[field.name] = json.dumps(dataclasses.asdict(value)) if value else None
        else:
            cells[field.name] = value
    return cells


def sample_lines(evaluations: Iterable[Evaluation]) -> Iterator[Sequence[Any]]:
    for one in evaluations:
        warning = "; ".join(one.entry.not_a_score)
        for sample in one.verdicts():
            row, grade = sample.generation, sample.grade
            yield (
                *(one.run, one.row, one.name, row.question, row.draw, grade.correct, grade.lenient),
                *(grade.extracted, grade.reason, grade.truncated, row.finish_reason, row.prompt_tokens),
                *(row.completion_tokens, row.latency, row.seed, row.model, row.engine, warning),
            )
