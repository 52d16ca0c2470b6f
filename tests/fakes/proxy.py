"""A proxy before a real server, as routers and providers are: it passes everything on, but for one habit.

    python proxy.py --port 8123 --to http://127.0.0.1:8000 --strip seed
    python proxy.py --port 8123 --to http://127.0.0.1:8000 --openai-only

`GET /asked` tells how many requests for completions came.
"""

import argparse
from typing import Any

import aiohttp
from aiohttp import web

KNOWN = {
    "model", "messages", "prompt", "max_tokens", "temperature", "top_p", "seed", "stop", "n", "stream",
    "stream_options", "logprobs", "top_logprobs", "presence_penalty", "frequency_penalty",
}  # fmt: skip
"""The parameters of OpenAI's API that a language model is asked with."""


class Proxy:
    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.asked = 0

    async def passed_on(self, request: web.Request) -> web.Response:
        body: dict[str, Any] | None = None
        if request.method == "POST":
            self.asked += "completions" in request.path
            body = await request.json()
            if self.options.openai_only and (unknown := body.keys() - KNOWN):
                error = {"message": f"Unrecognized request argument supplied: {min(unknown)}"}
                return web.json_response({"error": error}, status=400)
            body = {name: value for name, value in body.items() if name not in self.options.strip}
        url = f"{self.options.to}{request.path}"
        async with (
            aiohttp.ClientSession() as session,
            session.request(request.method, url, json=body) as answer,
        ):
            data = await answer.read()
            return web.Response(body=data, status=answer.status, content_type=answer.content_type)

    async def told(self, request: web.Request) -> web.Response:
        return web.json_response({"asked": self.asked})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--to", required=True)
    parser.add_argument("--strip", nargs="*", default=[], help="parameters that are left out")
    parser.add_argument("--openai-only", action="store_true", help="400 for what OpenAI does not know")
    options = parser.parse_args()
    proxy, app = Proxy(options), web.Application(client_max_size=2**26)
    app.router.add_get("/asked", proxy.told)
    app.router.add_route("*", "/{rest:.*}", proxy.passed_on)
    web.run_app(app, host="127.0.0.1", port=options.port, print=None)


if __name__ == "__main__":
    main()
