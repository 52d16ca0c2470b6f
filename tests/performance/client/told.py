"""What was measured, as lines for a terminal and as the tables of docs/speed.md."""

import os
import platform
from importlib.metadata import version

from tests.performance.client.measure import MIB, Command, Compared, median
from tests.performance.client.peers import PEERS
from tests.performance.client.served import Mode


def loops_line(mode: Mode, found: Compared) -> str:
    """Medians of both loops in one mode."""
    bare, ours = found.rates
    least, own = found.costs
    spread = ", ".join(f"{each:.0f}" for each in found.shares)
    return (
        f"{mode.name}, {mode.concurrency} requests: ours {ours:,.0f} generations/s, bare {bare:,.0f}: "
        f"{found.share:.1f} % (each round: {spread}); processor time of a generation {1e6 * own:,.0f} and "
        f"{1e6 * least:,.0f} µs"
    )


def command_lines(found: dict[str, list[Command]]) -> list[str]:
    """A line a tool: median seconds and peak memory of the whole command, and what it lacked."""
    return [command_line(name, runs) for name, runs in found.items()]


def command_line(name: str, runs: list[Command]) -> str:
    if not runs:
        return f"  {name:10}  failed"
    faults = sorted({fault for each in runs for fault in each.faults})
    lacking = f"; {', '.join(faults)}" if faults else ""
    taken = f"{seconds(runs):7.1f} s, of the processor {busy(runs):5.1f} s, {peak(runs) / MIB:6,.0f} MiB"
    return f"  {name:10} {taken}{lacking}"


def seconds(runs: list[Command]) -> float:
    return median(each.seconds for each in runs)


def busy(runs: list[Command]) -> float:
    return median(each.busy for each in runs)


def peak(runs: list[Command]) -> float:
    return median(each.peak for each in runs)


def table(mode: Mode, found: dict[str, list[Command]]) -> str:
    """Markdown: whole commands in one mode."""
    ours = found["harness"]
    rows = [
        f"| {title(name)} | failed | | | |"
        if not runs or not ours
        else f"| {title(name)} | {seconds(runs):.1f} s | {busy(runs):.1f} s | {peak(runs) / MIB:,.0f} MiB "
        f"| {seconds(runs) / seconds(ours):.1f} ×, {peak(runs) / peak(ours):.1f} × |"
        for name, runs in found.items()
    ]
    what = f"{mode.name}, {mode.concurrency} requests"
    head = f"| {what} | whole command | processor | peak memory | time, memory / ours |"
    return "\n".join([head, "|---|---|---|---|---|", *rows])


def title(name: str) -> str:
    return PEERS[name].version if name in PEERS else name


def machine() -> str:
    """What a figure depends on, without naming anything."""
    with open("/proc/meminfo", encoding="ascii") as file:
        memory = int(file.readline().split()[1]) / 2**20
    return (
        f"{len(os.sched_getaffinity(0))} cores, {memory:.0f} GiB, {platform.system()} {platform.machine()}, "
        f"Python {platform.python_version()}, aiohttp {version('aiohttp')}, load {os.getloadavg()[0]:.1f}"
    )
