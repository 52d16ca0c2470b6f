"""Servers that end, hang, or come back as another model."""

import random
import threading
import time
from functools import partial
from pathlib import Path

from harness.serve import free_port
from tests.faults import healing
from tests.faults.evaluating import OWN_REQUESTS, SLOWED, Site, ended, lost, wrong
from tests.faults.fault import Fault, Outcome
from tests.faults.healing import GO_ON, OWN, strikes_of

KIND = "servers"
ANOTHER = ("--model", "impostor", "--sums", "0.5")
STOPPED = 3.0
"""Seconds."""


def moment(seed: int, name: str) -> tuple[str, ...]:
    """A moment among the run's own requests."""
    return ("--only", OWN_REQUESTS, "--after", str(strikes_of(seed, name, *OWN)[0]))


def gone(folder: Path, seed: int, fault: str) -> Outcome:
    """The server goes in the middle of the run, and comes back only after the command has ended."""
    site, port = Site(folder=folder, patience=0), free_port(0)
    with site.serving("--fault", fault, *moment(seed, fault), port=port) as server:
        process = site.start(server.url)
        found = ended(process)
    if bad := wrong(site.rows(), whole=False):
        return bad
    if not found.code or not found.says("keeps failing: .*(refused|Cannot connect|disconnected|reset)"):
        return lost(f"ended with {found.code}: {found.last}")
    if not found.says(GO_ON):
        return lost(f"does not say what to do: {found.last}")
    with site.serving(port=port) as server:
        again = site.evaluate(server.url)
    if again.code:
        return lost(f"run again, it ended with {again.code}: {again.last}")
    return wrong(site.rows(), whole=True) or Outcome(ending="survived", note=found.last)


def back(folder: Path, seed: int, away: float) -> Outcome:
    """The server is killed in the middle of the run and back some seconds later: the run goes on."""
    site, port = Site(folder=folder), free_port(0)
    with site.serving("--fault", "killed", *moment(seed, "back"), port=port) as server:
        process = site.start(server.url)
        server.process.wait()
    time.sleep(away)
    with site.serving(port=port):
        found = ended(process)
    if found.code:
        return lost(f"ended with {found.code} though the server was back: {found.last}")
    return wrong(site.rows(), whole=True) or Outcome(ending="survived", note="went on by itself")


def other(folder: Path, seed: int) -> Outcome:
    """The server is killed, and another model is behind its address at once: it contributes nothing."""
    site, port = Site(folder=folder), free_port(0)
    with site.serving("--fault", "killed", *moment(seed, "other"), port=port) as server:
        process = site.start(server.url)
        server.process.wait()
    with site.serving(port=port, healthy=ANOTHER):
        found = ended(process)
        if bad := wrong(site.rows(), whole=False):
            return bad
        if not found.code or not found.says("404.*does not exist.*does the server serve 'tiny'"):
            return lost(f"ended with {found.code}: {found.last}")
        kept, between = site.kept(), site.evaluate(f"http://127.0.0.1:{port}")
        if not between.code or site.kept() != kept:
            return lost(f"run again with the other model there, it ended with {between.code}: {between.last}")
    with site.serving(port=port) as server:
        again = site.evaluate(server.url)
    if again.code:
        return lost(f"run again, it ended with {again.code}: {again.last}")
    return wrong(site.rows(), whole=True) or Outcome(ending="survived", note=found.last)


def same_name(folder: Path, seed: int) -> Outcome:
    """The server is killed, and another checkpoint is served under the same name: it contributes nothing."""
    site, port = Site(folder=folder), free_port(0)
    first, second = ("--root", "lab/model-one"), ("--root", "lab/model-two")
    says = (
        "another checkpoint as 'tiny': rows are there of lab/model-one, and now it is made from lab/model-two"
    )
    with site.serving("--fault", "killed", *first, *moment(seed, "same"), port=port) as server:
        process = site.start(server.url)
        server.process.wait()
    with site.serving(*second, port=port):
        found = ended(process)
        kept, between = site.kept(), site.evaluate(f"http://127.0.0.1:{port}")
    for one in (found, between):
        if not one.code or not one.says(says) or not one.says(GO_ON):
            return lost(f"ended with {one.code}: {one.last}")
    if site.kept() != kept:
        return Outcome(ending="wrongly graded", note=f"{site.kept() - kept} rows are of another checkpoint")
    with site.serving(*first, port=port) as server:
        again = site.evaluate(server.url)
    if again.code:
        return lost(f"run again, it ended with {again.code}: {again.last}")
    return wrong(site.rows(), whole=True) or Outcome(ending="survived", note=found.last)


def hung(folder: Path, seed: int) -> Outcome:
    """Nothing is answered any more, not even whether it is well."""
    site = Site(folder=folder)
    with site.serving("--fault", "hung", *moment(seed, "hung")) as server:
        found = site.evaluate(server.url)
        if bad := wrong(site.rows(), whole=False):
            return bad
        if not found.code or not found.says(r"hangs: for 300 s nothing was finished.*kept"):
            return lost(f"ended with {found.code}: {found.last}")
    with site.serving(port=server.port) as server:
        again = site.evaluate(server.url)
    if again.code:
        return lost(f"run again, it ended with {again.code}: {again.last}")
    return wrong(site.rows(), whole=True) or Outcome(ending="survived", note=found.last)


def asleep(folder: Path, seed: int) -> Outcome:
    """The server stops for a while, as a machine that is suspended does, and goes on."""
    site = Site(folder=folder, streamed=True)
    with site.serving(*SLOWED) as server:
        process = site.start(server.url)
        if not site.under_way(process, random.Random(f"{seed}:asleep:0").randint(1, 20)):
            return lost(f"not struck, it was done before: {ended(process).last}")
        server.stop()
        began, kept = time.monotonic(), site.kept()
        timer = threading.Timer(STOPPED, server.go_on)
        timer.start()
        found = ended(process)
        took = time.monotonic() - began
        timer.join()
    if found.code:
        return lost(f"ended with {found.code}: {found.last}")
    if took < STOPPED:
        return lost(f"not struck: it ended {took:.1f} s after the server was stopped, at {kept} rows")
    return wrong(site.rows(), whole=True) or Outcome(ending="survived", note="went on by itself")


killed = Fault(name="servers: killed", kind=KIND, run=partial(gone, fault="killed"))
out_of_memory = Fault(name="servers: out of memory", kind=KIND, run=partial(gone, fault="exits"))
killed_and_back = Fault(
    name="servers: killed, back in 10 s", kind=KIND, slow=True, run=partial(back, away=10.0)
)
restarted = Fault(name="servers: restarted", kind=KIND, run=partial(back, away=0.0))
another_model = Fault(name="servers: restarted with another model", kind=KIND, run=other)
same_name_other_model = Fault(
    name="servers: restarted with another checkpoint of the same name", kind=KIND, run=same_name
)
hanging = Fault(name="servers: hung", kind=KIND, slow=True, run=hung)
suspended = Fault(name="servers: stopped for 3 s", kind=KIND, run=asleep)
AS_ANOTHER = "asked for the model 'tiny' and answered .*'impostor'"
impostor = healing.staying(KIND, "servers: answers as another model", "other-model", AS_ANOTHER)
impostor_stream = healing.staying(
    KIND, "servers: streams as another model", "other-model", AS_ANOTHER, streamed=True
)
