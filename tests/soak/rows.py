"""The rows and verdicts of a runs folder, and how they differ from those of an undisturbed run."""

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.tally import Ending

Key = tuple[str, str, int]


@dataclass(frozen=True, kw_only=True)
class Rows:
    """By file's name, question and draw: what was answered, and how it was graded. `twice` are keys that
    stand there more than once."""

    found: dict[Key, Any] = field(default_factory=dict)
    twice: tuple[Key, ...] = ()


def content(name: str, row: dict[str, Any]) -> Any:
    """What of a row may not depend on a fault. Seconds and request ids may."""
    if name == "generations.jsonl":
        return row["text"], row["finish_reason"], row["prompt"]
    return row["correct"], row["extracted"], row["truncated"], row.get("reason", "")


def rows_of(runs: Path) -> Rows:
    """Of all finished stages."""
    found: dict[Key, Any] = {}
    seen: Counter[Key] = Counter()
    for file in sorted(runs.glob("stages/*/*.jsonl")):
        if file.name in ("generations.jsonl", "grades.jsonl") and (file.parent / "stage.json").exists():
            for line in file.read_text(encoding="utf-8").split("\n")[:-1]:
                row = json.loads(line)
                key = (file.name, row["question"], row["draw"])
                found[key] = content(file.name, row)
                seen[key] += 1
    return Rows(found=found, twice=tuple(key for key, times in seen.items() if times > 1))


def compared(rows: Rows, undisturbed: Rows) -> tuple[Ending, str]:
    """How a run ended, and what is wrong with it."""
    if rows.twice:
        return "lost", f"{len(rows.twice)} rows twice, such as {rows.twice[0]}"
    if missing := undisturbed.found.keys() - rows.found.keys():
        return "lost", f"{len(missing)} rows missing, such as {min(missing)}"
    if more := rows.found.keys() - undisturbed.found.keys():
        return "lost", f"{len(more)} rows too many, such as {min(more)}"
    other = [key for key, value in undisturbed.found.items() if rows.found[key] != value]
    if other:
        key = min(other)
        return "wrongly graded", (
            f"{len(other)} rows differ, such as {key}: {rows.found[key]!r}, not {undisturbed.found[key]!r}"
        )
    return "survived", ""
