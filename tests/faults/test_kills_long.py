"""Kills of trainings, servers and nights: a few of those that `make acceptance NAME=faults` strikes."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import msgspec
import pytest

from tests.faults.fault import Outcome
from tests.faults.kills import train
from tests.faults.struck import ROOT, Scene
from tests.faults.victims import command_line, family, send

PATIENCE = 120.0
Found = TypeVar("Found")


@pytest.mark.parametrize("name", ["train", "serve", "nightly"])
def test_who_is_killed_at_any_moment_ends_as_who_is_not(name: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.faults.one", name, "1", str(tmp_path)]
    done = subprocess.run(command, stdout=subprocess.PIPE, cwd=ROOT, check=True)
    outcome = msgspec.json.decode(done.stdout.splitlines()[-1], type=Outcome)
    assert outcome.ending == "survived", outcome.note
    assert outcome.strikes >= 4


def test_a_trainer_that_outlives_all_above_it_is_ended_before_the_next_one_begins(tmp_path: Path) -> None:
    """It would go on writing into the folder of the next one's checkpoints."""
    scene, log = Scene(folder=tmp_path), tmp_path / "said.txt"
    arguments = [sys.executable, "-m", "tests.faults.training", *train.placed(tmp_path, stubborn=True)]
    with (tmp_path / "machine.toml").open("a") as machine:
        machine.write('SLOWNESS = "5"\n')
    first = scene.start(arguments, log)
    (worker,) = until(lambda: family(first.pid, train.ROLES).get("worker", []))
    until(lambda: train.written(tmp_path / "runs" / "stages"))
    send([first.pid, *family(first.pid, {})["supervisors"]], signal.SIGKILL)
    first.wait()
    assert command_line(worker), "nobody is left who would end it"
    train.placed(tmp_path, stubborn=False)
    second = scene.start(arguments, log)
    until(lambda: family(second.pid, train.ROLES).get("worker", []))
    assert not command_line(worker)
    assert second.wait(PATIENCE) == 0, log.read_text()
    train.same(tmp_path, train.undisturbed())


def until(found: Callable[[], Found]) -> Found:
    """What is found, once something is."""
    deadline = time.monotonic() + PATIENCE
    while not (now := found()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return now
