"""The clock of the wall jumps by hours while a command runs, or between two of them.

libfaketime is loaded into the command (LD_PRELOAD) and reads from a file how far the clock is off. The clock
that only counts seconds (CLOCK_MONOTONIC) goes on as it does: so it is where NTP or an administrator sets
the time.
"""

import json
import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from harness.nightly.history import History
from tests.faults.evaluating import (
    FILES,
    MODEL,
    OWN_REQUESTS,
    POLL,
    SLOWED,
    Ended,
    Site,
    ended,
    lost,
    rows_of,
    wrong,
)
from tests.faults.fault import Fault, Outcome
from tests.faults.healing import OWN, strikes_of
from tests.faults.struck import HARNESS, ROOT
from tests.faults.surroundings.busy import WHOLE_SECONDS, hurried

KIND = "clock"
NAME = "nights"
"""Of the nights, and of their folder."""
PLACES = ("/usr/lib", "/usr/local/lib")
WISH, AT_MOST = 6, 60.0
"""Seconds of quiet that are wished, and more than a busy machine makes of them."""
LONGEST = 600.0
"""Seconds that no stage here takes: one that is told to have taken more counted the jump."""
DURATION = re.compile(r"seconds|latency|duration")


def library() -> str:
    """libfaketime for programs with threads; nothing where it is not installed."""
    found = (path for place in PLACES for path in Path(place).glob("**/faketime/libfaketimeMT.so.1"))
    return str(next(found, ""))


def lacking() -> str:
    return "" if library() else "libfaketime is not installed: apt-get install faketime"


@dataclass(frozen=True, kw_only=True)
class Clock:
    """The clock of a command, as it can be set while the command runs."""

    file: Path

    def jump(self, hours: float) -> None:
        """So many hours before or behind the true time from now on."""
        partial_file = self.file.with_suffix(".partial")
        partial_file.write_text(f"{hours * 3600:+.0f}\n")
        partial_file.rename(self.file)

    @property
    def variables(self) -> dict[str, str]:
        return {
            "LD_PRELOAD": library(),
            "FAKETIME_TIMESTAMP_FILE": str(self.file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
        }


def set_up(folder: Path) -> tuple[Clock, Site]:
    folder.mkdir(parents=True, exist_ok=True)
    clock = Clock(file=folder / "clock")
    clock.jump(0)
    return clock, Site(folder=folder, variables=clock.variables)


def durations(told: Any, name: str = "") -> Iterator[tuple[str, float]]:
    """Every duration in a JSON value, with its name."""
    if isinstance(told, dict):
        for inner, value in told.items():
            yield from durations(value, str(inner))
    elif isinstance(told, list):
        for value in told:
            yield from durations(value, name)
    elif isinstance(told, int | float) and DURATION.search(name):
        yield name, told


def impossible(site: Site) -> str:
    """A duration that cannot be, in a stage's record, a row or a report."""
    for path in [*site.runs.glob("stages/*/stage.json"), *site.runs.glob("*/report.json")]:
        for name, seconds in durations(json.loads(path.read_text())):
            if not 0 <= seconds < LONGEST:
                return f"{path.parent.name}/{path.name} has {name} = {seconds}"
    for path in site.runs.glob("stages/*/generations.jsonl"):
        for line in path.read_text().splitlines():
            if not 0 <= json.loads(line)["latency"] < LONGEST:
                return f"a row took {json.loads(line)['latency']} s"
    return ""


def verdict(site: Site, found: Ended, note: str) -> Outcome:
    if found.code:
        return lost(f"ended with {found.code}: {found.last}")
    if told := impossible(site):
        return lost(told)
    if re.search(r"\D-\d+(\.\d+)? ?(s|/s|h|min)\b", found.text):
        return lost(f"a negative time is shown: {found.last}")
    return wrong(site.rows(), whole=True) or Outcome(ending="survived", note=note)


def jumps(folder: Path, seed: int, hours: float) -> Outcome:
    """The clock jumps in the middle of the run."""
    clock, site = set_up(folder)
    with site.serving(*SLOWED) as server:
        process = site.start(server.url)
        if not site.under_way(process, random.Random(f"{seed}:{hours}:0").randint(1, 20)):
            return lost(f"not struck, it was done before: {ended(process).last}")
        clock.jump(hours)
        return verdict(site, ended(process), f"went on, {hours:+} hours")


def while_waiting(folder: Path, seed: int, hours: float, how: str) -> Outcome:
    """The clock is hours off, and jumps as many to the other side while the server has asked for quiet: for
    so many seconds, or until a date, as `how` says."""
    clock, site = set_up(folder)
    first, many = strikes_of(seed, f"waiting {hours}", *OWN)
    moments = ("--only", OWN_REQUESTS, "--after", str(first), "--strikes", str(many))
    with site.serving("--fault", how, "--retry-after", str(WISH), *moments) as server:
        clock.jump(-hours)
        process = site.start(server.url)
        while not server.told()["struck"]:
            if process.poll() is not None:
                return lost(f"not struck: {ended(process).last}")
            time.sleep(POLL)
        clock.jump(hours)
        found, told = ended(process), server.told()
    if bad := hurried(told, WISH - WHOLE_SECONDS if how == "429-date" else WISH):
        return lost(bad)
    longest = max(second - one for one, second in pairwise(told["came"]))
    if longest > AT_MOST:
        return lost(f"waited for {longest:.0f} s where {WISH} s were wished")
    return verdict(site, found, f"waited for {longest:.1f} s")


def between(folder: Path, seed: int, hours: float) -> Outcome:
    """The command is interrupted, and run again by a clock that is hours off."""
    clock, site = set_up(folder)
    with site.serving(*SLOWED) as server:
        process = site.start(server.url)
        if not site.under_way(process, random.Random(f"{seed}:between:0").randint(1, 20)):
            return lost(f"not struck, it was done before: {ended(process).last}")
        process.kill()
        process.wait()
        clock.jump(hours)
        return verdict(site, site.evaluate(server.url), f"run again, {hours:+} hours")


def nights(folder: Path, seed: int, hours: float) -> Outcome:
    """Three nights, before the second of which the clock jumps: each is a night of its own and ends, asks and
    finds as one of that name does by a clock that is right."""
    clock, site = set_up(folder)
    calm = Site(folder=folder / "calm")
    codes: list[int] = []
    with site.serving() as server:
        for each in (site, calm):
            configured(each, server.url)
        for jump in (0.0, hours, hours):
            clock.jump(jump)
            found = one_night(site, *(["--again"] if codes else []))
            codes.append(found.code)
        labels = labels_of(site)
        if len(set(labels)) != len(codes):
            return lost(f"three nights are kept as {labels}; the last said: {found.last}")
        expected = [one_night(calm, "--night", label).code for label in labels]
    if codes != expected:
        return lost(f"the nights ended with {codes} and were to end with {expected}: {found.last}")
    if told := impossible(site):
        return lost(told)
    return same_nights(site, calm) or Outcome(ending="survived", note=f"nights {labels}, with {codes}")


def configured(site: Site, url: str) -> None:
    site.folder.mkdir(parents=True, exist_ok=True)
    (site.folder / "nightly.toml").write_text(
        f'name = "{NAME}"\n[[checkpoints]]\nname = "{MODEL}"\nmodel = "{MODEL}"\nbase_url = "{url}/v1"\n'
        'max_tokens = 40\nbenchmarks = ["micro_math:2"]\n'
    )
    (site.folder / "machine.toml").write_text("concurrency = 8\n")


def labels_of(site: Site) -> list[str]:
    """The names of the nights, in the order in which they began."""
    with closing(History(site.runs / NAME / "history.sqlite")) as history:
        return [night.label for night in history.nights(NAME)]


def nightly_rows(site: Site) -> dict[str, Any]:
    """All rows of all nights, by stage and file."""
    files = (path for name in FILES for path in site.runs.glob(f"stages/*/{name}.jsonl"))
    return {f"{path.parent.name}/{path.name}": rows_of(path) for path in files}


def same_nights(site: Site, calm: Site) -> Outcome | None:
    """What of the nights' rows is other than by a clock that is right; None where nothing is."""
    ours, theirs = nightly_rows(site), nightly_rows(calm)
    if not theirs or ours.keys() != theirs.keys():
        return lost(f"rows are there of {sorted(ours)}, and by a clock that is right of {sorted(theirs)}")
    other = [name for name, rows in ours.items() if rows != theirs[name]]
    return Outcome(ending="wrongly graded", note=f"other rows in {other}") if other else None


def one_night(site: Site, *more: str) -> Ended:
    command = [*HARNESS, "nightly", str(site.folder / "nightly.toml"), *more]
    command += ["--runs", str(site.runs), "--machine", str(site.folder / "machine.toml")]
    return ended(site.begin(command))


ACCEPT = """
import sys
from pathlib import Path
from harness.nightly.history import History
history = History(Path(sys.argv[1]))
history.accept("tiny", "micro_math", int(sys.argv[2]), int(sys.argv[2]))
print(*history.accepted_since(1000, "tiny", "micro_math"))
"""


def accepting(folder: Path, seed: int) -> Outcome:
    """A level is accepted, the clock goes back by hours, and another one is: it is the later one."""
    clock, _ = set_up(folder)
    told = ""
    for hours, night in ((0.0, 3), (-7.0, 5)):
        clock.jump(hours)
        told = subprocess.run(
            [sys.executable, "-c", ACCEPT, str(folder / "history.sqlite"), str(night)],
            cwd=ROOT,
            env={**os.environ, **clock.variables},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        ).stdout
    if told.split() != ["5", "5"]:
        return lost(f"night 5 was accepted last, and {told.split()} counts")
    return Outcome(ending="survived", note="the later acceptance counts")


def fault(name: str, run: Any, slow: bool = False) -> Fault:
    return Fault(name=name, kind=KIND, run=run, needs=lacking, slow=slow)


forwards = fault("clock: 7 hours forwards in a run", partial(jumps, hours=7.0))
backwards = fault("clock: 7 hours back in a run", partial(jumps, hours=-7.0))
waiting = fault(
    "clock: jumps while a server wishes quiet until a date",
    partial(while_waiting, hours=5.0, how="429-date"),
)
waiting_back = fault(
    "clock: goes back while a server wishes quiet until a date",
    partial(while_waiting, hours=-5.0, how="429-date"),
)
counting = fault(
    "clock: jumps while a server wishes seconds of quiet", partial(while_waiting, hours=5.0, how="429")
)
counting_back = fault(
    "clock: goes back while a server wishes seconds of quiet", partial(while_waiting, hours=-5.0, how="429")
)
resumed_later = fault("clock: a month forwards between two runs", partial(between, hours=720.0))
resumed_earlier = fault("clock: a day back between two runs", partial(between, hours=-24.0))
nights_back = fault("clock: a day back between nights", partial(nights, hours=-24.0), slow=True)
nights_forwards = fault("clock: two days forwards between nights", partial(nights, hours=48.0), slow=True)
accepted = fault("clock: goes back between two acceptances of a level", accepting)
