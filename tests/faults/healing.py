"""Faults that pass, after which a run goes on by itself, and those that stay, which end it with a message.

They strike the run's own requests, each of which becomes a row; some strike the preflight's instead.
"""

import random
from functools import partial
from pathlib import Path

from tests.faults.evaluating import OWN_REQUESTS, Site, lost, wrong
from tests.faults.fault import Fault, Outcome

OWN = (12, 40)
"""Of those that hold OWN_REQUESTS, the numbers of which the first are the run's and the last leave some."""
PREFLIGHT = (1, 85)
"""The numbers of the preflight's requests among all, but for its last."""
GO_ON = r"same command (goes on|asks again|again)|kept|Run it again|go on"
"""What to do, as messages word it."""


def strikes_of(seed: int, name: str, first: int, last: int) -> tuple[int, int]:
    """The number of the first request that is struck, and how many are."""
    chooser = random.Random(f"{seed}:{name}:0")
    return chooser.randint(first, last), chooser.randint(1, 4)


def heals(folder: Path, seed: int, fault: str, *, streamed: bool = False, most: int = 0) -> Outcome:
    """A fault that passes: the run goes on by itself. It strikes so many of the run's own requests, or a
    number that is drawn."""
    site = Site(folder=folder, streamed=streamed)
    first, many = strikes_of(seed, f"{fault} {streamed}", *OWN)
    moments = ("--only", OWN_REQUESTS, "--after", str(first), "--strikes", str(most or many))
    with site.serving("--fault", fault, *moments) as server:
        found, told = site.evaluate(server.url), server.told()
    if not told["struck"]:
        return lost(f"not struck: {told['asked']} requests came, {first} was to be the first")
    if found.code:
        return lost(f"ended with {found.code}: {found.last}")
    note = f"went on by itself, struck {len(told['struck'])} times"
    return wrong(site.rows(), whole=True) or Outcome(ending="survived", note=note)


def meets(folder: Path, seed: int, fault: str, *, streamed: bool = False) -> Outcome:
    """A fault that the preflight meets, and that passes: the run goes on by itself, or ends before the first
    row and says what to do, and is whole when it is run again."""
    site = Site(folder=folder, streamed=streamed)
    first, many = strikes_of(seed, f"preflight {fault} {streamed}", *PREFLIGHT)
    with site.serving("--fault", fault, "--after", str(first), "--strikes", str(many)) as server:
        found = site.evaluate(server.url)
        told, kept = server.told(), site.kept()
        if not told["struck"]:
            return lost(f"not struck: {told['asked']} requests came, {first} was to be the first")
        if found.code and (kept or not found.says(GO_ON)):
            return lost(f"ended with {found.code} and {kept} rows: {found.last}")
        again = site.evaluate(server.url) if found.code else found
    if again.code:
        return lost(f"run again, it ended with {again.code}: {again.last}")
    note = f"the preflight met it: {found.last}" if found.code else "went on by itself"
    return wrong(site.rows(), whole=True) or Outcome(ending="survived", note=note)


def lasts(folder: Path, seed: int, fault: str, says: str, *, streamed: bool = False) -> Outcome:
    """A fault that stays, from the middle of the run on: the run ends and says why, keeps no wrong row, and
    is whole when it is run again without the fault."""
    site = Site(folder=folder, streamed=streamed, patience=0)
    first, _ = strikes_of(seed, f"{fault} {streamed}", *OWN)
    moments = ("--only", OWN_REQUESTS, "--after", str(first))
    with site.serving("--fault", fault, *moments) as server:
        found = site.evaluate(server.url)
        if bad := wrong(site.rows(), whole=False):
            return bad
        if not found.code or not found.says(says) or not found.says(GO_ON):
            return lost(f"ended with {found.code}, and was to say {says!r}: {found.last}")
        server.becomes("none")
        again = site.evaluate(server.url)
    if again.code:
        return lost(f"run again, it ended with {again.code}: {again.last}")
    return wrong(site.rows(), whole=True) or Outcome(ending="survived", note=found.last)


def passing(kind: str, name: str, fault: str, *, streamed: bool = False, most: int = 0) -> Fault:
    return Fault(name=name, kind=kind, run=partial(heals, fault=fault, streamed=streamed, most=most))


def early(kind: str, name: str, fault: str, *, streamed: bool = False) -> Fault:
    return Fault(name=name, kind=kind, run=partial(meets, fault=fault, streamed=streamed))


def staying(
    kind: str, name: str, fault: str, says: str, *, streamed: bool = False, slow: bool = False
) -> Fault:
    run = partial(lasts, fault=fault, says=says, streamed=streamed)
    return Fault(name=name, kind=kind, run=run, slow=slow)
