"""Kills while responses are generated: `harness evaluate` against the fake server."""

import random
from pathlib import Path

from tests.fakes.engine import SERVER, running
from tests.faults.fault import Fault, Outcome
from tests.faults.stored import same_runs
from tests.faults.striking import IN_ONE_GO, Struck, strikes
from tests.faults.struck import HARNESS, Scene

SWITCHES = ("--delay", "0.06", "--sums", "0.5")


def evaluation(base_url: str, machine: Path, runs: Path) -> list[str]:
    """Sums, half of them right: 32 responses, four at a time."""
    return [
        *HARNESS, "evaluate", "tiny", "--base-url", base_url, "-b", "micro_math:2",
        "--limit", "16", "--runs", str(runs), "--machine", str(machine),
    ]  # fmt: skip


def struck(folder: Path, seed: int, name: str, settings: str, *switches: str) -> Outcome:
    machine = folder / "machine.toml"
    machine.write_text(settings)
    with running(*SWITCHES, *switches, server=SERVER) as endpoint:
        play = Struck(
            words=lambda runs: evaluation(endpoint.base_url, machine, runs),
            check=same_runs,
        )
        return strikes(Scene(folder=folder), play, random.Random(f"{seed}:{name}"), IN_ONE_GO)


whole = Fault(
    name="generate: whole responses",
    kind="generate",
    run=lambda folder, seed: struck(folder, seed, "whole", "concurrency = 4\n"),
)

streamed = Fault(
    name="generate: streamed responses",
    kind="generate",
    run=lambda folder, seed: struck(
        folder, seed, "streamed", "concurrency = 4\nstream_from = 1\n", "--token-delay", "0.005"
    ),
)
