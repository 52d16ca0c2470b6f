"""A made report of the shape of dasd-4b: every verdict, every table, and strings that try to break out."""

import random
from collections.abc import Iterator

from harness.types import Grade
from reports.page import Report, Section, ambiguities_section
from reports.paper_tables import paper_tables
from reports.published import load_ambiguities, load_published
from reports.table import Measurement, build_entries

QUESTIONS = {"aime24": 30, "aime25": 30, "lcb_v5": 167, "lcb_v6": 131, "gpqa_diamond": 198}
# What each row scores, so that each verdict comes up; None is not measured.
SCORES: dict[str, tuple[float | None, ...]] = {
    "base": (60.1, 47.2, 40.0, 34.0, 62.9),
    "stage1": (84.5, 74.3, 56.9, 47.1, 67.5),
    "stage2": (87.5, 83.4, None, None, 67.0),
    "released": (88.2, 83.1, 69.4, 67.3, 68.5),
    "final": (88.1, 82.9, 67.6, 60.9, 68.1),
}
DRAWS = {"base": 8, "stage1": 16, "stage2": 1, "released": 64, "final": 64}
HOSTILE = (
    "<script>document.title = 'run'</script>",
    "<img src=x onerror=\"document.title = 'run'\">",
    "\"'><svg onload=\"document.title = 'run'\">",
    "</table></main><h1>no</h1>",
    "javascript:document.title='run'",
    "{{ 7 * 7 }} &amp; \u202etxet",
)

TOOK = (
    ["2024-I-10", "16 min 50 s", "9,870", "≥ 4 GPU", "1.15.0"],
    ["2024-I-9", "≥ 4 h 3 min", "97 (5.8%)", "29 GPU", "1.9.0"],
    ["2024-II-1", "59.9 s", None, "0.1 CPU", "1.10.0"],
    ["2025-I-1", "1 min 0 s", "2,378", None, "1.9.0rc1"],
)


def grades(target: float, questions: int, draws: int, seed: str, ungraded: int = 0) -> Iterator[Grade]:
    """Answers that are right at about `target` points; many questions are always or never answered."""
    rng = random.Random(seed)
    sure = rng.sample(range(questions), questions * 7 // 10)
    fixed = {place: number < len(sure) * target / 100 for number, place in enumerate(sure)}
    left = [place for place in range(questions) if place not in fixed]
    rate = (target / 100 * questions - sum(fixed.values())) / len(left)
    for place in range(questions):
        for draw in range(draws):
            right = fixed.get(place, rng.random() < rate)
            lost = ungraded and place == 0 and draw < ungraded
            yield Grade(
                question=f"q{place:03}",
                draw=draw,
                correct=None if lost else right,
                extracted="1" if right or rng.random() < 0.8 else None,
                truncated=not right and rng.random() < 0.1,
                lenient=right or rng.random() < 0.02,
            )


def measurements() -> Iterator[Measurement]:
    for row, scores in SCORES.items():
        for (benchmark, questions), target in zip(QUESTIONS.items(), scores, strict=True):
            if target is not None:
                draws = DRAWS[row]
                ungraded = 2 if (row, benchmark) == ("base", "gpqa_diamond") else 0
                yield Measurement(
                    row=row,
                    benchmark=benchmark,
                    grades=list(grades(target, questions, draws, f"{row} {benchmark}", ungraded)),
                    questions=questions,
                    draws=draws,
                    voted=not benchmark.startswith("lcb"),
                    protocol={"temperature": "1.0", "max_tokens": str(102400 if questions == 30 else 81920)},
                    notes=("answers of an <b>older</b> engine",) if row == "stage1" else (),
                )


def made_report() -> Report:
    """The same report every time."""
    published = load_published("dasd_4b")
    entries = build_entries("dasd-4b", published, list(measurements()))
    return Report(
        recipe="dasd-4b",
        summary="A made run of the shape of dasd-4b: no model was asked.",
        entries=entries,
        kind="paper",
        claims_title=published.title,
        differences=["Made answers stand for a model’s."],
        provenance={"final": "sft-12345678", HOSTILE[0]: "ask-00000000"},
        engines={"vllm 0.0.0": HOSTILE[1]},
        sections=[
            *paper_tables(published, "dasd-4b", entries),
            Section(
                title="Errors",
                columns=["model", "error", "rows"],
                rows=[[name, f"failed at {name}", 10 * place] for place, name in enumerate(HOSTILE)],
                note=HOSTILE[2],
                group="stage",
            ),
            Section(
                title="What each stage took",
                columns=["stage", "wall time", "rows", "hours", "version"],
                rows=[*TOOK, ["all", "≥ 4 h 20 min", "12,345", "≥ 33 GPU + 0.1 CPU", "2.0.0"]],
                group="stage",
                totals=1,
            ),
            Section(
                title="The command",
                group="provenance",
                copyable="harness reproduce dasd-4b --engine vllm\nharness report dasd-4b",
            ),
            ambiguities_section(load_ambiguities("dasd_4b")),
        ],
    )
