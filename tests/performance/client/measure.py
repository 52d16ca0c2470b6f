"""Measures tools on the same work against the same server, in turn, so that noise hits all alike.

`Loops` compares our generation loop with the bare one; `Commands` whole commands from start to exit.
Every measurement is checked against the server's record: it counts only where all was asked.
"""

import json
import shutil
import statistics
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.performance.client import peers
from tests.performance.client.peers import Peer
from tests.performance.client.served import ROOT, Mode, Record, Server, served
from tests.performance.client.watched import Watched, watch
from tests.performance.client.work import DRAWS, MODEL, write_bodies, write_data, write_questions

RESPONSES = 30 * DRAWS
MIB = 2**20
PYTHON = {"PYTHONPATH": str(ROOT)}


@dataclass(frozen=True, kw_only=True)
class Loop:
    """One run of a generation loop: responses a second of the loop alone, the processor time that each
    took, in seconds, and the process's peak bytes."""

    rate: float
    cost: float
    peak: int
    record: Record


@dataclass(frozen=True, kw_only=True)
class Command:
    """One run of a whole command. `busy` is its processor time in seconds; `score` is in points, None where
    the tool grades nothing."""

    seconds: float
    busy: float
    peak: int
    record: Record
    score: float | None = None
    graded: int = 0

    @property
    def faults(self) -> Iterator[str]:
        """What keeps this run from being the whole work."""
        if self.record.responses != RESPONSES or self.record.draws != DRAWS:
            yield f"asked for {self.record.responses} responses"
        if self.score is not None and self.graded != RESPONSES:
            yield f"graded {self.graded} of {RESPONSES}"
        if self.score is not None and abs(self.score - self.record.share) > 0.01:
            yield f"scored {self.score:.3f} where {self.record.share:.3f} was answered right"
        if self.record.one_seed:
            yield "one seed with all draws: one text a question"


class Failed(Exception):
    """A tool that did not do the work; says why."""


@dataclass(frozen=True, kw_only=True)
class Bench:
    """A folder for what is written, and a server in one mode, for as long as it is measured."""

    folder: Path
    server: Server
    draws: int = DRAWS

    @property
    def mode(self) -> Mode:
        return self.server.mode

    def run(self, name: str, command: list[str], environment: dict[str, str], limit: float) -> Watched:
        """Runs a command between a reset of the server and the reading of its record."""
        self.server.reset()
        log = self.folder / f"{name}.log"
        done = watch(command, log=log, environment=environment, limit=limit)
        if done.status:
            end = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
            raise Failed(f"{name} ended with {done.status} after {done.seconds:.0f} s: {' '.join(end)[:300]}")
        return done

    def loop(self, name: str, arguments: list[str]) -> Loop:
        """A module of this folder that prints its own seconds."""
        command = [sys.executable, "-m", f"tests.performance.client.{name}", *arguments]
        done = self.run(name, command, PYTHON, limit=900)
        told, record = json.loads(done.output), self.server.record()
        if told["responses"] != 30 * self.draws or record.responses != 30 * self.draws:
            raise Failed(f"{name} counts {told['responses']} responses, the server {record.responses}")
        rate, cost = told["responses"] / told["seconds"], told["busy"] / told["responses"]
        return Loop(rate=rate, cost=cost, peak=done.peak, record=record)

    def bare(self, *event_loop: str) -> Loop:
        bodies = self.folder / "bodies.jsonl"
        if not bodies.exists():
            mode = self.mode
            write_bodies(bodies, max_tokens=mode.max_tokens, stream=mode.stream, draws=self.draws)
        return self.loop("bare", [str(bodies), self.server.asked_at, str(self.mode.concurrency), *event_loop])

    def ours(self) -> Loop:
        out, mode = fresh(self.folder / "ours"), self.mode
        limits = ["--draws", str(self.draws), "--max-tokens", str(mode.max_tokens)]
        streamed = ["--stream"] if mode.stream else []
        return self.loop("ours", [str(out), self.server.base_url, str(mode.concurrency), *limits, *streamed])

    def bare_command(self) -> Command:
        """The bare loop as a process, from start to exit."""
        bodies = self.folder / "bodies.jsonl"
        write_bodies(bodies, max_tokens=self.mode.max_tokens, stream=self.mode.stream)
        command = [sys.executable, "-m", "tests.performance.client.bare", str(bodies)]
        command += [self.server.asked_at, str(self.mode.concurrency)]
        done = self.run("bare", command, PYTHON, limit=900)
        return Command(seconds=done.seconds, busy=done.busy, peak=done.peak, record=self.server.record())

    def harness(self) -> Command:
        """`harness evaluate` from start to exit, report and all."""
        out = fresh(self.folder / "harness")
        machine = out / "machine.toml"
        stream_from = 1 if self.mode.stream else 0
        machine.write_text(f"concurrency = {self.mode.concurrency}\nstream_from = {stream_from}\n")
        command = [
            *(sys.executable, "-m", "harness.cli", "evaluate", MODEL, "-b", f"aime24:{DRAWS}"),
            *("--base-url", self.server.base_url, "--max-tokens", str(self.mode.max_tokens)),
            *(
                "--data",
                str(write_data(out / "data")),
                "--runs",
                str(out / "runs"),
                "--machine",
                str(machine),
            ),
        ]
        done = self.run("harness", command, PYTHON, limit=900)
        (entry,) = json.loads((out / "runs" / MODEL / "report.json").read_bytes())["entries"]
        return Command(
            seconds=done.seconds,
            busy=done.busy,
            peak=done.peak,
            record=self.server.record(),
            score=entry["measured"],
            graded=entry["questions"] * entry["draws"] - entry["ungraded"],
        )

    def peer(self, peer: Peer) -> Command:
        """A peer's whole command, in a folder that holds nothing of an earlier run."""
        folder = self.folder / peer.name
        shutil.rmtree(folder, ignore_errors=True)
        task = peers.prepare(self.server.base_url, self.mode, folder)
        command = peer.command(peer.programs, task)
        done = watch_in(self, peer.name, command, task)
        try:
            score, graded = peer.score(peer.programs, task)
        except Exception as error:  # whatever it lacks, it is not the file of a tool that did the work
            raise Failed(f"{peer.name} left no score that can be read: {error!r}"[:300]) from error
        return Command(
            seconds=done.seconds,
            busy=done.busy,
            peak=done.peak,
            record=self.server.record(),
            score=score,
            graded=graded,
        )


def watch_in(bench: Bench, name: str, command: list[str], task: peers.Task) -> Watched:
    """As `Bench.run`, started in the task's folder."""
    inside = Bench(folder=task.folder, server=bench.server)
    return inside.run(name, command, peers.environment(task), limit=900)


def fresh(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


# In turn --------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Compared:
    """The two generation loops, measured in turn: pairs of the bare one and ours."""

    pairs: list[tuple[Loop, Loop]]

    @property
    def rates(self) -> tuple[float, float]:
        """Median responses a second: the bare loop's and ours."""
        return median(bare.rate for bare, _ in self.pairs), median(ours.rate for _, ours in self.pairs)

    @property
    def share(self) -> float:
        """Our median rate in percent of the bare loop's."""
        bare, ours = self.rates
        return 100 * ours / bare

    @property
    def costs(self) -> tuple[float, float]:
        """Median processor seconds of a response: the bare loop's and ours."""
        return median(bare.cost for bare, _ in self.pairs), median(ours.cost for _, ours in self.pairs)

    @property
    def shares(self) -> list[float]:
        """The same of each round by itself."""
        return [100 * ours.rate / bare.rate for bare, ours in self.pairs]

    @property
    def same_work(self) -> bool:
        """Whether the server saw the same draws of both."""
        records = [each.record for pair in self.pairs for each in pair]
        return len({(each.responses, each.distinct, each.share) for each in records}) == 1


def median(values: Iterable[float]) -> float:
    return float(statistics.median(values))


def compared_loops(bench: Bench, rounds: int) -> Compared:
    """Both loops in turn; one round first is not counted."""
    pairs = [(bench.bare(), bench.ours()) for _ in range(rounds + 1)]
    return Compared(pairs=pairs[1:])


def compared_commands(
    bench: Bench, chosen: list[Peer], rounds: int, say: Callable[[str], None]
) -> dict[str, list[Command]]:
    """Whole commands by name, in turn: bare, ours, and each peer.

    A tool that fails once is told, not run again, and has no runs: what it takes is not known.
    """
    tools: dict[str, Callable[[], Command]] = {"bare": bench.bare_command, "harness": bench.harness}
    for each in chosen:
        tools[each.name] = lambda each=each: bench.peer(each)  # type: ignore[misc]
    return in_turn(tools, rounds, say)


def in_turn(
    tools: dict[str, Callable[[], Command]], rounds: int, say: Callable[[str], None]
) -> dict[str, list[Command]]:
    """The runs of each tool, none of one that failed in any round."""
    found: dict[str, list[Command]] = {name: [] for name in tools}
    failed: set[str] = set()
    for _ in range(rounds):
        for name, run in tools.items():
            if name in failed:
                continue
            try:
                found[name].append(run())
            except Failed as failure:
                say(f"  {failure}")
                failed.add(name)
    return {name: [] if name in failed else runs for name, runs in found.items()}


@contextmanager
def opened(folder: Path, mode: Mode, draws: int = DRAWS) -> Iterator[Bench]:
    """A bench with a server of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    with served(write_questions(folder / "questions.jsonl"), mode) as server:
        yield Bench(folder=folder, server=server, draws=draws)
