"""Where Ctrl-C and SIGTERM have to wait."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def held_back() -> Iterator[None]:
    """Around imports of native modules: Ctrl-C and SIGTERM wait until they are done.

    An exception within such an import is lost there, or aborts the whole process (scipy's and torch's, by
    pybind11). Only the main thread meets signals: in others it changes nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    met: list[int] = []
    before = {
        which: signal.signal(which, lambda number, frame: met.append(number))
        for which in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for which, handler in before.items():
            signal.signal(which, handler)
    for number in met:
        signal.raise_signal(number)
