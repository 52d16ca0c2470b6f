"""A client that asks one server the same again and again, whole and streamed, and notes what it reads.

    python tests/faults/asker.py PORT FILE

Each line of FILE is one kind of what was read: `answer TEXT` for a whole one, `error KIND`. It needs the
standard library only.
"""

import http.client
import json
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

ASKED = {"model": "m", "messages": [{"role": "user", "content": "7 + 8?"}], "max_tokens": 40, "seed": 5}
BETWEEN = 0.03


def whole(port: int) -> str:
    """The text of an answer. Raises OSError, HTTPException or ValueError where none comes whole."""
    found: str = json.loads(posted(port, ASKED))["choices"][0]["message"]["content"]
    return found


def streamed(port: int) -> str:
    """The same of a stream, which is whole where it says so."""
    lines = posted(port, {**ASKED, "stream": True}).split("\n")  # a text may hold other ends of lines
    *events, last = [line.removeprefix("data: ").rstrip("\r") for line in lines if line.strip()]
    if last != "[DONE]":
        raise ValueError("the stream broke off")
    choices = [choice for event in events for choice in json.loads(event)["choices"]]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


def posted(port: int, body: dict[str, object]) -> str:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/chat/completions",
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=300) as answer:
        return str(answer.read().decode())


def main() -> None:
    port, file, seen, number = int(sys.argv[1]), Path(sys.argv[2]), set[str](), 0
    while True:
        number += 1
        try:
            read = f"answer {json.dumps((whole, streamed)[number % 2](port))}"
        except (OSError, http.client.HTTPException, ValueError) as error:
            read = f"error {type(error).__name__}"
        if read not in seen:
            seen.add(read)
            with file.open("a") as told:
                told.write(f"{read}\n")
        time.sleep(BETWEEN)


if __name__ == "__main__":
    main()
