"""Runs checks side by side, each for so long and no longer. One that breaks is a finding of its own."""

import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import TypeVar

from pebble import concurrent

from harness.doctor.finding import Check, Finding
from harness.errors import HarnessError

T = TypeVar("T")


def examine(checks: Iterable[Check]) -> list[Finding]:
    """The findings of all checks, in the checks' order.

    A check that hangs is left behind in its thread, which keeps no process alive.
    """
    running = [(check, time.monotonic() + check.seconds, begin(listed(check))) for check in checks]
    found: list[Finding] = []
    for check, deadline, future in running:
        failure = trouble(check, future, deadline - time.monotonic())
        found += [failure] if failure else future.result()
    return found


def begin(work: Callable[[], T]) -> "Future[T]":
    """Work in a thread that ends with this process at the latest."""
    future: Future[T] = concurrent.thread(work)()
    return future


def listed(check: Check) -> Callable[[], list[Finding]]:
    return lambda: list(check.look())


def trouble(check: Check, future: "Future[T]", seconds: float) -> Finding | None:
    """Why a check has no result after so many seconds, or nothing."""
    try:
        error = future.exception(max(0.0, seconds))
    except TimeoutError:
        return failed(check, f"could not be told: no answer within {check.seconds:.0f} s")
    if error is None:
        return None
    if isinstance(error, HarnessError):
        return failed(check, error.message, error.remedy)
    return failed(check, f"could not be told: the check failed with {type(error).__name__}: {error}")


def failed(check: Check, found: str, remedy: str = "") -> Finding:
    return Finding(
        area=check.area,
        name=check.name,
        state="missing",
        found=found,
        remedy=remedy,
        provides=check.provides,
    )
