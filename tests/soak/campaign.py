"""The loop of a soak: a round of the long-lived harness, a round of the command line, a fault in each or in
neither, and a look at everything every few seconds meanwhile."""

import json
import random
import signal
import subprocess
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import docker

from harness.errors import SandboxError
from harness.sandboxes.docker import connected
from harness.serve import free_port
from tests.faults.struck import Blow, Ended, catches, complaint, ended_within, hit, said_in
from tests.soak.rows import Rows, compared, rows_of
from tests.soak.samples import Watched, sample
from tests.soak.site import Site, Size, told_fault
from tests.soak.strikes import COMMAND_STRIKES, KILLED, STRIKES, WIRE_STRIKES
from tests.tally import Ending

DEAR = "server killed"
"""A new vLLM takes minutes to start, so it is killed in fewer rounds."""


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How long, how much a round, every how many seconds a look, and in what share of rounds a fault.
    `real` asks vLLM, `seed` draws faults and moments; `rounds` there are at least, on a slow machine, too."""

    seconds: float
    size: Size
    every: float
    real: bool = False
    seed: int = 0
    faulty: float = 0.5
    rounds: int = 3


@dataclass(frozen=True, kw_only=True)
class Round:
    """When a round of the long-lived harness ended, how many rows it had, and how long it took. `fault` is
    empty where it was left alone."""

    time: float
    rows: int
    seconds: float
    fault: str


@dataclass(kw_only=True)
class Soaked:
    """What came of a soak. `samples` are taken all along, `rests` between two rounds. `endings` are by fault;
    undisturbed rounds are there only where they went wrong."""

    samples: list[dict[str, float]] = field(default_factory=list)
    rests: list[dict[str, float]] = field(default_factory=list)
    rounds: list[Round] = field(default_factory=list)
    endings: dict[str, list[Ending]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def count(self, fault: str, ending: Ending, note: str) -> None:
        if fault or ending != "survived":
            self.endings.setdefault(fault or "nothing done", []).append(ending)
        if note:
            self.notes.append(f"{fault or 'undisturbed'}: {ending}: {note}")

    @property
    def faults(self) -> list[Ending]:
        return [ending for found in self.endings.values() for ending in found]


@dataclass(kw_only=True)
class Campaign:
    """One soak at work."""

    effort: Effort
    site: Site
    watched: Watched
    driver: "subprocess.Popen[str]"
    wire: str
    soaked: Soaked
    undisturbed: dict[str, Rows] = field(default_factory=dict)
    typical: dict[str, float] = field(default_factory=dict)

    def run(self) -> None:
        """Rounds until the time is up; the first are undisturbed and say what rows there should be."""
        ends = time.monotonic() + self.effort.seconds
        with self.sampling():
            for number in (0, 1):
                self.driven(number, "")
                self.commanded(number, "")
            number = 2
            while time.monotonic() < ends or number < 2 + self.effort.rounds:
                rng = random.Random(f"{self.effort.seed}:round:{number}")
                self.driven(number, self.drawn(rng, list(STRIKES)))
                wire = list(WIRE_STRIKES) if number % 2 == 0 else []
                self.commanded(number, self.drawn(rng, [*COMMAND_STRIKES, *wire]))
                self.rested()
                number += 1

    def rested(self) -> None:
        """A look between two rounds, when what they left is all that there is."""
        if (found := sample(self.watched)) is not None:
            self.soaked.rests.append(found)

    def drawn(self, rng: random.Random, names: list[str]) -> str:
        """The fault of a round, or none."""
        if rng.random() > self.effort.faulty:
            return ""
        weights = [0.5 if self.effort.real and name == DEAR else 1.0 for name in names]
        return rng.choices(names, weights)[0]

    @contextmanager
    def sampling(self) -> Iterator[None]:
        """Looks at everything now and then, on a thread."""
        ended = threading.Event()

        def look() -> None:
            while not ended.wait(self.effort.every):
                if (found := sample(self.watched)) is not None:
                    self.soaked.samples.append(found)

        thread = threading.Thread(target=look)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def driven(self, number: int, fault: str) -> None:
        """A round of the long-lived harness. Where something of it was killed it may fail, and is told to
        do it again, once."""
        rng = random.Random(f"{self.effort.seed}:{fault}:{number}")
        striking = Striking(self.after("driver", rng), lambda: STRIKES[fault](self.watched, rng))
        if fault:
            striking.start()
        error, seconds = self.asked(number)
        if error and fault in KILLED:
            self.soaked.notes.append(f"{fault}: tried again: {error}")
            error, seconds = self.asked(number)
        struck = fault if striking.ended() else ""
        rows = rows_of(self.site.runs / "driver")
        if not fault:
            self.typical["driver"] = seconds
        whole = Round(time=time.monotonic(), rows=len(rows.found), seconds=seconds, fault=fault)
        self.soaked.rounds.append(whole)
        self.judged("driver", struck, rows, error)
        self.site.clean("driver")

    def asked(self, number: int) -> tuple[str, float]:
        """What the long-lived harness says of a round: its error or none, and its seconds."""
        assert self.driver.stdin is not None
        assert self.driver.stdout is not None
        self.driver.stdin.write(f"{number}\n")
        self.driver.stdin.flush()
        line = self.driver.stdout.readline()
        if not line:
            raise RuntimeError(f"the long-lived harness ended with {self.driver.wait()}")
        told = json.loads(line)
        return str(told["error"]), float(told.get("seconds", 0.0))

    def after(self, who: str, rng: random.Random) -> float:
        """The moment of a strike: any of a usual round."""
        return rng.uniform(0.1, 1.0) * self.typical.get(who, 1.0)

    def commanded(self, number: int, fault: str) -> None:
        """A round of the command line: killed and run again, or on a wire that misbehaves, or left alone."""
        served = self.site.served(self.wire) if number % 2 == 0 else None
        way = "served" if served else "alone"
        if way not in self.undisturbed and fault:
            return
        rng = random.Random(f"{self.effort.seed}:{fault}:{number}")
        if fault in WIRE_STRIKES and served is not None:
            told_fault(self.wire, WIRE_STRIKES[fault], after=rng.randrange(30, 50), strikes=2)
        started = time.monotonic()
        struck, wrong = False, ""
        if fault in COMMAND_STRIKES:
            blow = Blow(after=self.after(way, rng), signal=COMMAND_STRIKES[fault])
            ended = self.ended(number, served, blow)
            struck, wrong = ended.blow is not None, complaint(ended)
        if not wrong:
            wrong = complaint(self.ended(number, served))
        if fault in WIRE_STRIKES and served is not None:
            struck = bool(told_fault(self.wire, "none")["struck"])
        if not fault:
            self.typical[way] = time.monotonic() - started
        rows = rows_of(self.site.runs / "command")
        self.judged(way, fault if struck else "", rows, wrong)
        self.site.clean("command")

    def ended(self, number: int, served: tuple[str, str] | None, blow: Blow | None = None) -> Ended:
        """How the round's command ended, struck or left alone."""
        started = time.monotonic()
        process = self.site.command(number, served)
        self.watched.owners.add(process.pid)
        caught = True
        if blow is not None and ended_within(process, blow.after):
            blow = None
        if blow is not None:
            caught = catches(process.pid, signal.SIGTERM)
            hit(process.pid, blow)
        code, said = process.wait(), said_in(self.site.folder / "command.log")
        return Ended(code=code, said=said, seconds=time.monotonic() - started, blow=blow, caught=caught)

    def judged(self, way: str, fault: str, rows: Rows, error: str) -> None:
        """Counts how a round ended; the first of its kind says what rows there should be."""
        if error:
            self.soaked.count(fault, "lost", error)
            return
        if not rows.found:
            self.soaked.count(fault, "lost", f"{way}: no rows at all")
            return
        self.soaked.count(fault, *compared(rows, self.undisturbed.setdefault(way, rows)))


class Striking(threading.Thread):
    """Does something after some seconds, beside what goes on."""

    def __init__(self, seconds: float, strike: Callable[[], bool]) -> None:
        super().__init__(daemon=True)
        self.seconds, self.strike, self.struck = seconds, strike, False

    def run(self) -> None:
        time.sleep(self.seconds)
        self.struck = self.strike()

    def ended(self) -> bool:
        """Waits for it, where it was started, and says whether anything was struck."""
        if self.ident is not None:
            self.join()
        return self.struck


def engine() -> docker.DockerClient | None:
    """Docker, where it answers."""
    try:
        return connected(30)
    except SandboxError:
        return None


def soak(effort: Effort, keep: Path | None = None) -> Soaked:
    """One soak, in a folder of its own. What it saw is written to `keep`, where that is given."""
    with tempfile.TemporaryDirectory(prefix="soak-") as name, ExitStack() as stack:
        site = Site(
            folder=Path(name),
            size=effort.size,
            real=effort.real,
            port=free_port(0),
            mark=uuid.uuid4().hex,
        )
        site.prepare()
        driver, wire = stack.enter_context(site.driver()), stack.enter_context(site.wire())
        watched = Watched(
            mark=site.mark,
            driver=driver.pid,
            runs=site.runs,
            temporary=site.temporary,
            engine=engine(),
            owners={driver.pid},
        )
        soaked = Soaked()
        try:
            Campaign(effort=effort, site=site, watched=watched, driver=driver, wire=wire, soaked=soaked).run()
        finally:
            if keep is not None:
                kept(soaked, site, keep)
    return soaked


def kept(soaked: Soaked, site: Site, keep: Path) -> None:
    """Samples, rounds and logs, for looking at afterwards."""
    keep.mkdir(parents=True, exist_ok=True)
    (keep / "soaked.json").write_text(json.dumps(asdict(soaked)))
    (keep / "driver.log").write_bytes((site.folder / "driver.log").read_bytes())
    left = [str(each.relative_to(site.folder)) for each in sorted(site.temporary.rglob("*"))]
    (keep / "left.json").write_text(json.dumps(left))
