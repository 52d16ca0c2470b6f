"""Several servers and one supply; and how many tokens one server may be writing at once."""

import asyncio
import json
import urllib.request
from dataclasses import replace
from pathlib import Path

import pytest

from harness.budget import Budget
from harness.client import Refused
from harness.endpoint import Endpoint
from harness.errors import ServerError
from harness.generate import Pace, generate
from harness.machine import Machine
from harness.rows import read_rows
from harness.serve import ServerPool
from harness.supply import Supply
from harness.types import Generation
from harness.unfinished import Slot
from tests.fakes.engine import WARM, FakeEngine, checkpoint, request, running

WANTED = [request(f"q{question}", draw) for draw in range(4) for question in range(10)]


def texts(rows: Path) -> dict[tuple[str, int], str]:
    found = {}
    for row in read_rows(rows, Generation):
        assert (row.question, row.draw) not in found
        found[row.question, row.draw] = row.text
    return found


def told(endpoint: Endpoint) -> dict[str, int]:
    with urllib.request.urlopen(endpoint.base_url.removesuffix("/v1") + "/asked") as answer:
        body = json.load(answer)
    return {"asked": len(body["asked"]), "most": body["most_in_flight"]}


def whole(tmp_path: Path) -> dict[tuple[str, int], str]:
    with running() as endpoint:
        generate(WANTED, endpoint, tmp_path / "whole" / "rows.jsonl")
    return texts(tmp_path / "whole" / "rows.jsonl")


def test_replicas_share_the_requests_and_none_is_asked_twice(tmp_path: Path) -> None:
    with running("--delay", "0.02") as one, running("--delay", "0.02") as other:
        generate(WANTED, replace(one, replicas=(other,)), tmp_path / "rows.jsonl", pace=Pace(requests=4))
        shares = [told(one)["asked"], told(other)["asked"]]
    assert sum(shares) == len(WANTED)
    assert min(shares) > 5
    assert texts(tmp_path / "rows.jsonl") == whole(tmp_path)


def test_a_server_that_dies_costs_only_its_unfinished_requests(tmp_path: Path) -> None:
    said: list[str] = []
    with running("--delay", "0.02") as one, ServerPool(Machine()) as pool:
        dying = pool.acquire(
            FakeEngine(switches=("--die-after", "5", "--delay", "0.02")),
            checkpoint(tmp_path / "model"),
            "tiny",
            WARM,
            tmp_path / "server.log",
        )
        both = replace(one, replicas=(replace(dying, template=None),))
        assert generate(WANTED, both, tmp_path / "rows.jsonl", pace=Pace(requests=4), say=said.append) == 40
    assert texts(tmp_path / "rows.jsonl") == whole(tmp_path)
    assert len(said) == 1
    assert "a server is lost, 1 left" in said[0]


def test_a_server_that_hangs_loses_its_requests_to_the_other(tmp_path: Path) -> None:
    with running("--delay", "0.02") as one, running("--hang-after", "5", "--words", "12") as stuck:
        both = replace(one, replicas=(stuck,))
        generate(WANTED, both, tmp_path / "rows.jsonl", pace=Pace(requests=4, hang_after=2))
    assert texts(tmp_path / "rows.jsonl") == whole(tmp_path)


def test_half_a_streamed_response_of_a_lost_server_is_kept_aside(tmp_path: Path) -> None:
    with running() as one, running("--stall-streams", "--hang-after", "1", "--unwell") as stuck:
        first, second = request("a", 0), request("b", 0)
        both = replace(stuck, stream_from=1, replicas=(one,))
        generate([first, second], both, tmp_path / "rows.jsonl", pace=Pace(requests=1, hang_after=1))
    assert sorted(texts(tmp_path / "rows.jsonl")) == [("a", 0), ("b", 0)]
    assert len(list((tmp_path / "interrupted").iterdir())) == 1


def test_the_last_server_that_dies_is_the_error_and_the_rows_are_kept(tmp_path: Path) -> None:
    with running("--delay", "0.02", "--hang-after", "6") as one, running("--hang-after", "5") as other:
        both = replace(one, replicas=(other,))
        with pytest.raises(ServerError, match="hangs"):
            generate(WANTED, both, tmp_path / "rows.jsonl", pace=Pace(requests=2, hang_after=1))
    assert 11 <= len(texts(tmp_path / "rows.jsonl")) <= 13  # one more each, where two were under way


def test_a_request_that_one_server_refuses_is_not_handed_on(tmp_path: Path) -> None:
    with running("--context", "10") as strict, running("--delay", "1") as other:
        with pytest.raises(Refused, match="maximum context length"):
            generate(WANTED, replace(strict, replicas=(other,)), tmp_path / "rows.jsonl")
        assert told(other)["asked"] <= len(WANTED)


def test_a_replica_that_serves_another_model_is_lost_and_not_the_run(tmp_path: Path) -> None:
    said: list[str] = []
    with running("--delay", "0.02") as one, running(model="huge") as other:
        both = replace(one, replicas=(replace(other, model="tiny"),))
        generate(WANTED, both, tmp_path / "rows.jsonl", pace=Pace(requests=4), say=said.append)
    assert texts(tmp_path / "rows.jsonl") == whole(tmp_path)
    assert len(said) == 1
    assert "404" in said[0]


def test_the_supply_waits_for_what_may_come_back() -> None:
    async def run() -> list[str]:
        supply = Supply(iter([request("a"), request("b")]))
        first, second = await supply.take(), await supply.take()
        assert first is not None
        assert second is not None
        waiting = asyncio.create_task(supply.take())
        supply.answered(second)
        await asyncio.sleep(0.01)
        assert not waiting.done()
        supply.give_back([first])
        again = await waiting
        assert again is not None
        supply.answered(again)
        return [again.question, str(await supply.take())]

    assert asyncio.run(run()) == ["a", "None"]


def test_tokens_in_flight_are_bounded_and_one_request_is_always_let_in(tmp_path: Path) -> None:
    long = [request(f"q{number}", 0, sampling=replace(WARM, max_tokens=400)) for number in range(12)]
    with running("--delay", "0.05", "--words", "100") as endpoint:
        generate(long[:6], endpoint, tmp_path / "one.jsonl", pace=Pace(requests=6, tokens=10))
        assert told(endpoint)["most"] == 1
    with running("--delay", "0.05", "--words", "100") as endpoint:
        generate(long, endpoint, tmp_path / "some.jsonl", pace=Pace(requests=12, tokens=900))
        assert 2 < told(endpoint)["most"] <= 8  # two of 400 at first; then as many of 100 as fit


def test_what_has_come_counts_where_it_is_more_than_was_expected() -> None:
    async def run() -> list[bool]:
        budget = Budget(1000, finished=1, written=10)
        slot = Slot(Path(), 0)
        entry = await budget.admit(request(sampling=replace(WARM, max_tokens=900)), slot)
        free = budget.has_room(entry)
        slot.characters = 4 * 995
        return [free, budget.has_room(entry)]

    assert asyncio.run(run()) == [True, False]
