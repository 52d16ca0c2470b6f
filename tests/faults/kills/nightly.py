"""Kills of a night: while it asks, counts, judges, writes its history and its page, and tells the hook.

Each night is the fourth of a history of three quiet ones, with a server that is as good as before or worse.
It is struck, run again as often as it takes, and must end as the undisturbed one did: the same verdict and
exit code, once in the history, with the same counts.
"""

import random
import re
import shutil
import signal
import sqlite3
import sys
from contextlib import closing
from functools import cache, partial
from pathlib import Path
from typing import Any

from harness.cli import nights
from reports import nightly as told_nights
from reports import trend
from tests.fakes.engine import running
from tests.faults.fault import Fault, Outcome
from tests.faults.forked import forked
from tests.faults.stored import same_runs
from tests.faults.striking import IN_ONE_GO
from tests.faults.struck import HARNESS, INTERRUPTED, INTERRUPTED_CODE, Scene, Trouble
from tests.faults.victims import Start, Strike, Struck, struck

PRELOADED = (nights, told_nights, trend)
"""What a fork need not import again."""
SERVERS = {"pass": ("--sums", "0.97"), "regression": ("--sums", "0.6")}
CODES = {"pass": 0, "regression": 1}
SLOW = ("--delay", "0.05")
CONFIG = """
[[checkpoints]]
name = "tiny"
model = "tiny"
base_url = "{url}"
benchmarks = ["micro_math:4"]
[gate]
drop = 10
minimum_history = 3
[notify]
command = ["{python}", "-S", "hook.py"]
on = ["pass", "regression", "inconclusive"]
"""
HOOK = "import os; open('told', 'a').write(os.environ['HARNESS_OUTCOME'] + '\\n')"
AFRESH = 0.1
"""The share of commands that start a Python of their own."""
SECONDS = 1.6
"""Within which a night is struck, after it was told to begin."""
VICTIMS = ("command", "command", "command", "group", "all")
MACHINE = "concurrency = 16\n"


def configured(home: Path, url: str) -> None:
    (home / "nightly.toml").write_text(CONFIG.format(url=url, python=sys.executable))
    (home / "hook.py").write_text(HOOK)
    (home / "machine.toml").write_text(MACHINE)


def start_of(scene: Scene, home: Path, label: str, afresh: bool = False) -> Start:
    """A start of the night: of a Python of its own, or of a fork of this one. Without a label, today's."""
    arguments = ["nightly", str(home / "nightly.toml"), "--json", *(["--night", label] if label else [])]
    arguments += ["--runs", str(home / "runs"), "--machine", str(home / "machine.toml")]
    return partial(scene.start, [*HARNESS, *arguments]) if afresh else partial(forked, scene, arguments)


@cache
def quiet(own: Path) -> Path:
    """A folder with a history of three quiet nights, in a temporary one."""
    home = own / "quiet"
    home.mkdir()
    with running(*SERVERS["pass"]) as endpoint:
        configured(home, endpoint.base_url)
        for label in "123":
            ended = struck(start_of(Scene(folder=own), home, label), own / "said.txt", None, {})
            assert ended.code == 2, ended.said
    return home


def recorded(home: Path) -> list[list[Any]]:
    """The whole history but for times, and for what names the place. Raises Trouble where it is damaged."""
    queries = (
        "SELECT id, name, label, finished IS NOT NULL, outcome, harness FROM night ORDER BY id",
        "SELECT id, night, checkpoint, benchmark, setting, complete, outcome, texts, record FROM result "
        "ORDER BY night, checkpoint, benchmark",
        "SELECT night, question.* FROM question JOIN result ON result.id = result ORDER BY night, question",
        "SELECT * FROM setting ORDER BY digest",
    )
    with closing(sqlite3.connect(home / "runs" / "nightly" / "history.sqlite")) as history:
        [(sound,)] = history.execute("PRAGMA integrity_check").fetchall()
        if sound != "ok":
            raise Trouble("lost", f"the history is damaged: {sound}")
        return [history.execute(query).fetchall() for query in queries]


def glance(home: Path) -> None:
    """Right after a blow: the history is sound, what it calls finished is whole, and the page is not torn."""
    found, results, *_ = recorded(home)
    for id_, _, label, finished, *_ in found:
        if finished and not any(result[1] == id_ for result in results):
            raise Trouble("lost", f"night {label} is finished and holds nothing")
    if not page_of(home).rstrip().endswith("</html>"):
        raise Trouble("lost", "the trend page is torn")


def page_of(home: Path) -> str:
    return (home / "runs" / "nightly" / "trend.html").read_text()


def same(calm: Path, home: Path) -> None:
    """Raises Trouble where history, page, files or the hook's news are not those of the undisturbed night."""
    ours, theirs = recorded(calm), recorded(home)
    for told, one, other in zip(("nights", "results", "counts", "settings"), ours, theirs, strict=True):
        if one != other:
            raise Trouble("wrongly graded" if told != "nights" else "lost", f"other {told}: {one} → {other}")
    if plain(page_of(calm)) != plain(page_of(home)):
        raise Trouble("lost", "another trend page")
    same_runs(calm / "runs", home / "runs")
    outcomes = set((home / "told").read_text().split())
    if outcomes != set((calm / "told").read_text().split()):
        raise Trouble("wrongly graded", f"the hook was told {outcomes}")


def plain(page: str) -> str:
    """A page without its times of day."""
    return re.sub(r"\d\d:\d\d(:\d\d)?", "", page)


def complaint(ended: Struck, code: int) -> str:
    """What is wrong with how a command ended, whose night ends with `code` where nothing happens."""
    if "Traceback" in ended.said:
        return "it traced back"
    if ended.code == code:
        return ""
    if ended.strike is None:
        return "it ended by itself"
    which = ended.strike.signal
    if ended.code == -which and (which == signal.SIGKILL or not ended.caught):
        return ""
    told = which == signal.SIGTERM and ended.code == INTERRUPTED_CODE and INTERRUPTED in ended.said
    return "" if told else "it was not told as interrupted"


def run(folder: Path, seed: int) -> Outcome:
    folder, rng, given, rounds = folder.resolve(), random.Random(f"{seed}:nightly"), list[Strike](), 0
    scene, outcome, label = Scene(folder=folder), rng.choice(sorted(SERVERS)), rng.choice(("4", ""))
    try:
        before = quiet(folder)
        with running(*SERVERS[outcome], *SLOW) as endpoint:
            calm = of_tonight(before, folder / "calm", endpoint.base_url)
            finish(scene, calm, label, CODES[outcome])
            while len(given) < IN_ONE_GO:
                rounds += 1
                home = of_tonight(before, folder / str(rounds), endpoint.base_url)
                given += disturbed(scene, home, label, CODES[outcome], rng, IN_ONE_GO - len(given))
                same(calm, home)
        if left := scene.left():
            raise Trouble("escaped", f"left behind: {left}")
    except Trouble as trouble:
        return Outcome(ending=trouble.ending, note=str(trouble), strikes=max(1, len(given)))
    note = f"{rounds} nights ended as a {outcome} after {len(given)} strikes"
    return Outcome(ending="survived", note=note, strikes=len(given))


def of_tonight(before: Path, home: Path, url: str) -> Path:
    """A copy of the quiet nights, whose checkpoint is served at this URL from now on."""
    shutil.copytree(before, home, symlinks=True)
    (home / "told").unlink()
    configured(home, url)
    return home


def disturbed(scene: Scene, home: Path, label: str, code: int, rng: random.Random, most: int) -> list[Strike]:
    """One night, struck up to five times before it may end; by whom."""
    given, most = list[Strike](), min(most, rng.randint(1, 5))
    while len(given) < most:
        strike = Strike(
            victim=rng.choice(VICTIMS),
            signal=signal.SIGTERM if rng.random() < 0.5 else signal.SIGKILL,
            after=rng.uniform(0, SECONDS),
        )
        start = start_of(scene, home, label, afresh=rng.random() < AFRESH)
        ended = struck(start, home / "said.txt", strike, {})
        if ended.strike is not None:
            given.append(ended.strike)
        if wrong := complaint(ended, code):
            told = ", ".join(map(str, given))
            raise Trouble("lost", f"{wrong} ({ended.code}) after {told}: {ended.said[-1500:]}")
        glance(home)
        if ended.code == code:
            break
    finish(scene, home, label, code)
    return given


def finish(scene: Scene, home: Path, label: str, code: int) -> None:
    """Runs the night to its end. Raises Trouble where its verdict is another one."""
    ended = struck(start_of(scene, home, label), home / "said.txt", None, {})
    if ended.code != code:
        told = f"the night ended with {ended.code}, not {code}: {ended.said[-1500:]}"
        raise Trouble("wrongly graded" if ended.code in (0, 1) else "lost", told)


nightly = Fault(name="nightly", kind="nightly", run=run)
