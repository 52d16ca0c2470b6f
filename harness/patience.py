"""What is tried again, when, and when no more."""

import email.utils
import time
from collections import Counter

from tenacity import RetryCallState, wait_random_exponential

ATTEMPTS = 6
ATTEMPTS_WHEN_BUSY = 30
LONGEST_WAIT = 300.0
LEAST_WAIT = 1.0  # about; a server that wishes none is left alone for a moment all the same
GO_ON = "everything generated so far is kept; the same command goes on once the server is well"

backoff = wait_random_exponential(multiplier=0.25, max=20)


class Transient(Exception):
    """A failure that can heal. `wait` is the server's own wish in seconds, `attempts` when to give up,
    `remedy` what to do then. `away`: a server that is starting again fails like this."""

    def __init__(
        self,
        message: str,
        wait: float | None = None,
        attempts: int = ATTEMPTS,
        remedy: str = GO_ON,
        away: bool = False,
    ) -> None:
        super().__init__(message)
        self.wait = wait
        self.attempts = attempts
        self.remedy = remedy
        self.away = away


def seconds_to_wait(header: str | None, date: str | None = None) -> float | None:
    """Retry-After, which is a number of seconds or a date. A date is one of the server's own clock, which its
    Date tells: ours may be another."""
    if not header:
        return None
    if header.strip().isdecimal():
        return min(float(header), LONGEST_WAIT)
    if (moment := seconds_of(header)) is None:
        return None
    now = seconds_of(date) if date else None
    return min(max(moment - (time.time() if now is None else now), 0.0), LONGEST_WAIT)


def seconds_of(date: str) -> float | None:
    """An HTTP date in seconds since 1970; None where it is none."""
    try:
        return email.utils.parsedate_to_datetime(date).timestamp()
    except (ValueError, OverflowError, OSError):
        return None


def pause(state: RetryCallState) -> float:
    """Seconds before the next attempt: the server's wish where it has one, else a growing random time."""
    error = state.outcome.exception() if state.outcome is not None else None
    wish = error.wait if isinstance(error, Transient) else None
    return backoff(state) if wish is None else max(wish, min(backoff(state), LEAST_WAIT))


class Patience:
    """When to give one request up: failures of each kind have a number of their own, and a server that is
    away has at least `seconds` to come back.

    It has them anew where it was there in between, which an attempt of more than `held` seconds shows: a
    connection takes no longer to fail. But not more often than `ATTEMPTS`: the request may be what ends it.
    """

    def __init__(self, seconds: float = 0.0, held: float = 60.0) -> None:
        self.seconds, self.held = seconds, held
        self.seen: Counter[int] = Counter()
        self.away_since: float | None = None
        self.ended = self.slept = 0.0
        self.outages = 0

    def __call__(self, state: RetryCallState) -> bool:
        error = state.outcome.exception() if state.outcome is not None else None
        most = error.attempts if isinstance(error, Transient) else ATTEMPTS
        self.seen[most] += 1
        away = self.away(state)
        if isinstance(error, Transient) and error.away and away < self.seconds and self.outages <= ATTEMPTS:
            return False
        return self.seen[most] >= most

    def away(self, state: RetryCallState) -> float:
        """Seconds since the present outage began, as far as this request has met it."""
        now = time.monotonic()
        took = now - self.ended - (state.idle_for - self.slept)
        if self.away_since is None or took > self.held:
            self.away_since = now
            self.outages += 1
        self.ended, self.slept = now, state.idle_for
        return now - self.away_since
