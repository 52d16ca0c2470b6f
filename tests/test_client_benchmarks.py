"""The benchmarks of docs/speed.md, small: 60 generations. Ratios are printed, nothing is timed here."""

import asyncio
import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.performance.client import peers
from tests.performance.client.answers import latency
from tests.performance.client.bare import ask_all
from tests.performance.client.gpu import TINY, Turn, faults, padded_tokenizer, tokens_in
from tests.performance.client.measure import Bench, Command, Failed, compared_loops, in_turn, opened
from tests.performance.client.served import (
    AT_ONCE,
    INTERVAL,
    TOKENWISE,
    WHOLE,
    Mode,
    Record,
    Server,
)
from tests.performance.client.told import command_lines, loops_line, table
from tests.performance.client.verdicts import peer_verdicts
from tests.performance.client.watched import watch
from tests.performance.client.work import MODEL, generations, puzzles

DRAWS = 2  # 60 generations


def post(server: Server, **body: Any) -> dict[str, Any]:
    data = json.dumps({"model": MODEL, **body}).encode()
    request = urllib.request.Request(server.asked_at, data=data, method="POST")
    with urllib.request.urlopen(request, timeout=30) as answer:
        found: dict[str, Any] = json.load(answer)
    return found


def asked(number: int) -> list[dict[str, str]]:
    return [{"role": "user", "content": puzzles()[number].problem}]


def texts(server: Server, **body: Any) -> list[str]:
    return [choice["message"]["content"] for choice in post(server, **body)["choices"]]


def streamed_text(server: Server, **body: Any) -> tuple[str, list[dict[str, Any]]]:
    data = json.dumps({"model": MODEL, "stream": True, **body}).encode()
    request = urllib.request.Request(server.asked_at, data=data, method="POST")
    with urllib.request.urlopen(request, timeout=30) as answer:
        lines = answer.read().decode().split("\n\n")
    events = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    assert "data: [DONE]" in lines
    choices = [choice for event in events for choice in event["choices"]]
    return "".join(choice["delta"].get("content") or "" for choice in choices), events


# The work -------------------------------------------------------------------------------------


def test_every_question_has_the_answer_that_it_is_graded_by() -> None:
    for one in puzzles():
        x, y, _, z = (int(word) for word in one.problem.split("$")[1:8:2])
        assert (x * (y + 1) + z) % 1000 == int(one.gold)


def test_no_question_holds_its_answer_and_none_the_mark_of_another() -> None:
    found = puzzles()
    for one in found:
        assert f"${one.gold}$" not in one.problem
        assert [other.mark for other in found if other.mark in one.problem] == [one.mark]


# The server -----------------------------------------------------------------------------------


def test_the_loops_ask_for_the_same_draws_and_ours_writes_every_row(tmp_path: Path) -> None:
    with opened(tmp_path, AT_ONCE, draws=DRAWS) as bench:
        found = compared_loops(bench, 1)
    print(loops_line(AT_ONCE, found))
    assert found.same_work
    ((bare, ours),) = found.pairs
    assert ours.record.responses == bare.record.responses == 30 * DRAWS
    assert ours.record.seeded
    rows = (tmp_path / "ours" / "generations.jsonl").read_bytes().splitlines()
    assert len({(row["question"], row["draw"]) for row in map(json.loads, rows)}) == 30 * DRAWS


def test_long_answers_are_the_same_whole_and_streamed(tmp_path: Path) -> None:
    body: dict[str, Any] = {"messages": asked(3), "seed": 7, "max_tokens": 32_768}
    with opened(tmp_path / "token", TOKENWISE) as bench, opened(tmp_path / "interval", INTERVAL) as other:
        (whole,) = texts(bench.server, **body)
        text, events = streamed_text(bench.server, **body, stream_options={"include_usage": True})
        by_several, fewer = streamed_text(other.server, **body)
    assert whole == text == by_several
    assert len(whole) == 80_000
    assert events[-1]["usage"]["completion_tokens"] == 20_000
    assert len(events) > 20_000
    assert len(fewer) < 2_000


def test_our_loop_streams_long_answers_whole(tmp_path: Path) -> None:
    with opened(tmp_path, INTERVAL, draws=1) as bench:
        found = compared_loops(bench, 1)
    print(loops_line(INTERVAL, found))
    assert found.same_work
    row = json.loads((tmp_path / "ours" / "generations.jsonl").read_bytes().split(b"\n")[0])
    assert len(row["text"]) == 80_000
    assert row["completion_tokens"] == 20_000


def test_equal_seeds_give_one_text_and_none_gives_texts_of_their_own(tmp_path: Path) -> None:
    with opened(tmp_path, AT_ONCE) as bench:
        once, again = (texts(bench.server, messages=asked(0), seed=5) for _ in range(2))
        unseeded = {text for _ in range(64) for text in texts(bench.server, messages=asked(0))}
        several = texts(bench.server, messages=asked(1), n=8)
    assert once == again
    assert len(unseeded) > 8
    assert len(several) == 8


def test_a_known_share_is_right_and_the_record_says_which(tmp_path: Path) -> None:
    with opened(tmp_path, AT_ONCE) as bench:
        right = 0
        for one in list(generations(1)):
            (text,) = texts(bench.server, messages=[{"role": "user", "content": one.prompt}], seed=one.seed)
            gold = next(each.gold for each in puzzles() if each.id == one.question)
            right += f"\\boxed{{{gold}}}" in text
        with urllib.request.urlopen(f"{bench.server.root}/asked", timeout=30) as answer:
            record = json.load(answer)["asked"]
    assert 0 < right < 30
    assert sum(each["right"] for each in record) == right


def test_latencies_depend_on_the_place_and_on_no_seed() -> None:
    """A client that sends one seed, or none, waits as long in all as one with a seed for each draw."""
    found = [latency(one.id, place) for one in puzzles() for place in range(64)]
    assert min(found) >= 0.5
    assert max(found) <= 3.0
    assert 1.6 < sum(found) / len(found) < 1.9


def test_the_server_is_strict_where_real_ones_are(tmp_path: Path) -> None:
    with opened(tmp_path, AT_ONCE) as bench:
        cut = post(bench.server, messages=asked(0), seed=1, max_tokens=3)["choices"][0]
        stopped = post(bench.server, messages=asked(0), seed=1, stop=["then"])["choices"][0]
        with pytest.raises(urllib.error.HTTPError, match="404"):
            post(bench.server, messages=asked(0), model="another")
        with pytest.raises(urllib.error.HTTPError, match="400"):
            post(bench.server, messages=asked(0), max_tokens=1_000_000)
    assert (cut["finish_reason"], len(cut["message"]["content"])) == ("length", 12)
    assert stopped["finish_reason"] == "stop"
    assert "then" not in stopped["message"]["content"]


# The traps ------------------------------------------------------------------------------------


def record_after(bench: Bench, bodies: list[bytes]) -> Record:
    bench.server.reset()
    asyncio.run(ask_all(bench.server.asked_at, bodies, 8))
    return bench.server.record()


def test_one_seed_sent_with_all_repeats_is_seen_in_the_servers_record(tmp_path: Path) -> None:
    """As lm-eval sends it: 64 repeats that are one text."""
    work = list(generations(DRAWS))
    own = [each.body(max_tokens=AT_ONCE.max_tokens, stream=False) for each in work]
    one = [json.dumps({**json.loads(body), "seed": 1234}).encode() for body in own]
    with opened(tmp_path, AT_ONCE) as bench:
        assert record_after(bench, one).one_seed
        assert not record_after(bench, own).one_seed


def test_probes_for_few_tokens_are_not_taken_for_draws(tmp_path: Path) -> None:
    with opened(tmp_path, AT_ONCE) as bench:
        post(bench.server, messages=asked(0), seed=1, max_tokens=16)
        assert bench.server.record().responses == 0


def command(seconds: float, peak: int, **changes: Any) -> Command:
    values = {"responses": 1920, "questions": 30, "draws": 64, "distinct": 64, "seeded": True, "share": 60.0}
    record = Record(**{**values, "connections": 64, "in_flight": 1, "seconds": 1.0, **changes})
    return Command(
        seconds=seconds,
        busy=seconds,
        peak=peak,
        record=record,
        score=60.0,
        graded=changes.get("graded", 1920),
    )


def test_a_tool_that_grades_one_repeat_of_64_did_not_do_the_work() -> None:
    record = command(1.0, 1).record
    lazy = Command(seconds=1.0, busy=1.0, peak=1, record=record, score=60.0, graded=30)
    assert list(lazy.faults) == ["graded 30 of 1920"]
    assert not list(command(1.0, 1).faults)


def test_a_score_that_is_not_what_was_answered_is_a_fault() -> None:
    wrong = Command(seconds=1.0, busy=1.0, peak=1, record=command(1.0, 1).record, score=59.0, graded=1920)
    assert [fault for fault in wrong.faults if fault.startswith("scored 59.000 where 60.000")]


@pytest.mark.parametrize(
    ("ours", "held"),
    [
        (command(1.0, 30), [True, True, True]),
        (command(1.1, 30), [True, False, True]),
        (command(1.0, 40), [True, True, False]),
    ],
)
def test_ours_is_held_to_the_fastest_peer(ours: Command, held: list[bool]) -> None:
    found = {
        "bare": [command(0.1, 1)],
        "harness": [ours],
        "lm-eval": [command(5.0, 100)],
        "lighteval": [command(9.0, 900)],
    }
    assert [each.holds for each in peer_verdicts("x", found)] == held


def test_without_a_peer_there_is_no_ratio_that_holds() -> None:
    verdicts = peer_verdicts("x", {"bare": [command(1.0, 1)], "harness": [command(1.0, 1)]})
    assert not all(each.holds for each in verdicts)


def test_a_peer_that_fails_is_a_line_that_fails_and_makes_nothing_easier() -> None:
    runs = iter([command(2.0, 200)])

    def fast_then_broken() -> Command:
        for each in runs:
            return each
        raise Failed("evalscope ended with 1")

    said: list[str] = []
    found = in_turn(
        {
            "bare": lambda: command(0.1, 1),
            "harness": lambda: command(1.0, 30),
            "lm-eval": lambda: command(5.0, 100),
            "evalscope": fast_then_broken,
        },
        3,
        said.append,
    )
    verdicts = peer_verdicts("x", found)
    assert said == ["  evalscope ended with 1"]
    assert [each.line for each in verdicts if not each.holds] == [
        "x: evalscope failed, so that the best peer is not known"
    ]
    assert command_lines(found)[-1].split() == ["evalscope", "failed"]
    assert table(AT_ONCE, found).splitlines()[-1].endswith("| failed | | | |")


def test_ours_that_fails_holds_nothing() -> None:
    found = {"bare": [], "harness": [], "lm-eval": [command(5.0, 100)]}
    assert not any(each.holds for each in peer_verdicts("x", found))


@pytest.mark.parametrize(
    ("bare", "ours", "said"),
    [
        ((64, 1024), (64, 1024), ""),
        ((64, 1024), (64, 1023), "ours: 64 responses with 1,023 tokens"),
        ((64, 1024), (1, 16), "ours: 1 responses with 16 tokens"),
        ((63, 1024), (64, 1024), "bare: 63 responses"),
        ((64, 64), (64, 1024), "bare: 64 responses with 64 tokens"),
    ],
)
def test_a_turn_on_a_gpu_counts_only_with_all_tokens_of_both_loops(
    bare: tuple[int, int], ours: tuple[int, int], said: str
) -> None:
    pair = [Turn(seconds=1.0, busy=0.1, responses=each[0], tokens=each[1]) for each in (bare, ours)]
    found = list(faults((pair[0], pair[1]), TINY))
    assert bool(found) == bool(said)
    assert all(fault.startswith(said) for fault in found)


def test_the_tokens_of_a_response_are_those_that_the_server_reports() -> None:
    assert tokens_in(b'{"choices": [], "usage": {"completion_tokens": 16}}') == 16
    assert tokens_in(b'{"choices": [], "usage": null}') == 0


@pytest.mark.parametrize("mode", [AT_ONCE, WHOLE, INTERVAL])
def test_each_peer_is_told_the_concurrency_and_the_limit_of_the_mode(mode: Mode, tmp_path: Path) -> None:
    task = peers.prepare("http://127.0.0.1:1/v1", mode, tmp_path / "task")
    given = peers.environment(task)
    for peer in peers.PEERS.values():
        words = " ".join([*peer.command(Path("bin"), task), given["SPEED_MAX_TOKENS"]])
        assert str(mode.concurrency) in words
        assert str(mode.max_tokens) in words
    assert (tmp_path / "task" / "questions" / "questions.jsonl").read_text().count("\n") == 30


# Measuring ------------------------------------------------------------------------------------


def test_memory_is_that_of_the_whole_tree(tmp_path: Path) -> None:
    """A parent of little memory whose child takes 200 MiB."""
    child = "import time; held = bytearray(b'x') * (200 * 2**20); time.sleep(1)"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    done = watch(["python3", "-c", parent], log=tmp_path / "log")
    assert done.status == 0
    assert 200 * 2**20 < done.peak < 400 * 2**20


def test_a_command_over_its_limit_ends_with_all_that_it_started(tmp_path: Path) -> None:
    done = watch(["sh", "-c", "sleep 600 & sleep 600"], log=tmp_path / "log", limit=0.5)
    assert done.status < 0


def test_every_id_of_the_padded_tokenizer_has_a_spelling() -> None:
    found = padded_tokenizer(2_048)
    ids = {*found["model"]["vocab"].values(), *(each["id"] for each in found["added_tokens"])}
    assert ids == set(range(2_048))
