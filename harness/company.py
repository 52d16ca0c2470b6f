"""Company: stages that work at the same time, and what they know of each other.

A stage that is run beside others reads the rows of one that still writes them (`Growth`), and for some
of its work waits until it is alone (`Floor`).
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from harness.errors import StageError


class Abandoned(StageError):
    """The stage whose rows are followed was not completed, or everything was told to stop."""


class Growth:
    """A stage that is being built. `ended` is set when it is complete, and when it `failed`."""

    def __init__(self) -> None:
        self.ended = threading.Event()
        self.failed = False

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Around the building of the stage: tells those who follow how it ended."""
        try:
            yield
        except BaseException:
            self.failed = True
            raise
        finally:
            self.ended.set()


class Floor:
    """Who is at work in this process. Many may be `busy` at a time; who is `alone` is so with nobody busy.

    Those who want to be alone wait for as long as others come: whoever is busy with a model server must
    not wait for them.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._busy = 0
        self._alone = False
        self.stopped = False

    @contextmanager
    def busy(self) -> Iterator[None]:
        with self._changed:
            self._wait(lambda: not self._alone)
            self._busy += 1
        try:
            yield
        finally:
            with self._changed:
                self._busy -= 1
                self._changed.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Raises Abandoned where everything was told to stop meanwhile."""
        with self._changed:
            self._wait(lambda: not self._busy and not self._alone)
            self._alone = True
        try:
            yield
        finally:
            with self._changed:
                self._alone = False
                self._changed.notify_all()

    def stop(self) -> None:
        """Everybody is to stop soon: nobody waits any longer."""
        with self._changed:
            self.stopped = True
            self._changed.notify_all()

    def check(self) -> None:
        """Raises Abandoned where everything was told to stop."""
        if self.stopped:
            raise Abandoned("interrupted")

    def _wait(self, ready: Callable[[], bool]) -> None:
        self._changed.wait_for(lambda: self.stopped or ready())
        self.check()
