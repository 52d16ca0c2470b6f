"""Model servers: start, await, keep one warm, stop. No server outlives the harness.

    with ServerPool(machine) as pool:
        endpoint = pool.acquire(engine, checkpoint, "dasd-micro/final", sampling, log)

A server runs below `supervise.py`, which ends it however this process ends.
"""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from platformdirs import user_cache_path

from harness.asking import Request
from harness.chat import load_template
from harness.client import Client, Refused
from harness.container import contained
from harness.endpoint import Endpoint
from harness.engines import OPENAI_PARAMETERS, Engine
from harness.engines.remote import Remote
from harness.errors import HarnessError, ServerError
from harness.machine import Machine
from harness.scratch import SOCKET_PATH, new_folder, scratch
from harness.secrets import declare, without_secrets
from harness.stream import Uncounted
from harness.types import Message, Sampling
from harness.weights import trusting

GRACE = 5.0
PORT_ATTEMPTS = 4
POLL = 0.25
TAIL_LINES = 20
MARK = "DASD_HARNESS_SERVER"
ALWAYS_PASSED = ("PYTHONUNBUFFERED", "CUDA_VISIBLE_DEVICES")


@dataclass(frozen=True, kw_only=True)
class Service:
    """What a server is started for. Two equal services share one server."""

    engine: Engine
    model: Path
    served_as: str
    sampling: Sampling | None

    @property
    def name(self) -> str:
        return f"{self.engine.name} serving {self.served_as}"


class Server:
    """One server process below its supervisor."""

    def __init__(self, service: Service, machine: Machine, log: Path, scratch: Path) -> None:
        self.service = service
        self.machine = machine
        self.log = log
        self.scratch = scratch
        self.mark = uuid.uuid4().hex
        self.process: subprocess.Popen[bytes] | None = None
        self.port = 0
        self.log_start = 0
        self.started = 0.0

    def start(self) -> None:
        """Starts the process and returns at once."""
        service, engine = self.service, self.service.engine
        self.scratch.mkdir(parents=True, exist_ok=True)
        model = service.model.resolve()
        if service.sampling is not None:
            model = engine.prepare(model, service.served_as, service.sampling, self.scratch)
        self.port = free_port(self.machine.port)
        command = engine.command(model, service.served_as, self.port, self.machine)
        self.launch([*command, *trusting(service.model, self.machine)], {})

    def launch(self, command: list[str], variables: dict[str, str]) -> None:
        """Starts the command, in the engine's image where machine.toml names one, with further environment
        variables."""
        engine = self.service.engine
        environment = {**server_environment(engine, self.machine, self.mark), **variables}
        if image := self.machine.engine(engine.name).image:
            names = {*engine.environment(self.machine), *variables, *ALWAYS_PASSED, MARK}
            folders = (*read_below(self.service.model), self.scratch)
            whole = contained(
                command,
                image,
                mounts=folders,
                variables=names & set(environment),
                gpus=self.machine.gpus > 0,
                grace=GRACE,
            )
        else:
            environment = {**environment, **temporary(self.scratch), **engine.environment(self.machine)}
            whole = supervised(command)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self.log_start = log.tell()
            self.process = subprocess.Popen(
                whole,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd=self.scratch,
                env=environment,
                start_new_session=True,
            )
        self.started = time.monotonic()

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def well(self) -> bool:
        """Whether it says that it is: where the server was killed, its supervisor lives on until all that the
        server started has ended."""
        return self.alive() and answers(self.endpoint().health_url)

    def check(self) -> None:
        """Raises ServerError, with the end of its log, where the process has ended."""
        if not self.alive():
            code = self.process.returncode if self.process is not None else None
            raise ServerError(
                f"{self.service.name} died with exit code {code}; its log ends:\n{self.tail()}",
                f"the whole log is {self.log}; everything generated so far is kept",
            )

    def ready(self) -> Endpoint:
        """Waits until the server answers for its model.

        Raises ServerError where it dies, does not come up in the machine's `start_timeout`, or
        answers for another model. A port that was taken in between is given up for another.
        """
        for attempt in range(PORT_ATTEMPTS):
            try:
                self.await_health()
                return self.await_answer()
            except ServerError:
                if attempt + 1 == PORT_ATTEMPTS or self.alive() or not self.port_was_taken():
                    self.stop()
                    raise
            self.stop()
            self.start()
        raise AssertionError("unreachable")

    def await_health(self) -> None:
        limit = self.machine.engine(self.service.engine.name).start_timeout
        url = self.endpoint().health_url
        while not answers(url):
            self.check()
            if time.monotonic() - self.started > limit:
                raise ServerError(
                    f"{self.service.name} did not come up in {limit:.0f} s; its log ends:\n{self.tail()}",
                    f"the whole log is {self.log}; a slow machine needs a larger "
                    f"engines.{self.service.engine.name}.start_timeout in machine.toml",
                )
            time.sleep(POLL)

    def await_answer(self) -> Endpoint:
        """Asks for one token, so that a model that cannot answer is known before the stage begins."""
        endpoint = self.endpoint()
        try:
            greet(endpoint)
        except ServerError as error:
            self.check()
            raise ServerError(f"{error.message}\nIts log ends:\n{self.tail()}", error.remedy) from error
        self.check()
        return endpoint

    def endpoint(self) -> Endpoint:
        service = self.service
        return Endpoint(
            base_url=self.base_url,
            model=service.served_as,
            engine=service.engine,
            fingerprint={
                **service.engine.fingerprint(self.machine, service.model),
                "model": service.served_as,
            },
            accepts=service.engine.accepts,
            template=load_template(service.model),
            sampling=service.sampling,
            server=self,
            folder=service.model,
            stream_from=self.machine.stream_from,
            copies=service.engine.data_parallel(self.machine, service.model),
        )

    def port_was_taken(self) -> bool:
        tail = self.tail().lower()
        return "address already in use" in tail or "errno 98" in tail

    def tail(self) -> str:
        """The last lines that this server wrote to its log."""
        return log_tail(self.log, self.log_start)

    def warm(self) -> Endpoint:
        """The endpoint of a server that was found ready before."""
        return self.endpoint()

    def release(self) -> None:
        """Asks the server to end and returns at once; `stop` waits."""
        if self.process is not None and self.process.stdin is not None:
            self.process.stdin.close()

    def stop(self) -> None:
        """Ends the server and every process below it, and removes its scratch folder. Harmless where it has
        ended already."""
        if self.process is None:
            return
        self.release()
        try:
            self.process.wait(timeout=GRACE + 10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        end_marked(self.mark)
        shutil.rmtree(self.scratch, ignore_errors=True)
        self.process = None


class Started(Protocol):
    """What a pool starts and stops: one server here, or replicas of it on the nodes of a cluster."""

    @property
    def service(self) -> Service: ...

    def alive(self) -> bool: ...

    def well(self) -> bool: ...

    def ready(self) -> Endpoint: ...

    def warm(self) -> Endpoint: ...

    def release(self) -> None: ...

    def stop(self) -> None: ...


class ServerPool:
    """At most one server kept warm until another is needed, and at most one on its way up.

    Fetching ahead is for machines without GPUs: on a GPU two servers would not fit. Where machine.toml
    names a cluster, a server is as many replicas as it has room for, so nothing is fetched ahead either.
    """

    def __init__(self, machine: Machine, say: Callable[[str], None] = lambda text: None) -> None:
        self.machine = machine
        self.say = say
        self.alone = bool(machine.gpus or machine.cluster.address)
        self.scratch: Path | None = None
        self.current: Started | None = None
        self.coming: Started | None = None
        self.later: tuple[Service, Path] | None = None
        self.started = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def prefetch(self, engine: Engine, model: Path, served_as: str, sampling: Sampling, log: Path) -> None:
        """Starts a server in the background and returns at once; errors come with `acquire`.

        One that is on its way already is taken first: the new one is started once it is.
        """
        service = service_of(engine, model, served_as, sampling)
        if not engine.local or self.alone or self.serves(service):
            return
        if self.coming is not None and self.coming.service == service:
            return
        if self.coming is not None:
            self.later = service, log
            return
        self.coming = self.start(service, log)

    def acquire(self, engine: Engine, model: Path, served_as: str, sampling: Sampling, log: Path) -> Endpoint:
        """A server that is ready to answer for the model; stops the one that answered for another.

        Raises ServerError where it cannot be had and UsageError where the engine is not set up.
        """
        if isinstance(engine, Remote):
            return remote_endpoint(engine, served_as, sampling, self.machine)
        service = service_of(engine, model, served_as, sampling)
        if self.current is not None and self.serves(service) and self.current.well():
            return self.current.warm()
        old, self.current = self.current, None
        if old is not None:
            old.stop() if self.alone else old.release()
        try:
            server = self.arriving(service) or self.start(service, log)
            endpoint = ready_or_stopped(server)
            self.current = server
        finally:
            if old is not None:
                old.stop()
        self.start_later()
        return endpoint

    def start_later(self) -> None:
        """Starts what was to be fetched ahead while another server was on its way."""
        if self.later is None:
            return
        if self.coming is not None:
            self.coming.stop()
        (service, log), self.later, self.coming = self.later, None, None
        with suppress(HarnessError):  # whoever needs this server says what is wrong with it
            self.coming = self.start(service, log)

    def serves(self, service: Service) -> bool:
        """Whether the current server is alive and answers for this service."""
        return self.current is not None and self.current.service == service and self.current.alive()

    def arriving(self, service: Service) -> Started | None:
        """The server fetched ahead, where it is the one that is wanted now and has not died."""
        if self.coming is None or self.coming.service != service:
            return None
        server, self.coming = self.coming, None
        if server.alive():
            return server
        server.stop()
        return None

    def start(self, service: Service, log: Path) -> Started:
        self.started += 1
        if self.machine.cluster.address:
            from harness.cluster import Replicas

            return Replicas(service, self.machine, log, self.say)
        self.scratch = self.scratch or new_folder("servers")
        server = Server(service, self.machine, log, self.scratch / str(self.started))
        server.start()
        return server

    def free_gpus(self) -> None:
        """Ends the warm server on a machine with GPUs: it holds nine tenths of their memory."""
        if self.machine.gpus and self.current is not None:
            self.current.stop()
            self.current = None

    def close(self) -> None:
        """Stops all servers and removes the prepared copies."""
        servers = [each for each in (self.current, self.coming) if each is not None]
        self.current = self.coming = None
        for server in servers:
            server.release()
        for server in servers:
            server.stop()
        if self.scratch is not None:
            shutil.rmtree(self.scratch, ignore_errors=True)


def log_tail(log: Path, start: int) -> str:
    """The last lines of a log, of what was written from the byte `start` on."""
    with log.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(start, size - 16_384))
        text = file.read().decode("utf-8", errors="replace")
    return "\n".join(text.rstrip().split("\n")[-TAIL_LINES:])


def ready_or_stopped(server: Started) -> Endpoint:
    """The endpoint once the server is ready. A server that fails, or is interrupted, is not left."""
    try:
        return server.ready()
    except BaseException:
        server.stop()
        raise


def service_of(engine: Engine, model: Path, served_as: str, sampling: Sampling) -> Service:
    """The key of a server: the sampling counts only where the engine fixes it at start-up."""
    fixed = fixed_sampling(engine, sampling)
    return Service(engine=engine, model=model.resolve(), served_as=served_as, sampling=fixed)


def fixed_sampling(engine: Engine, sampling: Sampling) -> Sampling | None:
    """What a server fixes when it starts; None where each request brings its own."""
    return replace(sampling, max_tokens=0, draws=1, seed=0) if engine.per_sampling else None


def read_below(model: Path) -> set[Path]:
    """The folders that a server reads a checkpoint from: its own, and where its links lead."""
    return {model.resolve(), *(file.resolve().parent for file in model.iterdir())}


def supervised(command: list[str], grace: float = GRACE) -> list[str]:
    """The command below a supervisor, to be started with a pipe as its standard input."""
    script = Path(__file__).with_name("supervise.py")
    parent = str(os.getpid())
    return [sys.executable, "-I", "-S", str(script), parent, str(grace), str(scratch()), "--", *command]


def server_environment(engine: Engine, machine: Machine, mark: str) -> dict[str, str]:
    """The harness's environment without what would lead the server into our own packages, and without
    secrets: it reads a local folder and needs none. A foreign VLLM_API_KEY would even lock us out."""
    declare(settings.api_key_env for settings in machine.engines.values())  # on a node, nobody else has
    kept = without_secrets(os.environ)
    for name in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"):
        kept.pop(name, None)
    return {**kept, **engine.environment(machine), "PYTHONUNBUFFERED": "1", MARK: mark}


def temporary(scratch: Path) -> dict[str, str]:
    """Has a server's temporary files go with its scratch folder: one that is killed leaves them behind.

    Kernels that torch compiled stay where the next server finds them. Nothing where the path leaves no room
    for a socket's.
    """
    if len(os.fsencode(scratch)) + len("/pymp-01234567/listener-01234567") > SOCKET_PATH:
        return {}
    usual = user_cache_path("dasd-harness") / "torchinductor"
    kernels = os.environ.get("TORCHINDUCTOR_CACHE_DIR") or str(usual)
    return {"TMPDIR": str(scratch), "TORCHINDUCTOR_CACHE_DIR": kernels}


def free_port(wanted: int) -> int:
    """`wanted` where it is set and free, else one that the system picks."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise ServerError("no free port on 127.0.0.1")


def answers(url: str) -> bool:
    """Whether a GET of a local URL is answered 200 within five seconds; no proxy is asked."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=5) as answer:
            return int(answer.status) == 200
    except (OSError, urllib.error.URLError):
        return False


def greet(endpoint: Endpoint, sampling: Sampling | None = None) -> None:
    """One token from the model. Raises ServerError where it does not answer or another one does."""
    chosen = replace(sampling or endpoint.sampling or Sampling(temperature=0.0, max_tokens=1), max_tokens=1)
    request = Request(
        question="hello", draw=0, messages=(Message(role="user", content="Hello"),), sampling=chosen, seed=0
    )

    async def ask() -> None:
        async with Client(endpoint, connections=1) as client:
            await client.complete(request)

    asyncio.run(ask())


def remote_endpoint(engine: Remote, served_as: str, sampling: Sampling, machine: Machine) -> Endpoint:
    """The endpoint that machine.toml names, with the sampling parameters that it takes, streaming where it
    can.

    Many take only OpenAI's own. Raises ServerError where one that it refuses is set to something
    else than "off", and UsageError where no URL is configured.
    """
    settings = machine.engine(engine.name)
    endpoint = Endpoint(
        base_url=engine.base_url(machine),
        model=served_as,
        engine=engine,
        fingerprint={**engine.fingerprint(machine), "model": served_as},
        accepts=engine.accepts,
        api_key=os.environ.get(settings.api_key_env, ""),
        stream_from=machine.stream_from,
    )
    refusals: list[ServerError] = []
    for way in ways(endpoint, sampling):
        try:
            greet(replace(way, stream_from=min(way.stream_from, 1)), sampling)
        except (Refused, Uncounted) as error:
            refusals.append(error)
        else:
            return way
    raise refusals[0]


def ways(endpoint: Endpoint, sampling: Sampling) -> Iterator[Endpoint]:
    """How a provider may have to be asked, the fullest way first."""
    fewer = [OPENAI_PARAMETERS] if is_neutral(sampling) else []
    for accepts in (endpoint.accepts, *fewer):
        for stream_from in dict.fromkeys((endpoint.stream_from, 0)):
            yield replace(endpoint, accepts=accepts, stream_from=stream_from)


def is_neutral(sampling: Sampling) -> bool:
    """Whether the parameters that OpenAI does not know are all off."""
    return sampling.top_k == -1 and sampling.min_p == 0.0 and sampling.repetition_penalty == 1.0


def end_marked(mark: str) -> None:
    """Kills what still carries the mark, and waits until it is gone, for `GRACE` seconds at most: only where
    a supervisor was itself killed is anything left, or where its harness was, for a moment."""
    deadline = time.monotonic() + GRACE
    while (left := list(marked(mark))) and time.monotonic() < deadline:
        for process in left:
            with suppress(OSError):
                os.kill(process, signal.SIGKILL)
        time.sleep(0.02)


def marked(mark: str) -> Iterator[int]:
    """The processes that carry the mark in their environment."""
    wanted = f"{MARK}={mark}".encode()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            if wanted in (entry / "environ").read_bytes().split(b"\0"):
                yield int(entry.name)
        except OSError:
            continue
