"""All modes and all peers, as the Markdown of docs/speed.md.

python -m tests.performance.client.full [ROUNDS]      half an hour and more

Everything is measured ROUNDS times (default 3) in turn, streams by the peers once.
"""

import datetime
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from tests.performance.client.measure import MIB, Compared, compared_commands, compared_loops, opened
from tests.performance.client.peers import PEERS, Peer, set_up
from tests.performance.client.served import AT_ONCE, INTERVAL, LATENCIES, TOKENWISE, WHOLE, Mode
from tests.performance.client.told import machine, table

LOOPS = ((AT_ONCE, 64), (LATENCIES, 64), (WHOLE, 64), (INTERVAL, 64), (TOKENWISE, 8))
"""Modes of the two loops, and draws: one token an event makes a thousand times the events."""
MANY = replace(TOKENWISE, name="512 streams token by token", concurrency=512)


def complain(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def loops_row(mode: Mode, found: Compared) -> str:
    bare, ours = found.rates
    least, own = found.costs
    return (
        f"| {mode.name}, {mode.concurrency} requests | {bare:,.0f} | {ours:,.0f} | {found.share:.1f} % "
        f"| {1e6 * least:,.0f} µs | {1e6 * own:,.0f} µs |"
    )


def loops_table(folder: Path, rounds: int) -> str:
    head = "| | bare loop, generations/s | ours | share | processor time, bare | ours |"
    rows = [head, "|---|---|---|---|---|---|"]
    for number, (mode, draws) in enumerate(LOOPS):
        with opened(folder / f"loops-{number}", mode, draws=draws) as bench:
            rows.append(loops_row(mode, compared_loops(bench, rounds)))
    return "\n".join(rows)


def commands_table(folder: Path, mode: Mode, peers: list[Peer], rounds: int) -> str:
    with opened(folder, mode) as bench:
        return table(mode, compared_commands(bench, peers, rounds, complain))


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    peers = list(PEERS.values())
    for peer in peers:
        set_up(peer, complain)
    print(f"Measured on {datetime.date.today()}: {machine()}.", end="\n\n", flush=True)
    with tempfile.TemporaryDirectory(prefix="harness-full-") as name:
        folder = Path(name)
        print(loops_table(folder, rounds), end="\n\n", flush=True)
        for number, mode in enumerate((AT_ONCE, LATENCIES, WHOLE)):
            print(commands_table(folder / f"whole-{number}", mode, peers, rounds), end="\n\n", flush=True)
        streaming = [each for each in peers if each.streams]
        print(commands_table(folder / "streamed", INTERVAL, streaming, 1), end="\n\n", flush=True)
        with opened(folder / "many", MANY, draws=18) as bench:
            peak = bench.ours().peak / MIB
        print(f"Peak memory of our loop with 512 streams of 20K tokens in flight: {peak:,.0f} MiB.")


if __name__ == "__main__":
    main()
