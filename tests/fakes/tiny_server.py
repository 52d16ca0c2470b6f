"""An OpenAI-speaking server of the standard library alone, for an image that holds nothing else.

Its answers tell what a test asks for: a file of the model's folder, an environment variable.
"""

import json
import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


class Answers(BaseHTTPRequestHandler):
    model = ""
    name = ""

    def do_GET(self) -> None:
        self.reply({"data": [{"id": self.name, "max_model_len": 64}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        seen = {
            "config": Path(self.model, "config.json").read_text(),
            "user": os.environ.get("TOLD", ""),
            "key": os.environ.get("VLLM_API_KEY", ""),
            "other": os.environ.get("UNTOLD", ""),
            "folder": os.getcwd(),
        }
        message = {"role": "assistant", "content": json.dumps(seen)}
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        self.reply({"id": "1", "model": body["model"], "choices": [choice], "usage": usage})

    def reply(self, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *words: object) -> None:
        pass


if __name__ == "__main__":
    Answers.model, Answers.name, port = sys.argv[1:]
    print("tiny server", flush=True)
    ThreadingHTTPServer(("127.0.0.1", int(port)), Answers).serve_forever()
