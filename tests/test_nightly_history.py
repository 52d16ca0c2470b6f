"""The history's file: nights are whole or not there, red ones are no baseline, another schema is refused."""

import json
import sqlite3
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from harness.errors import DataError, UsageError
from harness.nightly.asking import RESUMED, Evaluation, choose_label, night_seed
from harness.nightly.gate import Baseline
from harness.nightly.history import History, Result
from harness.nightly.night import accept
from harness.nightly.retention import planned
from harness.store import RunStore
from tests.nightly_history import NAME, add_night, made_history
from tests.nightly_rates import USUAL, asked

DAY = 86_400.0
SEPTEMBER = 1_788_220_800.0  # 2026-09-01T00:00:00Z


@pytest.fixture
def history(tmp_path: Path) -> Iterator[History]:
    found = History(tmp_path / "deep" / "history.sqlite")
    yield found
    found.close()


def night(history: History, label: str, drop: float = 0.0) -> Result:
    """A night of 64 draws of AIME24, of which so many points are lost."""
    test = USUAL.tests[0]
    rng = np.random.default_rng(len(label) * 1000 + int(label))
    add_night(history, label, [(test, asked(test, drop, 0.0, 1, rng)[0])])
    (result,) = history.nights(NAME)[-1].results
    return result


def test_red_nights_are_no_baseline_until_they_are_accepted(history: History) -> None:
    quiet = [night(history, str(number)) for number in range(1, 13)]
    assert quiet[-1].judged.nights == 6
    red = [night(history, str(number), drop=8) for number in (13, 14)]
    assert [one.judged.outcome for one in red] == ["regression", "regression"]
    assert night(history, "15", drop=8).judged.nights == 7
    told = accept(history, NAME, [])
    assert told == [f"dasd-4b/aime24: the history begins anew with night 13, at {score_of(history):.1f}"]
    later = night(history, "16", drop=8)
    assert (later.judged.nights, later.judged.outcome) == (3, "inconclusive")
    with pytest.raises(UsageError, match="nothing regressed"):
        accept(history, NAME, [])


def score_of(history: History) -> float:
    score = history.nights(NAME)[-1].results[0].score
    assert score is not None
    return score


def test_the_flips_are_those_since_the_last_night_that_passed(history: History) -> None:
    for number in range(1, 8):
        night(history, str(number))
    night(history, "8", drop=10)
    night(history, "9", drop=10)
    *_, passed, _, last = history.nights(NAME)
    assert (passed.label, passed.outcome) == ("7", "pass")
    before = {
        one.question: one.correct / one.draws for one in history.counted(passed.id, "dasd-4b", "aime24")
    }
    now = {one.question: one.correct / one.draws for one in history.counted(last.id, "dasd-4b", "aime24")}
    flips = last.results[0].flips
    assert {flip.question for flip in flips} == {name for name in now if now[name] != before[name]}
    assert all((flip.last, flip.tonight) == (before[flip.question], now[flip.question]) for flip in flips)
    lost = [flip.tonight - flip.before for flip in flips]
    assert lost == sorted(lost)


def test_responses_that_are_those_of_another_night_are_a_replay_and_no_baseline(history: History) -> None:
    test = USUAL.tests[0]
    right = asked(test, 0.0, 0.0, 1, np.random.default_rng(1))[0]
    for label in ("1", "2"):
        add_night(history, label, [(test, right)], texts="the same")
    for label in ("3", "4"):
        add_night(history, label, [(test, right)])
    _, replay, _, last = (one.results[0] for one in history.nights(NAME))
    assert replay.judged.outcome == "inconclusive"
    assert replay.judged.reason.startswith("every response is that of night 1, word for word")
    assert last.judged.nights == 2


def test_a_night_that_fails_while_it_is_written_leaves_nothing(history: History) -> None:
    begun = history.begin(NAME, "1")
    result = night(history, "2")
    broken = [(result, history.counted(2, "dasd-4b", "aime24"), {}), (result, [], {})]  # one line twice
    with pytest.raises(sqlite3.IntegrityError):
        history.record(begun, "pass", "0", broken)
    (first, _) = history.nights(NAME)
    assert first.finished is None
    assert history.counted(begun.id, "dasd-4b", "aime24") == []


def test_another_call_for_a_night_leaves_the_results_of_lines_that_it_does_not_ask(history: History) -> None:
    result = night(history, "1")
    (first,) = history.nights(NAME)
    other = replace(result, benchmark="gpqa_diamond")
    history.record(first, "pass", "0", [(other, [], {})])
    (first,) = history.nights(NAME)
    assert [one.benchmark for one in first.results] == ["aime24", "gpqa_diamond"]
    assert len(history.counted(first.id, "dasd-4b", "aime24")) == USUAL.tests[0].questions


def test_a_night_is_no_other_s_because_that_asks_less(history: History) -> None:
    night(history, "1")
    with pytest.raises(UsageError, match="dasd-4b/aime24, which is not asked now"):
        labelled(history, SEPTEMBER, wanted="1")


def test_a_history_that_is_only_busy_is_not_to_be_moved_away(history: History) -> None:
    other = sqlite3.connect(history.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(DataError, match="another process holds") as raised:
        History(history.path, wait=0.05)
    assert "run the same command again" in raised.value.remedy
    other.close()


def test_a_history_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "folder", tmp_path / "file" / "h.sqlite"):
        with pytest.raises(DataError, match="cannot be opened as a history"):
            History(path)


def test_what_a_killed_night_left_goes_once_it_is_older_than_all_that_are_kept(
    history: History, tmp_path: Path
) -> None:
    store = RunStore(tmp_path / "runs")
    for label in "123":
        begun = history.begin(NAME, label)
        if label != "1":
            history.record(begun, "pass", "0", [])
    ask = store.stages / "ask-0123abcd"
    ask.mkdir(parents=True)
    (ask / "identity.json").write_text(json.dumps({"sampling": {"seed": night_seed(NAME, "1")}}))
    run = store.root / f"{NAME}-1"
    run.mkdir()
    later = history.nights(NAME)[0].began + RESUMED
    found = planned(store, history.nights(NAME), 2, later)
    assert (found.runs, found.stages) == ((run,), ("ask-0123abcd",))
    assert planned(store, history.nights(NAME), 2, later - 1).runs == ()
    assert planned(store, history.nights(NAME)[:2], 2, later).runs == (run,)
    assert planned(store, history.nights(NAME)[:1], 2, later).runs == ()


def test_another_process_s_transaction_is_waited_for(history: History, tmp_path: Path) -> None:
    other = sqlite3.connect(history.path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    held = threading.Timer(0.5, lambda: other.execute("COMMIT"))
    held.start()
    assert history.begin(NAME, "1").label == "1"
    held.join()
    other.close()


def test_a_file_of_another_schema_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "h.sqlite"
    History(path).close()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 9")
    connection.commit()
    connection.close()
    with pytest.raises(DataError, match="has schema 9"):
        History(path)


def test_the_baseline_is_summed_in_the_order_that_is_asked_for(history: History) -> None:
    for number in (1, 2):
        night(history, str(number))
    (first, second) = history.nights(NAME)
    counts = [history.counted(one.id, "dasd-4b", "aime24") for one in (first, second)]
    names = [one.question for one in counts[0]][::-1]
    found: Baseline = history.baseline([first.id, second.id], second.results[0], names)
    expected = [a.correct + b.correct for a, b in zip(*counts, strict=True)][::-1]
    assert found.right.tolist() == expected
    assert found.scores == pytest.approx([first.results[0].score, second.results[0].score])


# Which night it is --------------------------------------------------------------------------


def no_tests(label: str) -> list[Evaluation]:
    return []


def labelled(history: History, now: float, wanted: str | None = None, again: bool = False) -> str:
    return choose_label(history, NAME, no_tests, wanted=wanted, again=again, now=now)


def test_a_night_is_named_after_its_day_and_a_killed_one_is_continued_over_midnight(history: History) -> None:
    assert labelled(history, SEPTEMBER) == "2026-09-01"
    assert labelled(history, SEPTEMBER + DAY - 1) == "2026-09-01"
    history.begin(NAME, "2026-09-01")
    history.connection.execute("UPDATE night SET began = ?", (SEPTEMBER + DAY - 600,))
    assert labelled(history, SEPTEMBER + DAY + 600) == "2026-09-01"
    assert labelled(history, SEPTEMBER + DAY + RESUMED) == "2026-09-02", "by then it is another checkpoint's"
    assert labelled(history, SEPTEMBER + DAY + 600, again=True) == "2026-09-02"


def test_again_is_another_night_of_the_day(history: History) -> None:
    for label in ("2026-09-01", "2026-09-01.2"):
        begun = history.begin(NAME, label)
        history.record(begun, "pass", "0", [])
    assert time.time() - history.nights(NAME)[0].began < 3600
    history.connection.execute("UPDATE night SET began = ?", (SEPTEMBER,))
    assert labelled(history, SEPTEMBER) == "2026-09-01"
    assert labelled(history, SEPTEMBER, again=True) == "2026-09-01.3"


def test_a_clock_that_went_back_shows_no_old_night_for_tonight_s_and_continues_none(history: History) -> None:
    history.record(history.begin(NAME, "2026-09-01"), "pass", "0", [])
    history.record(history.begin(NAME, "2026-09-02"), "pass", "0", [])
    history.connection.execute("UPDATE night SET began = ? + ? * id", (SEPTEMBER - DAY, DAY))
    assert labelled(history, SEPTEMBER + DAY) == "2026-09-02"
    assert labelled(history, SEPTEMBER + 60) == "2026-09-01.2"
    history.begin(NAME, "2026-09-03")
    history.connection.execute("UPDATE night SET began = ? WHERE id = 3", (SEPTEMBER + 2 * DAY,))
    assert labelled(history, SEPTEMBER + 60) == "2026-09-01.2"


def test_a_night_never_takes_the_name_of_a_run_that_it_did_not_begin(history: History) -> None:
    def label(wanted: str | None) -> str:
        return choose_label(
            history,
            NAME,
            no_tests,
            wanted=wanted,
            again=False,
            now=SEPTEMBER,
            taken=lambda label: label in ("4b", "2026-09-01"),
        )

    assert label(None) == "2026-09-01.2"
    with pytest.raises(UsageError, match="the name of another run or recipe"):
        label("4b")
    history.begin(NAME, "4b")
    assert label("4b") == "4b"


def test_each_night_has_a_seed_of_its_own_that_follows_from_its_name() -> None:
    seeds = {night_seed(name, f"2026-01-{day:02}") for name in ("a", "b") for day in range(1, 32)}
    assert len(seeds) == 62
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert night_seed("a", "2026-01-01") == night_seed("a", "2026-01-01") == 437_822_067


def test_a_made_history_passes_until_the_drop_and_is_red_from_then_on(tmp_path: Path) -> None:
    history = made_history(tmp_path / "h.sqlite", nights=14, drop_on=13)
    outcomes = [one.outcome for one in history.nights(NAME)]
    history.close()
    assert outcomes[-2:] == ["regression", "regression"]
    assert "regression" not in outcomes[:-2]
    assert "pass" in outcomes
