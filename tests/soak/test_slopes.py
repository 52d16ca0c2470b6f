"""The analysis of a soak: it sees a leak and does not cry at noise."""

import math
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.soak.samples import MARK, Watched, sample
from tests.soak.slopes import Allowed, Trend, blocks, steepest, trend

MINUTES = 30.0
MEMORY = Allowed(share=0.02, amount=0.0)


def half_an_hour(value: "list[float]") -> Trend:
    times = [60 * MINUTES * place / len(value) for place in range(len(value))]
    return trend("memory", "MB", times, value, allowed=MEMORY)


def walk(rng: random.Random, count: int) -> list[float]:
    """Noise in which neighbours are alike, as with rounds that take longer than the time between looks."""
    values, offset = [], 0.0
    for place in range(count):
        if place % 8 == 0:
            offset = rng.gauss(0, 3)
        values.append(200 + offset + rng.gauss(0, 1))
    return values


def test_noise_is_no_leak_even_where_neighbours_are_alike() -> None:
    cried = [seed for seed in range(60) if not half_an_hour(walk(random.Random(f"noise:{seed}"), 600)).steady]
    assert len(cried) <= 1


def test_a_list_that_grows_by_some_percent_is_a_leak_in_the_same_noise() -> None:
    for seed in range(20):
        noise = walk(random.Random(f"leak:{seed}"), 600)
        assert not half_an_hour([value + 20 * place / 600 for place, value in enumerate(noise)]).steady


def test_what_was_filled_while_warming_up_is_no_leak() -> None:
    assert half_an_hour([min(200.0, 50 + 3.0 * place) for place in range(600)]).steady


def test_an_outage_of_some_minutes_is_no_slope() -> None:
    values = [200.0 if place < 500 else 20.0 for place in range(600)]
    assert half_an_hour(values).steady
    assert half_an_hour(list(reversed(values))).steady


def test_one_file_more_is_no_leak_and_one_a_round_is() -> None:
    times = [float(place) for place in range(100)]
    once = trend("files", "count", times, [3.0 + (place > 40) for place in range(100)])
    always = trend("files", "count", times, [3.0 + place // 10 for place in range(100)])
    assert once.steady
    assert not always.steady


def test_throughput_may_rise_and_not_fall() -> None:
    times = [float(place) for place in range(100)]
    falling = [10 - place / 20 for place in range(100)]
    assert not trend("throughput", "rows/s", times, falling, harmful="down").steady
    assert trend("throughput", "rows/s", times, falling[::-1], harmful="down").steady


def test_too_few_looks_say_nothing_and_say_so() -> None:
    found = trend("memory", "MB", [0.0, 1.0], [1.0, 2.0])
    assert (found.low, found.high, found.verdict) == (-math.inf, math.inf, "too few looks")
    assert steepest([found]) == "too short for a slope"


def test_looks_are_gathered_in_order_and_the_warm_up_is_left_out() -> None:
    xs, ys = blocks([0, 10, 50, 51, 100], [9, 9, 1, 3, 5], 0.2)
    assert (xs, ys) == ([50.5, 100], [2, 5])


LEAKS = {
    "resident memory": "kept.append(bytearray(b'x' * 300_000))",
    "open files": "kept.append(open('/dev/null'))",
    "temporary entries": "open(f'{sys.argv[1]}/{len(kept)}', 'w').close(); kept.append(1)",
    "processes": "kept.append(subprocess.Popen(['sleep', '60']))",
    "nothing": "kept.append(1)",
}
PROGRAM = """
import subprocess, sys
kept = []
while sys.stdin.readline():
    {}
    print(flush=True)
for each in kept:
    if isinstance(each, subprocess.Popen):
        each.kill()
"""


@pytest.mark.parametrize("leak", LEAKS)
def test_a_leak_of_a_real_process_is_seen_where_it_is_and_nowhere_else(leak: str, tmp_path: Path) -> None:
    mark = f"{tmp_path}"
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM.format(LEAKS[leak]), str(tmp_path)],
        env={**os.environ, MARK: mark},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    watched = Watched(mark=mark, driver=process.pid, runs=tmp_path / "runs", temporary=tmp_path, engine=None)
    looks = []
    for _ in range(40):
        process.stdin.write("\n")
        process.stdin.flush()
        process.stdout.readline()
        found = sample(watched)
        assert found is not None
        looks.append(found)
    process.communicate(timeout=60)
    grown = [
        name
        for name in looks[0]
        if not trend(name, "", range(40), [look[name] for look in looks], allowed=Allowed(share=0.1)).steady
        and name != "time"
    ]
    assert set(grown) <= {leak, "own share of memory", "memory with children"}
    assert leak == "nothing" or leak in grown
