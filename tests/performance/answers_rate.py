"""Strict verdicts a second on ordinary integer responses, on one core.

python -m tests.performance.answers_rate      with HARNESS_DATA set
"""

import os
import time
from pathlib import Path

from harness.grading.answers import last_box, strict_verdict
from harness.grading.integers import integer_in
from tests.benchmarks.responses import response
from tests.grading import agreement

ROUNDS = 5


def strict_rate(rows: list[agreement.Row]) -> tuple[float, int]:
    """The best of five rates, by this process's own time, and how many responses were measured.

    Ordinary are those that the integer rule decides; the others go to math-verify, a few in a hundred.
    """
    boxes = [last_box(row["response"]) for row in rows]
    decided = [row for row, box in zip(rows, boxes, strict=True) if box and integer_in(box) is not None]
    pairs = [(row["gold"], response("q", row["response"])) for row in decided]
    rates = []
    for _ in range(ROUNDS):
        started = time.process_time()
        for gold, generation in pairs:
            strict_verdict(gold, last_box(generation.answer) or "")
        rates.append(len(pairs) / (time.process_time() - started))
    return max(rates), len(pairs)


def main() -> None:
    rows = agreement.read(Path(os.environ["HARNESS_DATA"]), "boxed_integers")
    rate, measured = strict_rate(rows)
    print(f"{rate:,.0f} strict verdicts a second on one core, {measured} responses")


if __name__ == "__main__":
    main()
