"""One response sentence by sentence: what teacher and student thought of each, as a page and as a table."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.files import write_whole
from reports.page import environment
from reports.plots import Class, Classified, clean, identifier, sentence_probabilities

WIDTH = 120
SYMBOLS: dict[Class, str] = {"teacher": "● teacher", "student": "▼ student", "shared": "· shared"}
STYLES: dict[Class, str] = {"teacher": "blue", "student": "dark_orange", "shared": "dim"}


@dataclass(frozen=True, kw_only=True)
class Explained:
    """A response to show. `facts` are told above it; `margin` in nats a token tells the classes apart."""

    title: str
    prompt: str
    facts: dict[str, str]
    margin: float
    sentences: Sequence[Classified]


def write_sentences(out: Path, response: Explained) -> None:
    """Writes one file that needs no other: the picture alone as .svg, else a page with picture and list."""
    picture = sentence_probabilities(
        identifier(response.title), f"Sentences of {response.title}", response.sentences
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.suffix == ".svg":
        write_whole(out, picture.svg.encode())
        return
    template = environment("sentences.html").get_template("sentences.html.j2")
    lines = [(one, SYMBOLS[one.kind], clean(one.text).strip(), *numbers(one)) for one in response.sentences]
    write_whole(out, template.render(response=response, picture=picture, lines=lines).encode())


def numbers(one: Classified) -> tuple[str, str, str]:
    """Both probabilities, and how much likelier a token is to the teacher, in nats."""
    return (
        f"{math.exp(one.teacher):.3f}",
        f"{math.exp(one.student):.3f}",
        f"{round(one.teacher - one.student, 3) + 0.0:+.3f}",
    )


def print_sentences(response: Explained) -> None:
    """Prints facts and sentences. What a terminal would obey is replaced."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)
    for name, value in response.facts.items():
        console.print(f"{name}: {value}", markup=False, highlight=False)
    console.print(sentence_table(response.sentences))


def sentence_table(sentences: Sequence[Classified]) -> Table:
    table = Table()
    for name, wide in (("", False), ("class", False), ("sentence", True)):
        table.add_column(name, no_wrap=not wide, ratio=1 if wide else None)
    for name in ("teacher p", "student p", "Δ nats"):
        table.add_column(name, justify="right", no_wrap=True)
    for place, one in enumerate(sentences, 1):
        told = Text(clean(" ".join(one.text.split())))
        table.add_row(str(place), Text(SYMBOLS[one.kind], STYLES[one.kind]), told, *numbers(one))
    return table
