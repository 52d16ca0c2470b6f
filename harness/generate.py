"""The one generation loop: teacher sampling, drafts, revisions and benchmarks all ask through it.

Rows are appended to a JSONL file keyed by `(question, draw)`; what is there is never asked again, so
re-running is resuming. Requests are pulled as slots become free: memory does not grow with their
number. `session.json` beside the rows says which engine wrote them, `unfinished/` holds what has come
of long responses, and `interrupted/` what an interruption cut short.
"""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from harness import unfinished
from harness.answering import Response
from harness.asking import Request
from harness.budget import Budget
from harness.client import Client, Refused, Unreachable, Unsound
from harness.endpoint import Endpoint
from harness.errors import HarnessError, ServerError
from harness.eventloop import run
from harness.machine import Machine
from harness.origin import Origin
from harness.rows import RowFile
from harness.session import SESSION, check_session
from harness.supply import Supply
from harness.unfinished import Slot
from harness.watchdog import Watchdog, first_failure


class Progress(Protocol):
    """Told of finished rows, of completion tokens, and of failed attempts."""

    def advance(self, rows: int = 1, tokens: int = 0, failures: int = 0) -> None: ...


class NoProgress:
    def advance(self, rows: int = 1, tokens: int = 0, failures: int = 0) -> None:
        return None


SILENT = NoProgress()
MOST_IN_A_ROW = 100
"""Requests that a server gives no sound answer, with no sound one between: it is not asked for the rest. Or
ROUNDS for each worker, where that is more: what passes in seconds meets all of them."""
ROUNDS = 5


HANG_AFTER = 300.0


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How hard each copy of the model is pressed: requests at once, and the tokens that these may grow to (0:
    any).

    `hang_after` is how many seconds nothing may come while the server does not even say that it is well.
    `patience` and `longest_silence` are a Client's; where others can do its work, no server is waited for.
    """

    requests: int = 64
    tokens: int = 0
    hang_after: float = HANG_AFTER
    patience: float = 0.0
    longest_silence: float | None = None


def pace_of(machine: Machine) -> Pace:
    """A server that is away is not taken for hung while it is waited for."""
    return Pace(
        hang_after=max(HANG_AFTER, machine.patience + HANG_AFTER / 2),
        requests=machine.concurrency,
        tokens=machine.tokens_in_flight,
        patience=machine.patience,
        longest_silence=machine.longest_silence,
    )


def generate(
    requests: Iterable[Request],
    endpoint: Endpoint,
    rows: Path,
    *,
    pace: Pace = Pace(),
    progress: Progress = SILENT,
    honoured: tuple[str, ...] = (),
    counted: bool = False,
    made_from: Origin | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> int:
    """Asks for every request that `rows` does not hold yet; returns the number of new rows.

    Requests are spread over the endpoint and its replicas. One that is lost costs only its unfinished
    requests: the others answer them. Raises ServerError where the last server dies, hangs, keeps failing
    or answers for another model, where one refuses a request, or where the rows were written by another
    engine; Unsound, once all others are answered, where requests get no sound answer; HarnessError where
    they cannot be written. What was generated until then is kept. `honoured`, `counted` and `made_from` are
    a Client's. `say` is told of what was interrupted, of lost servers and of limits of theirs.
    """
    folder = rows.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with RowFile(rows) as file:
            check_session(folder / SESSION, endpoint.fingerprint, has_rows=bool(file.keys))
            if found := unfinished.interrupted(folder, file.keys):
                say(unfinished.told(found, folder))
            written = run(
                Loop(endpoint, file, pace, progress, honoured, counted, made_from, say).run(requests)
            )
        unfinished.tidy(folder)
        return written
    except OSError as error:
        raise HarnessError(
            f"{error.filename or rows}: {error.strerror}",
            "everything generated so far is kept; make room, or make it writable, and go on",
        ) from error


class Loop:
    """One run of the loop: a lane for each server, one supply of requests, one file."""

    def __init__(
        self,
        endpoint: Endpoint,
        file: RowFile,
        pace: Pace,
        progress: Progress,
        honoured: tuple[str, ...],
        counted: bool,
        made_from: Origin | None,
        say: Callable[[str], None],
    ) -> None:
        self.endpoint = endpoint
        self.file = file
        self.pace = pace
        self.progress = progress
        self.honoured = honoured
        self.counted = counted
        self.made_from = made_from
        self.say = say
        self.written = 0
        self.unsound: list[tuple[Request, Unsound]] = []
        self.fresh: list[Response] = []
        self.arrived = asyncio.Event()

    async def run(self, requests: Iterable[Request]) -> int:
        self.supply = Supply(each for each in requests if self.file.claim(each.key))
        lanes = [Lane(server, self, number) for number, server in enumerate(self.endpoint.servers)]
        running = {asyncio.create_task(lane.run()): lane for lane in lanes}
        writing = asyncio.create_task(self.write())
        try:
            while running:
                ended, _ = await asyncio.wait([*running, writing], return_when=asyncio.FIRST_COMPLETED)
                if writing in ended:
                    await writing
                for task in ended:
                    self.end(running.pop(task), task.exception(), left=len(running))
        finally:
            for task in (*running, writing):
                task.cancel()
            await asyncio.gather(*running, writing, return_exceptions=True)
            self.flush()
        if self.unsound:
            raise no_sound_answer(self.unsound)
        return self.written

    async def write(self) -> None:
        """Writes rows as they come, at once those that came in one turn of the loop."""
        while True:
            await self.arrived.wait()
            self.arrived.clear()
            self.flush()

    def flush(self) -> None:
        fresh, self.fresh = self.fresh, []
        if fresh:
            self.file.append(fresh)
            self.written += len(fresh)
            self.progress.advance(
                rows=len(fresh), tokens=sum(response.row.completion_tokens for response in fresh)
            )

    def end(self, lane: "Lane", error: BaseException | None, left: int) -> None:
        """A lane has come to its end. Raises its error unless other servers can do its work."""
        if error is None:
            return
        if not left or isinstance(error, Refused) or not isinstance(error, ServerError):
            raise error
        lost = list(lane.open.values())
        for slot in lane.slots:
            slot.set_aside()
        self.supply.give_back(lost)
        self.say(f"a server is lost, {left} left; its {len(lost)} open requests go to them: {error.message}")

    def put_off(self, request: Request, error: Unsound, slot: Slot) -> None:
        """One request is no reason to end the others: it is left to the next run, and has no row."""
        slot.set_aside()
        self.unsound.append((request, error))

    def keep(self, response: Response, slot: Slot) -> None:
        """Hands a response on to be written. What stands in the slot's file goes only after that."""
        self.fresh.append(response)
        self.arrived.set()
        if slot.descriptor >= 0:
            self.flush()
        slot.finish()


class Lane:
    """One server's part of the work: as many workers as requests in flight, one watchdog."""

    def __init__(self, endpoint: Endpoint, loop: Loop, number: int) -> None:
        self.endpoint = endpoint
        self.loop = loop
        self.open: dict[tuple[str, int], Request] = {}
        self.unsound_in_a_row = 0
        self.budget = Budget(loop.pace.tokens * endpoint.copies) if loop.pace.tokens else None
        count = max(1, loop.pace.requests * endpoint.copies)
        self.slots = [Slot(loop.file.path.parent, number * count + each) for each in range(count)]
        self.client = Client(
            endpoint,
            connections=count,
            honoured=loop.honoured,
            wary=True,
            counted=loop.counted,
            made_from=loop.made_from if endpoint.server is None else None,
            patience=loop.pace.patience if len(loop.endpoint.servers) == 1 else 0.0,
            longest_silence=loop.pace.longest_silence,
            on_retry=lambda: loop.progress.advance(rows=0, failures=1),
            say=loop.say,
        )

    async def run(self) -> None:
        async with self.client:
            self.watchdog = Watchdog(self.client, self.loop.pace.hang_after)
            watching = asyncio.create_task(self.watchdog.watch())
            workers = [asyncio.create_task(self.work(slot)) for slot in self.slots]
            try:
                await first_failure(workers, watching)
            finally:
                for task in (watching, *workers):
                    task.cancel()
                await asyncio.gather(watching, *workers, return_exceptions=True)
                for slot in self.slots:
                    slot.leave()

    async def work(self, slot: Slot) -> None:
        """Takes requests until there are none left. All workers of all lanes share the supply."""
        while (request := await self.loop.supply.take()) is not None:
            self.open[request.key] = request
            slot.take(request, self.watchdog.sign_of_life)
            entry = await self.budget.admit(request, slot) if self.budget else None
            response = await self.answer(request, slot)
            self.watchdog.sign_of_life()
            del self.open[request.key]
            self.loop.supply.answered(request)
            if self.budget and entry:
                await self.budget.release(entry, response.row.completion_tokens if response else None)

    async def answer(self, request: Request, slot: Slot) -> Response | None:
        """The response, which is kept; None where no answer is sound. Raises Unsound where none has been for
        long."""
        try:
            response = await self.client.complete(request, slot)
        except Unreachable:
            await self.hear_last_words()
            raise
        except Unsound as error:
            self.unsound_in_a_row += 1
            if self.unsound_in_a_row == max(MOST_IN_A_ROW, ROUNDS * len(self.slots)):
                many = f"{self.unsound_in_a_row} requests, one after another, get no sound answer"
                raise Unsound(f"{many}: {error.message}", error.remedy) from error
            self.loop.put_off(request, error, slot)
            return None
        self.unsound_in_a_row = 0
        self.loop.keep(response, slot)
        return response

    async def hear_last_words(self) -> None:
        """Gives a server that no longer answers the time to be found dead, with its log to show."""
        for _ in range(40 if self.endpoint.server is not None else 0):
            self.endpoint.check()
            await asyncio.sleep(0.25)


def no_sound_answer(found: list[tuple[Request, Unsound]]) -> Unsound:
    """One error for all requests that were put off, by question and draw."""
    names = ", ".join(f"{request.question} {request.draw}" for request, _ in found[:3])
    many = "1 request gets" if len(found) == 1 else f"{len(found):,} requests get"
    more = ", …" if len(found) > 3 else ""
    _, last = found[-1]
    return Unsound(f"{many} no sound answer ({names}{more}): {last.message}", last.remedy)
