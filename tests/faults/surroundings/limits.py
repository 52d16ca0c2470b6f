"""A limit of the server's own, smaller than what is asked for: no fault, and it must not pass in silence."""

from functools import partial
from pathlib import Path

from tests.faults.evaluating import DRAWS, OWN_REQUESTS, QUESTIONS, Site, lost, wrong
from tests.faults.fault import Fault, Outcome
from tests.faults.healing import OWN, strikes_of

KIND = "token counts"


def limits(folder: Path, seed: int, *, streamed: bool = False) -> Outcome:
    """From the middle of the run on, answers end at the server's own limit: the run completes and says so,
    and all other rows are those of an undisturbed run."""
    site = Site(folder=folder, streamed=streamed, patience=0)
    first, _ = strikes_of(seed, f"own-limit {streamed}", *OWN)
    with site.serving("--fault", "own-limit", "--only", OWN_REQUESTS, "--after", str(first)) as server:
        found = site.evaluate(server.url)
    if found.code or not found.says("its own limit; they count as truncated"):
        return lost(f"ended with {found.code}, and was to tell of the limit: {found.last}")
    rows = site.rows()
    cut = {key for key, row in rows["generations"].items() if row["finish_reason"] == "length"}
    if not cut or len(rows["generations"]) != QUESTIONS * DRAWS:
        return lost(f"{len(cut)} of {len(rows['generations'])} rows are cut off")
    others = {name: {key: row for key, row in each.items() if key not in cut} for name, each in rows.items()}
    note = f"{len(cut)} rows are cut off, and said to be"
    return wrong(others, whole=False) or Outcome(ending="survived", note=note)


whole = Fault(name="counts: the server's own limit", kind=KIND, run=limits)
stream = Fault(
    name="counts: the server's own limit of streams", kind=KIND, run=partial(limits, streamed=True)
)
