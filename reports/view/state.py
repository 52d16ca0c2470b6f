"""The samples as they are now: read again when a file has grown or a stage was finished."""

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field

from harness.errors import HarnessError
from harness.store import RunStore
from reports.view.found import Evaluation, find_evaluations, partners
from reports.view.index import Columns, Samples, read_columns, signature, together

LOOKED_AGAIN = 1.0
"""Seconds after which files are looked at again."""

Signature = tuple[tuple[int, int, int], tuple[int, int, int]]


@dataclass(kw_only=True)
class Reading:
    """A run's evaluations with their columns, each read again only where one of its files changed."""

    store: RunStore
    name: str
    known: dict[Evaluation, tuple[Signature, Columns]] = field(default_factory=dict)

    def parts(self) -> tuple[list[Columns], bool]:
        """The columns, and whether any is another than before."""
        before = self.known
        self.known = {one: self.read(one) for one in find_evaluations(self.store, self.name)}
        changed = list(before.values()) != list(self.known.values())
        return [columns for _, columns in self.known.values()], changed

    def read(self, evaluation: Evaluation) -> tuple[Signature, Columns]:
        now = signature(evaluation.rows), signature(evaluation.grades)
        there = self.known.get(evaluation)
        return there if there is not None and there[0] == now else (now, read_columns(evaluation))


@dataclass(frozen=True, kw_only=True)
class State:
    """What the pages show: the run's samples, and those of the run beside it."""

    samples: Samples
    others: Samples | None


@dataclass(kw_only=True)
class Now:
    """The state as of a second ago at most. `trouble`: why the last look failed; the state is older then."""

    store: RunStore
    run: str
    other: str | None
    threads: Executor
    trouble: str = ""

    def __post_init__(self) -> None:
        self.ours = Reading(store=self.store, name=self.run)
        self.theirs = Reading(store=self.store, name=self.other) if self.other else None
        self.lock = asyncio.Lock()
        self.looked = float("-inf")
        self.state: State | None = None

    async def current(self) -> State:
        """Raises HarnessError where nothing could be read yet."""
        async with self.lock:
            if self.state is None or time.monotonic() - self.looked > LOOKED_AGAIN:
                loop = asyncio.get_running_loop()
                self.state = await loop.run_in_executor(self.threads, self.look)
                self.looked = time.monotonic()
            return self.state

    def look(self) -> State:
        try:
            found = self.read()
        except HarnessError as error:
            if self.state is None:
                raise
            self.trouble = str(error)
            return self.state
        self.trouble = ""
        return found

    def read(self) -> State:
        parts, changed = self.ours.parts()
        their_parts: Sequence[Columns] = ()
        if self.theirs is not None:
            their_parts, also = self.theirs.parts()
            changed = changed or also
        if self.state is not None and not changed:
            return self.state
        others = together(their_parts) if self.theirs is not None else None
        pairs = partners([one.evaluation for one in parts], [one.evaluation for one in their_parts])
        return State(samples=together(parts, others, pairs), others=others)
