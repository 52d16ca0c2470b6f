"""Files that are either whole or absent: written aside, then renamed into place."""

import os
from collections.abc import Iterable
from pathlib import Path

import msgspec


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file so that a reader, or a crash, sees the old content or the new, never a part."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with aside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        aside.rename(path)
    finally:
        aside.unlink(missing_ok=True)


def write_rows(path: Path, rows: Iterable[object]) -> int:
    """Writes records as JSON lines, all or nothing. Returns their number."""
    lines = [msgspec.json.encode(row) for row in rows]
    write_whole(path, b"".join(line + b"\n" for line in lines))
    return len(lines)


def write_json(path: Path, value: object) -> None:
    """Writes one JSON document, indented, for machines and people."""
    write_whole(path, msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n")
