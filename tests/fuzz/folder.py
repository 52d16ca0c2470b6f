"""Where targets put files: a folder in memory of this process's own."""

import functools
import tempfile
from pathlib import Path

MEMORY = Path("/dev/shm")


@functools.cache
def holder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="fuzz-", dir=MEMORY if MEMORY.is_dir() else None)


def folder() -> Path:
    return Path(holder().name)
