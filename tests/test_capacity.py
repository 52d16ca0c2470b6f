"""When it will be finished: list scheduling and its bounds, GPUs that do not divide, what waits for what."""

import heapq
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from harness.capacity import (
    STREAM,
    Fleet,
    Placed,
    Responses,
    Span,
    Wall,
    graham,
    harmonic,
    least_gpus,
    placed,
    requests_at_once,
    scheduled,
    starting,
    verdicts,
    wall,
)
from harness.cost import Amount, Assumed, Assumptions, Estimator, Size, Volume, Work
from harness.engines.remote import Remote
from harness.engines.vllm import vllm
from harness.hardware import Hardware
from harness.hub import Checkpoint
from harness.machine import ClusterSettings, EngineSettings, Machine, TrainingSettings
from harness.plan import Lack, Plan, make_plan
from harness.recipe import Recipe
from harness.stage import Service, Stage
from harness.store import RunStore
from harness.throughput import Hours, Rate
from harness.timeline import in_order, timeline
from harness.types import Sampling

BIG = Size(parameters=120e9, active=5e9, bytes=240e9, source="a test")
SMALL = Size(parameters=4e9, active=4e9, bytes=8e9, source="a test")
WRITTEN = Work(kind="generate", engine="vllm", requests=1_000, tokens_in=1e5, tokens_out=1e6)
TRAINED = Work(kind="train", engine="llamafactory", tokens_in=1e6)
H100 = 80e9


# List scheduling ----------------------------------------------------------------------------


def makespan(lengths: list[float], slots: int) -> float:
    """When the last response is whole, if a slot that is free takes the next one: as the loop asks."""
    free = [0.0] * slots
    for length in lengths:
        heapq.heapreplace(free, free[0] + length)
    return max(free)


def drawn(kind: str, count: int, seed: int) -> list[float]:
    rng = random.Random(f"{kind}:{count}:{seed}")
    draw: Callable[[], float] = {
        "all alike": lambda: 100.0,
        "memoryless": lambda: rng.expovariate(1 / 100),
        "long tail": lambda: rng.lognormvariate(4, 1.2),
        "few run to the limit": lambda: 2_000.0 if rng.random() < 0.02 else rng.uniform(50, 150),
    }[kind]
    return [min(draw(), 2_000.0) for _ in range(count)]


KINDS = ("all alike", "memoryless", "long tail", "few run to the limit")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("slots", [1, 3, 64, 512])
@pytest.mark.parametrize("count", [1, 40, 1_920])
def test_no_schedule_ends_outside_of_grahams_bounds(kind: str, slots: int, count: int) -> None:
    for seed in range(5):
        lengths = drawn(kind, count, seed)
        ends = makespan(lengths, slots)
        found = Responses(requests=count, tokens=sum(lengths), limit=2_000)
        known = scheduled(replace(found, longest=max(lengths)), slots, 1.0)
        blind = scheduled(found, slots, 1.0)
        for span in (known, blind):
            assert span.least - 1e-6 <= ends <= span.most + 1e-6
            assert span.least <= span.likely <= span.most
        assert blind.least <= known.least
        assert known.most <= blind.most


@pytest.mark.parametrize("slots", [8, 64])
@pytest.mark.parametrize(
    ("kind", "off"),
    [("all alike", 0.13), ("memoryless", 0.04), ("long tail", 0.17), ("few run to the limit", 0.2)],
)
def test_the_likely_time_is_near_what_happens_where_the_longest_response_is_not_known(
    kind: str, off: float, slots: int
) -> None:
    """30 questions × 64 draws. The heavier the tail, the more it is too little."""
    runs = [drawn(kind, 1_920, seed) for seed in range(12)]
    found = (Responses(requests=1_920, tokens=sum(lengths), limit=2_000) for lengths in runs)
    told = sum(scheduled(one, slots, 1.0).likely for one in found)
    assert told == pytest.approx(sum(makespan(lengths, slots) for lengths in runs), rel=off)


def test_a_bound_is_reached_from_below_and_from_above() -> None:
    assert graham(12, 3, 4) == (3, 3 + 0.75 * 3)
    assert makespan([3.0] * 4, 4) == 3
    ones_then_a_long_one = [1.0] * 12 + [4.0]
    assert makespan(ones_then_a_long_one, 4) == graham(16, 4, 4)[1]


def test_fewer_requests_than_slots_take_as_long_as_the_longest_of_them_and_no_less() -> None:
    few = scheduled(Responses(requests=3, tokens=300, limit=1_000), 64, 10.0)
    assert few.least == pytest.approx(100 / 10)
    assert few.likely == pytest.approx(100 * harmonic(3) / 10)
    assert few.most == pytest.approx(1_000 / 10)
    assert few == scheduled(Responses(requests=3, tokens=300, limit=1_000), 3, 10.0)


def test_one_huge_response_holds_up_everything() -> None:
    """99 responses of one token and one of 100,000: 64 slots do not help."""
    huge = scheduled(Responses(requests=100, tokens=100_099, limit=100_000, longest=100_000), 64, 100.0)
    assert huge.least == pytest.approx(1_000)
    assert huge.likely == pytest.approx(1_000, rel=0.03)
    alone = scheduled(Responses(requests=1, tokens=100_000, limit=100_000), 64, 100.0)
    assert alone == Span.certain(1_000.0)


def test_nothing_to_write_takes_no_time() -> None:
    assert scheduled(Responses(requests=0, tokens=0, limit=1_000), 64, 10.0) == Span()


def test_a_share_of_a_request_is_a_request() -> None:
    assert scheduled(Responses(requests=0.3, tokens=30, limit=100), 64, 1.0).most == 100


# GPUs ---------------------------------------------------------------------------------------


def spot(work: Work, machine: Machine, fleet: Fleet, size: Size | None = SMALL) -> Placed:
    return placed(work, vllm if work.kind == "generate" else None, size, machine, fleet)


def test_one_server_holds_as_many_copies_as_the_gpus_of_a_machine_allow() -> None:
    assert spot(WRITTEN, Machine(gpus=8), Fleet(gpus=8)) == Placed(copies=8, devices=1, slots=512)
    assert spot(WRITTEN, Machine(gpus=8), Fleet(gpus=8), BIG) == Placed(copies=2, devices=4, slots=128)


def test_data_parallel_copies_behind_one_server_are_as_many_as_machine_toml_says() -> None:
    arguments = ("--tensor-parallel-size", "2", "--data-parallel-size=3")
    machine = Machine(gpus=8, engines={"vllm": EngineSettings(arguments=arguments)})
    assert spot(WRITTEN, machine, Fleet(gpus=8)) == Placed(copies=3, devices=2, slots=192, idle=2)


def test_gpus_that_a_server_cannot_share_are_left_over() -> None:
    machine = Machine(engines={"vllm": EngineSettings(arguments=("--tensor-parallel-size", "3"))})
    found = spot(WRITTEN, machine, Fleet(gpus=8, supposed=True))
    assert (found.copies, found.devices, found.idle) == (2, 3, 2)


def test_a_supposed_server_gets_the_fewest_gpus_that_hold_its_model() -> None:
    assert least_gpus("generate", BIG, H100) == 4
    assert spot(WRITTEN, Machine(), Fleet(gpus=10, supposed=True), BIG) == Placed(
        copies=2, devices=4, slots=128, idle=2
    )
    assert spot(WRITTEN, Machine(), Fleet(gpus=10, supposed=True)).copies == 10


def test_too_few_gpus_for_a_model_are_no_server_and_no_division_by_zero() -> None:
    found = spot(WRITTEN, Machine(), Fleet(gpus=3, supposed=True), BIG)
    assert (found.copies, found.reason) == (0, "needs 4 GPUs together")
    told = wall(WRITTEN, Hours(value=1.0, device="GPU", origin="assumed"), 4_096, 1.0, found, 60.0)
    assert told.unknown == "needs 4 GPUs together"
    assert told.seconds == Span()


def test_a_cluster_has_a_server_for_each_share_of_its_nodes_gpus() -> None:
    machine = Machine(gpus=8, cluster=ClusterSettings(address="auto", gpus=3))
    assert spot(WRITTEN, machine, Fleet(gpus=8, nodes=2)) == Placed(copies=4, devices=3, slots=256, idle=4)
    asked = replace(machine, cluster=ClusterSettings(address="auto", gpus=2, replicas=3))
    assert spot(WRITTEN, asked, Fleet(gpus=8, nodes=2)) == Placed(copies=3, devices=2, slots=192, idle=10)


def test_a_server_may_span_nodes() -> None:
    arguments = ("--tensor-parallel-size", "16", "--distributed-executor-backend", "ray")
    machine = Machine(
        gpus=8, cluster=ClusterSettings(address="auto"), engines={"vllm": EngineSettings(arguments=arguments)}
    )
    assert spot(WRITTEN, machine, Fleet(gpus=8, nodes=2)) == Placed(copies=1, devices=16, slots=64)


def test_without_gpus_there_is_one_server_or_one_a_node() -> None:
    assert spot(WRITTEN, Machine(gpus=0), Fleet(gpus=0)) == Placed(copies=1, slots=64)
    machine = Machine(gpus=0, cluster=ClusterSettings(address="auto"))
    assert spot(WRITTEN, machine, Fleet(gpus=0, nodes=3)) == Placed(copies=3, slots=192)


def test_training_takes_the_gpus_of_all_nodes_and_trl_one() -> None:
    machine = Machine(gpus=8, training=TrainingSettings(nodes=4))
    assert spot(TRAINED, machine, Fleet(gpus=8, nodes=4)).taking_part == 32
    alone = spot(replace(TRAINED, engine="trl"), machine, Fleet(gpus=8, nodes=4))
    assert (alone.taking_part, alone.idle) == (1, 31)


def test_a_forward_pass_has_a_copy_on_each_gpu_of_this_machine() -> None:
    scored = Work(kind="score", engine="torch", tokens_in=1e6)
    assert spot(scored, Machine(gpus=8), Fleet(gpus=8, nodes=4)) == Placed(copies=8)
    assert spot(scored, Machine(), Fleet(gpus=8, supposed=True), BIG).reason


def test_nobody_knows_how_fast_somebody_elses_machine_is() -> None:
    found = placed(replace(WRITTEN, engine="remote"), Remote(), None, Machine(gpus=8), Fleet(gpus=8))
    assert (found.copies, found.reason) == (0, "it is somebody else's machine")


def test_tokens_in_flight_leave_fewer_requests_at_once() -> None:
    """Each of the 1,000 requests grows to 1,100 tokens."""
    assert requests_at_once(WRITTEN, Machine()) == 64
    assert requests_at_once(WRITTEN, Machine(tokens_in_flight=11_000)) == 10
    assert requests_at_once(WRITTEN, Machine(tokens_in_flight=10)) == 1
    assert requests_at_once(Work(kind="generate"), Machine(tokens_in_flight=10)) == 64


# A stage ------------------------------------------------------------------------------------


def test_twice_the_servers_take_half_the_time_but_for_the_tail() -> None:
    hours = Hours(value=100.0, device="GPU", origin="calibrated")
    one, two = (
        wall(replace(WRITTEN, requests=1e6, tokens_out=1e9), hours, 4_096, 1.0, placed, 0.0)
        for placed in (Placed(copies=4, slots=256), Placed(copies=8, slots=512))
    )
    assert two.seconds.likely - two.tail == pytest.approx((one.seconds.likely - one.tail) / 2)
    assert two.tail == pytest.approx(one.tail, rel=0.05)
    assert one.seconds.likely - one.tail == pytest.approx(100 * 3600 / 4)


def test_no_response_is_taken_to_grow_faster_than_one_can_unless_that_was_measured() -> None:
    """1,000 requests over 64 slots of one server on 8 GPUs, reckoned at a thousand times the speed of one."""
    here = Placed(copies=1, devices=8, slots=64)
    seconds = WRITTEN.tokens_out / 64 / (1_000 * STREAM)
    reckoned = Hours(value=8 * seconds / 3600, device="GPU", origin="assumed")
    found = wall(WRITTEN, reckoned, 1_000, 1.0, here, 0.0)
    assert found.bound_by_requests
    assert found.seconds.least == pytest.approx(1_000 * seconds)
    measured = wall(WRITTEN, replace(reckoned, origin="calibrated"), 1_000, 1.0, here, 0.0)
    assert not measured.bound_by_requests
    assert measured.seconds.least == pytest.approx(seconds)


def test_a_quarter_that_is_left_takes_a_quarter() -> None:
    hours = Hours(value=8.0, device="GPU", origin="calibrated")
    assert wall(TRAINED, hours, 0, 0.25, Placed(copies=1, devices=8), 60.0).seconds == Span.certain(900.0)
    assert wall(TRAINED, hours, 0, 0.0, Placed(copies=1, devices=8), 60.0) == Wall(
        placed=Placed(copies=1, devices=8)
    )


def test_a_model_of_unknown_size_has_no_time() -> None:
    assert wall(WRITTEN, None, 4_096, 1.0, Placed(copies=1), 60.0).unknown


def test_a_measured_start_counts_and_an_assumed_one_grows_with_the_weights() -> None:
    rate = Rate(
        kind="generate", model="m", engine="vllm", tokens_per_second=1.0, device="GPU", devices=1, tokens=1,
        seconds=1.0, startup=33.0,
    )  # fmt: skip
    assert starting(WRITTEN, "m", BIG, [rate]) == 33.0
    assumed = starting(WRITTEN, "other", SMALL, [rate])
    assert assumed == starting(WRITTEN, "m", SMALL, [replace(rate, startup=0.0)])
    assert starting(WRITTEN, "m", BIG, []) - assumed == pytest.approx(232)
    assert starting(Work(kind="none"), "", SMALL, []) == 0.0


# All stages ---------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Made(Stage):
    """A model; trained from another one where it has a base."""

    name: str
    base: Stage | None = None
    data: Stage | None = None

    @property
    def computes(self) -> bool:
        return self.base is not None

    def work(self, estimator: Estimator) -> Work:
        return Work(kind="train", model=self.base, engine="llamafactory") if self.base else Work()


@dataclass(frozen=True, kw_only=True)
class Asked(Stage):
    """So many requests to a model."""

    model: Stage
    name: str = ""
    after: Stage | None = None
    requests: int = 640

    def service(self) -> Service:
        return Service(model=self.model, engine="vllm", sampling=Sampling(temperature=1.0, max_tokens=1_000))

    def expected(self, estimator: Estimator) -> Volume:
        amount = Amount(rows=self.requests, questions=self.requests, response=100.0 * self.requests)
        return Volume(domains={"": amount})

    def work(self, estimator: Estimator) -> Work:
        total = estimator.volume(self).total
        return Work(
            kind="generate", model=self.model, engine="vllm", requests=total.rows, tokens_out=total.response
        )


@dataclass(frozen=True, kw_only=True)
class Graded(Stage):
    """Verdicts on what was asked."""

    asked: Asked

    @property
    def follows(self) -> Stage:
        return self.asked

    def work(self, estimator: Estimator) -> Work:
        return Work(kind="grade", sandbox=True)


TEACHER, BASE = Made(name="teacher"), Made(name="base")
FIRST = Asked(model=TEACHER, name="first")
STUDENT = Made(name="student", base=BASE, data=FIRST)
SECOND = Asked(model=STUDENT, name="second")
THIRD = Asked(model=TEACHER, name="third", after=SECOND)
ALL = [TEACHER, BASE, FIRST, STUDENT, SECOND, THIRD]


def lasting(**seconds: float) -> dict[str, Wall]:
    """Walls of ALL by name: each start of a server or trainer takes 10 s."""
    names = {"first": FIRST, "student": STUDENT, "second": SECOND, "third": THIRD}
    return {names[name].key: Wall(seconds=Span.certain(time), start=10.0) for name, time in seconds.items()}


WALLS = lasting(first=100, student=50, second=30, third=20)


def test_stages_run_one_after_the_other_and_each_change_of_model_is_a_start_on_gpus() -> None:
    found = timeline(ALL, WALLS, {}, gpus=True)
    assert found.order == tuple(stage.key for stage in ALL)
    assert found.starts == 40
    assert found.seconds == Span.certain(200 + 40)


def test_without_gpus_the_next_server_comes_up_meanwhile() -> None:
    """The second server waits for its checkpoint, which is trained only then: it starts while nothing runs
    before it. The third starts while the second answers."""
    found = timeline(ALL, WALLS, {}, gpus=False)
    assert [found.starts_of[stage.key] for stage in (FIRST, STUDENT, SECOND, THIRD)] == [10, 10, 10, 0]
    quick = timeline(ALL, lasting(first=100, student=50, second=3, third=20), {}, gpus=False)
    assert quick.starts_of[THIRD.key] == 0  # 10 s of the second's own start, then 3 s


def test_on_a_cluster_nothing_is_started_ahead_and_a_training_takes_no_server_down() -> None:
    later = Asked(model=TEACHER, name="later", after=STUDENT)
    walls = {**WALLS, later.key: Wall(seconds=Span.certain(5.0), start=10.0)}
    assert timeline(ALL, WALLS, {}, gpus=False, cluster=True).starts == 40
    assert timeline([*ALL[:4], later], walls, {}, gpus=False, cluster=True).starts == 20


def test_a_warm_server_is_not_started_twice_unless_a_training_took_its_gpus() -> None:
    again = Asked(model=TEACHER, name="again")
    stages = [TEACHER, BASE, FIRST, again, STUDENT]
    walls = {**WALLS, again.key: Wall(seconds=Span.certain(5.0), start=10.0)}
    assert timeline(stages, walls, {}, gpus=True).starts == 20
    later = replace(again, after=STUDENT)
    walls = {**WALLS, later.key: Wall(seconds=Span.certain(5.0), start=10.0)}
    kept, freed = (timeline([*stages[:3], STUDENT, later], walls, {}, gpus=gpus) for gpus in (False, True))
    assert (kept.starts, freed.starts) == (20, 30)


def test_the_warm_server_goes_first_as_in_a_run() -> None:
    other, same = Asked(model=BASE, name="other"), Asked(model=TEACHER, name="same")
    order = [stage for stage, _ in in_order([TEACHER, BASE, FIRST, other, same])]
    assert order == [TEACHER, BASE, FIRST, same, other]


def test_grading_counts_only_where_it_lasts_longer_than_all_else() -> None:
    stages = [*ALL, graded := Graded(asked=FIRST), late := Graded(asked=THIRD)]
    hidden = timeline(stages, WALLS, {graded.key: 150.0, late.key: 5.0}, gpus=True)
    assert (hidden.grading, hidden.seconds.likely) == (0.0, 240.0)
    shown = timeline(stages, WALLS, {graded.key: 300.0, late.key: 5.0}, gpus=True)
    assert shown.grading == pytest.approx(300 + 5 - 240)
    last = timeline(stages, WALLS, {graded.key: 0.0, late.key: 50.0}, gpus=True)
    assert last.grading == pytest.approx(50 - 30)


def test_what_was_asked_before_is_graded_from_the_beginning() -> None:
    found = timeline([graded := Graded(asked=FIRST)], {}, {graded.key: 7.0}, gpus=False)
    assert (found.seconds, found.grading, found.order) == (Span.certain(7.0), 7.0, ())


def test_programs_take_longer_to_grade_than_texts_and_no_worker_is_no_division_by_zero() -> None:
    assert verdicts(100, programs=True, workers=4) > verdicts(100, programs=False, workers=4)
    assert verdicts(100, programs=True, workers=0) == verdicts(100, programs=True, workers=1)


# In a plan ----------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Trained(Made):
    """A model, trained on a million tokens."""

    def work(self, estimator: Estimator) -> Work:
        return Work(kind="train", model=self.base, engine="llamafactory", tokens_in=1e6)


HUBBED = Checkpoint(source="org/model", revision="unpinned")
ASSUMED = Assumptions(
    models={"org/model": SMALL, "org/other": SMALL}, prompt={"": Assumed(value=0, source="a test")}
)
QUICK = Rate(
    kind="generate", model="org/model", engine="vllm", tokens_per_second=100.0, device="GPU X", devices=1,
    tokens=1, seconds=1.0, startup=36.0,
)  # fmt: skip


def planned(
    store: RunStore, machine: Machine, *stages: Stage, gpus: int | None = None, rates: tuple[Rate, ...] = ()
) -> Plan:
    recipe = Recipe(
        name="demo", summary="", stages={f"s{n}": stage for n, stage in enumerate(stages)},
        models={}, benchmarks=(), engine="vllm", assumed=ASSUMED,
    )  # fmt: skip
    return make_plan(
        store, recipe, machine, Hardware(device="GPU X", gpus=machine.gpus), list(rates), nothing, gpus
    )


def nothing(stage: Stage, work: Work, estimator: Estimator) -> Iterator[Lack]:
    yield from ()


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return RunStore(tmp_path / "runs")


def test_a_plan_tells_hours_by_the_clock_of_each_stage_and_of_all(store: RunStore) -> None:
    """640 responses of 100 tokens over 512 slots of a server that writes 800 tokens/s on its 8 GPUs."""
    asked = Asked(model=HUBBED)
    plan = planned(store, Machine(gpus=8), asked, rates=(QUICK,))
    (clock,) = (one.clock for one in plan.stages if one.key == asked.key)
    assert clock is not None
    assert plan.finish is not None
    assert clock.hours.least == pytest.approx((80 + 36) / 3600)
    assert clock.start == pytest.approx(0.01)
    assert (clock.copies, clock.devices, clock.slots) == (8, 1, 512)
    assert plan.finish.hours.likely == pytest.approx(clock.hours.likely)
    assert (plan.finish.gpus, plan.finish.device, plan.finish.supposed) == (8, "GPU X", False)
    assert not plan.finish.assumed_speeds


def test_more_gpus_than_there_are_can_be_supposed_and_change_no_cost(store: RunStore) -> None:
    asked = Asked(model=HUBBED, requests=64_000)
    here, more = (planned(store, Machine(gpus=8), asked, gpus=gpus, rates=(QUICK,)) for gpus in (8, 16))
    assert here.finish is not None
    assert more.finish is not None
    assert (more.finish.gpus, more.finish.supposed) == (16, True)
    assert more.finish.hours.least < 0.52 * here.finish.hours.least
    assert more.total == here.total


def test_without_gpus_the_fewest_are_supposed_that_hold_every_model(store: RunStore) -> None:
    plan = planned(store, Machine(gpus=0), Trained(name="student", base=HUBBED), Asked(model=HUBBED))
    assert plan.finish is not None
    assert (plan.finish.gpus, plan.finish.device, plan.finish.supposed) == (2, "H100", True)


def test_on_supposed_gpus_nothing_is_started_ahead_either(store: RunStore) -> None:
    first = Asked(model=HUBBED, name="first")
    other = Asked(model=Checkpoint(source="org/other", revision="unpinned"), name="other", after=first)
    plan = planned(store, Machine(gpus=0), first, other, gpus=2)
    assert plan.finish is not None
    assert plan.finish.starts == pytest.approx(2 * 128 / 3600)


def test_speeds_of_a_cpu_stay_those_of_the_cpu_however_many_gpus_are_supposed(store: RunStore) -> None:
    asked = Asked(model=HUBBED)
    plans = [planned(store, Machine(gpus=0), asked, gpus=gpus, rates=(QUICK,)) for gpus in (None, 1_000)]
    one, other = (plan.finish for plan in plans)
    assert one is not None
    assert other is not None
    assert one.hours == other.hours
    assert (one.gpus, one.device, one.supposed) == (0, "GPU X", False)
    assert (other.gpus, other.supposed) == (0, True)


def test_where_nothing_is_left_there_is_no_time_left(store: RunStore) -> None:
    asked = Asked(model=HUBBED)
    for stage in (HUBBED, asked):
        store.path(stage).mkdir(parents=True)
        (store.path(stage) / "stage.json").write_text('{"seconds": 60.0}')
    plan = planned(store, Machine(gpus=8), asked)
    assert plan.finish is not None
    assert plan.finish.hours == Span()
    assert plan.finish.order == ()
    assert [one.clock for one in plan.stages] == [None, None]


def test_a_stage_that_cannot_run_is_left_out_and_named(store: RunStore) -> None:
    plan = planned(store, Machine(gpus=0), Trained(name="student", base=HUBBED), gpus=1)
    (clock,) = (one.clock for one in plan.stages if one.clock and one.clock.unknown)
    assert clock is not None
    assert clock.unknown == "needs 2 GPUs together"
    assert plan.finish is not None
    assert plan.finish.hours == clock.hours
