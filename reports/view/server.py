"""The pages over HTTP, read only.

Model text is hostile: it is escaped, no inline script may run, and no other site may ask through a name
that it points at this machine (the Host header must be one of this machine's own). Where other computers are
let in, a secret in the address takes the place of that check.
"""

import asyncio
import secrets
import signal
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ParamSpec, TypeVar

from aiohttp import web

from harness.benchmark import Benchmark
from harness.errors import HarnessError, UsageError
from harness.eventloop import run
from harness.store import RunStore
from reports.view.choosing import Chosen, Wanted, choose, wanted_of
from reports.view.found import Evaluation
from reports.view.index import NOWHERE, Samples, at
from reports.view.listing import golds_needed, places_of
from reports.view.pages import Pages, Texts
from reports.view.questions import Library, Loaded
from reports.view.state import Now, State

Given = ParamSpec("Given")
Result = TypeVar("Result")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

LOOPBACK = ("127.0.0.1", "localhost", "::1")
TEMPLATES = Path(__file__).parent.parent / "templates"
STATIC = {
    "style.css": (TEMPLATES / "style.css", "text/css"),
    "view.css": (TEMPLATES / "view" / "view.css", "text/css"),
    "view.js": (TEMPLATES / "view" / "view.js", "text/javascript"),
}
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
LIST_PATIENCE = 1.0
SAMPLE_PATIENCE = 2.0
"""Seconds that a page waits for a data set that is being read."""

SAMPLE = r"{row}/{benchmark}/{draw:\d{1,9}}/{question:.+}"


@dataclass(frozen=True, kw_only=True)
class Offer:
    """What is shown, and where. `host` is an address of this machine; port 0 takes a free one."""

    store: RunStore
    run: str
    other: str | None
    benchmarks: Callable[[], Mapping[str, Benchmark]]
    data: Path | None
    host: str
    port: int

    @property
    def alone(self) -> bool:
        """Whether only this machine can ask."""
        return self.host in LOOPBACK


class Viewer:
    """Answers requests. Files are read on two threads, so that memory does not grow with the requests."""

    def __init__(self, offer: Offer, prefix: str) -> None:
        self.prefix = prefix
        self.alone = offer.alone
        self.threads = ThreadPoolExecutor(2, "view")
        self.data = ThreadPoolExecutor(1, "data")
        self.now = Now(store=offer.store, run=offer.run, other=offer.other, threads=self.threads)
        self.library = Library(benchmarks=offer.benchmarks, data=offer.data, threads=self.data)
        self.pages = Pages(prefix=prefix, run=offer.run, other=offer.other)

    def close(self) -> None:
        for threads in (self.threads, self.data):
            threads.shutdown(wait=False, cancel_futures=True)

    def application(self) -> web.Application:
        application = web.Application(middlewares=[self.guarded, self.told])
        for path, handler in (
            ("/", self.listing),
            (f"/sample/{SAMPLE}", self.sample),
            (f"/stored/{{run:ours|theirs}}/{{kind:row|grade}}/{SAMPLE}", self.stored),
            ("/static/{name}", self.static),
        ):
            application.router.add_get(self.prefix + path, handler)
        application.router.add_get("/favicon.ico", self.nothing)
        return application

    async def work(self, does: Callable[Given, Result], *args: Given.args, **named: Given.kwargs) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self.threads, partial(does, *args, **named))

    # What is asked of every request ---------------------------------------------------------

    @web.middleware
    async def guarded(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refuses names that are not this machine's, and forbids scripts that are not ours."""
        if self.alone and host_of(request) not in LOOPBACK:
            return web.Response(status=403, text="this address is not served here\n", headers=HEADERS)
        if not request.path.startswith(f"{self.prefix}/"):  # whose page would tell the secret
            return web.Response(status=404, text="nothing is here\n", headers=HEADERS)
        try:
            answer = await handler(request)
        except web.HTTPException as refusal:
            refusal.headers.update(HEADERS)
            raise
        answer.headers.update(HEADERS)
        return answer

    @web.middleware
    async def told(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Errors as pages."""
        try:
            return await handler(request)
        except web.HTTPNotFound:
            return self.failure(404, "There is no such page or sample.", "It may not be written yet.")
        except HarnessError as error:
            return self.failure(500, error.message, error.remedy)
        except FileNotFoundError as error:
            return self.failure(500, f"{error.filename} is gone", "Load the page again.")

    def failure(self, status: int, message: str, remedy: str) -> web.Response:
        return page(self.pages.failure(message, remedy), status)

    # Pages ----------------------------------------------------------------------------------

    async def listing(self, request: web.Request) -> web.Response:
        wanted, state = wanted_of(request.query.items()), await self.now.current()
        chosen, needed = await self.work(chosen_and_needed, state, wanted)
        loaded = {one: await self.library.of(one, LIST_PATIENCE) for one in needed}
        return page(await self.work(self.pages.listing, state, wanted, chosen, loaded, self.now.trouble))

    async def sample(self, request: web.Request) -> web.Response:
        wanted, state = wanted_of(request.query.items()), await self.now.current()
        place = place_of(request, state.samples)
        theirs, others = int(state.samples.other[place]), state.others
        loaded = (
            await self.questions(state.samples, place),
            await self.questions(others, theirs) if others is not None and theirs != NOWHERE else None,
        )
        texts: Texts = "lines" if request.query.get("texts") == "lines" else "whole"
        return page(await self.work(self.pages.sample, state, wanted, place, texts, loaded))

    async def questions(self, samples: Samples, place: int) -> Loaded | None:
        part, _ = samples.part_of(place)
        return await self.library.of(part.evaluation, SAMPLE_PATIENCE)

    async def stored(self, request: web.Request) -> web.Response:
        """A row or a verdict, byte for byte as it stands in its file."""
        state, told = await self.now.current(), request.match_info
        samples = state.samples if told["run"] == "ours" else state.others
        if samples is None:
            raise web.HTTPNotFound
        part, own = samples.part_of(place_of(request, samples))
        of_row = told["kind"] == "row"
        file = part.evaluation.rows if of_row else part.evaluation.grades
        start, end = (part.start, part.end) if of_row else (part.grade_start, part.grade_end)
        if start[own] == NOWHERE:
            raise web.HTTPNotFound
        line = await self.work(at, file, int(start[own]), int(end[own]))
        return web.Response(body=line, content_type="application/json")

    async def static(self, request: web.Request) -> web.Response:
        if (found := STATIC.get(request.match_info["name"])) is None:
            raise web.HTTPNotFound
        path, kind = found
        return web.Response(body=path.read_bytes(), content_type=kind, charset="utf-8")

    async def nothing(self, _request: web.Request) -> web.Response:
        return web.Response(status=204)


def page(text: str, status: int = 200) -> web.Response:
    return web.Response(text=text, content_type="text/html", status=status)


def host_of(request: web.Request) -> str:
    """The name that was asked for, without a port: a tunnel may have another one."""
    host = request.headers.get("Host", "")
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].lower()


def chosen_and_needed(state: State, wanted: Wanted) -> tuple[Chosen, list[Evaluation]]:
    chosen = choose(state.samples, wanted)
    places, _, _ = places_of(chosen, wanted.page)
    return chosen, golds_needed(state.samples, places)


def place_of(request: web.Request, samples: Samples) -> int:
    told = request.match_info
    found = samples.find(told["row"], told["benchmark"], told["question"], int(told["draw"]))
    if found is None:
        raise web.HTTPNotFound
    return found


def view(offer: Offer, ready: Callable[[str], None]) -> None:
    """Serves until the process is interrupted. `ready` gets the address once the run was read.

    Raises UsageError where there is no such run or the port is taken.
    """
    run(serve(offer, ready))


async def serve(offer: Offer, ready: Callable[[str], None]) -> None:
    prefix = "" if offer.alone else f"/{secrets.token_urlsafe(16)}"
    viewer, over = Viewer(offer, prefix), asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, over.set)
    runner = web.AppRunner(viewer.application(), access_log=None, shutdown_timeout=1.0)
    try:
        await viewer.now.current()
        await runner.setup()
        site = web.TCPSite(runner, offer.host, offer.port)
        try:
            await site.start()
        except OSError as error:
            raise UsageError(
                f"cannot listen on {offer.host}:{offer.port}: {error.strerror or error}",
                "Give another --port, or --port 0 for a free one.",
            ) from error
        ready(f"http://{shown(offer.host)}:{port_of(runner)}{prefix}/")
        await over.wait()
    finally:
        await runner.cleanup()
        viewer.close()


def shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def port_of(runner: web.AppRunner) -> int:
    port: int = runner.addresses[0][1]
    return port
