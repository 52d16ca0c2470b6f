"""Our generation loop on the same requests as the bare loop: `harness.generate.generate`, rows written.

python -m tests.performance.client.ours OUT BASE_URL CONCURRENCY --max-tokens N [--stream]

Prints how many rows were written, their bytes, and the seconds of the loop alone and of its
processor, as JSON.
"""

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path

from harness.asking import Request
from harness.endpoint import Endpoint
from harness.engines.remote import remote
from harness.generate import Pace, generate
from harness.types import Message, Sampling
from tests.performance.client.work import DRAWS, MODEL, generations


def endpoint(base_url: str, *, stream: bool) -> Endpoint:
    """The server, asked as `harness evaluate --base-url` asks one that takes only OpenAI's parameters."""
    fingerprint = {"engine": remote.name, "version": "unknown", "model": MODEL}
    return Endpoint(
        base_url=base_url,
        model=MODEL,
        engine=remote,
        fingerprint=fingerprint,
        accepts=("temperature", "top_p"),
        stream_from=1 if stream else 0,
    )


def requests(draws: int, max_tokens: int) -> Iterator[Request]:
    sampling = Sampling(temperature=1.0, max_tokens=max_tokens, draws=draws)
    for each in generations(draws):
        yield Request(
            question=each.question,
            draw=each.draw,
            messages=(Message(role="user", content=each.prompt),),
            sampling=sampling,
            seed=each.seed,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="an empty folder")
    parser.add_argument("base_url")
    parser.add_argument("concurrency", type=int)
    parser.add_argument("--draws", type=int, default=DRAWS)
    parser.add_argument("--max-tokens", type=int, required=True)
    parser.add_argument("--stream", action="store_true")
    options = parser.parse_args()
    rows, server = options.out / "generations.jsonl", endpoint(options.base_url, stream=options.stream)
    asked = requests(options.draws, options.max_tokens)
    started, busy = time.perf_counter(), time.process_time()
    written = generate(asked, server, rows, pace=Pace(requests=options.concurrency))
    seconds = time.perf_counter() - started
    told = {"responses": written, "bytes": rows.stat().st_size, "seconds": seconds}
    print(json.dumps({**told, "busy": time.process_time() - busy}))


if __name__ == "__main__":
    main()
