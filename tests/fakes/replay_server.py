"""An OpenAI-speaking server that answers with recorded outputs, each to its own problem.

    python replay_server.py --port 8124 --model NAME --recorded outputs.jsonl --rows problems.jsonl

A prompt is matched by the problem statement in it; a prompt of no known problem gets a short text
that depends on the seed, so that a check of sampling passes.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from aiohttp import web


def recorded_texts(recorded: Path, rows: Path, model: str) -> dict[str, str]:
    """The recorded output of each problem statement."""
    with rows.open(encoding="utf-8") as lines:
        statements = {row["question_id"]: row["question_content"] for row in map(json.loads, lines)}
    with recorded.open(encoding="utf-8") as lines:
        return {
            statements[row["question_id"]]: row["output"]
            for row in map(json.loads, lines)
            if row["model"] == model
        }


def answer(body: dict[str, Any], texts: dict[str, str]) -> str:
    """The recorded output, or a text that only the seed and the temperature decide."""
    prompt = body["messages"][-1]["content"]
    known = [statement for statement in texts if statement in prompt]
    if known:
        return texts[max(known, key=len)]
    return f"seed {body['seed']}" if body["temperature"] > 0 else "greedy"


def application(model: str, texts: dict[str, str]) -> web.Application:
    async def models(_: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": model, "object": "model"}]})

    async def complete(request: web.Request) -> web.Response:
        body = await request.json()
        text = answer(body, texts)
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": text},
            "finish_reason": "stop",
        }
        usage = {
            "prompt_tokens": 1,
            "completion_tokens": len(text.split()),
            "total_tokens": 1 + len(text.split()),
        }
        return web.json_response(
            {"id": "replay", "object": "chat.completion", "model": model, "choices": [choice], "usage": usage}
        )

    served = web.Application(client_max_size=2**24)
    served.add_routes([web.get("/v1/models", models), web.post("/v1/chat/completions", complete)])
    return served


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--recorded", type=Path, required=True)
    parser.add_argument("--rows", type=Path, required=True)
    options = parser.parse_args()
    texts = recorded_texts(options.recorded, options.rows, options.model)
    web.run_app(application(options.model, texts), host="127.0.0.1", port=options.port, print=None)


if __name__ == "__main__":
    main()
