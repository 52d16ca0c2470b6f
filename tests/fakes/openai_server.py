"""An OpenAI-speaking server for tests: a real process with a switch for every way to go wrong.

    python openai_server.py --port 8123 --model tiny --fail 2 --delay 0.05

Its text is a function of the prompt, the seed and the temperature, as with an engine that honours
both; at temperature 0 of the prompt alone. `GET /asked` returns the bodies of all requests so far.
"""

import argparse
import asyncio
import hashlib
import json
import math
import os
import random
import re
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

WORDS = (
    "sum",
    "carry",
    "remainder",
    "seven",
    "boxed",
    "argon",
    "neon",
    "digit",
    "é",
    "水",
    "\u2028",
    "and",
    "so",
)


@dataclass
class State:
    options: argparse.Namespace
    asked: list[dict[str, Any]] = field(default_factory=list)
    finished: int = 0
    failed: int = 0
    in_flight: int = 0
    most_in_flight: int = 0
    serial: int = 0
    streams: int = 0
    process_seed: int = 0
    started: float = field(default_factory=time.monotonic)


def response_words(body: dict[str, Any], options: argparse.Namespace, serial: int) -> list[str]:
    """The words of one response, at most `max_tokens` of them."""
    if options.pieces is not None:
        return list(options.pieces[: body["max_tokens"]])
    prompt = body.get("prompt") or json.dumps(body.get("messages"), ensure_ascii=False)
    key = [prompt]
    if body.get("temperature", 1.0) > 0 and not options.greedy:
        key.append(str(serial if options.ignore_seed else body.get("seed")))
    elif options.ignore_temperature:
        key.append(str(serial))
    chooser = random.Random(hashlib.sha256("\0".join(key).encode()).hexdigest())
    if options.sums is not None and (asked := SUM.search(prompt)):
        right = chooser.random() < options.sums
        return solution(asked.group(1), right, options.fractions)[: body["max_tokens"]]
    program = ["\n", "```python\n", f"print({chooser.choice(PROGRAMS)})", "\n```"] if options.programs else []
    words = [chooser.choice(WORDS) + " " for _ in range(options.words)]
    return [*words, *program][: body["max_tokens"]]


PROGRAMS = tuple(f"{name}(map(int, input().split()))" for name in ("sum", "max", "min", "sorted"))
SUM = re.compile(r"Compute ([-+*0-9]+)\.")


def solution(terms: str, right: bool, fraction: bool) -> list[str]:
    """The words of a right or a wrong answer to a sum without brackets; a `fraction` where that is wanted."""
    signed = re.findall(r"[-+]?[0-9*]+", terms)
    result = sum(math.prod(int(factor) for factor in term.split("*")) for term in signed)
    told = str(result if right else result + 1)
    if fraction:
        told = rf"\frac{{{2 * int(told)}}}{{2}}"
    return ["<think>", "\n", "so", "\n", "</think>", "\n\n", f"\\boxed{{{told}}}"]


def refusal(body: dict[str, Any], state: State) -> web.Response | None:
    """The error that a switch asks for, or None where the request is to be answered."""
    options = state.options
    if state.failed < options.busy:
        state.failed += 1
        return web.json_response(
            {"error": {"message": "slow down"}}, status=429, headers={"Retry-After": str(options.retry_after)}
        )
    if state.failed < options.fail:
        state.failed += 1
        return web.json_response({"error": {"message": "engine is unwell"}}, status=500)
    if body["model"] != options.model:
        message = f"The model `{body['model']}` does not exist."
        return web.json_response({"error": {"message": message, "code": 404}}, status=404)
    unknown = [name for name in ("top_k", "min_p", "repetition_penalty") if name in body]
    if options.openai_only and unknown:
        return web.json_response({"error": {"message": f"unknown parameter {unknown[0]}"}}, status=400)
    if options.refuse_streams and body.get("stream"):
        return web.json_response({"error": {"message": "stream is not supported"}}, status=400)
    if options.context and len(json.dumps(body)) + body["max_tokens"] > options.context:
        return web.json_response(
            {"error": {"message": f"This model's maximum context length is {options.context} tokens."}},
            status=400,
        )
    return None


def logprobs(words: list[str], chat: bool, stopped: bool) -> dict[str, Any]:
    """Of each word, and of the special token that ends a response that was not cut off."""
    tokens = [*words, "<|im_end|>"] if stopped else words
    if not chat:
        return {"tokens": tokens, "token_logprobs": [-0.5] * len(tokens), "top_logprobs": None}
    return {
        "content": [
            {"token": token, "bytes": list(token.encode()), "logprob": -0.5, "top_logprobs": []}
            for token in tokens
        ]
    }


def shown(words: list[str], body: dict[str, Any]) -> str:
    """The text of the tokens; special ones are left out unless the request wants them."""
    special = body.get("skip_special_tokens", True)
    return "".join(word for word in words if not (special and word.startswith("<|") and word.endswith("|>")))


def completion(
    body: dict[str, Any], options: argparse.Namespace, words: list[str], chat: bool
) -> dict[str, Any]:
    """The answer's JSON, shaped as vLLM or, with --style sglang, as SGLang shapes it."""
    stopped = len(words) < body["max_tokens"]
    text = options.text if options.text is not None else shown(words, body)
    if options.spoil and options.spoil in json.dumps(body):
        text = ""
    message: dict[str, Any] = {"role": "assistant", "content": text, "tool_calls": None}
    if options.reasoning:
        message["reasoning_content"] = options.reasoning
    choice: dict[str, Any] = {
        "index": 0,
        "finish_reason": options.finish or ("stop" if stopped else "length"),
        "logprobs": logprobs(words, chat, stopped)
        if body.get("logprobs") and not options.no_logprobs
        else None,
        **({"token_ids": list(range(len(words) + stopped))} if body.get("return_token_ids") else {}),
        **({"message": message} if chat else {"text": text}),
    }
    usage = {"prompt_tokens": 7, "completion_tokens": len(words), "total_tokens": 7 + len(words)}
    if options.style == "sglang":
        choice["matched_stop"] = 151645 if stopped else None
        usage |= {"prompt_tokens_details": None, "reasoning_tokens": 0}
    extra = (
        {"metadata": {"weight_version": "default"}}
        if options.style == "sglang"
        else {"system_fingerprint": "x"}
    )
    return {
        "id": f"chatcmpl-{random.SystemRandom().getrandbits(64):x}",
        "object": "chat.completion" if chat else "text_completion",
        "created": int(time.time()),
        "model": options.answer_model or options.model,
        "choices": [choice],
        "usage": usage,
        **extra,
    }


async def answer(request: web.Request) -> web.StreamResponse:
    state: State = request.app[STATE]
    body = await request.json()
    state.asked.append(body)
    state.serial += 1
    state.process_seed = body.get("seed", 0)
    place = state.in_flight
    refused = refusal(body, state)
    if refused is not None:
        return refused
    await held(state)
    if state.options.process_seed:
        body["seed"] = state.process_seed * 1000 + place
    words = response_words(body, state.options, state.serial)
    if body.get("stream") and not state.options.never_stream:
        return await streamed(request, body, words)
    state.finished += 1
    if state.options.die_after and state.finished > state.options.die_after:
        print("fatal: the engine core died", file=sys.stderr, flush=True)
        os._exit(7)
    return web.json_response(
        completion(body, state.options, words, request.path.endswith("chat/completions"))
    )


async def streamed(request: web.Request, body: dict[str, Any], words: list[str]) -> web.StreamResponse:
    """The answer as server-sent events, one token each, cut into pieces that end anywhere."""
    state: State = request.app[STATE]
    options, chat = state.options, request.path.endswith("chat/completions")
    whole = completion(body, options, words, chat)
    events = [json.dumps(event, ensure_ascii=False) for event in chunks(whole, words, body, options)]
    state.streams += 1
    broken = state.streams <= options.break_streams
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
    await response.prepare(request)
    end = options.line_end.encode().decode("unicode_escape")
    for place, event in enumerate(events):
        if broken and place == len(events) // 2:
            if options.break_with == "error":
                await response.write(b'data: {"error": {"message": "out of memory"}}\n\n')
            elif options.break_with == "rubbish":
                await response.write(b"data: {rubbish\n\n")
            elif options.break_with == "reset" and request.transport is not None:
                request.transport.abort()
            return response
        data = f"data: {event}{end}{end}".encode()
        for start in range(0, len(data), options.piece):
            await response.write(data[start : start + options.piece])
        if options.token_delay:
            await asyncio.sleep(options.token_delay)
    if options.stall_streams:
        await asyncio.sleep(3600)
    await response.write(f"data: [DONE]{end}{end}".encode())
    state.finished += 1
    return response


def chunks(
    whole: dict[str, Any], words: list[str], body: dict[str, Any], options: argparse.Namespace
) -> list[dict[str, Any]]:
    """The chunks that add up to a whole answer: a token each, the end, and the counts where wanted."""
    [choice] = whole["choices"]
    head = {name: whole[name] for name in ("id", "created", "model")}
    chat, given = "message" in choice, choice["logprobs"]
    found = []
    if chat and options.reasoning:
        found.append({"index": 0, "delta": {"reasoning_content": options.reasoning}, "finish_reason": None})
    pieces = [shown([word], body) for word in words] if options.text is None else [options.text]
    ended = choice["finish_reason"]
    if given is not None and len(given.get("content") or given.get("tokens")) > len(pieces):
        pieces.append("")
    for place, piece in enumerate(pieces):
        part: dict[str, Any] = {"index": 0, "finish_reason": None, "logprobs": None}
        part |= {"delta": {"content": piece}} if chat else {"text": piece}
        if given is not None and chat:
            part["logprobs"] = {"content": given["content"][place : place + 1]}
        elif given is not None:
            part["logprobs"] = {name: given[name][place : place + 1] for name in ("tokens", "token_logprobs")}
        if "token_ids" in choice:
            part["token_ids"] = choice["token_ids"][place : place + 1]
        found.append(part)
    found.append({"index": 0, "finish_reason": ended, **({"delta": {}} if chat else {"text": ""})})
    counted = [] if options.no_stream_usage else [{**head, "choices": [], "usage": whole["usage"]}]
    return [*({**head, "choices": [each]} for each in found), *counted]


async def held(state: State) -> None:
    """Waits as an engine would, counting how many requests wait together."""
    state.in_flight += 1
    state.most_in_flight = max(state.most_in_flight, state.in_flight)
    if state.options.hang_after and state.finished >= state.options.hang_after:
        await asyncio.sleep(3600)
    if state.options.delay:
        await asyncio.sleep(state.options.delay)
    state.in_flight -= 1


async def health(request: web.Request) -> web.Response:
    state: State = request.app[STATE]
    if (
        state.options.hang_after
        and state.finished >= state.options.hang_after
        and not state.options.hang_politely
    ):
        await asyncio.sleep(3600)
    if state.options.unwell and state.asked:
        await asyncio.sleep(3600)
    if time.monotonic() - state.started < state.options.warm_up:
        return web.Response(status=503)
    return web.Response()


async def models(request: web.Request) -> web.Response:
    name = request.app[STATE].options.model
    return web.json_response(
        {"object": "list", "data": [{"id": name, "object": "model", "max_model_len": 512}]}
    )


async def asked(request: web.Request) -> web.Response:
    state: State = request.app[STATE]
    return web.json_response({"asked": state.asked, "most_in_flight": state.most_in_flight})


STATE = web.AppKey("state", State)


def parsed(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--answer-model", default="", help="the model id of every answer")
    parser.add_argument("--style", choices=("vllm", "sglang"), default="vllm")
    parser.add_argument("--words", type=int, default=12)
    parser.add_argument("--text", help="every response, word for word")
    parser.add_argument("--spoil", default="", help="no text, and all tokens, for prompts that hold this")
    parser.add_argument("--pieces", type=json.loads, help="every response, a JSON list of its tokens")
    parser.add_argument("--reasoning", default="", help="reasoning_content of every response")
    parser.add_argument("--sums", type=float, help="answer micro_math, this share of it rightly")
    parser.add_argument("--programs", action="store_true", help="end every other response with a program")
    parser.add_argument("--fractions", action="store_true", help="such answers as fractions over 2")
    parser.add_argument("--finish", default="", help="finish_reason of every response")
    parser.add_argument("--fail", type=int, default=0, help="answer 500 to the first N requests")
    parser.add_argument("--busy", type=int, default=0, help="answer 429 to the first N requests")
    parser.add_argument("--retry-after", type=int, default=0, help="seconds, with --busy")
    parser.add_argument("--die-after", type=int, default=0, help="exit instead of the answer after N")
    parser.add_argument("--hang-after", type=int, default=0, help="answer nothing any more after N")
    parser.add_argument("--hang-politely", action="store_true", help="but stay healthy")
    parser.add_argument("--delay", type=float, default=0.0, help="seconds before each answer")
    parser.add_argument("--warm-up", type=float, default=0.0, help="seconds of 503 at /health")
    parser.add_argument("--never-up", action="store_true", help="run, and never listen")
    parser.add_argument("--refuse-to-start", action="store_true")
    parser.add_argument("--port-taken", type=Path, help="claim the port is taken unless this file exists")
    parser.add_argument("--child", action="store_true", help="start a child that ignores SIGTERM")
    parser.add_argument("--pids", type=Path, help="write the process ids of server and child here")
    parser.add_argument("--ignore-seed", action="store_true")
    parser.add_argument("--process-seed", action="store_true", help="the last request's seed for all")
    parser.add_argument("--ignore-temperature", action="store_true", help="sample even at temperature 0")
    parser.add_argument("--greedy", action="store_true", help="never sample")
    parser.add_argument("--openai-only", action="store_true", help="400 for parameters OpenAI does not know")
    parser.add_argument("--no-logprobs", action="store_true", help="send none, whoever asks")
    parser.add_argument("--unwell", action="store_true", help="hang at /health, and answer all the same")
    parser.add_argument("--never-stream", action="store_true", help="answer whole, whoever asks for a stream")
    parser.add_argument("--refuse-streams", action="store_true", help="400 to who asks for a stream")
    parser.add_argument("--no-stream-usage", action="store_true", help="streams carry no token counts")
    parser.add_argument("--break-streams", type=int, default=0, help="break the first N streams half-way")
    parser.add_argument("--break-with", choices=("end", "error", "rubbish", "reset"), default="end")
    parser.add_argument("--stall-streams", action="store_true", help="never end a stream")
    parser.add_argument("--token-delay", type=float, default=0.0, help="seconds between streamed tokens")
    parser.add_argument("--piece", type=int, default=2**16, help="bytes of a stream written at once")
    parser.add_argument("--line-end", default="\\n", help="between a stream's lines")
    parser.add_argument("--context", type=int, default=0, help="400 over this many characters and tokens")
    return parser.parse_args(arguments)


def stubborn_child() -> int:
    """Starts a process in a session of its own, which the group of its parent does not reach."""
    child = os.fork()
    if child == 0:
        os.setsid()
        script = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(3600)"
        os.execv(sys.executable, [sys.executable, "-c", script])
    return child


def main() -> None:
    options = parsed(sys.argv[1:])
    print(f"fake server on port {options.port}", flush=True)
    if options.refuse_to_start:
        sys.exit("RuntimeError: not enough memory for the KV cache")
    if options.port_taken is not None and not options.port_taken.exists():
        options.port_taken.touch()
        sys.exit("OSError: [Errno 98] Address already in use")
    children = [stubborn_child()] if options.child else []
    if options.pids is not None:
        partial = options.pids.with_suffix(".partial")
        partial.write_text(" ".join(str(process) for process in [os.getpid(), *children]))
        partial.rename(options.pids)
    if options.never_up:
        time.sleep(3600)
    app = web.Application(client_max_size=2**26)
    app[STATE] = State(options)
    app.router.add_post("/v1/chat/completions", answer)
    app.router.add_post("/v1/completions", answer)
    app.router.add_get("/v1/models", models)
    app.router.add_get("/health", health)
    app.router.add_get("/asked", asked)
    web.run_app(app, host="127.0.0.1", port=options.port, print=None, handle_signals=True)


if __name__ == "__main__":
    main()
