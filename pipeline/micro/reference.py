"""Measures what dasd-micro should give: `python -m pipeline.micro.reference RUNS [SEED …]`.

Runs the recipe for each seed and prints `reports/dasd_micro/published.toml`: for each row and
benchmark the mean over the seeds, and how far one further run lies from it but for its own sampling,
which the verdict adds. Seeds that are done are not run again, so that several processes may share the
work.
"""

import math
import statistics
import sys
from contextlib import redirect_stdout
from pathlib import Path

from harness.evaluate import asked_counts
from harness.machine import load_machine
from harness.progress import PlainProgress
from harness.recipe import Recipe
from harness.rows import read_rows
from harness.serve import ServerPool
from harness.statistics import Score, score
from harness.store import Context, Runner, RunStore
from harness.types import Grade
from pipeline.recipes.dasd_micro import dasd_micro

SEEDS = (1, 2, 3, 4, 5)
MARGINS = {"micro_math": 15.0, "micro_code": 15.0, "micro_science": 15.0}


def run(store: RunStore, seeds: list[int]) -> None:
    """Builds the recipe of each seed."""
    machine = load_machine(None)
    for seed in seeds:
        recipe = dasd_micro(seed)
        with ServerPool(machine) as pool:
            context = Context(store, machine, PlainProgress(), pool)
            try:
                Runner(store, context).build(recipe.name, recipe.labels())
            finally:
                context.close()


Cells = dict[tuple[str, str], Score]


def scores(store: RunStore, recipe: Recipe) -> Cells:
    """The score of each row and benchmark."""
    found = {}
    for label, mark in recipe.marks().items():
        _, row, benchmark = label.split("/")
        grades = read_rows(store.path(mark) / "grades.jsonl", Grade)
        measured = score(grades, *asked_counts(store.path(mark.asked)))
        assert measured.average is not None, f"{label} has ungraded answers"
        found[row, benchmark] = measured
    return found


def toml(found: dict[int, Cells]) -> str:
    """The file of reference values."""
    seeds, recipe = sorted(found), dasd_micro(SEEDS[0])
    names = [benchmark.name for benchmark in recipe.benchmarks]
    draws = recipe.benchmarks[0].sampling.draws
    limits = [f"{one.name} = {one.sampling.max_tokens}" for one in recipe.benchmarks]
    lines = [
        "# Reference values of dasd-micro: our own runs of other seeds, no paper's numbers.",
        f"# Written by `python -m pipeline.micro.reference`, seeds {', '.join(map(str, seeds))}.",
        "# `se` is how far one further run lies from the mean but for its own sampling, which the verdict",
        "# adds: √(sd² · (1 + 1/n) less the sampling variance v of a run) over the seeds, at least √(v/n).",
        "",
        'kind = "reference"',
        f'title = "dasd-micro, {len(seeds)} runs of other seeds"',
        f'sampling = "temperature 1.0, top-p 1.0, {draws} responses a question, mean accuracy"',
        f"draws = {draws}",
        "",
        "[protocol]",
        'source = "our own runs"',
        "temperature = 1.0",
        "top_p = 1.0",
        f"max_tokens = {{ {', '.join(limits)} }}",
        "",
        "# Registered before any run was compared, in points.",
        "[margins]",
        *(f"{name} = {MARGINS[name]}" for name in names),
    ]
    for row in recipe.models:
        by_benchmark = {name: [found[seed][row, name] for seed in seeds] for name in names}
        means = {name: statistics.mean(map(value, own)) for name, own in by_benchmark.items()}
        average = [statistics.mean(value(found[seed][row, name]) for name in names) for seed in seeds]
        lines += [
            "",
            f"# average of the three, by seed: {', '.join(f'{each:.1f}' for each in average)}",
            "[[models]]",
            f'name = "{row}"',
            'recipe = "dasd-micro"',
            f'rows = ["{row}"]',
            'source = "our own runs"',
            f"values = {table(means)}",
            f"se = {table({name: scatter(own) for name, own in by_benchmark.items()})}",
        ]
    return "\n".join(lines) + "\n"


def value(measured: Score) -> float:
    assert measured.average is not None
    return measured.average


def scatter(own: list[Score]) -> float:
    """How far one more run lies from the mean of these, but for its own sampling.

    Few seeds may scatter less than sampling alone would make them; the mean's own sampling error is
    then what is left, never zero.
    """
    total = statistics.variance(map(value, own)) * (1 + 1 / len(own))
    sampling = statistics.mean((measured.se_rerun or 0.0) ** 2 for measured in own)
    return math.sqrt(max(sampling / len(own), total - sampling))


def table(cells: dict[str, float]) -> str:
    return "{ " + ", ".join(f"{name} = {value:.1f}" for name, value in cells.items()) + " }"


def main() -> None:
    store = RunStore(Path(sys.argv[1]))
    seeds = [int(text) for text in sys.argv[2:]] or list(SEEDS)
    with redirect_stdout(sys.stderr):
        run(store, seeds)
    print(toml({seed: scores(store, dasd_micro(seed)) for seed in seeds}), end="")


if __name__ == "__main__":
    main()
