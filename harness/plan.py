"""Plan: every stage of a recipe with its state, its cost, and what this machine lacks for it.

What is done costs what it took; what is not, what `harness.cost` and `harness.throughput` say, and takes
by the clock what `harness.finish` says.
"""

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import accumulate

from harness.cost import Assumed, Assumptions, Estimator, Kind, Volume, Work, used
from harness.finish import Clock, Finish, Reckoning, Task
from harness.hardware import Hardware
from harness.machine import Machine
from harness.recipe import Recipe
from harness.stage import Stage, ordered
from harness.store import RunStore, State, existing, readable
from harness.throughput import Device, Hours, Rate, hours

COMPUTING: tuple[Kind, ...] = ("generate", "score", "train")


@dataclass(frozen=True, kw_only=True)
class Lack:
    """What is missing here, and what to do about it."""

    what: str
    remedy: str


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One stage of a plan. `label` is that of the labelled stage for whose sake it runs, `name` its own.

    Requests, tokens, disk, hours and money are those of the whole stage; `left` is the share of them that
    is still to come. `hours` is None where the size of the model is not known. `volume` are the rows that
    it leaves. `clock` tells how long what is left takes, None where nothing is.
    """

    label: str
    name: str
    key: str
    state: State
    changed: tuple[str, ...]
    kind: Kind
    model: str
    engine: str
    setting: str
    requests: float
    tokens_in: float
    tokens_out: float
    disk: float
    scratch: float
    hours: Hours | None
    money: float
    left: float
    volume: Volume
    lacks: tuple[Lack, ...]
    clock: Clock | None = None


@dataclass(frozen=True, kw_only=True)
class Totals:
    """Sums over stages: requests, tokens, hours of GPUs and of this machine's CPU, bytes, money."""

    requests: float
    tokens_in: float
    tokens_out: float
    gpu_hours: float
    cpu_hours: float
    disk: float
    money: float


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All stages in the order in which they can run. `free_disk`, in bytes, is that of the runs folder;
    `peak_disk` what is needed of it. `unknown`: what was guessed without any assumption, and how.
    `finish`: when all that is left will be finished."""

    recipe: str
    device: str
    gpus: int
    gpu_tflops: float
    price_per_gpu_hour: float
    currency: str
    stages: tuple[Entry, ...]
    total: Totals
    left: Totals
    peak_disk: float
    free_disk: float
    assumed: tuple[tuple[str, float, str], ...]
    unknown: dict[str, str]
    finish: Finish | None = None


Lacking = Callable[[Stage, Work, Estimator], Iterable[Lack]]


def make_plan(
    store: RunStore,
    recipe: Recipe,
    machine: Machine,
    here: Hardware,
    rates: list[Rate],
    lacking: Lacking,
    gpus: int | None = None,
) -> Plan:
    """The plan of a recipe in a store, on a machine with these speeds. `lacking` says what a stage misses.

    The time to finish is that of `gpus` GPUs like this machine's, None for those that are configured.
    """
    assumptions = recipe.assumed or Assumptions()
    estimator = Estimator(store, assumptions, machine.data)
    labels = recipe.labels()
    pricing = Pricing(store, recipe.name, labels, machine, rates, estimator, lacking)
    stages = [pricing.entry(stage) for stage in ordered(list(labels.values()))]
    reckoning = Reckoning(pricing.tasks(stages), estimator, machine, here, rates, gpus)
    stages = [replace(one, clock=reckoning.clock(one.key)) if one.left else one for one in stages]
    free = float(shutil.disk_usage(existing(store.root)).free)
    needed = list(disk_needed(stages))
    return Plan(
        recipe=recipe.name,
        device=here.device,
        gpus=here.gpus,
        gpu_tflops=machine.gpu_tflops,
        price_per_gpu_hour=machine.price_per_gpu_hour,
        currency=machine.currency,
        stages=tuple(short_of_disk(stages, needed, free)),
        total=totals(stages),
        left=totals(stages, left=True),
        peak_disk=max(needed, default=0.0),
        free_disk=free,
        assumed=tuple(listed(assumptions)),
        unknown=estimator.unknown,
        finish=reckoning.finish(pricing.names),
    )


class Pricing:
    """Makes the entries of one plan."""

    def __init__(
        self,
        store: RunStore,
        run: str,
        labels: Mapping[str, Stage],
        machine: Machine,
        rates: list[Rate],
        estimator: Estimator,
        lacking: Lacking,
    ) -> None:
        self.store, self.machine, self.rates, self.labels = store, machine, rates, labels
        self.estimator, self.lacking = estimator, lacking
        self.names = readable(dict(labels))
        open_labels = {name: stage for name, stage in labels.items() if store.state(stage) != "done"}
        self.planned = {one.stage.key: one for one in store.plan(run, open_labels)}

    def entry(self, stage: Stage) -> Entry:
        work, state = self.estimator.work(stage), self.store.state(stage)
        name, taken = self.names[stage.key], self.hours(stage, work, state)
        planned = self.planned.get(stage.key)
        return Entry(
            label=name.partition(" · ")[0],
            name=name,
            key=stage.key,
            state=state,
            changed=planned.changed if planned else (),
            kind=work.kind,
            model=self.estimator.name(work.model) if work.model else "",
            engine=work.engine,
            setting=work.setting,
            requests=work.requests,
            tokens_in=work.tokens_in,
            tokens_out=work.tokens_out,
            disk=used(self.store.path(stage)) if state == "done" else work.disk,
            scratch=work.scratch,
            hours=taken,
            money=taken.value * self.machine.price_per_gpu_hour if taken and taken.device == "GPU" else 0.0,
            left=self.left(stage, work, state),
            volume=self.estimator.volume(stage),
            lacks=() if state == "done" else tuple(self.lacking(stage, work, self.estimator)),
        )

    def hours(self, stage: Stage, work: Work, state: State) -> Hours | None:
        """What a finished stage took of all devices of this machine; what another one will take, or took
        that was begun more than once: of such a stage only the last start was timed."""
        told = self.store.manifest(stage) if state == "done" and work.kind in COMPUTING else {}
        if told and not told.get("resumed"):
            nodes = self.machine.training.nodes if work.kind == "train" else 1
            devices = nodes * max(1, self.machine.gpus)
            device: Device = "GPU" if self.machine.gpus else "CPU"
            return Hours(value=devices * told["seconds"] / 3600, device=device, origin="measured")
        model = self.estimator.name(work.model) if work.model else ""
        size = self.estimator.size(work.model) if work.model else None
        return hours(work, model, size, self.rates, self.machine)

    def tasks(self, entries: Iterable[Entry]) -> list[Task]:
        """What would be run now, inputs first: what a finished stage once read is not needed again."""
        found = {one.key: one for one in entries}
        pending = ordered(list(self.labels.values()), without=lambda one: self.store.state(one) == "done")
        return [
            Task(
                stage=stage,
                work=self.estimator.work(stage),
                hours=found[stage.key].hours,
                left=found[stage.key].left,
            )
            for stage in pending
        ]

    def left(self, stage: Stage, work: Work, state: State) -> float:
        """The share of a stage that is still to be done; rows that are there are not asked for again."""
        if state == "done":
            return 0.0
        if state == "missing" or work.kind != "generate" or not work.requests:
            return 1.0
        return max(0.0, 1 - self.store.rows(stage) / work.requests)


def totals(stages: Iterable[Entry], left: bool = False) -> Totals:
    """The sums over all stages, or over what is left of them."""
    shares = [(one, one.left if left else 1.0) for one in stages]

    def of_hours(device: Device) -> float:
        return sum(
            share * one.hours.value for one, share in shares if one.hours and one.hours.device == device
        )

    return Totals(
        requests=sum(share * one.requests for one, share in shares),
        tokens_in=sum(share * one.tokens_in for one, share in shares),
        tokens_out=sum(share * one.tokens_out for one, share in shares),
        gpu_hours=of_hours("GPU"),
        cpu_hours=of_hours("CPU"),
        disk=sum(share * one.disk for one, share in shares),
        money=sum(share * one.money for one, share in shares),
    )


def disk_needed(stages: list[Entry]) -> Iterator[float]:
    """Bytes that must be free at the start for each stage to finish, those before it included."""
    filled = accumulate(one.left * one.disk for one in stages)
    for one, before in zip(stages, filled, strict=True):
        yield before + (one.scratch if one.left else 0.0)


def short_of_disk(stages: list[Entry], needed: list[float], free: float) -> Iterator[Entry]:
    """The stages; the first for which the disk does not suffice lacks it."""
    first = next((place for place, bytes_ in enumerate(needed) if bytes_ > free), None)
    for place, one in enumerate(stages):
        if place != first:
            yield one
            continue
        what = f"disk: {gigabytes(needed[place])} are needed by then, {gigabytes(free)} are free"
        most = f"{gigabytes(max(needed))} for all stages"
        lack = Lack(what=what, remedy=f"--runs DIR on a larger disk ({most})")
        yield replace(one, lacks=(*one.lacks, lack))


def gigabytes(size: float) -> str:
    """Bytes in decimal units, with no more digits than a guess has."""
    for unit, scale in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if size >= 0.9995 * scale:
            return f"{size / scale:.3g} {unit}" if size < 999.5 * scale else f"{size / scale:,.0f} {unit}"
    return f"{size / 1e3:.0f} kB" if size else "–"


def listed(assumptions: Assumptions) -> Iterator[tuple[str, float, str]]:
    """Each assumption: what it is about, its value, its source."""
    named: list[tuple[str, Mapping[str, Assumed]]] = [
        ("prompt tokens, {}", assumptions.prompt),
        ("share of {} rows that pass the filter", assumptions.passing),
        ("bytes of {}", assumptions.downloads),
    ]
    for form, table in named:
        yield from ((form.format(name), one.value, one.source) for name, one in table.items())
    for (domain, temperature), one in assumptions.response.items():
        yield f"response tokens, {domain} at T {temperature}", one.value, one.source
    for name, told in assumptions.benchmarks.items():
        yield f"questions of {name}", told.questions, told.source
        yield f"prompt tokens, {name}", told.prompt, told.source
        yield f"response tokens, {name}", told.response, told.source
    for (part, domain), one in assumptions.released.items():
        yield f"released rows, {part} {domain}", one.value, one.source
    for name, size in assumptions.models.items():
        yield f"parameters of {name}", size.parameters, size.source
        yield f"active parameters of {name}", size.active, size.source
        yield f"layers × heads × head size of {name}", size.attention, size.source
        yield f"bytes of {name}", size.bytes, size.source
    yield "share of drafts that are truncated", assumptions.truncated.value, assumptions.truncated.source
    yield (
        "teacher's end over the draft's kept part",
        assumptions.continued.value,
        assumptions.continued.source,
    )
    yield "bytes of a token of text", assumptions.bytes_per_token.value, assumptions.bytes_per_token.source
