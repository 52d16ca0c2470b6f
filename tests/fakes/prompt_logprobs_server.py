"""A vLLM-like server that scores prompts: token `id` at place `p` has log-probability -(id + p) / 1000.

Switches make it fail as servers fail. `GET /asked` returns how many requests came and how many waited
together at most.
"""

import argparse
import asyncio
import json
import os
from typing import Any

from aiohttp import web


class State:
    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.asked = self.failed = self.answered = self.together = self.most = 0


def scored(ids: list[int], shift: int, impossible: int) -> list[dict[str, Any] | None]:
    """One entry a token as vLLM words it; none for the first."""
    entries = [
        {
            str(token + shift): {
                "logprob": -9999.0 if token == impossible else -(token + place) / 1000,
                "rank": 1,
                "decoded_token": "x",
            }
        }
        for place, token in enumerate(ids)
    ]
    return [None, *entries[1:]]


async def answer(request: web.Request) -> web.Response:
    state: State = request.app[STATE]
    options, body = state.options, await request.json()
    state.asked += 1
    if state.failed < options.fail:
        state.failed += 1
        return web.json_response({"error": {"message": "engine is unwell"}}, status=500)
    if options.refuse:
        return web.json_response({"error": {"message": "no such request is known"}}, status=400)
    if body["max_tokens"] < 1 or len(body["prompt"]) + body["max_tokens"] > options.context:
        message = f"This model's maximum context length is {options.context} tokens."
        return web.json_response({"error": {"message": message}}, status=400)
    if state.answered >= options.die_after:
        os._exit(7)
    if state.answered >= options.hang_after:
        await asyncio.sleep(3600)
    state.together += 1
    state.most = max(state.most, state.together)
    await asyncio.sleep(0.02)
    state.together -= 1
    state.answered += 1
    found = None if options.silent or body["prompt_logprobs"] is None else body["prompt"]
    choice = {
        "index": 0,
        "text": "x",
        "finish_reason": "length",
        "prompt_logprobs": None if found is None else scored(found, options.shift, options.impossible),
    }
    return web.json_response({"id": "c", "model": options.answer_model or body["model"], "choices": [choice]})


async def health(request: web.Request) -> web.Response:
    state: State = request.app[STATE]
    if state.answered >= state.options.hang_after:
        await asyncio.sleep(3600)
    return web.Response()


async def told(request: web.Request) -> web.Response:
    state: State = request.app[STATE]
    return web.Response(text=json.dumps({"asked": state.asked, "most": state.most}))


STATE = web.AppKey("state", State)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--context", type=int, default=10**9, help="400 over this many tokens")
    parser.add_argument("--fail", type=int, default=0, help="answer 500 to the first N requests")
    parser.add_argument("--die-after", type=int, default=10**9, help="exit instead of an answer after N")
    parser.add_argument("--hang-after", type=int, default=10**9, help="answer nothing any more after N")
    parser.add_argument("--silent", action="store_true", help="no prompt_logprobs, as servers that know none")
    parser.add_argument("--shift", type=int, default=0, help="name other tokens than those asked for")
    parser.add_argument(
        "--impossible", type=int, default=-1, help="a token of probability 0, as vLLM words it"
    )
    parser.add_argument("--refuse", action="store_true", help="400 to every request")
    parser.add_argument("--answer-model", default="", help="the model id of every answer")
    options = parser.parse_args()
    app = web.Application(client_max_size=2**26)
    app[STATE] = State(options)
    app.router.add_post("/v1/completions", answer)
    app.router.add_get("/health", health)
    app.router.add_get("/asked", told)
    web.run_app(app, host="127.0.0.1", port=options.port, print=None)


if __name__ == "__main__":
    main()
