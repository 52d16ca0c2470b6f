"""Finish: when what is left of a recipe will be done, on this machine's GPUs or as if there were others.

What is spread over how many of them says `harness.capacity`, what waits for what `harness.timeline`.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from harness.capacity import Fleet, Placed, Span, Wall, least_gpus, placed, starting, verdicts, wall
from harness.cost import Estimator, Work
from harness.discover import engines
from harness.hardware import MEMORY_OF_AN_H100, Hardware
from harness.machine import Machine
from harness.stage import Stage
from harness.throughput import Hours, Rate
from harness.timeline import Timeline, timeline

HOUR = 3600.0
TFLOPS_OF_AN_H100 = Machine.gpu_tflops


@dataclass(frozen=True, kw_only=True)
class Clock:
    """What is left of a stage by the clock, in hours; what it waits for its server or trainer (`start`) is
    part of it, and so is the `tail`, which would not be there if all slots were busy to the end.

    `copies` servers (or copies that train or score), each on `devices`, with `slots` requests at once in
    all, and `idle` devices beside them. `bound_by_requests`: more requests at once would make it shorter,
    more GPUs for each server would not. `unknown` says why it is not counted.
    """

    hours: Span
    start: float
    tail: float
    copies: int
    devices: int
    slots: int
    idle: int
    bound_by_requests: bool
    unknown: str


@dataclass(frozen=True, kw_only=True)
class Finish:
    """When everything that is left will be finished: hours from now. `tail` and `starts` are parts of it,
    and `grading` what is left of that when all else is done.

    On `gpus` × `device`, which are only supposed where `supposed` says so; 0 GPUs: on this machine's CPU.
    `order` are the names of the stages as they run.
    """

    hours: Span
    tail: float
    starts: float
    grading: float
    gpus: int
    device: str
    supposed: bool
    assumed_speeds: bool
    order: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Task:
    """A stage to be run: what it takes, the share of it that is left, and the tokens of its longest response
    where they are known (0 where not)."""

    stage: Stage
    work: Work
    hours: Hours | None
    left: float
    longest: float = 0.0

    @property
    def on_gpus(self) -> bool:
        return self.hours is not None and self.hours.device == "GPU" and self.hours.value > 0

    @property
    def limit(self) -> float:
        """The most tokens that one response can have."""
        service = self.stage.service()
        return float(service.sampling.max_tokens) if service else 0.0


class Reckoning:
    """Times of the tasks of one recipe, inputs first; `gpus` as if this machine had so many."""

    def __init__(
        self,
        tasks: Sequence[Task],
        estimator: Estimator,
        machine: Machine,
        here: Hardware,
        rates: Sequence[Rate],
        gpus: int | None,
    ) -> None:
        self.tasks, self.estimator = tasks, estimator
        self.machine, self.here, self.rates = machine, here, rates
        self.fleet = fleet(tasks, estimator, here, machine, gpus)
        self.walls = {task.stage.key: self.wall(task) for task in tasks}
        self.timeline = timeline(
            [task.stage for task in tasks],
            self.walls,
            self.grading(),
            gpus=any(task.on_gpus for task in tasks),
            cluster=bool(machine.cluster.address),
        )

    def wall(self, task: Task) -> Wall:
        work, model = task.work, task.work.model
        if model is None:
            return Wall()
        size = self.estimator.size(model)
        nodes = self.machine.training.nodes if self.machine.cluster.address else 1
        devices = self.fleet if task.on_gpus else Fleet(gpus=0, nodes=nodes)
        spot = placed(work, engines().get(work.engine), size, self.machine, devices)
        start = starting(work, self.estimator.name(model), size, self.rates)
        return wall(work, task.hours, task.limit, task.left, spot, start, task.longest)

    def grading(self) -> dict[str, float]:
        """Seconds of all workers for each stage that grades."""
        machine = self.machine
        cluster = machine.cluster.grading_workers * machine.training.nodes if machine.cluster.address else 0
        workers = cluster or machine.sandbox.workers
        return {
            task.stage.key: verdicts(self.estimator.volume(followed).total.rows, task.work.sandbox, workers)
            for task in self.tasks
            if (followed := task.stage.follows) is not None
        }

    def clock(self, key: str) -> Clock | None:
        """Of one of the stages; None of one that would not be run."""
        if key not in self.walls:
            return None
        found, start = self.walls[key], self.timeline.starts_of.get(key, 0.0)
        spot = found.placed if found.seconds.likely or found.unknown else Placed(copies=0)
        return Clock(
            hours=(found.seconds + Span.certain(start)) * (1 / HOUR),
            start=start / HOUR,
            tail=found.tail / HOUR,
            copies=spot.copies,
            devices=spot.devices if spot.copies else 0,
            slots=spot.slots if spot.copies else 0,
            idle=spot.idle,
            bound_by_requests=found.bound_by_requests,
            unknown=found.unknown,
        )

    def finish(self, names: Mapping[str, str]) -> Finish:
        found: Timeline = self.timeline
        working = [task for task in self.tasks if task.hours and task.hours.value]
        on_gpus = any(task.on_gpus for task in working)
        return Finish(
            hours=found.seconds * (1 / HOUR),
            tail=found.tail / HOUR,
            starts=found.starts / HOUR,
            grading=found.grading / HOUR,
            gpus=self.fleet.gpus * self.fleet.nodes if on_gpus else 0,
            device=self.device() if on_gpus else self.here.device,
            supposed=self.fleet.supposed and self.fleet.gpus > 0,
            assumed_speeds=any(task.hours and task.hours.origin == "assumed" for task in working),
            order=tuple(names[key] for key in found.order),
        )

    def device(self) -> str:
        """What one of the GPUs is called; where there is none here, an H100 unless machine.toml says else."""
        if self.here.gpus:
            return self.here.device
        tflops = self.machine.gpu_tflops
        return "H100" if tflops == TFLOPS_OF_AN_H100 else f"GPU of {tflops:,.0f} TFLOP/s"


def fleet(
    tasks: Iterable[Task], estimator: Estimator, here: Hardware, machine: Machine, gpus: int | None
) -> Fleet:
    """The GPUs to reckon with: those asked for, else those that are here, else the fewest that hold every
    model of the tasks."""
    memory = here.gpu_bytes or MEMORY_OF_AN_H100
    if gpus is not None:
        return Fleet(gpus=gpus, gpu_bytes=memory, supposed=True)
    if here.gpus:
        return Fleet(gpus=here.gpus, nodes=machine.training.nodes, gpu_bytes=memory)
    fewest = 0
    for task in tasks:
        size = estimator.size(task.work.model) if task.work.model is not None and task.on_gpus else None
        if size is not None:
            least = least_gpus(task.work.kind, size, memory)
            fewest = max(fewest, 2 ** math.ceil(math.log2(least)))
    return Fleet(gpus=fewest, gpu_bytes=memory, supposed=True)
