"""`harness doctor`."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli import completing
from harness.cli.document import print_document
from harness.cli.found import benchmarks, find_recipe, recipes
from harness.cli.options import Place, json_option, place_options, recipe_options
from harness.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.cost import Estimator
    from harness.doctor.finding import Check, Finding, Purpose
    from harness.machine import Machine
    from pipeline.lacks import Lacks
    from pipeline.needs import Need

DEMO = "dasd-micro"
PAPER = "dasd-4b"
SECONDS = 60.0  # for the needs of recipes: a large runs folder on a slow disk


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What is to be done on this machine, with the data that it takes. The first purpose decides the exit
    code."""

    purposes: "tuple[Purpose, ...]"
    needs: "tuple[Need, ...]"
    lacks: "Lacks"
    estimator: "Estimator"


@click.command()
@click.argument(
    "purpose",
    required=False,
    metavar="[RECIPE|BENCHMARK]",
    shell_complete=completing.recipe_or_benchmark,
)
@click.option("--deep", is_flag=True, help="Start things, too: a program, each engine. Takes minutes.")
@click.option("--network", is_flag=True, help="Ask the hub whether it answers.")
@json_option
@click.option("--base-url", help="An OpenAI-compatible server that is already running.")
@recipe_options
@place_options
def doctor(
    purpose: str | None,
    deep: bool,
    network: bool,
    as_document: bool,
    entry: str | None,
    engine: str | None,
    base_url: str | None,
    runs: Path,
    data: Path | None,
    machine: Path | None,
) -> None:
    """What is here, what is missing, what that blocks, and how to get it.

    With RECIPE or BENCHMARK only what that needs, without one everything. Exits with 1 where something is
    missing that it needs; without one, that the demo needs: dasd-micro.
    """
    from harness.doctor.configured import machine_of
    from harness.doctor.finding import Purpose, blocking, judged
    from reports.doctor import as_json, print_doctor

    if purpose is None and (entry or engine or base_url):
        raise UsageError("--from, --engine and --base-url go with a RECIPE or a BENCHMARK")
    place = Place(runs, data, machine, base_url)
    engine = engine or ("remote" if base_url else None)
    here, settings = machine_of(place.machine, machine, data)
    wanted, failure = wanted_of(purpose, entry, engine, place, here)
    purposes = wanted.purposes if wanted else (Purpose(command=f"harness reproduce {purpose or DEMO}"),)
    only = purposes[0] if purpose else None
    found = looked_at(place.runs, here, wanted, only, deep, network)
    judgements = [judged(one, purposes) for one in in_order([settings, *failure, *found])]
    if as_document:
        print_document(as_json(judgements, purposes))
    else:
        print_doctor(judgements, purposes)
    if blocking(judgements, purposes[0]):
        sys.exit(1)


def wanted_of(
    name: str | None, entry: str | None, engine: str | None, place: Place, machine: "Machine"
) -> "tuple[Wanted | None, list[Finding]]":
    """What is wanted; or why nobody can tell, as a finding. Raises UsageError for an unknown name."""
    from harness.doctor.examine import begin, trouble
    from harness.doctor.finding import Check

    def work() -> Wanted:
        return alone(name, entry, engine, place, machine) if name else everything(place, machine)

    check = Check(area="Python", name="recipes", look=tuple, seconds=SECONDS)
    future = begin(work)
    failure = trouble(check, future, SECONDS)
    if failure is None:
        return future.result(), []
    if future.done() and isinstance(error := future.exception(), UsageError):
        raise error
    return None, [failure]


def alone(name: str, entry: str | None, engine: str | None, place: Place, machine: "Machine") -> Wanted:
    """One recipe or benchmark. Raises UsageError where there is none of that name."""
    from harness.cost import Assumptions, Estimator
    from harness.discover import find_engine, suggestion
    from harness.hardware import hardware
    from pipeline.lacks import Lacks
    from pipeline.presence import from_outside
    from pipeline.purposes import DEFAULT_ENGINE, evaluating, left, reproduction

    known, store = benchmarks(), place.store()
    lacks = Lacks(machine, hardware(machine))
    if name in known and entry is None:
        benchmark = known[name]
        return Wanted(
            purposes=(evaluating(benchmark, find_engine(engine or DEFAULT_ENGINE).name, machine),),
            needs=tuple(from_outside([], [benchmark], machine)),
            lacks=lacks,
            estimator=Estimator(store, Assumptions(), machine.data),
        )
    if name not in known and name not in recipes():
        raise UsageError(f"unknown recipe or benchmark {name!r}. {suggestion(name, [*recipes(), *known])}")
    recipe = find_recipe(name, engine, entry)
    options = "".join(
        f" {option} {value}" for option, value in (("--from", entry), ("--engine", engine)) if value
    )
    return Wanted(
        purposes=(reproduction(recipe, f"harness reproduce {name}{options}", store, lacks),),
        needs=tuple(from_outside(left(recipe, store), [], machine)),
        lacks=lacks,
        estimator=Estimator(store, recipe.assumed or Assumptions(), machine.data),
    )


def everything(place: Place, machine: "Machine") -> Wanted:
    """The demo, the paper's recipe, the benchmarks, and what other commands need."""
    from harness.cost import Assumptions, Estimator
    from harness.hardware import hardware
    from pipeline.lacks import Lacks
    from pipeline.needs import repository
    from pipeline.presence import from_outside
    from pipeline.purposes import DEFAULT_ENGINE, evaluating, left, others, reproduction

    store, lacks = place.store(), Lacks(machine, hardware(machine))
    chosen = [find_recipe(name) for name in (DEMO, PAPER)]
    asked = [one for one in benchmarks().values() if repository(one, machine)]
    return Wanted(
        purposes=(
            *(reproduction(one, f"harness reproduce {one.name}", store, lacks) for one in chosen),
            *(evaluating(one, DEFAULT_ENGINE, machine) for one in asked),
            *others(),
        ),
        needs=tuple(from_outside([stage for one in chosen for stage in left(one, store)], asked, machine)),
        lacks=lacks,
        estimator=Estimator(store, chosen[-1].assumed or Assumptions(), machine.data),
    )


def looked_at(
    runs: Path,
    machine: "Machine",
    wanted: Wanted | None,
    only: "Purpose | None",
    deep: bool,
    network: bool,
) -> "list[Finding]":
    """All findings that matter for a purpose, or all."""
    from harness.doctor.checks import deep_checks, first_checks, last_checks, network_check
    from harness.doctor.examine import examine
    from harness.doctor.finding import concerns
    from harness.doctor.keys import TOKEN

    purposes = wanted.purposes if wanted else ()
    gated = any(TOKEN in one.needs for one in purposes)
    hub = examine([network_check(machine)] if network else [])
    reachable = any(one.state == "ok" for one in hub)
    checks = [
        *first_checks(runs, machine, purposes),
        *(data_checks_of(wanted, reachable) if wanted else ()),
        *last_checks(machine, gated, deep),
    ]
    found = [*hub, *examine(one for one in checks if concerns(one.provides, only))]
    if deep:
        lost = {name for one in found if one.state == "missing" for name in one.provides}
        for check in deep_checks(machine, teacher()):
            if concerns(check.provides, only) and not lost.intersection(check.provides):
                click.echo(f"trying {check.name}", err=True)
                found += examine([check])
    return [one for one in found if one in hub or concerns(one.provides, only)]


def data_checks_of(wanted: Wanted, reachable: bool) -> "Iterator[Check]":
    from pipeline.presence import data_checks

    return data_checks(wanted.needs, wanted.lacks, wanted.estimator, reachable)


def teacher() -> Path:
    """The small model that engines are tried with."""
    from pipeline.recipes.dasd_micro import MODELS

    return MODELS / "teacher"


def in_order(findings: "list[Finding]") -> "list[Finding]":
    """By area, and otherwise as they were."""
    from typing import get_args

    from harness.doctor.finding import Area

    order = get_args(Area)
    return sorted(findings, key=lambda one: order.index(one.area))
