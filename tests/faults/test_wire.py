"""Faults of servers, of the wire and of the clock, some of each. `make acceptance NAME=faults` has all."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from tests.faults.evaluating import undisturbed, wrong
from tests.faults.fault import Outcome
from tests.faults.one import named
from tests.faults.server import Answer, uncounted
from tests.faults.surroundings.busy import hurried

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


def test_an_answer_in_which_a_fault_finds_nothing_to_change_is_passed_on_as_it_came() -> None:
    counted = Answer(status=200, kind="application/json", data=b'{"choices":[],  "usage":{}}')
    bare = Answer(status=200, kind="application/json", data=b'{"choices":[],  "id":1}')
    assert counted.edited(uncounted).data != counted.data
    assert bare.edited(uncounted).data == bare.data


@pytest.mark.parametrize(
    ("came", "early"),
    [
        ([1.0, 1.1, 1.2, 1.3, 1.4, 5.1], False),
        ([1.0, 1.1, 1.2, 1.3, 1.4, 1.45, 5.1], True),
        ([1.0, 1.1, 3.9, 5.1], True),
        ([1.0, 1.1], True),
    ],
)
def test_who_asks_before_a_wish_is_over_is_found_out(came: list[float], early: bool) -> None:
    assert bool(hurried({"struck": [1.0], "came": came}, 4.0)) is early
