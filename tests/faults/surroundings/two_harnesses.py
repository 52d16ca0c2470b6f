"""Two commands on one runs folder at a time: one is killed, or both come to their end."""

import os
import random
import signal
import time
from pathlib import Path
from typing import Literal

from tests.faults.fault import Fault, Outcome
from tests.faults.filed import check_whole, evaluate, finished, serving, until_rows
from tests.faults.struck import PATIENCE, Blow, Running, Scene, Trouble, hit, said_in

WAITING = "another process is building it; waiting"
Victim = Literal["holder", "waiter", "neither"]


def together(folder: Path, seed: int, victim: Victim) -> Outcome:
    """Starts one, and while it asks the other, which has to wait for it; then strikes.

    The one that asks stands still until the other waits, so that they meet on any machine.
    """
    rng = random.Random(f"{seed}:{victim}")
    with serving("--delay", "0.05") as url:
        _, expected = finished(folder / "undisturbed", url)
        runs, scene = folder / "runs", Scene(folder=folder)
        wanted, logs = rng.randrange(1, 12), [folder / "holder.txt", folder / "waiter.txt"]
        holder = scene.start(evaluate(url, runs), logs[0])
        until_rows(runs, wanted, [holder])
        os.killpg(holder.pid, signal.SIGSTOP)
        waiter = scene.start(evaluate(url, runs), logs[1])
        try:
            until_said(logs[1], WAITING, waiter)
        finally:
            os.killpg(holder.pid, signal.SIGCONT)
        both = {"holder": holder, "waiter": waiter}
        if victim != "neither":
            hit(both[victim].pid, Blow(after=0, signal=signal.SIGKILL, group=True))
        for (name, process), log in zip(both.items(), logs, strict=True):
            code, said = process.wait(PATIENCE), said_in(log)
            if name != victim and (code != 0 or "Traceback" in said):
                raise Trouble("lost", f"the {name} ended with {code}: {said[-600:]}")
            if name == victim and code != -signal.SIGKILL:
                raise Trouble("lost", f"not struck: the {name} had ended with {code}")
        check_whole(runs, expected)
        scene.run(evaluate(url, runs))
        check_whole(runs, expected)
    return Outcome(ending="survived", note=f"they met after {wanted} rows or more")


def until_said(log: Path, words: str, process: Running) -> None:
    """Raises Trouble where the command ends, or takes too long, before it has said this."""
    deadline = time.monotonic() + PATIENCE
    while words not in said_in(log):
        if process.poll() is not None or time.monotonic() > deadline:
            raise Trouble("lost", f"not struck: it did not wait, and said: {said_in(log)[-600:]}")
        time.sleep(0.02)


def fault(name: str, victim: Victim) -> Fault:
    return Fault(
        name=f"files: two harnesses, {name}",
        kind="files",
        run=lambda folder, seed: together(folder, seed, victim),
    )


holder_killed = fault("the one at work is killed", "holder")
waiter_killed = fault("the one that waits is killed", "waiter")
neither_killed = fault("both live", "neither")
