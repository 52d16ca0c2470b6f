"""Responses that are still coming: what there is of them, so that no interruption loses one in silence.

    unfinished/007     the response that the eighth request in flight is receiving: its key, then its text
    interrupted/0001   such a file of a response that was cut short, and was asked for again

A file is one line of JSON and after it the text. Responses that are whole within seconds leave none.
"""

import os
import time
from collections.abc import Callable, Container, Iterable
from contextlib import suppress
from pathlib import Path

import msgspec

from harness.asking import Request
from harness.errors import HarnessError
from harness.files import UNREADABLE
from harness.types import Sampling

UNFINISHED, INTERRUPTED = "unfinished", "interrupted"
BYTES = 16_384  # of text that may be lost where the harness is killed,
SECONDS = 5.0  # or as much as came in so long


class Interrupted(msgspec.Struct, kw_only=True):
    """A response that was cut short: its request's key and seed. `text` is what had come."""

    question: str
    draw: int
    seed: int
    sampling: Sampling
    text: str = ""


class Slot:
    """Where one request in flight keeps what it hears. A Listener.

    `characters` is how much has come of the response.
    """

    def __init__(self, folder: Path, number: int) -> None:
        self.path = folder / UNFINISHED / f"{number:03d}"
        self.aside = folder / INTERRUPTED
        self.descriptor = -1
        self.request: Request | None = None
        self.forget()

    def forget(self) -> None:
        self.pieces: list[str] = []
        self.waiting = self.characters = 0
        self.kept = time.monotonic()

    def take(self, request: Request, alive: Callable[[], None] = lambda: None) -> None:
        """The slot is for this request now. `alive` is told whenever something is heard."""
        self.request, self.alive = request, alive
        self.forget()

    def begin(self) -> None:
        """Another attempt. What came of the one before it is kept as interrupted."""
        self.set_aside()
        self.forget()

    def hear(self, text: str) -> None:
        self.alive()
        self.pieces.append(text)
        self.waiting += len(text)
        self.characters += len(text)
        if self.waiting >= BYTES or time.monotonic() - self.kept >= SECONDS:
            self.keep()

    def keep(self) -> None:
        """Hands what was heard to the system, so that it outlives this process."""
        if not self.pieces:
            return
        try:
            self.write()
        except OSError as error:  # not the server's failure: nothing is asked again for it
            raise HarnessError(
                f"{self.path}: {error.strerror}",
                "everything generated so far is kept; make room, or make it writable, and go on",
            ) from error

    def write(self) -> None:
        if self.descriptor < 0:
            self.path.parent.mkdir(exist_ok=True)
            self.descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
            os.write(self.descriptor, self.header())
        data = "".join(self.pieces).encode("utf-8", "surrogatepass")
        self.pieces, self.waiting, self.kept = [], 0, time.monotonic()
        while data:
            data = data[os.write(self.descriptor, data) :]

    def header(self) -> bytes:
        assert self.request is not None
        question, draw = self.request.key
        head = Interrupted(
            question=question, draw=draw, seed=self.request.seed, sampling=self.request.sampling
        )
        return msgspec.json.encode(head) + b"\n"

    def finish(self) -> None:
        """The response is whole, and its row written."""
        if self.descriptor >= 0:
            self.close()
            self.path.unlink()
        self.forget()

    def set_aside(self) -> None:
        """What has come is kept as interrupted."""
        if self.characters:
            self.leave()
            put_aside(self.path, self.aside)
            self.forget()

    def leave(self) -> None:
        """Keeps what has come where it is: the next run finds it there."""
        self.keep()
        self.close()

    def close(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


def tidy(folder: Path) -> None:
    """Removes the folder of unfinished responses where there are none left."""
    with suppress(OSError):
        (folder / UNFINISHED).rmdir()


def put_aside(path: Path, aside: Path) -> Path:
    """Moves a partial response among the interrupted ones, under the next free number."""
    aside.mkdir(exist_ok=True)
    taken = [int(file.name) for file in aside.iterdir() if file.name.isdigit()]
    target = aside / f"{max(taken, default=0) + 1:04d}"
    os.rename(path, target)
    return target


def interrupted(folder: Path, finished: Container[tuple[str, int]]) -> list[Interrupted]:
    """What an earlier run left half-heard: put aside, and told. Rows that are `finished` are not meant.

    Call it before any slot of the folder is taken.
    """
    found = []
    for path in sorted((folder / UNFINISHED).glob("*")):
        response = read_partial(path)
        if response is None or (response.question, response.draw) in finished:
            path.unlink()
            continue
        found.append(read_partial(put_aside(path, folder / INTERRUPTED)) or response)
    return found


def read_partial(path: Path) -> Interrupted | None:
    """A partial response; None where not even its first line was written."""
    head, _, text = path.read_bytes().partition(b"\n")
    try:
        found = msgspec.json.decode(head, type=Interrupted)
    except UNREADABLE:
        return None
    found.text = text.decode("utf-8", "replace")
    return found


def told(found: Iterable[Interrupted], folder: Path) -> str:
    """One line on what was interrupted."""
    every = list(found)
    characters = sum(len(each.text) for each in every)
    return (
        f"{len(every)} {'response was' if len(every) == 1 else 'responses were'} cut short by the last "
        f"interruption, after {characters:,} characters in all: asked again from the start; "
        f"what had come is in {folder / INTERRUPTED}"
    )
