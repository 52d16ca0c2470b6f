"""This process's scratch folder: what it writes outside of its runs, gone however the process ends.

    /tmp/dasd-harness-scratch-x1/   a server's working folder each, sockets of worker processes

It is this process's while a lock on it is held, which the kernel releases at any end. A process that ends
by itself removes its folder. Where it was killed, the supervisors of its servers do (`supervise.py`), and
the next process that makes one removes all whose owners are gone.
"""

import atexit
import fcntl
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from harness.supervise import remove_abandoned

PREFIX = "dasd-harness-scratch-"
SOCKET_PATH = 104
"""Bytes that the path of a socket may have, a few less than the kernel takes."""

_guard = threading.Lock()
_own: list[Path] = []


def scratch() -> Path:
    """The folder, which nobody else can read; made at the first call. Safe from any thread."""
    with _guard:
        if not _own or not _own[0].exists():
            sweep(Path(tempfile.gettempdir()))
            _own[:] = [made()]
        return _own[0]


def new_folder(purpose: str) -> Path:
    """An empty folder in it, named after what it is for."""
    return Path(tempfile.mkdtemp(prefix=f"{purpose}-", dir=scratch()))


def made() -> Path:
    """A folder locked by this process, which is removed at its exit."""
    folder, _ = locked(Path(tempfile.gettempdir()), PREFIX)
    atexit.register(partial(removed, folder, os.getpid()))
    return folder


def locked(parent: Path, prefix: str) -> tuple[Path, int]:
    """A new folder and the descriptor that holds the lock on it. Another process may sweep it away before it
    is locked: then anew."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        with suppress(FileNotFoundError):
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            with suppress(OSError):  # not every file system has locks
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            if folder.exists():
                return folder, descriptor
            os.close(descriptor)


@contextmanager
def locked_folder(parent: Path, prefix: str) -> Iterator[Path]:
    """A new folder that nobody takes for abandoned, removed in the end."""
    folder, descriptor = locked(parent, prefix)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)


def discard() -> None:
    """Removes the folder now: for a process that ends without running what it registered for its exit."""
    with _guard:
        while _own:
            shutil.rmtree(_own.pop(), ignore_errors=True)


def removed(folder: Path, owner: int) -> None:
    """Removes the folder where this process is its owner, and not a fork of it."""
    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)


def sweep(parent: Path) -> None:
    """Removes the scratch folders of this user's processes that have ended."""
    for folder in parent.glob(f"{PREFIX}*"):
        with suppress(FileNotFoundError):
            if folder.stat().st_uid == os.geteuid():
                remove_abandoned(str(folder))
