"""What of a checkpoint may be loaded: safetensors and tables. Pickles never; its own code by consent alone.

Loading a pickle runs what it says, and so does a checkpoint's own Python, which config.json names under
`auto_map`. A recipe may name such code with a pinned commit; whoever runs it confirms that by
--trust-remote-code. Nothing in machine.toml and no environment variable can.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import DataError, UsageError

if TYPE_CHECKING:
    from harness.machine import Machine

PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib")
TRUST = "--trust-remote-code"
SOURCE = "source.json"
CONFIGURATIONS = ("config.json", "tokenizer_config.json", "generation_config.json")
PICKLE_FORMATS = ("pt", "pickle")
LOOPBACK = ("127.0.0.1", "localhost", "::1")
SERVE = "`harness serve --host` does it with one"


def is_program(name: str) -> bool:
    """Whether loading a file of this name would run something: a pickle, or Python."""
    return name.endswith((*PICKLES, ".py"))


def refuse_pickles(where: str, names: Iterable[str], folder: Path | None = None) -> None:
    """Raises DataError where a checkpoint's weights are pickles alone. `folder` is where they stand, None
    where they are not downloaded."""
    found = sorted(names)
    pickles = [name for name in found if name.endswith(PICKLES)]
    if not pickles or any(name.endswith(".safetensors") for name in found):
        return
    fetch = "" if folder else f"Download it (hf download {where} --local-dir FOLDER), then: "
    raise DataError(
        f"{where} holds its weights as pickles ({pickles[0]}), and loading a pickle runs what it says; "
        "*.safetensors are expected",
        f"{fetch}harness convert {folder or 'FOLDER'} OUT makes a checkpoint of safetensors.",
    )


def foreign_code(folder: Path) -> str:
    """The code that a checkpoint names for itself, as `AutoModel: modeling_x.X`; empty where none."""
    found: dict[str, str] = {}
    for name in CONFIGURATIONS:
        table = json_object(folder / name).get("auto_map")
        if isinstance(table, dict):
            found |= {str(kind): str(code) for kind, code in table.items()}
    return ", ".join(f"{kind}: {code}" for kind, code in sorted(found.items()))[:300]


def json_object(file: Path) -> dict[str, Any]:
    """A JSON object; empty where the file is none."""
    try:
        found = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def not_run(folder: Path) -> str:
    """What to tell of a checkpoint that names code of its own; empty where it names none."""
    code = foreign_code(folder)
    return f"its configuration names Python of its own, which is not run ({code})" if code else ""


def trusting(model: Path, machine: "Machine") -> list[str]:
    """What a server's command needs more where the recipe names the checkpoint's own code.

    `model` is the folder in the store, beside which source.json says so. Raises UsageError unless whoever
    runs it confirmed that.
    """
    if not remote_code(model):
        return []
    told = json_object(model.resolve().parent / SOURCE)
    check_trust(str(told.get("source")), str(told.get("commit")), machine)
    return [TRUST]


def remote_code(model: Path) -> bool:
    """Whether a recipe names the own code of a checkpoint in the store."""
    return json_object(model.resolve().parent / SOURCE).get("remote_code") is True


def check_trust(source: str, commit: str, machine: "Machine") -> None:
    """Raises UsageError unless the command line confirms that a checkpoint's own code may run."""
    if not machine.trusts_code:
        raise UsageError(
            f"the recipe runs the Python of {source} at commit {commit}, as you and with your files",
            f"Read it there first. If you trust it, give {TRUST}.",
        )


def check_arguments(engine: str, arguments: Iterable[str], environment: Mapping[str, str]) -> None:
    """Raises UsageError where machine.toml would have an engine run a checkpoint's own code, load pickles, or
    listen to other computers.

    Switches may be abbreviated, so that their beginning counts.
    """
    words = [word.replace("_", "-").lower() for word in arguments]
    for place, word in enumerate(words):
        switch, _, value = word.partition("=")
        value = value or (words[place + 1] if place + 1 < len(words) else "")
        if switch.startswith("--tr") and TRUST.startswith(switch):
            raise refused(engine, word, "would run the Python of any checkpoint", "A recipe names such code")
        if switch == "--host" and value not in LOOPBACK:
            raise refused(engine, f"{switch} {value}", "would let others use it without a key", SERVE)
        if switch == "--load-format" and value in PICKLE_FORMATS:
            raise refused(engine, f"{switch} {value}", "would load pickles", "Use `harness convert`")
    for name in environment:
        if "TRUST_REMOTE_CODE" in name.upper():
            raise refused(engine, name, "would run the Python of any checkpoint", "A recipe names such code")


def refused(engine: str, what: str, why: str, instead: str) -> UsageError:
    return UsageError(
        f"machine.toml, engines.{engine}: {what} {why}", f"Take it out. {instead}: docs/security.md."
    )
