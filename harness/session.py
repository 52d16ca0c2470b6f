"""session.json: which engine wrote the rows beside it. Rows of two engines are never mixed."""

import json
import os
from pathlib import Path

from harness.errors import DataError, ServerError
from harness.files import read_json

SESSION = "session.json"
RESTORE = "Restore it from a copy, or move the folder away and run the same command again."


def check_session(path: Path, fingerprint: dict[str, str], has_rows: bool) -> None:
    """Records which engine writes the rows.

    Raises ServerError where another one wrote those there, DataError where nobody can say.
    """
    if has_rows:
        before = written_by(path)
        changed = [
            f"{name} was {before.get(name)!r} and is now {fingerprint.get(name)!r}"
            for name in sorted({*before, *fingerprint})
            if before.get(name) != fingerprint.get(name)
        ]
        if changed:
            raise ServerError(
                f"{path.parent} holds rows of another engine: {'; '.join(changed)}",
                "go on with the engine that wrote them, or remove the folder to start again",
            )
        return
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(json.dumps(fingerprint, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    os.replace(partial, path)


def written_by(path: Path) -> dict[str, str]:
    """The fingerprint of the engine that wrote the rows beside. Raises DataError where nobody can say."""
    try:
        return read_json(path, dict[str, str], RESTORE)
    except FileNotFoundError as error:
        raise DataError(
            f"{path} is gone: nobody can say which engine wrote the rows there", RESTORE
        ) from error
