"""Capacity: how long GPUs take by the clock for a stage's tokens.

`harness.throughput` tells the hours of one device. Here they are spread over the servers that answer together
and over the slots of each: the requests that it is asked at once. As long as requests wait, every slot is
busy; at the end slots idle until the longest response is whole. A free slot takes the next request, which
is list scheduling, so the time lies between Graham's bounds (R. L. Graham, "Bounds for Certain
Multiprocessing Anomalies", Bell System Technical Journal 45, 1966).

Seconds and tokens throughout, unless a docstring says otherwise.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

from harness.cost import Kind, Size, Work
from harness.engines import DATA_PARALLEL, TENSOR_PARALLEL, Engine
from harness.hardware import MEMORY_OF_AN_H100, ROOM, gpus_to_hold
from harness.machine import Machine
from harness.throughput import Hours, Rate

# A parameter: bfloat16 weights and gradients, float32 weights and both moments; half as much again for
# the activations of long rows.
TRAINING_BYTES = 24

# Ours, where no speed was measured: how fast one response grows however many GPUs write it.
STREAM = 200.0
# Ours, where none was measured: seconds until a server, a forward pass or a trainer is at work, and the
# bytes of weights that it reads a second.
STARTING: dict[Kind, float] = {"generate": 120.0, "score": 30.0, "train": 60.0}
LOADING = 1e9
# A worker's seconds for a verdict. Programs: 400 recorded ones of 25 tests each took two cores 47 s.
TEXT_VERDICT = 0.005
PROGRAM_VERDICT = 0.24

ALONE = "trl"  # the trainer that uses one GPU
IN_PROCESS = "torch"


@dataclass(frozen=True, kw_only=True)
class Span:
    """A time that is at least, likely, and at most this long."""

    least: float = 0.0
    likely: float = 0.0
    most: float = 0.0

    def __add__(self, other: "Span") -> "Span":
        return Span(
            least=self.least + other.least, likely=self.likely + other.likely, most=self.most + other.most
        )

    def __mul__(self, factor: float) -> "Span":
        return Span(least=self.least * factor, likely=self.likely * factor, most=self.most * factor)

    @classmethod
    def certain(cls, time: float) -> "Span":
        return cls(least=time, likely=time, most=time)


# Responses over slots -----------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Responses:
    """So many responses, of so many tokens together, none of which can be longer than `limit`.

    `longest` is the length of the longest, where it is known: 0 where not.
    """

    requests: float
    tokens: float
    limit: float
    longest: float = 0.0

    @property
    def mean(self) -> float:
        return self.tokens / self.requests if self.requests else 0.0


def graham(work: float, longest: float, slots: int) -> tuple[float, float]:
    """Graham's bounds of the time in which `slots` finish jobs of `work` in all, the longest of `longest`,
    whatever their order. In the unit of `work`."""
    return max(work / slots, longest), work / slots + (1 - 1 / slots) * longest


def scheduled(responses: Responses, slots: int, speed: float) -> Span:
    """Seconds until all responses are whole, on slots that each write `speed` tokens a second.

    Least and most are Graham's bounds; where the longest response is not known, with the mean for the
    least (one is as long) and the limit for the most. The likely time takes lengths as spread without
    memory (exponentially): when the last request has been handed out, a response that is being written has
    as much to come as a new one, and the last of m has 1 + 1/2 + … + 1/m times the mean, or the limit. Of
    lengths with a heavier tail it tells too little.
    """
    if not responses.tokens:
        return Span()
    busy = max(1, min(slots, math.ceil(responses.requests)))
    mean, limit = responses.mean, max(responses.mean, responses.longest or responses.limit)
    least, _ = graham(responses.tokens, responses.longest or mean, busy)
    _, most = graham(responses.tokens, limit, busy)
    if responses.requests <= slots:
        most = max(limit, least)
    last = min(limit, mean * harmonic(busy))
    likely = min(max(responses.tokens / busy + last - mean, least), most)
    return Span(least=least, likely=likely, most=most) * (1 / speed)


def harmonic(count: int) -> float:
    """1 + 1/2 + … + 1/count."""
    return sum(1 / each for each in range(1, count + 1))


# A stage on GPUs ----------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Fleet:
    """The GPUs that are to do the work: `gpus` on each of `nodes`; `gpu_bytes` is the memory of one, an
    H100's where the driver does not tell.

    `supposed`: they are not what machine.toml configures; each server gets as few of them as hold its model.
    """

    gpus: int
    nodes: int = 1
    gpu_bytes: float = MEMORY_OF_AN_H100
    supposed: bool = False


@dataclass(frozen=True, kw_only=True)
class Placed:
    """`copies` of a model that work together, each on `devices`, with `slots` for requests in all. `idle`
    devices are left over. No copy: `reason` says why."""

    copies: int
    devices: int = 1
    slots: int = 1
    idle: int = 0
    reason: str = ""

    @property
    def taking_part(self) -> int:
        return self.copies * self.devices


def least_gpus(kind: Kind, size: Size, gpu_bytes: float) -> int:
    """How many GPUs together hold a model, with what its work needs beside the weights."""
    return gpus_to_hold(needed_bytes(kind, size), gpu_bytes)


def needed_bytes(kind: Kind, size: Size) -> float:
    return size.parameters * TRAINING_BYTES if kind == "train" else size.bytes * ROOM


def placed(work: Work, engine: Engine | None, size: Size | None, machine: Machine, fleet: Fleet) -> Placed:
    """Where a stage computes. `engine` is what serves its model; None for what computes in process."""
    hold = least_gpus(work.kind, size, fleet.gpu_bytes) if size else 1
    if engine is not None:
        return served(work, engine, hold, machine, fleet)
    least = hold if fleet.supposed else 1
    every = fleet.gpus * (fleet.nodes if work.kind == "train" else 1)
    useful = 1 if work.engine == ALONE else every
    if not fleet.gpus:
        return Placed(copies=1)
    if least > (1 if work.engine == IN_PROCESS else useful):
        return Placed(copies=0, reason=f"needs {least} GPUs together")
    if work.kind == "train":
        return Placed(copies=1, devices=useful, idle=every - useful)
    return Placed(copies=every)


def served(work: Work, engine: Engine, least: int, machine: Machine, fleet: Fleet) -> Placed:
    """Servers side by side: as many as fit, or as machine.toml's cluster has; one without a cluster."""
    if not engine.local:
        return Placed(copies=0, reason="it is somebody else's machine")
    slots, clustered = requests_at_once(work, machine), bool(machine.cluster.address)
    every = fleet.gpus * (fleet.nodes if clustered else 1)
    if not every:
        copies = (machine.cluster.replicas or fleet.nodes) if clustered else 1
        return Placed(copies=copies, slots=copies * slots)
    if not fleet.supposed and not clustered:
        given = engine.argument(machine, TENSOR_PARALLEL)
        each = min(every, int(given) if given else 2 ** math.ceil(math.log2(least))) if engine.copies else 1
        copies = int(engine.argument(machine, DATA_PARALLEL) or (every // each if engine.copies else 1))
        return Placed(copies=copies, devices=each, slots=copies * slots, idle=max(0, every - copies * each))
    each = engine.tensor_parallel(replace(machine, gpus=1))
    if fleet.supposed:
        each = max(each, 2 ** math.ceil(math.log2(least)))
        copies = every // each
    else:
        each = machine.cluster.gpus or each
        copies = machine.cluster.replicas or fleet.nodes * (fleet.gpus // each) or every // each
    if not copies:
        return Placed(copies=0, devices=each, reason=f"needs {each} GPUs together")
    return Placed(copies=copies, devices=each, slots=copies * slots, idle=max(0, every - copies * each))


def requests_at_once(work: Work, machine: Machine) -> int:
    """Slots of one server: machine.toml's concurrency, as far as its tokens in flight let it."""
    length = (work.tokens_in + work.tokens_out) / work.requests if work.requests else 0.0
    if not machine.tokens_in_flight or not length:
        return max(1, machine.concurrency)
    return max(1, min(machine.concurrency, int(machine.tokens_in_flight / length)))


def starting(work: Work, model: str, size: Size | None, rates: Iterable[Rate]) -> float:
    """Seconds until a stage's first request, batch or step: measured by `harness calibrate`, else assumed."""
    for rate in rates:
        if rate.what == (work.kind, model, work.engine) and rate.startup:
            return rate.startup
    return STARTING.get(work.kind, 0.0) + (size.bytes / LOADING if size and work.kind in STARTING else 0.0)


@dataclass(frozen=True, kw_only=True)
class Wall:
    """A stage by the clock, once what it needs is up: `seconds`, of which the `tail` would not be there if
    all slots were busy to the end. `start` is what it takes to come up. `bound_by_requests`: more GPUs for
    each server would change nothing, more requests at once or more servers would. `unknown` says why
    nothing is known."""

    seconds: Span = Span()
    tail: float = 0.0
    start: float = 0.0
    placed: Placed = Placed(copies=1)
    bound_by_requests: bool = False
    unknown: str = ""


def wall(
    work: Work,
    hours: Hours | None,
    limit: float,
    left: float,
    spot: Placed,
    start: float,
    longest: float = 0.0,
) -> Wall:
    """What is left of a stage (`left`, a share) whose whole takes so many device-hours.

    `limit` is the most tokens that one of its responses can have, `longest` those of the longest one where
    it is known.
    """
    if hours is None:
        return Wall(placed=spot, unknown="the size of its model is not known")
    if not spot.copies:
        return Wall(placed=spot, unknown=spot.reason)
    full = left * hours.value * 3600 / spot.taking_part
    if work.kind != "generate" or not full:
        return Wall(seconds=Span.certain(full), start=start if left and hours.value else 0.0, placed=spot)
    answers = Responses(
        requests=left * work.requests, tokens=left * work.tokens_out, limit=limit, longest=longest
    )
    speed = answers.tokens / full / spot.slots
    capped = hours.origin == "assumed" and speed > STREAM
    speed = STREAM if capped else speed
    seconds = scheduled(answers, spot.slots, speed)
    tail = seconds.likely - answers.tokens / spot.slots / speed
    return Wall(seconds=seconds, tail=tail, start=start, placed=spot, bound_by_requests=capped)


def verdicts(rows: float, programs: bool, workers: int) -> float:
    """Seconds in which `workers` grade so many responses."""
    return rows * (PROGRAM_VERDICT if programs else TEXT_VERDICT) / max(1, workers)
