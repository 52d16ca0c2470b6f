"""Faults of servers, of the wire and of the clock, some of each. `make acceptance NAME=faults` has all."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from tests.faults.evaluating import undisturbed, wrong
from tests.faults.fault import Outcome
from tests.faults.one import named

SEED = 1
STRUCK = (
    "wire: connection reset in a stream",
    "wire: malformed JSON",
    "wire: null content for good",
    "counts: none in some answers",
    "counts: streams cut off from then on",
    "servers: 429 with Retry-After",
    "servers: a burst of 500s",
    "servers: answers as another model",
    "servers: restarted with another model",
    "servers: killed",
    "clock: 7 hours forwards in a run",
    "clock: goes back while a server wishes quiet until a date",
    "clock: goes back between two acceptances of a level",
)


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[Outcome] | str]]:
    """How each ends, two at a time; of one that cannot be struck here, why."""
    undisturbed()
    with ThreadPoolExecutor(2) as pool:
        yield {
            name: lacking or pool.submit(named(name).run, tmp_path_factory.mktemp("fault") / "folder", SEED)
            for name in STRUCK
            for lacking in [named(name).needs()]
        }


@pytest.mark.parametrize("name", STRUCK)
def test_nothing_is_lost_and_nothing_wrong_is_kept(
    name: str, outcomes: dict[str, Future[Outcome] | str]
) -> None:
    found = outcomes[name]
    if isinstance(found, str):
        pytest.skip(found)
    outcome = found.result()
    assert outcome.ending == "survived", outcome.note


def test_a_wrong_row_is_found_out() -> None:
    rows = {name: dict(there) for name, there in undisturbed().items()}
    assert wrong(rows, whole=True) is None
    key = next(iter(rows["generations"]))
    lacking = rows["generations"].pop(key)
    missing = wrong(rows, whole=True)
    assert missing is not None
    assert missing.ending == "lost"
    rows["generations"][key] = {**lacking, "text": ""}
    other = wrong(rows, whole=True)
    assert other is not None
    assert other.ending == "wrongly graded"
