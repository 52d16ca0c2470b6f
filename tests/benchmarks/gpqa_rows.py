"""Made-up rows in GPQA's schema, with its counts. Its text never stands in this repository."""

import csv
from pathlib import Path

from benchmarks.gpqa import DOMAINS


def made_up_rows() -> list[dict[str, str]]:
    """198 rows: white space at edges, line breaks inside fields, two identical wrong options."""
    fields = [name for name, count in DOMAINS.items() for _ in range(count)]
    return [
        {
            "Record ID": f"rec{number}",
            "Question": f" Made-up question {number}?\nSecond line. ",
            "Correct Answer": f"right {number}\n",
            "Incorrect Answer 1": "wrong",
            "Incorrect Answer 2": "wrong" if number == 5 else "worse",
            "Incorrect Answer 3": "worst",
            "High-level domain": field,
            "Subdomain": "made up",
            "Canary String": "a canary",
        }
        for number, field in enumerate(fields)
    ]


def write(folder: Path, rows: list[dict[str, str]]) -> Path:
    """Writes them where a data folder has them; returns the folder."""
    path = folder / "gpqa" / "gpqa_diamond.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return folder
