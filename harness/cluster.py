"""Cluster: engine replicas and grading workers on the nodes of a Ray cluster that machine.toml names.

    [cluster]
    address = "auto"

Ray places actors and tells which nodes there are; everything else is what it is on one computer. A
replica is the same Server below the same supervisor, behind a Gate at its node's address, and lives as
long as the Lease that the head holds on it. So it ends with the harness however that ends, and with its
node's raylet, and the head knows within a second of a replica that is gone, long before Ray does.

Ray is imported only where a cluster is configured.
"""

import asyncio
import functools
import itertools
import os
import queue
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar

from harness.endpoint import Endpoint
from harness.engines import Engine
from harness.errors import HarnessError, SandboxError, ServerError, UsageError
from harness.gate import BEAT, LOST, Gate, Lease
from harness.machine import Machine
from harness.sandboxes import Accept, Execution, Limits, Program, Sandbox, Say, accept_all, open_sandbox
from harness.scratch import discard, new_folder
from harness.serve import GRACE, Server, Service, log_tail
from harness.types import Question

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

PATIENCE = 30.0  # seconds for Ray to reserve what it has room for: another run may be just leaving
AGAIN = 10.0  # the same where replicas are left to go on with
FIRST_LEASE = 120.0  # seconds that a replica waits for the head to take its lease
ATTEMPTS = 2  # at a call that took its worker along; the second worker's death is not a node's
INSTALL = "pip install 'dasd-harness[cluster]', with the same version of Ray as the cluster's"
CONNECTING = threading.Lock()
SAME_HARNESS = "every node needs the same harness in the Python that runs its Ray: share the environment"


def connected(address: str) -> Any:
    """Ray, connected to the cluster at `address`; connected once for a process.

    Raises UsageError where Ray is not installed and ServerError where no cluster answers there.
    """
    try:
        import ray
    except ImportError as error:
        raise UsageError(
            f"machine.toml names the cluster {address!r}, and Ray is missing", INSTALL
        ) from error
    with CONNECTING:
        if not ray.is_initialized():
            join(ray, address)
    return ray


def join(ray: Any, address: str) -> None:
    try:
        reach(address)
        ray.init(address=address, log_to_driver=False, logging_level="error")
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise ServerError(
            f"no Ray cluster that this computer is a node of answers at {address!r}: {error}",
            "start one (`ray start --head`, and `ray start --address HOST:6379` on the other nodes), run "
            "the harness on one of its nodes, or remove [cluster] from machine.toml",
        ) from error


def reach(address: str) -> None:
    """Raises OSError at once where nothing listens at HOST:PORT, which Ray finds after a minute."""
    host, colon, port = address.rpartition(":")
    if colon and port.isdigit():
        socket.create_connection((host, int(port)), timeout=10).close()


def living(ray: Any) -> list[dict[str, Any]]:
    """The nodes, less those whose raylet does not answer: Ray takes a quarter of a minute to miss it."""
    return [node for node in ray.nodes() if node["Alive"] and answers(node)]


def answers(node: dict[str, Any]) -> bool:
    try:
        socket.create_connection((node["NodeManagerAddress"], node["NodeManagerPort"]), timeout=2).close()
    except OSError:
        return False
    return True


def spans_nodes(engine: Engine, machine: Machine) -> bool:
    """Whether the engine itself asks Ray for GPUs of several nodes: then its replica reserves none."""
    return engine.argument(machine, ("--distributed-executor-backend",)) == "ray"


def gpus_each(engine: Engine, machine: Machine, nodes: Sequence[dict[str, Any]]) -> int:
    """GPUs that one replica reserves: as many as its tensor parallelism takes, none where there are none."""
    if spans_nodes(engine, machine):
        return 0
    there = any(node["Resources"].get("GPU") for node in nodes)
    return machine.cluster.gpus or (engine.tensor_parallel(replace(machine, gpus=1)) if there else 0)


def replicas_wanted(machine: Machine, gpus: int, spans: bool, nodes: Sequence[dict[str, Any]]) -> int:
    """As many as machine.toml says, else as many as the nodes' GPUs allow, or one a node without any."""
    if machine.cluster.replicas or spans:
        return machine.cluster.replicas or 1
    if not gpus:
        return len(nodes)
    return sum(int(node["Resources"].get("GPU", 0)) // gpus for node in nodes)


def room(nodes: Sequence[dict[str, Any]], share: dict[str, int]) -> int:
    """How many bundles of this share the nodes would hold if nothing else ran there."""
    return sum(
        min(int(node["Resources"].get(kind, 0)) // each for kind, each in share.items() if each)
        for node in nodes
    )


@dataclass(frozen=True, kw_only=True)
class Door:
    """Where a replica's gate is, on which node, and where in its log this server begins."""

    address: str
    port: int
    node: str
    log_start: int


class Replica:
    """One server on the node where Ray placed it, and its gate. Becomes an actor.

    It ends with its lease, with its raylet (whose actors Ray lets live on for a while), or where nobody
    takes a lease.
    """

    def __init__(self, service: Service, machine: Machine, log: Path, key: str) -> None:
        self.server = Server(service, machine, log, new_folder("replica"))
        self.gate = Gate(key, lambda: self.server.port, self.trouble, self.end)
        self.raylet = os.getppid()
        self.up = False
        self.orphaned = False
        self.ending = asyncio.Lock()

    async def open(self) -> Door:
        """Starts the server and opens the gate, without waiting for the server to be ready.

        Raises ServerError where this node sees other files than the head, UsageError where the engine
        is not set up here.
        """
        address = node_address()
        self.node = f"node {socket.gethostname()} ({address})"
        with told(self.node):
            for path in (self.server.service.model, self.server.log):
                check_shared(path)
            await asyncio.to_thread(self.server.start)
            port = await self.gate.open(address)
        self.watching = asyncio.create_task(self.watch())
        return Door(address=address, port=port, node=self.node, log_start=self.server.log_start)

    async def ready(self, door: Door) -> Endpoint:
        """The endpoint at the gate, once the server answers behind it. Raises as Server.ready does."""
        with told(self.node):
            endpoint = await asyncio.to_thread(self.server.ready)
        self.up = True
        url = f"http://{door.address}:{door.port}/v1"
        return replace(endpoint, base_url=url, api_key=self.gate.key, server=None)

    def trouble(self) -> str:
        """What the lease tells; nothing while the server is on its way up, which `ready` watches."""
        if self.orphaned:
            return "is lost: the raylet of its node has ended"
        if not self.up or self.server.alive() or self.server.process is None:
            return ""
        return f"died with exit code {self.server.process.returncode}"

    async def watch(self) -> None:
        """Ends this process where the raylet is gone or the head does not come."""
        deadline = time.monotonic() + FIRST_LEASE
        while os.getppid() == self.raylet and (  # noqa: ASYNC110 - nothing tells of a parent that ends
            self.gate.leased or time.monotonic() < deadline
        ):
            await asyncio.sleep(BEAT)
        self.orphaned = True
        await self.end()
        os._exit(1)

    async def end(self) -> None:
        async with self.ending:
            await asyncio.to_thread(self.server.stop)
            discard()


def node_address() -> str:
    """The address at which other nodes reach this one, as its raylet was told."""
    import ray

    return str(ray.util.get_node_ip_address())


def check_shared(path: Path) -> None:
    if not path.exists():
        raise ServerError(
            f"{path} is not there",
            "checkpoints and runs must lie in a folder that all nodes of the cluster share under one path",
        )


@contextmanager
def told(node: str) -> Iterator[None]:
    """Names the node in every error."""
    try:
        yield
    except HarnessError as error:
        raise type(error)(f"on {node}: {error.message}", error.remedy) from None


@dataclass(kw_only=True)
class Seat:
    """The place of one replica in the cluster: a bundle that Ray reserved, and what runs there.

    Where its node is lost, Ray reserves the bundle anew as soon as there is room.
    """

    group: Any
    index: int
    log: Path
    actor: Any = None
    lease: Lease | None = None
    endpoint: Endpoint | None = None

    @property
    def alive(self) -> bool:
        return self.endpoint is not None and self.lease is not None and self.lease.alive()


class Replicas:
    """Servers of one checkpoint on the nodes of the cluster: what ServerPool starts there.

    Raises ServerError where the cluster has no room for them.
    """

    def __init__(self, service: Service, machine: Machine, log: Path, say: Say) -> None:
        self.ray = connected(machine.cluster.address)
        self.service = service
        self.settings = machine
        self.log = log.resolve()
        self.say = say
        self.key = secrets.token_urlsafe(32)
        self.seats: list[Seat] = []
        self.spans = spans_nodes(service.engine, machine)
        self.gpus = gpus_each(service.engine, machine, living(self.ray))
        told_gpus = service.engine.tensor_parallel(replace(machine, gpus=1)) if self.spans else self.gpus
        self.machine = replace(machine, gpus=told_gpus)
        self.share = {"CPU": machine.cluster.cpus, **({"GPU": self.gpus} if self.gpus else {})}
        self.reserve(self.wanted(), PATIENCE)
        if not self.seats:
            raise self.no_room()
        for seat in self.seats:
            self.launch(seat)

    def wanted(self) -> int:
        return replicas_wanted(self.settings, self.gpus, self.spans, living(self.ray))

    def alive(self) -> bool:
        """Whether any replica still answers."""
        return any(seat.alive for seat in self.seats)

    def well(self) -> bool:
        return self.alive()

    def ready(self) -> Endpoint:
        """Waits until every replica answers; those whose node is lost meanwhile are left out.

        Raises ServerError where none comes up, or where one fails for another reason than its node.
        """
        self.fill(self.seats)
        return self.endpoint()

    def warm(self) -> Endpoint:
        """The endpoint of the replicas that are left, after new ones were started on nodes that came
        back or are new."""
        self.reserve(self.wanted() - len(self.seats), AGAIN)
        lost = [seat for seat in self.seats if not seat.alive]
        if lost and min(self.wanted(), room(living(self.ray), self.share)) > len(self.seats) - len(lost):
            lost[0].group.wait(AGAIN)
        empty = [seat for seat in lost if self.has_place(seat)]
        for seat in empty:
            self.clear(seat)
            self.launch(seat)
        try:
            self.fill(empty)
        except HarnessError as error:
            self.say(f"a replica could not be started again, the others go on: {error.message}")
        return self.endpoint()

    def endpoint(self) -> Endpoint:
        """One of the replicas that are alive, with the others."""
        alive = [seat.endpoint for seat in self.seats if seat.alive and seat.endpoint]
        if not alive:
            raise ServerError(
                f"no replica of {self.service.name} is left: their nodes are lost",
                f"see the logs beside {self.log}, and `ray status`",
            )
        return replace(alive[0], replicas=tuple(alive[1:]))

    def reserve(self, count: int, patience: float) -> None:
        """Seats for further replicas, spread over the nodes; none where there is no room for them all."""
        if count <= 0 or room(living(self.ray), self.share) < count:
            return
        one_a_node = not self.gpus and not self.settings.cluster.replicas
        strategy = "STRICT_SPREAD" if one_a_node else "SPREAD"
        group = self.ray.util.placement_group([self.share] * count, strategy=strategy)
        if not group.wait(patience):
            self.ray.util.remove_placement_group(group)
            return
        for index, number in zip(range(count), itertools.count(len(self.seats) + 1), strict=False):
            log = self.log.with_name(f"{self.log.stem}-{number}{self.log.suffix}")
            self.seats.append(Seat(group=group, index=index, log=log))

    def no_room(self) -> ServerError:
        each = f"{self.gpus} GPUs and {self.settings.cluster.cpus} CPUs"
        total, free = self.ray.cluster_resources(), self.ray.available_resources()
        return ServerError(
            f"the cluster has no room for {self.wanted()} replicas of {self.service.name}, each on {each} of "
            f"one node: of {total.get('GPU', 0):g} GPUs {free.get('GPU', 0):g} are free, of "
            f"{total.get('CPU', 0):g} CPUs {free.get('CPU', 0):g}, on {len(living(self.ray))} nodes",
            "lower cluster.replicas, cluster.gpus or cluster.cpus in machine.toml, or add nodes",
        )

    def launch(self, seat: Seat) -> None:
        """Starts the actor of a seat and returns at once."""
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        seat.log.parent.mkdir(parents=True, exist_ok=True)
        seat.log.touch()
        place = PlacementGroupSchedulingStrategy(seat.group, placement_group_bundle_index=seat.index)
        actor = self.ray.remote(Replica).options(
            num_cpus=self.settings.cluster.cpus, num_gpus=self.gpus, scheduling_strategy=place
        )
        seat.actor = actor.remote(self.service, self.machine, seat.log, self.key)

    def fill(self, seats: list[Seat]) -> None:
        """Takes the leases of replicas that were launched and waits for their endpoints."""
        doors: list[tuple[Seat, Door]] = []
        for seat, door in self.results({seat.actor.open.remote(): seat for seat in seats}):
            what = f"{self.service.name} on {door.node}"
            tail = functools.partial(log_tail, seat.log, door.log_start)
            seat.lease = Lease(door.address, door.port, self.key, what, tail)
            doors.append((seat, door))
        for seat, endpoint in self.results({seat.actor.ready.remote(door): seat for seat, door in doors}):
            seat.endpoint = replace(endpoint, server=seat.lease)
        self.check_alike()

    def results(self, asked: dict[Any, Seat]) -> Iterator[tuple[Seat, Any]]:
        """What the replicas answer, as it comes. Those that are lost answer nothing."""
        while asked:
            done, _ = self.ray.wait(list(asked), timeout=BEAT)
            for answer in done:
                seat = asked.pop(answer)
                try:
                    yield seat, self.ray.get(answer)
                except self.ray.exceptions.RayTaskError as error:
                    raise mended(error) from error
                except self.ray.exceptions.RayActorError as error:
                    if error.actor_init_failed:
                        raise ServerError(f"a node cannot start a replica: {error}", SAME_HARNESS) from error
                    why = str(error).partition("\n")[0]
                    self.say(f"a replica of {self.service.name} is lost before it answered: {why}")
            lost = [answer for answer, seat in asked.items() if seat.lease and not seat.lease.alive()]
            for answer in lost:
                del asked[answer]

    def check_alike(self) -> None:
        """Raises ServerError where replicas differ in what rows record: they would be mixed."""
        found = [seat.endpoint for seat in self.seats if seat.endpoint is not None]
        for other in found[1:]:
            if other.fingerprint != found[0].fingerprint:
                raise ServerError(
                    f"replicas of {self.service.name} differ: {found[0].fingerprint} and {other.fingerprint}",
                    "run `harness setup` of the same version on every node, or share the environments",
                )

    def has_place(self, seat: Seat) -> bool:
        """Whether the bundle of a seat is on a node that is alive."""
        place = self.ray.util.placement_group_table(seat.group)["bundles_to_node_id"].get(seat.index)
        return place in {node["NodeID"] for node in living(self.ray)}

    def clear(self, seat: Seat) -> None:
        """Forgets the replica of a seat, which is lost."""
        self.ray.kill(seat.actor)
        seat.lease = seat.endpoint = None

    def release(self) -> None:
        """Asks all replicas to end and returns at once; `stop` waits."""
        for seat in self.seats:
            if seat.lease is not None:
                seat.lease.release()

    def stop(self) -> None:
        """Ends all replicas and gives back what Ray reserved for them."""
        self.release()
        for seat in self.seats:
            if seat.lease is not None:
                seat.lease.wait(GRACE + LOST)
        for group in {id(seat.group): seat.group for seat in self.seats}.values():
            self.ray.util.remove_placement_group(group)
        self.seats = []


def mended(error: Any) -> HarnessError:
    """What went wrong on the node, as it was raised there."""
    if isinstance(error.cause, HarnessError):
        return error.cause
    return ServerError(f"a node failed: {error.cause!r}", SAME_HARNESS)


class NodeSandbox:
    """Stands for the sandbox of whichever node a call is graded on: an argument, not to be run here."""

    name = "cluster"

    def run(
        self, program: Program, inputs: list[str], limits: Limits, accept: Accept = accept_all
    ) -> Execution:
        raise SandboxError(
            "the sandboxes of the cluster run on its nodes", "pass it to ClusterGraders.submit"
        )

    def close(self) -> None:
        return None


class Grader:
    """One grading worker with a sandbox of its own, opened when it is first needed. Becomes an actor."""

    def __init__(self, machine: Machine) -> None:
        self.machine = replace(machine, sandbox=replace(machine.sandbox, workers=1))
        self.notes: list[str] = []

    @functools.cached_property
    def sandbox(self) -> Sandbox:
        return open_sandbox(self.machine, self.notes.append)

    def run(self, work: Callable[..., Any], kwargs: dict[str, Any], *args: Any) -> tuple[Any, list[str]]:
        """What `work` returns, and what a user must see of this node's sandbox."""
        given = [self.sandbox if isinstance(each, NodeSandbox) else each for each in args]
        result = work(*given, **kwargs)
        notes, self.notes = self.notes, []
        return result, notes

    def close(self) -> None:
        if "sandbox" in self.__dict__:
            self.sandbox.close()


@dataclass(eq=False, kw_only=True)
class Worker:
    """A grading worker's actor, and the id and the address of its node."""

    actor: Any
    node: str
    address: str


class ClusterGraders:
    """An executor whose calls run on the nodes, `cluster.grading_workers` at once on each.

    A call whose node is lost is made again on another one. Calls are those of module-level functions:
    what one is closed over would travel with each call. `sandbox` among the arguments becomes the
    node's own.
    """

    sandbox: Sandbox = NodeSandbox()

    def __init__(self, machine: Machine, say: Say) -> None:
        """Places the workers. Raises UsageError and ServerError as `connected` does."""
        self.ray = connected(machine.cluster.address)
        self.machine = machine
        self.say = say
        self.said: set[str] = set()
        self.shared: dict[int, tuple[Question, Any]] = {}
        self.lock = threading.Lock()
        self.members: set[Worker] = set()
        self.idle: queue.SimpleQueue[Worker | None] = queue.SimpleQueue()
        for _, node in itertools.product(range(machine.cluster.grading_workers), living(self.ray)):
            self.hire(node["NodeID"], node["NodeManagerAddress"])
        self.workers = len(self.members)
        self.threads = ThreadPoolExecutor(self.workers, thread_name_prefix="grading")

    def hire(self, node: str, address: str) -> None:
        """A worker on a node. It counts as no CPU: machine.toml says how many a node takes."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        where = NodeAffinitySchedulingStrategy(node, soft=False)
        actor = self.ray.remote(Grader).options(num_cpus=0, scheduling_strategy=where)
        worker = Worker(actor=actor.remote(self.machine), node=node, address=address)
        self.members.add(worker)
        self.idle.put(worker)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shutdown(cancel_futures=True)

    def submit(
        self, work: Callable[Arguments, Result], /, *args: Arguments.args, **kwargs: Arguments.kwargs
    ) -> "Future[Result]":
        return self.threads.submit(self.call, work, args, kwargs)

    def call(self, work: Callable[..., Result], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Result:
        """Runs the call on the next idle worker; where that one is lost, on another."""
        sent = [self.once(each) for each in args]
        for _ in range(ATTEMPTS):
            worker = self.idle.get()
            if worker is None:
                self.idle.put(None)
                raise SandboxError(
                    "no node of the cluster is left to grade on", "see `ray status`, and go on"
                )
            try:
                result, notes = self.ray.get(worker.actor.run.remote(work, kwargs, *sent))
            except self.ray.exceptions.RayTaskError as error:
                self.idle.put(worker)
                raise error.cause from error
            except self.ray.exceptions.RayActorError as error:
                if error.actor_init_failed:
                    raise ServerError(
                        f"a node cannot start a grading worker: {error}", SAME_HARNESS
                    ) from error
                self.lose(worker)
                continue
            self.idle.put(worker)
            self.tell(worker, notes)
            return result  # type: ignore[no-any-return]
        raise SandboxError(f"{ATTEMPTS} grading workers died of one call", "see the logs of Ray on the nodes")

    def once(self, argument: Any) -> Any:
        """A question goes to each node once, not with each of its draws: its tests can be megabytes."""
        if not isinstance(argument, Question):
            return argument
        with self.lock:
            if id(argument) not in self.shared:
                self.shared[id(argument)] = (argument, self.ray.put(argument))
            return self.shared[id(argument)][1]

    def lose(self, worker: Worker) -> None:
        """A worker is gone; another takes its place if its node is there. The last one wakes all who wait."""
        there = {node["NodeID"] for node in living(self.ray)}
        with self.lock:
            self.members.discard(worker)
            if worker.node in there:
                self.hire(worker.node, worker.address)
            left = len(self.members)
        self.say(f"a grading worker on {worker.address} is lost, {left} are there")
        if not left:
            self.idle.put(None)

    def tell(self, worker: Worker, notes: list[str]) -> None:
        for note in notes:
            if note not in self.said:
                self.said.add(note)
                self.say(f"node {worker.address}: {note}")

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Ends the workers and their sandboxes once their calls are done."""
        self.threads.shutdown(wait=wait, cancel_futures=cancel_futures)
        members, self.members = self.members, set()
        closing = [worker.actor.close.remote() for worker in members]
        self.ray.wait(closing, num_returns=len(closing), timeout=GRACE) if closing else None
        for worker in members:
            self.ray.kill(worker.actor)
        self.shared = {}
