"""An OpenAI-speaking server that answers each prompt with made-up replies, the same to every harness.

    python lighteval_replay.py --port 8125 --model NAME --replies replies.jsonl

A row is `{"prompt": …, "replies": [{"text": …, "finish_reason": "stop", "reasoning": null}, …]}`; the
k-th request with a prompt gets the k-th reply, from the first again after the last. A prompt that no
row holds gets a short text that depends on the seed, so that a check of sampling passes. `n` replies
are given where they are asked for, and no seed is needed: lighteval sends none.
"""

import argparse
import itertools
import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from aiohttp import web

Replies = dict[str, Iterator[dict[str, Any]]]


def read_replies(file: Path) -> Replies:
    """An endless round of replies for each prompt; rows with an equal prompt take turns."""
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    with file.open(encoding="utf-8") as lines:
        for row in map(json.loads, lines):
            found[row["prompt"]] += row["replies"]
    return {prompt: itertools.cycle(replies) for prompt, replies in found.items()}


def reply(body: dict[str, Any], replies: Replies) -> dict[str, Any]:
    prompt = body["messages"][-1]["content"]
    if prompt in replies:
        return next(replies[prompt])
    return {"text": f"seed {body.get('seed')}" if body.get("temperature", 1.0) > 0 else "greedy"}


def choice(index: int, given: dict[str, Any]) -> dict[str, Any]:
    message = {"role": "assistant", "content": given["text"]}
    if given.get("reasoning") is not None:
        message["reasoning_content"] = given["reasoning"]
    return {"index": index, "message": message, "finish_reason": given.get("finish_reason", "stop")}


def application(model: str, replies: Replies) -> web.Application:
    async def models(_: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": model, "object": "model"}]})

    async def complete(request: web.Request) -> web.Response:
        body = await request.json()
        given = [reply(body, replies) for _ in range(body.get("n") or 1)]
        return web.json_response(
            {
                "id": "replay",
                "object": "chat.completion",
                "created": 0,
                "model": model,
                "choices": [choice(index, each) for index, each in enumerate(given)],
                "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
            }
        )

    served = web.Application(client_max_size=2**24)
    served.add_routes([web.get("/v1/models", models), web.post("/v1/chat/completions", complete)])
    return served


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--replies", type=Path, required=True)
    options = parser.parse_args()
    served = application(options.model, read_replies(options.replies))
    web.run_app(served, host="127.0.0.1", port=options.port, print=None)


if __name__ == "__main__":
    main()
