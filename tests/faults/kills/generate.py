"""Kills while responses are generated: `harness evaluate` against the fake server, and against vLLM."""

import json
import random
import subprocess
from functools import partial
from pathlib import Path

from tests.fakes.engine import SERVER, running
from tests.faults.fault import Fault, Outcome
from tests.faults.stored import same_runs
from tests.faults.striking import IN_ONE_GO, Play, strikes
from tests.faults.struck import HARNESS, Scene, Trouble
from tests.faults.victims import lacking

SWITCHES = ("--delay", "0.06", "--sums", "0.5")
REALLY = 5
"""Strikes against a real server."""


def evaluation(model: str, base_url: str, machine: Path, runs: Path) -> list[str]:
    """32 responses to sums, four at a time."""
    return [
        *HARNESS, "evaluate", model, "--base-url", base_url, "-b", "micro_math:2", "--limit", "16",
        "--name", "struck", "--runs", str(runs), "--machine", str(machine),
    ]  # fmt: skip


def struck(folder: Path, seed: int, name: str, settings: str, *switches: str) -> Outcome:
    with running(*SWITCHES, *switches, server=SERVER) as endpoint:
        return asked(folder, f"{seed}:{name}", settings, "tiny", endpoint.base_url, IN_ONE_GO)


def asked(folder: Path, seed: str, settings: str, model: str, base_url: str, count: int) -> Outcome:
    machine = folder / "machine.toml"
    machine.write_text(settings)
    play = Play(words=lambda runs: evaluation(model, base_url, machine, runs), check=same_runs)
    return strikes(Scene(folder=folder), play, random.Random(seed), count)


def really(folder: Path, seed: int) -> Outcome:
    """Against dasd-micro's teacher, served by vLLM beside what is struck."""
    words = ["serve", "dasd-micro/teacher", "--json", "--port", "0", "--runs", str(folder / "served")]
    with subprocess.Popen([*HARNESS, *words], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            ready = json.loads(server.stdout.readline() or '{"url": ""}')
            if not ready["url"]:
                raise Trouble("lost", "vLLM did not start")
            settings = "concurrency = 4\nstream_from = 1\n"
            return asked(folder, f"{seed}:vllm", settings, ready["model"], ready["url"], REALLY)
        finally:
            server.terminate()


whole = Fault(
    name="generate: whole responses",
    kind="generate",
    run=lambda folder, seed: struck(folder, seed, "whole", "concurrency = 4\n"),
)

streamed = Fault(
    name="generate: streamed responses",
    kind="generate",
    run=lambda folder, seed: struck(
        folder, seed, "streamed", "concurrency = 4\nstream_from = 1\n", "--token-delay", "0.005"
    ),
)

by_vllm = Fault(
    name="generate: a real vLLM", kind="generate", run=really, slow=True, needs=partial(lacking, "vllm")
)
