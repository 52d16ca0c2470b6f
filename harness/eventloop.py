"""Runs a coroutine to its end on uvloop, where a request costs less than on asyncio's own event loop."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import uvloop

T = TypeVar("T")


def run(work: Coroutine[Any, Any, T]) -> T:
    """As `asyncio.run`: Ctrl-C cancels what is going on, and everything is tidied up on the way out."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)
