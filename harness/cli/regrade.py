"""`harness regrade`."""

from dataclasses import replace
from pathlib import Path

import click

from harness.cli import completing
from harness.cli.document import aside, print_document
from harness.cli.found import benchmarks
from harness.cli.invoked import invoked
from harness.cli.options import Place, json_option, pairs_of, place_options
from harness.cli.running import build, running, show_report
from harness.errors import UsageError


@click.command()
@click.argument("run", shell_complete=completing.run_or_row)
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="A grading setting: seconds=30.")
@click.option("--name", help="Name of the regraded run. [default: RUN, or RUN-NAME-VALUE with --set]")
@json_option
@place_options
def regrade(
    run: str,
    settings: tuple[str, ...],
    name: str | None,
    as_document: bool,
    runs: Path,
    data: Path | None,
    machine: Path | None,
) -> None:
    """Grade the stored answers of RUN with this version's graders. Asks nothing.

    With --set the verdicts go into a run of another name, and RUN stays as it is.
    """
    from harness.adaptive import keep_rounds, rounds_kept
    from harness.recipe import checked_name
    from harness.runs import as_recipe, commands_of, compared_with, evaluations, regraded
    from reports.comparison import as_json, compare_runs, print_comparison

    place, chosen = Place(runs, data, machine), pairs_of(settings)
    store = place.store()
    before = evaluations(store, run, benchmarks())
    marks = regraded(before, chosen)
    default = "-".join([run, *(f"{key}-{value}" for key, value in chosen.items())])
    target = checked_name(name or default)
    if chosen and target == run:
        raise UsageError(f"{run} itself stays as it is", "Give another --name, or none.")
    with aside(as_document), running(place) as (store, context):
        build(store, context, target, dict(marks))
    keep_rounds(store, target, rounds_kept(store.root / run))
    after = evaluations(store, target, benchmarks())
    made = (*commands_of(store, run), *((invoked(),) if target != run else ()))
    recipe = replace(as_recipe(target, after, **compared_with(store, run)), commands=made)
    compared = compare_runs(store, before, after)
    with aside(as_document):
        told = show_report(store, recipe, {one.label: one.mark for one in after})
        print_comparison(compared, (run, target), everything=True)
    if as_document:
        print_document({"report": told, "comparison": as_json(compared)})
