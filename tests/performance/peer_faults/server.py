"""A server that fails in one way: it answers the work, strikes at fixed places, and keeps a record.

python -m tests.performance.peer_faults.server --questions FILE --upstream URL --log FILE --port N --how NAME

The answer to a question of the work depends on nothing but the question, whoever asks and with whatever
seed: so every tool's score is known. What is not of the work (probes, the list of models) is passed on to
the fast server. The log gets one JSON line when a request of the work comes and one when it has been
answered whole; it outlives the server, and one started anew on it goes on where it ended.
"""

import argparse
import asyncio
import json
import os
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import aiohttp
from aiohttp import web

from tests.performance.client.answers import Known, answer_of, body, ending, is_right, read_questions

MODEL, OTHER = "speed", "another"
MAX_TOKENS = 4_096  # with which the work is asked, and no probe
DELAY = 0.5  # seconds that an answer takes
STRIKES_AT = 10  # the place, among the requests of the work, at which the server fails
SPELL = 10.0  # seconds for which it refuses everybody
VICTIMS = 3  # questions whose first answer is spoilt; all are ones that it answers right

How = Literal["", "die", "hang", "busy until", "busy", "errors", "reset", "rubbish", "empty", "other"]


@dataclass
class Record:
    """What was asked and answered, in a file that is written line by line."""

    file: Path
    asked: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        for event in read_log(self.file):
            self.asked[event["question"]] += event["event"] == "asked"

    @property
    def place(self) -> int:
        """How many requests of the work have come."""
        return self.asked.total()

    def note(self, event: str, question: str) -> None:
        self.asked[question] += event == "asked"
        with self.file.open("a", encoding="utf-8") as log:
            log.write(json.dumps({"event": event, "question": question}) + "\n")


def read_log(file: Path) -> list[dict[str, str]]:
    if not file.exists():
        return []
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


@dataclass
class State:
    questions: list[Known]
    upstream: str
    record: Record
    how: How
    model: str
    strict: bool
    spoilt: set[str]
    until: float = 0.0

    def find(self, wanted: dict[str, Any]) -> Known | None:
        """The question that is asked; None of a probe, which asks for fewer tokens or something else."""
        if MAX_TOKENS not in (wanted.get("max_tokens"), wanted.get("max_completion_tokens")):
            return None
        text = json.dumps(wanted["messages"])
        return next((each for each in self.questions if each.mark in text), None)


def victims(questions: list[Known]) -> set[str]:
    """The questions whose first answer is spoilt: spread over the work, each one answered right."""
    right = [each.id for each in questions if is_right(each.id, 0)]
    return set(right[2 :: max(1, len(right) // VICTIMS)][:VICTIMS])


def completion(known: Known, state: State) -> dict[str, Any]:
    """A whole answer in vLLM's shape; another model's is a wrong one, under its own name."""
    other = state.model != MODEL
    number = (known.gold + 1) % 1_000 if other else answer_of(known, 0)
    return shaped(state.model, body(200) + ending(number), 60)


def shaped(model: str, content: str | None, tokens: int) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": content, "refusal": None, "tool_calls": []}
    return {
        "id": f"chatcmpl-{os.urandom(8).hex()}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": model,
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 90, "completion_tokens": tokens, "total_tokens": 90 + tokens},
    }


async def asked(request: web.Request) -> web.StreamResponse:
    """A request for a completion."""
    state = request.app[STATE]
    wanted = await request.json()
    known = state.find(wanted)
    if known is None:
        return await passed_on(request)
    state.record.note("asked", known.id)
    first = state.record.asked[known.id] == 1
    if state.strict and (name := wanted["model"]) != state.model:
        error = {"message": f"The model `{name}` does not exist.", "type": "NotFoundError", "code": 404}
        return web.json_response({"error": error}, status=404)
    if refused := refusal(state):
        return refused
    await asyncio.sleep(DELAY)
    if first and known.id in state.spoilt and (bad := await spoil(request, state, known)):
        return bad
    answer = web.json_response(completion(known, state))
    state.record.note("answered" if state.model == MODEL else "answered for another", known.id)
    return answer


def refusal(state: State) -> web.Response | None:
    """Where the whole server fails: it dies, or refuses everybody for a while."""
    struck = state.record.place >= STRIKES_AT
    if state.how in ("die", "other") and struck:
        os._exit(9)
    if state.how not in ("busy", "busy until", "errors") or not struck:
        return None
    now = time.monotonic()
    state.until = state.until or now + SPELL
    if now >= state.until:
        return None
    status, said = (500, "Internal Server Error") if state.how == "errors" else (429, "Too many requests")
    headers = {"Retry-After": f"{state.until - now + 1:.0f}"} if state.how == "busy until" else {}
    error = {"error": {"message": said, "type": "error", "code": status}}
    return web.json_response(error, status=status, headers=headers)


async def spoil(request: web.Request, state: State, known: Known) -> web.StreamResponse | None:
    """The first answer to one of the victims, in the way of the fault."""
    whole = json.dumps(completion(known, state)).encode()
    match state.how:
        case "hang":
            await asyncio.sleep(3600)
        case "reset":
            from tests.faults.server import with_reset  # imports much of the harness

            answer = web.StreamResponse(headers={"Content-Type": "application/json"})
            answer.content_length = len(whole)
            await answer.prepare(request)
            await answer.write(whole[: len(whole) // 2])
            await asyncio.sleep(0.05)  # so that the half is on its way before the connection ends
            if request.transport is not None:
                with_reset(request.transport)
            return answer
        case "rubbish":
            return web.Response(body=whole[: len(whole) // 2], content_type="application/json")
        case "empty":
            content = None if known.id != min(state.spoilt) else ""
            return web.json_response(shaped(state.model, content, 0))
    return None


async def passed_on(request: web.Request) -> web.Response:
    """What the fast server answers to anything else."""
    state = request.app[STATE]
    if request.path.endswith("/models") and state.model != MODEL:
        return web.json_response({"object": "list", "data": [{"id": state.model, "object": "model"}]})
    url, data = f"{state.upstream}{request.path}", await request.read()
    headers = {"Content-Type": request.headers.get("Content-Type", "application/json")}
    async with (
        aiohttp.ClientSession() as session,
        session.request(request.method, url, data=data or None, headers=headers) as answer,
    ):
        return web.Response(body=await answer.read(), status=answer.status, content_type=answer.content_type)


STATE = web.AppKey("state", State)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--questions", type=Path, required=True)
    parser.add_argument("--upstream", required=True, help="of the fast server, without /v1")
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--how", default="", help="in which it fails; empty: it does not")
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--strict", action="store_true", help="404 to who asks for another model")
    options = parser.parse_args()
    questions = read_questions(options.questions)
    app = web.Application(client_max_size=2**26)
    app[STATE] = State(
        questions=questions,
        upstream=options.upstream,
        record=Record(options.log),
        how=options.how,
        model=options.model,
        strict=options.strict,
        spoilt=victims(questions),
    )
    app.router.add_post("/v1/chat/completions", asked)
    app.router.add_route("*", "/{rest:.*}", passed_on)
    web.run_app(app, host="127.0.0.1", port=options.port, print=None, shutdown_timeout=0)


if __name__ == "__main__":
    main()
