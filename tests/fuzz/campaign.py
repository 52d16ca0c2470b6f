"""Fuzzing of every target: each in processes of its own, of which the next begins where one was killed."""

import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz.watch import LARGEST, SECONDS, digest, read_record

ROOT = Path(__file__).resolve().parents[2]
TARGETS = Path(__file__).parent / "targets"
SEEDS = Path(__file__).parent / "corpus"
PACKAGE = "tests.fuzz.targets"
COVERED = re.compile(r"\bcov: (\d+)")
KILLED_MOST = 5
"""Processes of one target that may be killed before it is given up."""


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How long one target is fuzzed: seconds of wall clock, or a number of inputs with a fixed seed. So many
    bombs come first, for half of the seconds at the most."""

    seconds: int = 0
    inputs: int = 0
    bombs: int = 40

    def arguments(self, left: float) -> list[str]:
        """Of a process for which so many seconds are left."""
        if self.seconds:
            half = max(1, int(left / 2))
            return [str(self.bombs), str(half), f"-max_total_time={half}"]
        return [str(self.bombs), "inf", f"-runs={self.inputs}", "-seed=1"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """`kind` is error, memory, hang, or how the process died; `file` holds the input."""

    kind: str
    file: Path
    text: str


@dataclass(frozen=True, kw_only=True)
class Fuzzed:
    """One target. Milliseconds of processor time and megabytes at the peak, with the input's bytes."""

    target: str
    inputs: int
    edges: int
    findings: tuple[Finding, ...]
    slowest: float
    slowest_size: int
    hungriest: float
    hungriest_size: int
    trouble: str = ""

    @property
    def hangs(self) -> int:
        return sum(one.kind == "hang" for one in self.findings)

    @property
    def crashes(self) -> int:
        return len(self.findings) - self.hangs


def targets() -> list[str]:
    return sorted(path.stem for path in TARGETS.glob("[a-z]*.py"))


def fuzzed(names: Iterable[str], effort: Effort, folder: Path, at_once: int) -> Iterator[Fuzzed]:
    """The targets in their order, `at_once` of them at the same time."""
    with ThreadPoolExecutor(at_once) as pool:
        yield from pool.map(lambda name: fuzz(f"{PACKAGE}.{name}", effort, folder / name), names)


def fuzz(module: str, effort: Effort, folder: Path) -> Fuzzed:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    ends, edges, trouble = time.monotonic() + effort.seconds, 0, ""
    for _ in range(KILLED_MOST):
        code, covered, said = one_process(module, effort, folder, ends - time.monotonic())
        edges = max(edges, covered)
        if code == 0:
            break
        if not (folder / "record").exists():
            trouble = said[-2000:]
            break
        found = read_record(folder / "record")
        kind = "hang" if code == -signal.SIGPROF else f"died of {code}"
        file = folder / f"{kind.split()[0]}-{digest(found.current)}"
        file.write_bytes(found.current)
        file.with_suffix(".txt").write_text(f"{kind}\n{said[-2000:]}", encoding="utf-8")
    return summed(module.rpartition(".")[2], folder, edges, trouble)


def one_process(module: str, effort: Effort, folder: Path, left: float) -> tuple[int, int, str]:
    """How it ended, the edges it covered, and what it said."""
    command = [sys.executable, "-m", "tests.fuzz.child", module, str(folder), *effort.arguments(left)]
    done = subprocess.run(
        command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        errors="replace", check=False,
    )  # fmt: skip
    (folder / "said.txt").write_text(done.stderr, encoding="utf-8")
    return done.returncode, max(map(int, COVERED.findall(done.stderr)), default=0), done.stderr


def summed(name: str, folder: Path, edges: int, trouble: str) -> Fuzzed:
    findings = tuple(
        Finding(kind=file.name.partition("-")[0], file=file, text=file.with_suffix(".txt").read_text("utf-8"))
        for file in sorted(folder.glob("*-*"))
        if not file.suffix
    )
    if trouble:
        return Fuzzed(
            target=name, inputs=0, edges=0, findings=findings, slowest=0, slowest_size=0, hungriest=0,
            hungriest_size=0, trouble=trouble,
        )  # fmt: skip
    told = read_record(folder / "record")
    return Fuzzed(
        target=name,
        inputs=told.inputs,
        edges=edges,
        findings=findings,
        slowest=told.slowest / 1e6,
        slowest_size=told.slowest_size,
        hungriest=told.hungriest / (1 << 20),
        hungriest_size=told.hungriest_size,
    )


def table(results: Iterable[Fuzzed]) -> Iterator[str]:
    """One line a target, and above them what the columns are."""
    yield (
        f"{'target':18} {'inputs':>8} {'edges':>6} {'crashes':>7} {'hangs':>5}"
        f" {'slowest, ms':>11} {'(bytes)':>8} {'peak, MB':>8} {'(bytes)':>8}"
    )
    for one in results:
        yield (
            f"{one.target:18} {one.inputs:8,} {one.edges:6,} {one.crashes:7} {one.hangs:5}"
            f" {one.slowest:11.1f} {one.slowest_size:8,} {one.hungriest:8.1f} {one.hungriest_size:8,}"
            + (f"  DID NOT RUN: {one.trouble}" if one.trouble else "")
        )


def limits() -> str:
    return f"inputs of up to {LARGEST:,} bytes; a hang is more than {SECONDS:g} s of processor time"
