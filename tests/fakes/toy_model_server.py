"""An OpenAI-speaking server with a real, if senseless, language model: characters drawn by the two before.

    python toy_model_server.py --port 8123 --model toy

It renders a chat template, tells token ids and log-probabilities, and samples as it is asked to, seeds and
all. Each switch is one way in which servers are known not to. One process is as many servers as there are
first parts of a path: `prefix("--ignore", "seed")` is one that honours no seed, and `GET /asked` below it
tells how many requests came to it.
"""

import argparse
import base64
import functools
import json
import re
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from aiohttp import web
from numpy.typing import NDArray

SPECIAL = ("<|im_start|>", "<|im_end|>", "<think>", "</think>")
CHARACTERS = ("\n", *map(chr, range(32, 127)))
TOKENS = (*CHARACTERS, *SPECIAL)
NUMBER = {token: number for number, token in enumerate(TOKENS)}
START, END, OPEN, CLOSE = (NUMBER[token] for token in SPECIAL)
PIECES = re.compile("|".join(map(re.escape, SPECIAL)) + "|.", re.DOTALL)
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
WITHOUT_SYSTEM = TEMPLATE.replace("messages %}", "messages if message.role != 'system' %}", 1)
OFF = {"temperature": 1.0, "top_p": 1.0, "top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0}

Array = NDArray[np.float64]


def write_checkpoint(folder: Path, context: int = 4096) -> Path:
    """A folder that looks like this model's checkpoint to everything but an engine."""
    folder.mkdir(parents=True, exist_ok=True)
    added = [{"id": NUMBER[token], "content": token, "special": token.startswith("<|")} for token in SPECIAL]
    vocabulary = {token: number for token, number in NUMBER.items() if token not in SPECIAL}
    tokenizer = {"model": {"vocab": vocabulary}, "added_tokens": added}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    (folder / "tokenizer_config.json").write_text('{"eos_token": "<|im_end|>"}')
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    (folder / "config.json").write_text(json.dumps({"max_position_embeddings": context}))
    return folder


def encode(text: str) -> list[int]:
    return [NUMBER.get(piece, NUMBER["?"]) for piece in PIECES.findall(text)]


def encode_plainly(text: str) -> list[int]:
    """As a tokenizer that was not told of the special tokens."""
    return [NUMBER.get(character, NUMBER["?"]) for character in text]


def decode(ids: list[int], special: bool = False) -> str:
    return "".join(TOKENS[number] for number in ids if special or number not in (START, END))


@functools.lru_cache(maxsize=65_536)
def logprobs_after(before: int, last: int) -> Array:
    """The model: log-probabilities of the next token."""
    logits = np.random.default_rng([before, last]).normal(0.0, 1.5, len(TOKENS))
    logits[[START, OPEN, CLOSE]] -= 6.0
    return normal(logits)


def normal(logits: Array) -> Array:
    return logits - np.logaddexp.reduce(logits)


def filtered(logits: Array, sampling: dict[str, Any]) -> Array:
    """Log-probabilities that are drawn from: temperature, then top_k, top_p and min_p."""
    found = normal(logits / max(sampling["temperature"], 1e-6))
    order = np.argsort(-found, kind="stable")
    keep = np.ones(len(found), dtype=bool)
    if sampling["top_k"] > 0:
        keep[order[sampling["top_k"] :]] = False
    mass = np.cumsum(np.exp(found[order]))
    keep[order[1:][mass[:-1] >= sampling["top_p"]]] = False
    keep &= found >= found.max() + np.log(max(sampling["min_p"], 1e-300)) - 1e-9
    return normal(np.where(keep, found, -np.inf))


@dataclass
class Drawn:
    """The tokens of one response, and what the model thought of each and its rivals."""

    ids: list[int] = field(default_factory=list)
    tables: list[Array] = field(default_factory=list)
    finish: str = "length"


def draw(prompt: list[int], body: dict[str, Any], options: argparse.Namespace, seed: int) -> Drawn:
    sampling = {name: body.get(name, options.default.get(name, off)) for name, off in OFF.items()}
    sampling |= {name: OFF[name] for name in options.ignore if name in OFF} | options.force
    found, stops = Drawn(), [] if "stop" in options.ignore else body.get("stop", [])
    limit = 200 if "max_tokens" in options.ignore else body["max_tokens"]
    while len(found.ids) < limit:
        everything = prompt + found.ids
        raw = logprobs_after(everything[-2] if len(everything) > 1 else 0, everything[-1])
        if options.sure:
            raw = normal(raw * 60)
        penalty = sampling["repetition_penalty"]
        logits = raw.copy()
        seen = list(set(everything))
        logits[seen] = np.where(logits[seen] > 0, logits[seen] / penalty, logits[seen] * penalty)
        table = filtered(logits, sampling)
        noise = np.random.default_rng([seed, len(found.ids)]).gumbel(size=len(TOKENS))
        if options.thinks and len(found.ids) < 2:
            token = (OPEN, CLOSE)[len(found.ids)]
        else:
            token = int(np.argmax(table + (noise if sampling["temperature"] > 0 else 0)))
        found.ids.append(token)
        found.tables.append(table if options.processed_logprobs else raw)
        if token == END or any(stop in decode(found.ids) for stop in stops):
            found.finish = "stop"
            break
    return found


def logprobs_json(found: Drawn, tops: int, chat: bool) -> dict[str, Any]:
    """As OpenAI shapes them for a chat, or for a text."""
    own = [float(table[token]) for token, table in zip(found.ids, found.tables, strict=True)]
    likeliest = [np.argsort(-table)[:tops].tolist() for table in found.tables]
    shown = [
        {TOKENS[number]: float(max(table[number], -9999.0)) for number in numbers}
        for numbers, table in zip(likeliest, found.tables, strict=True)
    ]
    names = [TOKENS[number] for number in found.ids]
    if not chat:
        return {"tokens": names, "token_logprobs": own, "top_logprobs": shown if tops else None}
    return {
        "content": [
            {
                "token": name,
                "bytes": list(name.encode()),
                "logprob": logprob,
                "top_logprobs": [{"token": token, "logprob": value} for token, value in rivals.items()],
            }
            for name, logprob, rivals in zip(names, own, shown, strict=True)
        ]
    }


class Server:
    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.asked = 0
        source = WITHOUT_SYSTEM if options.drop_system else TEMPLATE
        self.template = jinja2.Template(source, keep_trailing_newline=True)

    def prompt(self, body: dict[str, Any]) -> list[int]:
        if "prompt" in body:
            read = encode_plainly if self.options.plain_specials else encode
            return read(body["prompt"])
        messages = body["messages"]
        if self.options.own_system and messages[0]["role"] != "system":
            messages = [{"role": "system", "content": self.options.own_system}, *messages]
        return encode(self.template.render(messages=messages, add_generation_prompt=True))

    def refusal(self, body: dict[str, Any], prompt: list[int]) -> str:
        options = self.options
        if body["model"] != options.model:
            return f"The model `{body['model']}` does not exist."
        unknown = {*body} & {"top_k", "min_p", "repetition_penalty", "return_token_ids", "prompt_logprobs"}
        if options.openai_only and unknown:
            return f"unknown parameter {min(unknown)}"
        if len(prompt) + body["max_tokens"] > options.context:
            return f"This model's maximum context length is {options.context} tokens."
        if options.no_stream and body.get("stream"):
            return "streaming is not supported"
        return ""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked += 1
        body, options = await request.json(), self.options
        prompt, chat = self.prompt(body), request.path.endswith("/chat/completions")
        if refused := self.refusal(body, prompt):
            return web.json_response({"error": {"message": refused}}, status=400)
        seed = self.asked if "seed" in options.ignore else body.get("seed", self.asked)
        found = draw(prompt, body, options, seed)
        return await sent(request, body, self.completion(body, prompt, found, chat))

    def completion(self, body: dict[str, Any], prompt: list[int], found: Drawn, chat: bool) -> dict[str, Any]:
        options = self.options
        ids = {"token_ids": found.ids} if body.get("return_token_ids") and not options.no_ids else {}
        told = {"prompt_token_ids": prompt} if ids else {}
        scored = (
            [None, *({"1": {"logprob": -1.0}} for _ in prompt[1:])] if "prompt_logprobs" in body else None
        )
        choice: dict[str, Any] = {
            "index": 0,
            "finish_reason": options.finish or found.finish,
            "logprobs": self.logprobs(body, found, chat),
            **ids,
            **({"message": self.message(body, found)} if chat else {"text": self.text(body, found)}),
            **({} if chat else told | {"prompt_logprobs": None if options.no_logprobs else scored}),
        }
        counts = 0 if options.no_usage else 1
        usage = {"prompt_tokens": len(prompt) * counts, "completion_tokens": len(found.ids) * counts}
        return {
            "id": f"toy-{self.asked}",
            "model": options.answer_model or options.model,
            "choices": [choice],
            "usage": usage,
            **(told if chat else {}),
        }

    def logprobs(self, body: dict[str, Any], found: Drawn, chat: bool) -> dict[str, Any] | None:
        if self.options.no_logprobs or not body.get("logprobs"):
            return None
        tops = body.get("top_logprobs", 0) if chat else int(body["logprobs"])
        return logprobs_json(found, 0 if self.options.no_tops else tops, chat)

    def text(self, body: dict[str, Any], found: Drawn) -> str:
        text = decode(found.ids)
        if "stop" not in self.options.ignore:
            for stop in body.get("stop", []):
                text = text.partition(stop)[0]
        return text

    def message(self, body: dict[str, Any], found: Drawn) -> dict[str, Any]:
        text, way = self.text(body, found), self.options.reasoning
        thought, closed, rest = text.partition("</think>")
        if not closed or way == "tags":
            return {"role": "assistant", "content": text}
        if way == "lost":
            return {"role": "assistant", "content": rest}
        own = thought.removeprefix("<think>") or "hm"
        return {"role": "assistant", "content": rest, "reasoning_content": own}

    async def models(self, request: web.Request) -> web.Response:
        card: dict[str, Any] = {"id": self.options.model, "object": "model", "root": self.options.root}
        if not self.options.silent_context:
            card["max_model_len"] = self.options.context
        return web.json_response({"object": "list", "data": [card]})

    async def tokenize(self, request: web.Request) -> web.Response:
        if self.options.no_ids:
            return web.json_response({"error": {"message": "not found"}}, status=404)
        return web.json_response({"tokens": self.prompt(await request.json())})

    async def told(self, request: web.Request) -> web.Response:
        return web.json_response({"asked": self.asked})


async def sent(request: web.Request, body: dict[str, Any], completion: dict[str, Any]) -> web.StreamResponse:
    """The completion at once, or in one chunk where a stream is asked for."""
    if not body.get("stream"):
        return web.json_response(completion)
    choice = completion["choices"][0]
    if "message" in choice:
        choice["delta"] = choice.pop("message")
    stream = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await stream.prepare(request)
    await stream.write(b"data: " + json.dumps(completion).encode() + b"\n\ndata: [DONE]\n\n")
    await stream.write_eof()
    return stream


def prefix(*switches: str) -> str:
    """The first part of a path, below which the switches hold. Each call makes a server of its own."""
    plain = json.dumps([uuid.uuid4().hex, *switches])
    return base64.urlsafe_b64encode(plain.encode()).decode().rstrip("=")


def behind(part: str, model: str) -> "Server":
    """The server of a path's first part."""
    _, *switches = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return Server(parsed(switches, model))


def parsed(switches: list[str], model: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default=model)
    parser.add_argument("--root", default="", help="the checkpoint that /v1/models names")
    parser.add_argument("--answer-model", default="", help="the model id of every answer")
    parser.add_argument("--context", type=int, default=4096, help="400 over this many tokens")
    parser.add_argument("--silent-context", action="store_true", help="/v1/models does not tell it")
    parser.add_argument("--drop-system", action="store_true", help="a template without system messages")
    parser.add_argument("--own-system", default="", help="a system message of the server's own")
    parser.add_argument("--plain-specials", action="store_true", help="special tokens read as characters")
    parser.add_argument("--default", type=json.loads, default={}, help="JSON: for parameters left out")
    parser.add_argument("--force", type=json.loads, default={}, help="JSON: whatever is sent")
    parser.add_argument("--ignore", nargs="*", default=[], help="parameters that are read over")
    parser.add_argument("--openai-only", action="store_true", help="400 for what OpenAI does not know")
    parser.add_argument("--no-stream", action="store_true")
    parser.add_argument("--no-logprobs", action="store_true")
    parser.add_argument("--no-tops", action="store_true", help="no rivals beside the token drawn")
    parser.add_argument("--processed-logprobs", action="store_true", help="those that are drawn from")
    parser.add_argument("--no-ids", action="store_true", help="no token ids, and no /tokenize")
    parser.add_argument("--no-usage", action="store_true", help="counts of 0")
    parser.add_argument("--finish", default="", help="finish_reason of every response")
    parser.add_argument("--thinks", action="store_true", help="begin with <think></think>")
    parser.add_argument("--reasoning", choices=("tags", "apart", "lost"), default="tags")
    parser.add_argument("--sure", action="store_true", help="a model that is sure of every token")
    return parser.parse_args(switches)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--model", required=True)
    options = parser.parse_args()
    servers: dict[str, Server] = {}

    def server_of(request: web.Request) -> Server:
        part = request.match_info["part"]
        if part not in servers:
            servers[part] = behind(part, options.model)
        return servers[part]

    async def answer(request: web.Request) -> web.StreamResponse:
        return await server_of(request).answer(request)

    async def tokenize(request: web.Request) -> web.StreamResponse:
        return await server_of(request).tokenize(request)

    async def models(request: web.Request) -> web.StreamResponse:
        return await server_of(request).models(request)

    async def told(request: web.Request) -> web.StreamResponse:
        return await server_of(request).told(request)

    async def well(_: web.Request) -> web.StreamResponse:
        return web.Response()

    app = web.Application()
    app.add_routes([web.get("/v1/models", well), web.post("/{part}/tokenize", tokenize)])
    app.add_routes([web.get("/{part}/v1/models", models), web.get("/{part}/asked", told)])
    app.add_routes([web.post(f"/{{part}}/v1/{kind}", answer) for kind in ("completions", "chat/completions")])
    web.run_app(app, host="127.0.0.1", port=options.port, print=None)


if __name__ == "__main__":
    main()
