"""TOML that a person wrote, or somebody sent: read within limits, and refused in one way."""

import tomllib
from typing import Any

LONGEST_LINE = 10_000
"""Bytes. Python's parser takes the square of a dotted key's length: 60 KB of `a.a.a` are minutes."""


def table_in(content: bytes) -> dict[str, Any]:
    """The table that a TOML file holds. Raises ValueError that says why it is none."""
    for number, line in enumerate(content.split(b"\n"), start=1):
        if len(line) > LONGEST_LINE:
            raise ValueError(f"line {number} has more than {LONGEST_LINE:,} bytes")
    try:
        return tomllib.loads(content.decode("utf-8"))
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
