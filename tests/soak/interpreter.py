"""Stands where machine.toml names vLLM's interpreter: its command line starts the fake server.

interpreter.py -m vllm.entrypoints.openai.api_server --model … --served-model-name NAME --port PORT …
"""

import os
import sys
from pathlib import Path

SERVER = Path(__file__).parents[1] / "fakes" / "openai_server.py"
SWITCHES = ("--sums", "0.5", "--programs", "--words", "6", "--delay", "0.02")


def main() -> None:
    given = sys.argv[1:]
    if given[0] == "-c":
        print("0.32.0")
        return
    options = dict(zip(given, [*given[1:], ""], strict=True))
    named = ["--port", options["--port"], "--model", options["--served-model-name"]]
    os.execv(sys.executable, [sys.executable, str(SERVER), *named, *SWITCHES])


if __name__ == "__main__":
    main()
