"""Kills while stored responses are graded: answers, and programs in both sandboxes."""

import random
from pathlib import Path

from harness.sandboxes import bubblewrap, docker
from tests.faults.fault import Fault, Outcome
from tests.faults.finished import finished, machine_file
from tests.faults.stored import same_runs
from tests.faults.striking import IN_ONE_GO, Play, strikes
from tests.faults.struck import Scene

VERIFIED = ("--sums", "0.5", "--fractions")
"""Answers that math-verify has to look at, in a process of its own."""


def answers(folder: Path, seed: int) -> Outcome:
    made = finished(folder, "micro_math:2", switches=VERIFIED)
    machine = machine_file(folder / "machine.toml", "bubblewrap")
    play = Play(words=lambda runs: made.again(runs, machine), prepare=made.copy_ungraded, check=same_runs)
    return strikes(Scene(folder=folder), play, random.Random(f"{seed}:answers"), IN_ONE_GO)


def programs(folder: Path, seed: int, sandbox: str) -> Outcome:
    made = finished(folder, "micro_code:2", sandbox=sandbox)
    machine = machine_file(folder / "machine.toml", sandbox)
    play = Play(
        words=lambda runs: made.again(runs, machine),
        prepare=made.copy_ungraded,
        check=same_runs,
        containers=sandbox == "docker",
    )
    return strikes(Scene(folder=folder), play, random.Random(f"{seed}:{sandbox}"), IN_ONE_GO)


verified = Fault(name="grade: answers for math-verify", kind="grade", run=answers)

bubblewrapped = Fault(
    name="grade: programs under bubblewrap",
    kind="grade",
    run=lambda folder, seed: programs(folder, seed, "bubblewrap"),
    needs=bubblewrap.trouble,
)

contained = Fault(
    name="grade: programs in Docker",
    kind="grade",
    run=lambda folder, seed: programs(folder, seed, "docker"),
    needs=docker.trouble,
)
