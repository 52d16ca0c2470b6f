"""What a person sees while work goes on: stage, rate, time left, tokens a second, failures.

A live display on a terminal, a plain line every few seconds elsewhere (logs, CI).
"""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichProgress

PLAIN_INTERVAL = 10.0


class Counter(Protocol):
    """Counts one piece of work."""

    def advance(self, rows: int = 1, tokens: int = 0, failures: int = 0) -> None: ...


class Progress(Protocol):
    """Where stages report, several at a time. `counter` is a context manager around one piece of counted
    work."""

    def say(self, text: str) -> None: ...

    def stage(self, label: str) -> AbstractContextManager[None]: ...

    def counter(self, label: str, total: int, done: int = 0) -> AbstractContextManager[Counter]: ...


class Tally:
    """Rows, tokens and failures so far, and their rates since the start."""

    def __init__(self, total: int, done: int) -> None:
        self.total, self.rows, self.first = total, done, done
        self.tokens = self.failures = 0
        self.started = time.monotonic()

    def advance(self, rows: int = 1, tokens: int = 0, failures: int = 0) -> None:
        self.rows += rows
        self.tokens += tokens
        self.failures += failures

    @property
    def seconds(self) -> float:
        return max(time.monotonic() - self.started, 1e-6)

    def rates(self) -> str:
        parts = [f"{(self.rows - self.first) / self.seconds:.1f}/s"]
        if self.tokens:
            parts.append(f"{self.tokens / self.seconds:,.0f} tokens/s")
        if self.failures:
            parts.append(f"{self.failures} failures")
        return " · ".join(parts)

    def told(self, label: str) -> str:
        """The line that stays when the work is over."""
        return f"  {label} {self.rows}/{self.total} {self.rates()} in {self.seconds:.1f} s"

    def remaining(self) -> str:
        rate = (self.rows - self.first) / self.seconds
        return f"{(self.total - self.rows) / rate:.0f} s left" if rate else "…"


class LiveCounter(Tally):
    """A tally that moves a bar."""

    def __init__(self, bars: RichProgress, label: str, total: int, done: int) -> None:
        super().__init__(total, done)
        self.bars = bars
        self.task = bars.add_task(label, total=total, completed=done, rates="")

    def advance(self, rows: int = 1, tokens: int = 0, failures: int = 0) -> None:
        super().advance(rows, tokens, failures)
        self.bars.update(self.task, completed=self.rows, rates=self.rates())


class LiveProgress:
    """Bars on a terminal, one below the other; what is over becomes a line above them."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._changing = threading.Lock()
        self._open = 0
        self._bars: RichProgress | None = None

    def say(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False)

    @contextmanager
    def stage(self, label: str) -> Iterator[None]:
        started = time.monotonic()
        self.console.rule(f"[bold]{label}", align="left", style="dim")
        yield
        self.console.print(f"[green]✓[/] {label} [dim]{time.monotonic() - started:.1f} s[/]")

    @contextmanager
    def counter(self, label: str, total: int, done: int = 0) -> Iterator[Counter]:
        with self.bars() as bars:
            counter = LiveCounter(bars, label, total, done)
            try:
                yield counter
            finally:
                bars.remove_task(counter.task)
                self.say(counter.told(label))

    @contextmanager
    def bars(self) -> Iterator[RichProgress]:
        """The one live display, which goes when the last counter is over."""
        with self._changing:
            bars = self._bars = self._bars or live_bars(self.console)
            self._open += 1
            bars.start()
        try:
            yield bars
        finally:
            with self._changing:
                self._open -= 1
                if not self._open:
                    bars.stop()
                    self._bars = None


def live_bars(console: Console) -> RichProgress:
    return RichProgress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[rates]}"),
        console=console,
        transient=True,
    )


def line(text: str) -> None:
    """Prints a line in one piece: stages speak at the same time."""
    print(f"{text}\n", end="", flush=True)


class PlainCounter(Tally):
    """A tally that prints a line now and then."""

    def __init__(self, label: str, total: int, done: int) -> None:
        super().__init__(total, done)
        self.label = label
        self.spoken = time.monotonic()

    def advance(self, rows: int = 1, tokens: int = 0, failures: int = 0) -> None:
        super().advance(rows, tokens, failures)
        if time.monotonic() - self.spoken >= PLAIN_INTERVAL:
            self.spoken = time.monotonic()
            line(f"  {self.label} {self.rows}/{self.total} {self.rates()} {self.remaining()}")


class PlainProgress:
    """Lines for logs."""

    def say(self, text: str) -> None:
        line(text)

    @contextmanager
    def stage(self, label: str) -> Iterator[None]:
        started = time.monotonic()
        self.say(f"→ {label}")
        yield
        self.say(f"✓ {label} {time.monotonic() - started:.1f} s")

    @contextmanager
    def counter(self, label: str, total: int, done: int = 0) -> Iterator[Counter]:
        tally = PlainCounter(label, total, done)
        yield tally
        self.say(tally.told(label))


@contextmanager
def open_waiting(label: str) -> Iterator[Callable[[str], None]]:
    """Shows, on standard error, what is waited for: a line that changes on a terminal, elsewhere one now and
    then."""
    console = Console(stderr=True)
    if console.is_terminal:
        with console.status(label) as status:
            yield lambda text: status.update(escape(f"{label}: {text}"))
            return
    spoken = time.monotonic()
    print(label, file=sys.stderr, flush=True)

    def say(text: str) -> None:
        nonlocal spoken
        if time.monotonic() - spoken >= PLAIN_INTERVAL:
            spoken = time.monotonic()
            print(f"  {label}: {text}", file=sys.stderr, flush=True)

    yield say


def open_progress() -> Progress:
    """Bars where standard output is a terminal, plain lines elsewhere."""
    if sys.stdout.isatty():
        return LiveProgress(Console())
    return PlainProgress()
