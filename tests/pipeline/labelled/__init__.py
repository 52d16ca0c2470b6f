"""Responses with a label each: why a reader would drop them, or `keep`. README.md says how they were made.

Half of them, chosen by a keyed hash of the text, are for tuning; the other half is held out.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tests.pipeline.labelled import made

HERE = Path(__file__).parent
TEXT_OF = {
    "lcb/recorded_outputs.jsonl": "output",
    "answers/boxed_integers.jsonl": "response",
    "answers/math_symbolic.jsonl": "response",
    "answers/multiple_choice.jsonl": "response",
}


@dataclass(frozen=True, kw_only=True)
class Case:
    """`label` is a reason of pipeline.filter, or `keep`. `kind` says what is special about the text."""

    source: str
    kind: str
    label: str
    text: str

    @property
    def real(self) -> bool:
        """Whether a model wrote the whole text."""
        return self.source != "made"

    @property
    def half(self) -> Literal["tuning", "held out"]:
        digest = hashlib.sha256(f"filters:{self.text}".encode()).digest()
        return "tuning" if digest[0] % 2 else "held out"


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def cases(data: Path) -> Iterator[Case]:
    """All of them. `data` is the folder of real responses (HARNESS_DATA)."""
    found = list(recorded(data))
    yield from found
    yield from smollm2()
    kept = [case.text for case in found if case.label == "keep"]
    for kind, label, text in (*made.texts(), *made.long_texts(kept)):
        yield Case(source="made", kind=kind, label=label, text=text)


def recorded(data: Path) -> Iterator[Case]:
    """Responses of many models, of which this repository has only hashes and labels."""
    labels = {row["sha256"]: row for row in rows(HERE / "recorded.jsonl")}
    for name, field in TEXT_OF.items():
        for row in rows(data / name):
            label = labels.pop(sha256(row[field]), None)
            if label is not None:
                yield Case(source=name, kind=label["kind"], label=label["label"], text=row[field])
    if labels:
        raise SystemExit(f"{data}: {len(labels)} labelled responses are not there; is it another version?")


def smollm2() -> Iterator[Case]:
    for row in rows(HERE / "smollm2.jsonl"):
        yield Case(source="SmolLM2-135M", kind=row["kind"], label=row["label"], text=row["text"])


def rows(path: Path) -> Iterator[dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)
