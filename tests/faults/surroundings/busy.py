"""A server that has too much to do, or is unwell for a while: it is asked again when it wishes."""

from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from tests.faults import healing
from tests.faults.evaluating import CONCURRENCY, OWN_REQUESTS, Site, lost, wrong
from tests.faults.fault import Fault, Outcome
from tests.faults.healing import OWN, strikes_of

KIND = "servers"
passing, early, staying = (partial(each, KIND) for each in (healing.passing, healing.early, healing.staying))
SLACK = 0.2
"""Seconds that clocks of two processes and a busy machine may make of a wait less than it was."""
ON_THE_WAY = 0.5
"""Seconds in which requests may still come that were on their way: no more than are asked at once."""
WHOLE_SECONDS = 1
"""What a date may be less than was wished: it tells no fractions of a second."""
BURST = 12


def hurried(told: dict[str, Any], wish: float) -> str:
    """Who asked before the wish of one of the refusals was over; "" where nobody did."""
    for struck in told["struck"]:
        later = [came - struck for came in told["came"] if came > struck]
        on_their_way = sum(seconds < ON_THE_WAY for seconds in later)
        if on_their_way > CONCURRENCY:
            return f"{on_their_way} requests came within {ON_THE_WAY} s, and {wish} s were wished"
        if len(later) == on_their_way:
            return "it was never asked again"
        if (first := later[on_their_way]) < wish - SLACK:
            return f"asked again after {first:.1f} s, and {wish} s were wished"
    return ""


def waits(folder: Path, seed: int, fault: str, wish: int) -> Outcome:
    """429 to a few requests: nobody asks before the wish is over, then all is asked once more."""
    site = Site(folder=folder)
    first, many = strikes_of(seed, fault, *OWN)
    moments = ("--only", OWN_REQUESTS, "--after", str(first), "--strikes", str(many))
    with site.serving("--fault", fault, "--retry-after", str(wish), *moments) as server:
        found, told = site.evaluate(server.url), server.told()
    if found.code:
        return lost(f"ended with {found.code}: {found.last}")
    if not told["struck"]:
        return lost(f"not struck: {told['asked']} requests came, {first} was to be the first")
    least = wish - WHOLE_SECONDS if fault == "429-date" else wish
    if wish and (bad := hurried(told, least)):
        return lost(bad)
    longest = max(second - one for one, second in pairwise(told["came"]))
    return wrong(site.rows(), whole=True) or Outcome(
        ending="survived", note=f"asked again after {longest:.1f} s"
    )


with_wish = Fault(name="servers: 429 with Retry-After", kind=KIND, run=partial(waits, fault="429", wish=4))
with_date = Fault(
    name="servers: 429 with a date in Retry-After", kind=KIND, run=partial(waits, fault="429-date", wish=5)
)
without_wish = Fault(
    name="servers: 429 without Retry-After", kind=KIND, run=partial(waits, fault="429-without", wish=0)
)
burst = passing("servers: a burst of 500s", "500", most=BURST)
gateway = passing("servers: 502 with a page", "502-html")
restarting = passing("servers: 503 with Retry-After", "503")
memory = passing("servers: out of memory for a while", "oom-500", streamed=True)
slow_answers = passing("servers: slow", "slow", streamed=True, most=BURST)
early_burst = early("servers: 500s in the preflight", "500")
always_unwell = staying("servers: 500 for good", "500", "keeps failing: 500.*engine is unwell")
always_out_of_memory = staying(
    "servers: out of memory for good", "oom-500", "keeps failing: 500.*CUDA out of memory"
)
always_busy = staying("servers: 429 for good", "429-without", "keeps failing: 429.*slow down", slow=True)
