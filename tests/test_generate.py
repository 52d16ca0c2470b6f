"""The loop: resuming, tearing, dying and hanging."""

import itertools
import json
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from harness.asking import Request
from harness.endpoint import Endpoint
from harness.errors import DataError, HarnessError, ServerError
from harness.generate import Pace, generate
from harness.machine import Machine
from harness.rows import Key, RowFile, keys_of, read_in_order, read_rows
from harness.serve import ServerPool
from harness.session import SESSION
from harness.types import Generation
from tests.fakes.engine import WARM, FakeEngine, checkpoint, request, running

ROOT = Path(__file__).resolve().parents[1]


def requests(questions: int = 5, draws: int = 4) -> Iterator[Request]:
    for question, draw in itertools.product(range(questions), range(draws)):
        yield request(f"q{question}", draw)


def keys(rows: Path) -> list[tuple[str, int]]:
    return sorted((row.question, row.draw) for row in read_rows(rows, Generation))


def texts(rows: Path) -> dict[tuple[str, int], str]:
    return {(row.question, row.draw): row.text for row in read_rows(rows, Generation)}


def asked_count(endpoint: Endpoint) -> int:
    with urllib.request.urlopen(endpoint.base_url.removesuffix("/v1") + "/asked") as answer:
        return len(json.load(answer)["asked"])


class Counted:
    def __init__(self) -> None:
        self.rows = self.tokens = self.failures = 0

    def advance(self, rows: int = 1, tokens: int = 0, failures: int = 0) -> None:
        self.rows += rows
        self.tokens += tokens
        self.failures += failures


def test_rows_in_order_do_not_depend_on_the_order_in_which_they_came(tmp_path: Path) -> None:
    lines = [json.dumps({"question": q, "draw": d, "text": f"{q}{d}é"}) for q in "ba" for d in (10, 9, 0)]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines) + "\n" + '{"question": "torn', encoding="utf-8")
    found = [(row.question, row.draw) for row in read_in_order(tmp_path / "rows.jsonl", Key)]
    assert found == [(q, d) for q in "ab" for d in (0, 9, 10)]


def test_every_request_becomes_one_row(tmp_path: Path) -> None:
    progress = Counted()
    with running() as endpoint:
        assert generate(requests(), endpoint, tmp_path / "rows.jsonl", progress=progress) == 20
    assert keys(tmp_path / "rows.jsonl") == sorted(each.key for each in requests())
    assert (progress.rows, progress.tokens, progress.failures) == (20, 240, 0)


def test_a_second_run_asks_nothing(tmp_path: Path) -> None:
    with running() as endpoint:
        generate(requests(), endpoint, tmp_path / "rows.jsonl")
        before = asked_count(endpoint)
        assert generate(requests(), endpoint, tmp_path / "rows.jsonl") == 0
        assert asked_count(endpoint) == before
    assert keys_of(tmp_path / "rows.jsonl") == {each.key for each in requests()}


def test_a_file_that_is_not_there_holds_no_key(tmp_path: Path) -> None:
    assert keys_of(tmp_path / "rows.jsonl") == set()


def test_a_request_named_twice_is_asked_once(tmp_path: Path) -> None:
    with running() as endpoint:
        assert generate([request("q", 1), request("q", 1)], endpoint, tmp_path / "rows.jsonl") == 1


def test_a_torn_last_line_is_dropped_and_asked_again(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    with running() as endpoint:
        generate(requests(2, 2), endpoint, rows)
        whole = texts(rows)
        rows.write_bytes(rows.read_bytes()[:-30])
        assert len(keys(rows)) == 3
        assert generate(requests(2, 2), endpoint, rows) == 1
    assert texts(rows) == whole


def test_a_file_that_is_one_torn_line_becomes_empty(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_bytes(b'{"question": "q' + b"x" * 200_000)
    with RowFile(rows) as file:
        assert file.keys == set()
    assert rows.read_bytes() == b""


def test_a_broken_line_in_the_middle_is_named_and_not_skipped(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"question": "a", "draw": 0}\nrubbish\n{"question": "b", "draw": 0}\n')
    with running() as endpoint, pytest.raises(DataError, match="line 2"):
        generate(requests(), endpoint, rows)


def test_a_line_separator_inside_a_text_does_not_end_the_row(tmp_path: Path) -> None:
    with running("--text", "one\u2028two\u0085three") as endpoint:
        generate(requests(1, 2), endpoint, tmp_path / "rows.jsonl")
    assert {row.text for row in read_rows(tmp_path / "rows.jsonl", Generation)} == {"one\u2028two\u0085three"}


def test_rows_do_not_depend_on_concurrency_or_order(tmp_path: Path) -> None:
    with running("--delay", "0.01") as endpoint:
        generate(requests(), endpoint, tmp_path / "one" / "rows.jsonl", pace=Pace(requests=1))
        backwards = reversed(list(requests()))
        generate(backwards, endpoint, tmp_path / "many" / "rows.jsonl", pace=Pace(requests=16))
    assert texts(tmp_path / "one" / "rows.jsonl") == texts(tmp_path / "many" / "rows.jsonl")


def test_requests_are_pulled_as_slots_become_free(tmp_path: Path) -> None:
    pulled = itertools.count()
    ahead: list[int] = []

    def counted() -> Iterator[Request]:
        for each in requests(10, 10):
            next(pulled)
            yield each

    class Watching(Counted):
        def advance(self, rows: int = 1, tokens: int = 0, failures: int = 0) -> None:
            super().advance(rows, tokens, failures)
            ahead.append(int(repr(pulled)[6:-1]) - self.rows)

    with running("--delay", "0.01") as endpoint:
        generate(counted(), endpoint, tmp_path / "rows.jsonl", pace=Pace(requests=8), progress=Watching())
        with urllib.request.urlopen(endpoint.base_url.removesuffix("/v1") + "/asked") as answer:
            assert json.load(answer)["most_in_flight"] == 8
    assert max(ahead) <= 16  # eight in flight, and eight that were being written


def test_failed_attempts_are_counted_and_heal(tmp_path: Path) -> None:
    progress = Counted()
    with running("--fail", "3") as endpoint:
        generate(requests(2, 2), endpoint, tmp_path / "rows.jsonl", progress=progress)
    assert (progress.rows, progress.failures) == (4, 3)


def test_resuming_with_another_engine_version_is_refused_and_names_both(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    with running() as endpoint:
        generate(requests(1, 2), endpoint, rows)
        newer = replace(endpoint, fingerprint={**endpoint.fingerprint, "version": "2.0"})
        with pytest.raises(ServerError, match=r"version was '1.0' and is now '2.0'"):
            generate(requests(2, 2), newer, rows)
    assert len(keys(rows)) == 2


def test_a_session_without_rows_binds_nobody(tmp_path: Path) -> None:
    (tmp_path / SESSION).write_text('{"engine": "another"}')
    with running() as endpoint:
        assert generate(requests(1, 1), endpoint, tmp_path / "rows.jsonl") == 1
    assert json.loads((tmp_path / SESSION).read_text())["engine"] == "fake"


def test_a_server_that_dies_is_named_with_its_log_and_the_rows_are_kept(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    model = checkpoint(tmp_path / "model")
    with ServerPool(Machine()) as pool:
        dying = pool.acquire(
            FakeEngine(switches=("--die-after", "7")), model, "tiny", WARM, tmp_path / "server.log"
        )
        began = time.monotonic()
        with pytest.raises(ServerError, match=r"died with exit code 7(.|\n)*the engine core died"):
            generate(requests(), dying, rows, pace=Pace(requests=2))
        assert time.monotonic() - began < 60
        assert 0 < len(keys(rows)) < 20
        healthy = pool.acquire(FakeEngine(), model, "tiny", WARM, tmp_path / "server.log")
        generate(requests(), healthy, rows)
    assert keys(rows) == sorted(each.key for each in requests())


def test_a_server_that_hangs_is_noticed_and_the_rows_are_kept(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    with running("--hang-after", "3") as endpoint, pytest.raises(ServerError, match="hangs"):
        generate(requests(), endpoint, rows, pace=Pace(requests=1, hang_after=2.0))
    assert len(keys(rows)) == 3


def test_a_slow_but_healthy_server_is_not_taken_for_a_hung_one(tmp_path: Path) -> None:
    with running("--delay", "3") as endpoint:
        assert generate(requests(1, 2), endpoint, tmp_path / "rows.jsonl", pace=Pace(hang_after=1.0)) == 2
        assert asked_count(endpoint) == 2


def test_a_folder_that_cannot_be_made_is_an_error_with_a_way_out(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with running() as endpoint, pytest.raises(HarnessError, match="make room"):
        generate(requests(1, 1), endpoint, tmp_path / "file" / "rows.jsonl")


LONG_RUN = """
import sys
from dataclasses import replace
from pathlib import Path
from harness.generate import Pace, generate
from tests.fakes.engine import FakeEngine, request
from harness.endpoint import Endpoint
from harness.engines import ALL_PARAMETERS
endpoint = Endpoint(base_url=sys.argv[1], model="tiny", engine=FakeEngine(), accepts=ALL_PARAMETERS,
                    fingerprint={"engine": "fake", "version": "1.0", "model": "tiny"})
wanted = (request(f"q{q}", d) for q in range(5) for d in range(40))
generate(wanted, endpoint, Path(sys.argv[2]), pace=Pace(requests=4))
"""


def test_kill_9_in_the_middle_and_a_second_run_give_the_rows_of_an_undisturbed_one(tmp_path: Path) -> None:
    rows = tmp_path / "killed" / "rows.jsonl"
    with running("--delay", "0.02") as endpoint:
        process = subprocess.Popen(
            [sys.executable, "-c", LONG_RUN, endpoint.base_url, str(rows)],
            cwd=ROOT,
            env={"PYTHONPATH": str(ROOT)},
        )
        while not rows.exists() or rows.stat().st_size < 5000:
            assert process.poll() is None
            time.sleep(0.02)
        process.kill()
        process.wait()
        wanted = list(requests(5, 40))
        assert 0 < len(keys(rows)) < len(wanted)
        generate(wanted, endpoint, rows, pace=Pace(requests=4))
        generate(wanted, endpoint, tmp_path / "whole" / "rows.jsonl")
    assert keys(rows) == keys(tmp_path / "whole" / "rows.jsonl")
    assert texts(rows) == texts(tmp_path / "whole" / "rows.jsonl")


def test_a_full_disk_is_an_error_with_a_way_out_and_nothing_half_written_counts(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))\n"
    with running() as endpoint:
        done = subprocess.run(
            [sys.executable, "-c", limit + LONG_RUN, endpoint.base_url, str(rows)],
            cwd=ROOT,
            env={"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert "File too large" in done.stderr
        assert "make room" in done.stderr
        assert 0 < len(keys(rows)) < 200
        generate(requests(5, 40), endpoint, rows)
    assert keys(rows) == sorted(each.key for each in requests(5, 40))


def test_ctrl_c_keeps_what_was_finished(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"

    class Interrupting(Counted):
        def advance(self, rows: int = 1, tokens: int = 0, failures: int = 0) -> None:
            super().advance(rows, tokens, failures)
            if self.rows == 5:
                raise KeyboardInterrupt

    with running() as endpoint, pytest.raises(KeyboardInterrupt):
        generate(requests(), endpoint, rows, pace=Pace(requests=1), progress=Interrupting())
    assert len(keys(rows)) == 5
    assert threading.active_count() < 10
