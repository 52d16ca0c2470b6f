"""A small file system of its own, in memory, that can be full or read-only."""

import contextlib
import functools
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path


@functools.cache
def no_mounts() -> str:
    """Why no file system can be mounted here; empty where one can."""
    if os.geteuid():
        return "mounting a file system takes root"
    with tempfile.TemporaryDirectory() as place:
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "none", place], capture_output=True, text=True, check=False
        )
        if done.returncode == 0:
            subprocess.run(["umount", place], check=True)
        return done.stderr.strip()


@contextlib.contextmanager
def disk(place: Path, size: str) -> Iterator[None]:
    """A file system of its own at a folder, in memory."""
    place.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", place], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


def remount(place: Path, options: str) -> bool:
    """Whether the file system could be changed: it cannot be read-only while a file is being written."""
    done = subprocess.run(["mount", "-o", f"remount,{options}", place], capture_output=True, check=False)
    return done.returncode == 0
