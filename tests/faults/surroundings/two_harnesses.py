"""Two commands on one runs folder at a time, of which one is killed."""

import random
import signal
from pathlib import Path

from tests.faults.fault import Fault, Outcome
from tests.faults.filed import check_whole, evaluate, finished, serving, until_rows
from tests.faults.struck import PATIENCE, Blow, Scene, Trouble, hit, said_in

WAITING = "another process is building it; waiting"


def together(folder: Path, seed: int, victim: int) -> Outcome:
    """Starts both, kills one once so many rows are there, and lets the other come to its end."""
    rng = random.Random(f"{seed}:{victim}")
    with serving("--delay", "0.05") as url:
        _, expected = finished(folder / "undisturbed", url)
        runs, scene = folder / "runs", Scene(folder=folder)
        logs = [folder / f"said-{number}.txt" for number in range(2)]
        both = [scene.start(evaluate(url, runs), log) for log in logs]
        until_rows(runs, rng.randrange(0, 20), both)
        hit(both[victim].pid, Blow(after=0, signal=signal.SIGKILL, group=True))
        codes = [process.wait(PATIENCE) for process in both]
        said = said_in(logs[1 - victim])
        if codes[1 - victim] != 0 or "Traceback" in said:
            raise Trouble("lost", f"the other one ended with {codes[1 - victim]}: {said[-600:]}")
        check_whole(runs, expected)
        scene.run(evaluate(url, runs))
        check_whole(runs, expected)
    return Outcome(ending="survived", note="one waited" if WAITING in said else "none had to wait")


first_killed = Fault(
    name="files: two harnesses, the first is killed",
    kind="files",
    run=lambda folder, seed: together(folder, seed, 0),
    slow=True,
)
second_killed = Fault(
    name="files: two harnesses, the second is killed",
    kind="files",
    run=lambda folder, seed: together(folder, seed, 1),
    slow=True,
)
