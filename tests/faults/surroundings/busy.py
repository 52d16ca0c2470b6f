"""A server that has too much to do, or is unwell for a while: it is asked again when it wishes."""

from functools import partial
from itertools import pairwise
from pathlib import Path

from tests.faults.evaluating import OWN, OWN_REQUESTS, Site, heals, lasts, lost, strikes_of, wrong
from tests.faults.fault import Fault, Outcome

KIND = "servers"
SLACK = 0.2
"""Seconds that clocks of two processes and a busy machine may make of a wait less than it was."""
BURST = 12


def waits(folder: Path, seed: int, fault: str, wish: int) -> Outcome:
    """429 to a few requests: nobody asks before the wish is over, then all is asked once more."""
    site = Site(folder=folder)
    first, many = strikes_of(seed, fault, *OWN)
    moments = ("--only", OWN_REQUESTS, "--after", str(first), "--strikes", str(many))
    with site.serving("--fault", fault, "--retry-after", str(wish), *moments) as server:
        found, told = site.evaluate(server.url), server.told()
    if found.code:
        return lost(f"ended with {found.code}: {found.last}")
    last = told["struck"][-1]
    later = [came - last for came in told["came"] if came > last]
    if fault != "429-without" and any(EARLY < seconds < wish - 1 - SLACK for seconds in later):
        return lost(f"asked again after {min(later):.1f} s, and {wish} s were wished")
    bad = wrong(site.rows(), whole=True)
    note = f"asked again after {max(second - one for one, second in pairwise(told['came'])):.1f} s"
    return bad or Outcome(ending="survived", note=note, strikes=len(told["struck"]))


EARLY = 0.5
"""Seconds in which requests may still come that were on their way."""

with_wish = Fault(name="servers: 429 with Retry-After", kind=KIND, run=partial(waits, fault="429", wish=4))
with_date = Fault(
    name="servers: 429 with a date in Retry-After", kind=KIND, run=partial(waits, fault="429-date", wish=5)
)
without_wish = Fault(
    name="servers: 429 without Retry-After", kind=KIND, run=partial(waits, fault="429-without", wish=0)
)
burst = Fault(
    name="servers: a burst of 500s",
    kind=KIND,
    run=lambda folder, seed: heals(folder, seed, "500", burst=BURST),
)
gateway = Fault(
    name="servers: 502 with a page", kind=KIND, run=lambda folder, seed: heals(folder, seed, "502-html")
)
restarting = Fault(
    name="servers: 503 with Retry-After", kind=KIND, run=lambda folder, seed: heals(folder, seed, "503")
)
memory = Fault(
    name="servers: out of memory for a while",
    kind=KIND,
    run=lambda folder, seed: heals(folder, seed, "oom-500", streamed=True),
)
always_unwell = Fault(
    name="servers: 500 for good",
    kind=KIND,
    run=lambda folder, seed: lasts(folder, seed, "500", "keeps failing: 500.*engine is unwell"),
)
always_out_of_memory = Fault(
    name="servers: out of memory for good",
    kind=KIND,
    run=lambda folder, seed: lasts(folder, seed, "oom-500", "keeps failing: 500.*CUDA out of memory"),
)
always_busy = Fault(
    name="servers: 429 for good",
    kind=KIND,
    slow=True,
    run=lambda folder, seed: lasts(folder, seed, "429-without", "keeps failing: 429.*slow down"),
)
slow_answers = Fault(
    name="servers: slow",
    kind=KIND,
    run=lambda folder, seed: heals(folder, seed, "slow", streamed=True, burst=BURST),
)
