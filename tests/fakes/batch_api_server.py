"""A provider's batch API for tests: files in, answers out, a switch for what goes wrong.

    python batch_api_server.py --port 8123 --model tiny --expire 3

Answers are those of the fake OpenAI server to the same bodies. `GET /asked` tells of what was called.
"""

import argparse
import asyncio
import json
import time
from typing import Any

from aiohttp import web

from tests.fakes.openai_server import completion, parsed, response_words

OPTIONS = web.AppKey("options", argparse.Namespace)
STATE = web.AppKey("state", dict[str, Any])


async def upload(request: web.Request) -> web.Response:
    state = request.app[STATE]
    form = await request.post()
    file = form["file"]
    assert isinstance(file, web.FileField)
    state["calls"].append("upload")
    name = f"file-{len(state['files'])}"
    state["files"][name] = file.file.read()
    if state["busy"] > 0:
        state["busy"] -= 1
        return web.json_response({"error": {"message": "slow down"}}, status=429)
    return web.json_response({"id": name, "object": "file"})


async def create(request: web.Request) -> web.Response:
    state, options, body = request.app[STATE], request.app[OPTIONS], await request.json()
    state["calls"].append("create")
    name = f"batch_{len(state['batches'])}"
    if request.headers.get("Authorization") != "Bearer secret-key":
        return web.json_response({"error": {"message": "no key"}}, status=401)
    lines = [json.loads(line) for line in state["files"][body["input_file_id"]].splitlines()]
    output, errors = [], []
    for place, line in enumerate(lines):
        earlier = len(state["batches"])
        if (earlier == 0 and place < options.expire) or earlier < options.expire_whole:
            error = {"code": "batch_expired", "message": "not answered in time"}
            errors.append({"custom_id": line["custom_id"], "response": None, "error": error})
            continue
        asked = parsed(["--port", "1", "--model", options.model])
        answer = completion(line["body"], asked, response_words(line["body"], asked, 0), chat=True)
        output.append(
            {"custom_id": line["custom_id"], "response": {"status_code": 200, "body": answer}, "error": None}
        )
    files = {}
    for kind, rows in (("output_file_id", output), ("error_file_id", errors)):
        if rows:
            files[kind] = f"file-{kind}-{name}"
            state["files"][files[kind]] = "".join(json.dumps(row) + "\n" for row in reversed(rows)).encode()
    if len(state["batches"]) < options.fail:
        files = {}
    batch = {"id": name, "metadata": body["metadata"], "ready": time.monotonic() + options.seconds, **files}
    state["batches"][name] = batch
    if options.drop_reply and len(state["batches"]) == 1:
        await asyncio.sleep(0.05)
        assert request.transport is not None
        request.transport.abort()
    return web.json_response({"id": name, "status": "validating"})


def shown(batch: dict[str, Any]) -> dict[str, Any]:
    """A batch as it is at the moment."""
    if time.monotonic() < batch["ready"]:
        return {"id": batch["id"], "metadata": batch["metadata"], "status": "in_progress"}
    if "output_file_id" not in batch and "error_file_id" not in batch:
        return {**batch, "status": "failed", "errors": {"data": [{"message": "too many enqueued tokens"}]}}
    return {**batch, "status": "expired" if "error_file_id" in batch else "completed"}


async def look(request: web.Request) -> web.Response:
    return web.json_response(shown(request.app[STATE]["batches"][request.match_info["name"]]))


async def listed(request: web.Request) -> web.Response:
    request.app[STATE]["calls"].append("list")
    batches = [shown(batch) for batch in request.app[STATE]["batches"].values()]
    return web.json_response({"data": batches, "has_more": request.app[OPTIONS].endless_pages})


async def content(request: web.Request) -> web.Response:
    if request.app[OPTIONS].forget:
        return web.json_response({"error": {"message": "no such file"}}, status=404)
    return web.Response(body=request.app[STATE]["files"][request.match_info["name"]])


async def asked(request: web.Request) -> web.Response:
    return web.json_response(request.app[STATE]["calls"])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--expire", type=int, default=0, help="answer not the first N of the first batch")
    parser.add_argument("--expire-whole", type=int, default=0, help="answer nothing in the first N batches")
    parser.add_argument("--fail", type=int, default=0, help="refuse the first N batches whole")
    parser.add_argument("--endless-pages", action="store_true", help="say that more batches follow, always")
    parser.add_argument("--forget", action="store_true", help="keep no files of answers")
    parser.add_argument("--busy", type=int, default=0, help="answer 429 to the first N uploads")
    parser.add_argument("--seconds", type=float, default=0.3, help="that a batch takes")
    parser.add_argument("--drop-reply", action="store_true", help="make the first batch and say nothing")
    options = parser.parse_args()
    app = web.Application(client_max_size=2**28)
    app[OPTIONS] = options
    app[STATE] = {"files": {}, "batches": {}, "calls": [], "busy": options.busy}
    app.router.add_post("/v1/files", upload)
    app.router.add_post("/v1/batches", create)
    app.router.add_get("/v1/batches", listed)
    app.router.add_get("/v1/batches/{name}", look)
    app.router.add_get("/v1/files/{name}/content", content)
    app.router.add_get("/asked", asked)
    app.router.add_get("/health", lambda request: asyncio.sleep(0, web.Response()))
    web.run_app(app, host="127.0.0.1", port=options.port, print=None)


if __name__ == "__main__":
    main()
