"""Stands where machine.toml names vLLM's interpreter: takes its command line, and is the fake server.

    vllm_cli.py NOTES SWITCHES -- -m vllm.entrypoints.openai.api_server --model … --port …

Writes what it was given to NOTES. Told `-c …`, it answers as the interpreter that is asked for vLLM's
version.
"""

import json
import os
import sys
from pathlib import Path

SERVER = Path(__file__).with_name("openai_server.py")


def main() -> None:
    notes, *rest = sys.argv[1:]
    switches, given = rest[: rest.index("--")], rest[rest.index("--") + 1 :]
    if given[0] == "-c":
        print("0.32.0")
        return
    options = dict(zip(given, [*given[1:], ""], strict=True))
    model = Path(options["--model"])
    told = {
        "command": given,
        "environment": dict(os.environ),
        "files": {file.name: file.read_text() for file in Path.cwd().iterdir() if file.is_file()},
        "template": (model / "chat_template.jinja").read_text(),
        "generation": json.loads((model / "generation_config.json").read_text()),
    }
    Path(notes).write_text(json.dumps(told))
    server = ["--port", options["--port"], "--model", options["--served-model-name"], *switches]
    os.execv(sys.executable, [sys.executable, str(SERVER), *server])


if __name__ == "__main__":
    main()
