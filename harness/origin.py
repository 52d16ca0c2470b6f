"""What a server says that its model was made from: it may come back under the same name as another one."""

import re
from collections.abc import Mapping
from pathlib import Path

import msgspec

from harness.endpoint import Endpoint
from harness.errors import ServerError
from harness.files import UNREADABLE

SNAPSHOT = re.compile(r"/models--([^/]+)/snapshots/([0-9a-f]{40})/?$")
STORED = "model"
"""The folder of a checkpoint within a stage's, whose name tells more."""
ORIGIN = ("checkpoint", "revision")

Origin = Mapping[str, str]
"""`checkpoint` and `revision`, as far as they are told."""


class Card(msgspec.Struct):
    id: str = ""
    root: str | None = None


class Cards(msgspec.Struct):
    data: list[Card]


def checkpoint_of(root: str) -> dict[str, str]:
    """Name and revision of what a server was started from, without the folders above it."""
    if found := SNAPSHOT.search(root):
        return {"checkpoint": found[1].replace("--", "/"), "revision": found[2]}
    if not root:
        return {}
    if not Path(root).is_absolute():
        return {"checkpoint": root}
    folder = Path(root)
    return {"checkpoint": folder.parent.name if folder.name == STORED else folder.name}


def listed(data: bytes, endpoint: Endpoint) -> Origin:
    """What /v1/models says of the endpoint's model; nothing where it says nothing that can be read."""
    try:
        cards = msgspec.json.decode(data, type=Cards).data
    except UNREADABLE:
        return {}
    roots = (card.root or "" for card in cards if endpoint.engine.is_model(endpoint.model, card.id))
    return checkpoint_of(next(roots, ""))


def check_origin(before: Origin, now: Origin, endpoint: Endpoint) -> None:
    """Raises ServerError where something that both tell is not the same.

    A hub's name, a snapshot of it and a folder may be one checkpoint: they have the last part of the name.
    """
    both = [name for name in ORIGIN if name in before and name in now]
    if any(last_part(before[name]) != last_part(now[name]) for name in both):
        was, is_ = (" at ".join(origin[name] for name in both) for origin in (before, now))
        raise ServerError(
            f"{endpoint.label} serves another checkpoint as {endpoint.model!r}: rows are there of {was}, "
            f"and now it is made from {is_}",
            "everything generated so far is kept; start the server with the checkpoint that wrote the rows, "
            "and the same command goes on, or remove the stage's folder to begin again",
        )


def last_part(name: str) -> str:
    return name.rpartition("/")[2]
