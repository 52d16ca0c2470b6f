"""An OpenAI-speaking server that needs a key and sends the headers that it got back, wherever it can.

    python echoing_server.py --port 8123

The model's name says how: `text` in the model's words, `status-401` and the like in an error, `html` in a
page in place of JSON, `broken` in the middle of a stream, `hang` never. A batch's answers hold them, too.
`GET /seen` tells which Authorization headers came.
"""

import argparse
import asyncio
import json
from typing import Any

from aiohttp import web

SEEN = web.AppKey("seen", set[str])
BATCHES = web.AppKey("batches", dict[str, Any])


def headers(request: web.Request) -> str:
    request.app[SEEN].add(request.headers.get("Authorization", ""))
    return json.dumps(dict(request.headers)) + " " + str(request.url)


def words(request: web.Request) -> str:
    return f"You sent {headers(request)}. So \\boxed{{12}}\n```python\nprint(12)\n```"


def completion(text: str, model: str, most: int = 5) -> dict[str, Any]:
    """Of five tokens, or as many as may be."""
    finish = "length" if most < 5 else "stop"
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}
    usage = {"prompt_tokens": 3, "completion_tokens": min(5, most)}
    return {"id": "x", "object": "chat.completion", "model": model, "choices": [choice], "usage": usage}


async def answer(request: web.Request) -> web.StreamResponse:
    body = await request.json()
    model, text = body["model"], words(request)
    if not request.headers.get("Authorization"):
        return web.json_response({"error": {"message": f"no key: {text}"}}, status=401)
    if model.startswith("status-"):
        return web.json_response({"error": {"message": f"refused: {text}"}}, status=int(model[7:]))
    if model == "html":
        return web.Response(text=f"<html>{text}</html>", content_type="text/html")
    if model == "hang" and body["max_tokens"] > 1:
        await asyncio.sleep(3600)
    if body.get("stream"):
        return await streamed(request, completion(text, model, body["max_tokens"]))
    return web.json_response(completion(text, model, body["max_tokens"]))


async def streamed(request: web.Request, whole: dict[str, Any]) -> web.StreamResponse:
    [choice], model = whole["choices"], whole["model"]
    text = choice["message"]["content"]
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    events: list[dict[str, Any]] = [
        {"model": model, "choices": [{"index": 0, "delta": {"content": letter}}]} for letter in text
    ]
    if model == "broken":
        events.append({"error": {"message": text}})
    else:
        end = {"index": 0, "delta": {}, "finish_reason": choice["finish_reason"]}
        events += [
            {"model": model, "choices": [end]},
            {"model": model, "choices": [], "usage": whole["usage"]},
        ]
    lines = "".join(f"data: {json.dumps(event)}\n\n" for event in events)
    await response.write(f"{lines}data: [DONE]\n\n".encode())
    return response


async def upload(request: web.Request) -> web.Response:
    field = (await request.post())["file"]
    assert isinstance(field, web.FileField)
    request.app[BATCHES]["input"] = field.file.read().decode()
    return web.json_response({"id": "file-in", "told": headers(request)})


async def create(request: web.Request) -> web.Response:
    body = await request.json()
    request.app[BATCHES]["batch"] = {"id": "batch-1", "metadata": body["metadata"], "status": "completed",
                                     "output_file_id": "file-out"}  # fmt: skip
    return web.json_response(request.app[BATCHES]["batch"])


async def listed(request: web.Request) -> web.Response:
    batch = request.app[BATCHES].get("batch")
    return web.json_response({"data": [batch] if batch else [], "has_more": False, "told": headers(request)})


async def look(request: web.Request) -> web.Response:
    return web.json_response(request.app[BATCHES]["batch"])


async def content(request: web.Request) -> web.Response:
    lines = [json.loads(line) for line in request.app[BATCHES]["input"].splitlines()]
    rows = [
        {
            "custom_id": line["custom_id"],
            "response": {"status_code": 200, "body": completion(words(request), line["body"]["model"])},
            "error": None,
        }
        for line in lines
    ]
    return web.Response(text="".join(json.dumps(row) + "\n" for row in rows))


async def seen(request: web.Request) -> web.Response:
    return web.json_response(sorted(request.app[SEEN]))


async def models(request: web.Request) -> web.Response:
    names = ("text", "html", "broken", "hang", "status-401")
    return web.json_response({"object": "list", "data": [{"id": name, "object": "model"} for name in names]})


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    app = web.Application(client_max_size=2**26)
    app[SEEN], app[BATCHES] = set(), {}
    app.router.add_post("/v1/chat/completions", answer)
    app.router.add_get("/v1/models", models)
    app.router.add_post("/v1/files", upload)
    app.router.add_post("/v1/batches", create)
    app.router.add_get("/v1/batches", listed)
    app.router.add_get("/v1/batches/{name}", look)
    app.router.add_get("/v1/files/{name}/content", content)
    app.router.add_get("/seen", seen)
    web.run_app(app, host="127.0.0.1", port=parser.parse_args().port, print=None)


if __name__ == "__main__":
    main()
