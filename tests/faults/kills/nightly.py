"""Kills of a night: while it asks, counts, judges, writes its history and its page, and tells the hook.

Each night is the fourth of a history of three quiet ones, with a server that is as good as before or worse.
It is struck, run again as often as it takes, and must end as the undisturbed one did: the same verdict and
exit code, once in the history, with the same counts.
"""

import json
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
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
from tests.faults.struck import HARNESS, INTERRUPTED, INTERRUPTED_CODE, ROOT, Scene, Trouble
from tests.faults.victims import Start, Strike, Struck, lacking, struck

PRELOADED = (nights, told_nights, trend)
"""What a fork need not import again."""
SERVERS = {"pass": ("--sums", "0.97"), "regression": ("--sums", "0.6")}
CODES = {"pass": 0, "regression": 1}
SLOW = ("--delay", "0.05")
CONFIG = """
[[checkpoints]]
name = "tiny"
model = "{model}"
base_url = "{url}"
benchmarks = ["micro_math:{draws}"]
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
VICTIMS = ("command", "command", "command", "group", "all")
MACHINE = "concurrency = 16\n"
TEACHER = ROOT / "pipeline" / "micro" / "teacher"
REAL_STRIKES = 5
INCONCLUSIVE = 2


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Who is asked, and how many times each of 40 questions."""

    url: str
    model: str = "tiny"
    draws: int = 4


def configured(home: Path, asked: Asked) -> None:
    (home / "nightly.toml").write_text(CONFIG.format(**asdict(asked), python=sys.executable))
    (home / "hook.py").write_text(HOOK)
    (home / "machine.toml").write_text(MACHINE)


def start_of(scene: Scene, home: Path, label: str, afresh: bool = False) -> Start:
    """A start of the night: of a Python of its own, or of a fork of this one. Without a label, today's."""
    arguments = ["nightly", str(home / "nightly.toml"), "--json", *(["--night", label] if label else [])]
    arguments += ["--runs", str(home / "runs"), "--machine", str(home / "machine.toml")]
    return partial(scene.start, [*HARNESS, *arguments]) if afresh else partial(forked, scene, arguments)


def quiet(scene: Scene, asked: Asked) -> Path:
    """A folder with a history of three quiet nights."""
    home = scene.folder / "quiet"
    home.mkdir()
    configured(home, asked)
    for label in "123":
        ended = struck(start_of(scene, home, label), home / "said.txt", None, {})
        if ended.code != INCONCLUSIVE:
            raise Trouble("lost", f"a quiet night ended with {ended.code}: {ended.said[-1500:]}")
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
    """Raises Trouble where history, page, files or the hook's news are not those of the undisturbed night.
    A night that is struck after it was told is told again by the command that ends it."""
    ours, theirs = recorded(calm), recorded(home)
    for told, one, other in zip(("nights", "results", "counts", "settings"), ours, theirs, strict=True):
        if one != other:
            raise Trouble("wrongly graded" if told != "nights" else "lost", f"other {told}: {one} → {other}")
    if plain(page_of(calm)) != plain(page_of(home)):
        raise Trouble("lost", "another trend page")
    same_runs(calm / "runs", home / "runs")
    outcomes = set(news(home))
    if outcomes != set(news(calm)):
        raise Trouble("wrongly graded", f"the hook was told {outcomes}")


def news(home: Path) -> list[str]:
    """The outcomes that the hook was told, in their order."""
    file = home / "told"
    return file.read_text().split() if file.exists() else []


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
    rng, scene = random.Random(f"{seed}:nightly"), Scene(folder=folder.resolve())
    outcome, label = rng.choice(sorted(SERVERS)), rng.choice(("4", ""))
    try:
        with running(*SERVERS["pass"]) as good:
            before = quiet(scene, Asked(url=good.base_url))
        with running(*SERVERS[outcome], *SLOW) as endpoint:
            tonight = tonight_of(scene, before, Asked(url=endpoint.base_url), label)
            if tonight.code != CODES[outcome]:
                raise Trouble("wrongly graded", f"undisturbed, a {outcome} ended with {tonight.code}")
            return tonight.struck(rng, IN_ONE_GO)
    except Trouble as trouble:
        return Outcome(ending=trouble.ending, note=str(trouble))


@dataclass(frozen=True, kw_only=True)
class Tonight:
    """The night that is to be struck, in copies of the quiet ones; `calm` is the undisturbed one, which took
    so many `seconds` and ended with `code`."""

    scene: Scene
    before: Path
    calm: Path
    asked: Asked
    label: str
    code: int
    seconds: float

    def struck(self, rng: random.Random, wanted: int) -> Outcome:
        """So many strikes, each night struck up to five times before it may end."""
        given, rounds = list[Strike](), 0
        try:
            while len(given) < wanted:
                rounds += 1
                home = copied(self.before, self.before.parent / str(rounds), self.asked)
                given += self.disturbed(home, rng, min(wanted - len(given), rng.randint(1, 5)))
                same(self.calm, home)
            if left := self.scene.left():
                raise Trouble("escaped", f"left behind: {left}")
        except Trouble as trouble:
            return Outcome(ending=trouble.ending, note=str(trouble), strikes=max(1, len(given)))
        note = f"{rounds} nights ended with {self.code} after {len(given)} strikes"
        return Outcome(ending="survived", note=note, strikes=len(given))

    def disturbed(self, home: Path, rng: random.Random, most: int) -> list[Strike]:
        """One night, struck so many times unless it ends before; by whom."""
        given = list[Strike]()
        while len(given) < most:
            strike = Strike(
                victim=rng.choice(VICTIMS),
                signal=rng.choice((signal.SIGKILL, signal.SIGTERM)),
                after=rng.uniform(0, self.seconds),
            )
            start, before = start_of(self.scene, home, self.label, rng.random() < AFRESH), len(news(home))
            ended = struck(start, home / "said.txt", strike, {})
            given += [ended.strike] if ended.strike is not None else []
            if wrong := complaint(ended, self.code):
                told = ", ".join(map(str, given))
                place = max(0, ended.said.find("Traceback") - 300)
                raise Trouble("lost", f"{wrong} ({ended.code}) after {told}: {ended.said[place:][:2500]}")
            glance(home)
            if (more := len(news(home)) - before) > 1:
                raise Trouble("lost", f"one command told the hook {more} times")
            if ended.code == self.code and more:
                return given
        before = len(news(home))
        ended = struck(start_of(self.scene, home, self.label), home / "said.txt", None, {})
        if (more := len(news(home)) - before) != 1:
            raise Trouble("lost", f"the command that ended the night told the hook {more} times")
        if ended.code != self.code:
            told = f"the night ended with {ended.code}, not {self.code}: {ended.said[-1500:]}"
            raise Trouble("wrongly graded" if ended.code in (0, 1) else "lost", told)
        return given


def tonight_of(scene: Scene, before: Path, asked: Asked, label: str) -> Tonight:
    """The night, after it went by undisturbed once."""
    calm = copied(before, before.parent / "calm", asked)
    started = time.monotonic()
    ended = struck(start_of(scene, calm, label), calm / "said.txt", None, {})
    seconds = time.monotonic() - started
    return Tonight(
        scene=scene, before=before, calm=calm, asked=asked, label=label, code=ended.code, seconds=seconds
    )


def copied(before: Path, home: Path, asked: Asked) -> Path:
    """The quiet nights once more; from now on their checkpoint is asked so."""
    shutil.copytree(before, home, symlinks=True)
    (home / "told").unlink()
    configured(home, asked)
    return home


def really(folder: Path, seed: int) -> Outcome:
    """Five strikes at nights that ask a real vLLM server of the micro teacher, all of them the same one. It
    stands outside the scene, where it would count as left behind."""
    folder, rng = folder.resolve(), random.Random(f"{seed}:nightly: vLLM")
    log = folder / "served.txt"
    words = [*HARNESS, "serve", str(TEACHER), "--name", "teacher", "--port", "0", "--json"]
    with log.open("wb") as said:
        server = subprocess.Popen(
            [*words, "--runs", str(folder / "served")], cwd=ROOT, stdout=said, stderr=said
        )
    try:
        while '"url"' not in (told := log.read_text(errors="replace")):
            if server.poll() is not None:
                return Outcome(ending="lost", note=f"the server did not start: {told[-1500:]}")
            time.sleep(0.2)
        [ready] = [json.loads(line) for line in told.splitlines() if line.startswith("{")]
        asked = Asked(url=ready["url"], model="teacher", draws=1)
        scene = Scene(folder=folder)
        return tonight_of(scene, quiet(scene, asked), asked, "4").struck(rng, REAL_STRIKES)
    except Trouble as trouble:
        return Outcome(ending=trouble.ending, note=str(trouble))
    finally:
        server.terminate()
        server.wait()


nightly = Fault(name="nightly", kind="nightly", run=run)
by_vllm = Fault(name="nightly: vLLM", kind="nightly", run=really, slow=True, needs=partial(lacking, "vllm"))
