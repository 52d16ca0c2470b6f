"""What recipes and benchmarks need of a machine, for `harness doctor`: as the stages themselves would ask."""

from collections.abc import Iterator

from benchmarks.gpqa import Gpqa
from harness.benchmark import Benchmark
from harness.cost import Assumptions, Estimator
from harness.doctor.environments import environment_names, provided
from harness.doctor.finding import Purpose
from harness.doctor.gpus import GPU
from harness.doctor.keys import TOKEN
from harness.doctor.limits import SERVE
from harness.doctor.sandbox import BUBBLEWRAP, SANDBOX
from harness.machine import Machine
from harness.plan import make_plan
from harness.recipe import Recipe
from harness.stage import Stage, ordered
from harness.store import RunStore
from pipeline.lacks import Lacks, present
from pipeline.needs import Need, named, parts

DEFAULT_ENGINE = "vllm"  # of `harness evaluate` and `harness serve`


def reproduction(recipe: Recipe, command: str, store: RunStore, lacks: Lacks) -> Purpose:
    """What the stages of a recipe need that are not done yet."""
    machine, here = lacks.machine, lacks.here
    estimator = Estimator(store, recipe.assumed or Assumptions(), machine.data)
    wanted: set[str] = set()
    gpus: dict[str, None] = {}
    for stage in left(recipe, store):
        work = estimator.work(stage)
        if work.model is not None:
            wanted.add(provided(work.engine))
            if not lacks.is_remote(work.engine):
                wanted.add(GPU)
                lacking = lacks.gpus(work, estimator.size(work.model))
                gpus |= {f"{one.what}, which {one.remedy}": None for one in lacking}
        if work.sandbox:
            wanted.add(SANDBOX)
        wanted |= {name for need in parts(stage) for name in names_of(need, machine)}
    plan = make_plan(store, recipe, machine, here, [], lambda *_: ())
    return Purpose(command=command, needs=frozenset(wanted), disk=plan.peak_disk, gpus=tuple(gpus))


def evaluating(benchmark: Benchmark, engine: str, machine: Machine) -> Purpose:
    """What asking any model the questions of a benchmark needs, and grading its answers."""
    chosen = "" if engine == DEFAULT_ENGINE else f" --engine {engine}"
    sandbox = (SANDBOX,) if benchmark.needs_sandbox else ()
    return Purpose(
        command=f"harness evaluate MODEL -b {benchmark.name}{chosen}",
        needs=frozenset({provided(engine), *sandbox, *names_of(benchmark, machine)}),
    )


def others() -> Iterator[Purpose]:
    """Commands and options that need something of their own."""
    yield Purpose(command="harness crosscheck", needs=frozenset({provided("lighteval"), BUBBLEWRAP}))
    yield Purpose(command=SERVE, needs=frozenset({provided(DEFAULT_ENGINE), SERVE}))
    for name in environment_names():
        if name not in (DEFAULT_ENGINE, "lighteval", "llamafactory"):
            yield Purpose(command=f"--engine {name}", needs=frozenset({provided(name)}))


def left(recipe: Recipe, store: RunStore) -> list[Stage]:
    """The stages that would run, inputs first."""
    return ordered(list(recipe.labels().values()), without=lambda stage: store.state(stage) == "done")


def names_of(need: Need, machine: Machine) -> Iterator[str]:
    """The name of a need, and that of the token where the hub gives it to nobody without one."""
    yield named(need)
    if isinstance(need, Gpqa) and not present(need, machine):
        yield TOKEN
