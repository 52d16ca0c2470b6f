"""An OpenAI-speaking server that knows the benchmarks: right, wrong, cut-off, missing and hostile answers.

    python known_answers.py --port 8124 --model NAME --data FOLDER --benchmarks micro_math,micro_code

Which kind of answer a request gets follows from its prompt and seed alone. A prompt of no known question
gets a short text that depends on the seed, so that a check of sampling passes.
"""

import argparse
import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web

import benchmarks
from benchmarks.micro import MicroCode
from harness.benchmark import Benchmark
from harness.discover import discover
from harness.types import Question

HOSTILE = '=HYPERLINK("http://127.0.0.1/")'
TEXT = f"{HOSTILE}\nnaïve 漢字 \u2028 <script>alert(1)</script> \\\\ \"'`\x7f | end"
KINDS = ("right", "right", "wrong", "cut off", "no answer", "hostile")


@dataclass(frozen=True, kw_only=True)
class Known:
    """The questions that the server recognises: by their texts, all of which stand in a prompt."""

    questions: tuple[tuple[tuple[str, ...], Question, Benchmark], ...]

    def find(self, prompt: str) -> tuple[Question, Benchmark] | None:
        found = [each for each in self.questions if all(text in prompt for text in each[0])]
        best = max(found, key=lambda each: sum(map(len, each[0])), default=None)
        return best and best[1:]


def known(names: list[str], data: Path | None) -> Known:
    here = discover(benchmarks, Benchmark)
    return Known(
        questions=tuple(
            ((question.prompt, *question.data.get("options", ())), question, here[name])
            for name in names
            for question in here[name].load(data)
        )
    )


def solution(prompt: str, question: Question, benchmark: Benchmark, right: bool) -> str:
    """The end of a response, right or wrong, in the form that the benchmark grades."""
    if isinstance(benchmark, MicroCode):
        tests, _ = benchmark.tests(question)
        table = {test.input.strip(): test.output.strip() for test in tests}
        program = f"import sys\nprint({table!r}[sys.stdin.read().strip()])" if right else "print('nothing')"
        return f"```python\n{program}\n```"
    if options := question.data.get("options"):
        lines = dict(re.findall(r"^([A-D])\) (.*)$", prompt, re.M))
        letters = sorted(lines, key=lambda letter: lines[letter] != options[0].split("\n")[0])
        return f"Answer: {letters[0 if right else 1]}"
    return f"\\boxed{{{question.gold if right else -7}}}"


def answer(body: dict[str, Any], questions: Known) -> tuple[str, str]:
    """The text of a response, and why it ended."""
    prompt, seed = body["messages"][-1]["content"], body.get("seed")
    found = questions.find(prompt)
    if found is None:
        return (f"seed-{seed}" if body.get("temperature", 1) > 0 else "greedy"), "stop"
    digest = hashlib.sha256(f"{prompt}\n{seed}".encode()).digest()
    kind = KINDS[digest[0] % len(KINDS)]
    if kind == "cut off":
        return f"<think>\nso {TEXT}", "length"
    ends = {"no answer": "I cannot say.", "hostile": TEXT}
    end = ends.get(kind) or solution(prompt, *found, kind == "right")
    return f"<think>\nso {TEXT} {digest.hex()}\n</think>\n\n{end}", "stop"


def application(model: str, questions: Known) -> web.Application:
    async def models(_: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": model, "object": "model"}]})

    async def complete(request: web.Request) -> web.Response:
        body = await request.json()
        text, reason = answer(body, questions)
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": reason}
        asked = sum(len(message["content"].split()) for message in body["messages"])
        given = body["max_tokens"] if reason == "length" else min(len(text.split()), body["max_tokens"])
        usage = {"prompt_tokens": asked, "completion_tokens": given, "total_tokens": asked + given}
        told = {
            "id": "known",
            "object": "chat.completion",
            "model": model,
            "choices": [choice],
            "usage": usage,
        }
        return web.Response(text=json.dumps(told), content_type="application/json")

    served = web.Application(client_max_size=2**24)
    served.add_routes([web.get("/v1/models", models), web.post("/v1/chat/completions", complete)])
    return served


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--benchmarks", required=True)
    options = parser.parse_args()
    app = application(options.model, known(options.benchmarks.split(","), options.data))
    web.run_app(app, host="127.0.0.1", port=options.port, print=None)
