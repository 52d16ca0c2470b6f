"""Kills of trainings, servers and nights: a few of those that `make acceptance NAME=faults` strikes."""

import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TypeVar

import msgspec
import pytest

from harness.interruption import held_back
from harness.nightly.history import History
from tests.faults.fault import Outcome
from tests.faults.kills import nightly, train
from tests.faults.struck import ROOT, Scene, Trouble
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
    until(lambda: train.printed(tmp_path / "runs" / "stages"))
    send([first.pid, *family(first.pid, {})["supervisors"]], signal.SIGKILL)
    first.wait()
    assert command_line(worker), "nobody is left who would end it"
    train.placed(tmp_path, stubborn=False)
    second = scene.start(arguments, log)
    until(lambda: family(second.pid, train.ROLES).get("worker", []))
    assert not command_line(worker)
    assert second.wait(PATIENCE) == 0, log.read_text()
    train.same(tmp_path, train.undisturbed())


def test_what_is_wrong_with_a_night_is_seen(tmp_path: Path) -> None:
    calm, home = tmp_path / "calm", tmp_path / "home"
    for one in (calm, home):
        with closing(History(one / "runs" / "nightly" / "history.sqlite")) as history:
            history.begin("nightly", "4")
        (one / "runs" / "nightly" / "trend.html").write_text("<html></html>")
        (one / "told").write_text("pass")
    nightly.glance(home)
    nightly.same(calm, home)
    (home / "told").write_text("pass\nregression")
    with pytest.raises(Trouble, match="the hook was told"):
        nightly.same(calm, home)
    (home / "runs" / "nightly" / "trend.html").write_text("<html>")
    with pytest.raises(Trouble, match="torn"):
        nightly.glance(home)
    with closing(sqlite3.connect(home / "runs" / "nightly" / "history.sqlite")) as history:
        history.execute("UPDATE night SET finished = 1")
        history.commit()
    with pytest.raises(Trouble, match="night 4 is finished and holds nothing"):
        nightly.glance(home)
    with pytest.raises(Trouble, match="other nights"):
        nightly.same(calm, home)


def test_an_interruption_waits_until_a_native_module_is_imported() -> None:
    done: list[str] = []

    def imported() -> None:
        with held_back():
            signal.raise_signal(signal.SIGINT)
            done.append("imported")

    with pytest.raises(KeyboardInterrupt):
        imported()
    assert done == ["imported"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def until(found: Callable[[], Found]) -> Found:
    """What is found, once something is."""
    deadline = time.monotonic() + PATIENCE
    while not (now := found()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return now
