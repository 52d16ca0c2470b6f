"""The fast server as a process, for as long as a block runs, and its record of what was asked."""

import json
import subprocess
import sys
import urllib.request
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
SHORT, LONG = 600, 80_000  # characters of a response


@dataclass(frozen=True, kw_only=True)
class Mode:
    """How the server answers and how it is asked. Peers that know no streaming ask for whole answers."""

    name: str
    characters: int = SHORT
    latency: bool = False
    concurrency: int = 64
    max_tokens: int = 4_096
    stream: bool = False
    tokens_an_event: int = 1

    @property
    def options(self) -> list[str]:
        """The server's switches."""
        chosen = ["--characters", str(self.characters), "--tokens-an-event", str(self.tokens_an_event)]
        return [*chosen, *(["--latency"] if self.latency else [])]


AT_ONCE = Mode(name="at once")
LATENCIES = Mode(name="0.5 to 3 s", latency=True, concurrency=256)
WHOLE = Mode(name="80 KB, whole", characters=LONG, max_tokens=32_768)
TOKENWISE = replace(WHOLE, name="80 KB, streamed token by token", stream=True)
INTERVAL = replace(TOKENWISE, name="80 KB, streamed by 16 tokens", tokens_an_event=16)


@dataclass(frozen=True, kw_only=True)
class Record:
    """What a client really asked, as the server saw it.

    `draws` is the least number of responses that any question got; `distinct` the least number of
    different ones among them; `share` that of right responses, in percent; `connections` and `in_flight`
    the most that there were at a time; `seconds` those from the first request to the last answer.
    """

    responses: int
    questions: int
    draws: int
    distinct: int
    seeded: bool
    share: float
    connections: int
    in_flight: int
    seconds: float

    @property
    def one_seed(self) -> bool:
        """Whether all draws of a question were asked with one seed and so are one text."""
        return self.draws > 1 and self.distinct == 1


def record_of(asked: dict[str, Any], max_tokens: int) -> Record:
    """Counts the requests of the work; probes with other prompts or for fewer tokens are left out."""
    work = [each for each in asked["asked"] if each["question"].startswith("2024-")]
    events = [each for each in work if each["max_tokens"] == max_tokens]
    numbers: defaultdict[str, Counter[int]] = defaultdict(Counter)
    for each in events:
        numbers[each["question"]].update(each["numbers"])
    responses = sum(each.total() for each in numbers.values())
    return Record(
        responses=responses,
        questions=len(numbers),
        draws=min((each.total() for each in numbers.values()), default=0),
        distinct=min(map(len, numbers.values()), default=0),
        seeded=any(each["seed"] is not None for each in events),
        share=100 * sum(each["right"] for each in events) / max(1, responses),
        connections=asked["connections"],
        in_flight=asked["in_flight"],
        seconds=asked["seconds"],
    )


@dataclass(frozen=True, kw_only=True)
class Server:
    """A running fast server."""

    base_url: str
    mode: Mode

    def reset(self) -> None:
        request = urllib.request.Request(f"{self.root}/reset", method="POST")
        urllib.request.urlopen(request, timeout=60).close()

    def record(self) -> Record:
        with urllib.request.urlopen(f"{self.root}/asked", timeout=60) as answer:
            return record_of(json.load(answer), self.mode.max_tokens)

    @property
    def asked_at(self) -> str:
        return f"{self.base_url}/chat/completions"

    @property
    def root(self) -> str:
        return self.base_url.removesuffix("/v1")


@contextmanager
def served(questions: Path, mode: Mode) -> Iterator[Server]:
    """A fresh server in this mode on a free port of the loopback."""
    command = [sys.executable, "-m", "tests.performance.client.fast_server"]
    process = subprocess.Popen(
        [*command, "--questions", str(questions), *mode.options], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    try:
        assert process.stdout is not None
        ready = process.stdout.readline()
        if not ready.startswith("ready on port "):
            raise RuntimeError(f"the fast server did not start: {ready!r}")
        yield Server(base_url=f"http://127.0.0.1:{ready.split()[-1]}/v1", mode=mode)
    finally:
        process.terminate()
        process.wait()
