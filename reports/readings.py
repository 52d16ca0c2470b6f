"""How a reader gets the sensitivity of a score to what the paper leaves open, where it was not asked for."""

from collections.abc import Iterable, Sequence

from harness.evaluate import Mark
from reports.discreet import command_line
from reports.page import Section
from reports.published import Ambiguity
from reports.sensitivity import readings


def readings_section(name: str, marks: Iterable[Mark], register: Sequence[Ambiguity]) -> list[Section]:
    """What can be varied on the stored answers, and on which benchmarks; none where nothing is measured."""
    about = {one.id: one for one in register}
    rows = [
        [
            about[one.ambiguity].question if one.ambiguity in about else one.ambiguity,
            about[one.ambiguity].default if one.ambiguity in about else None,
            one.alternative,
            ", ".join(one.benchmarks),
        ]
        for one in readings(marks)
    ]
    section = Section(
        title="Sensitivity to what is left open",
        columns=("what is open", "here", "alternative", "can be tried on"),
        rows=rows,
        note="Not tried yet. The command below grades the stored answers in each of these ways, asks no "
        "model, and puts the scores here; answers to programs are run again, which takes as long as grading "
        "did. What needs new answers or new training stands under Provenance.",
        copyable=command_line(("harness", "report", name, "--sensitivity")),
        group="benchmark",
    )
    return [section] if rows else []
