"""`harness export`."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli import completing
from harness.cli.found import evaluated, find_run
from harness.cli.options import Place, place_options

if TYPE_CHECKING:
    from harness.store import RunStore
    from reports.exports import Source, Written


@click.command()
@click.argument("run", metavar="RUN[/ROW]", shell_complete=completing.run_or_row)
@click.argument("formats", metavar="FORMAT…", nargs=-1, required=True)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the exports. [default: RUNS/RUN/exports]",
)
@click.option(
    "--with-gated-text",
    is_flag=True,
    help="Export prompts and responses of gated data sets (GPQA) too. Their terms forbid publishing them.",
)
@click.option(
    "--hub-task",
    "hub_tasks",
    multiple=True,
    metavar="BENCHMARK=ORG/DATASET:TASK",
    help="The Hub's leaderboard of a benchmark, for hf-eval-results.",
)
@click.option("--json", "as_json", is_flag=True, help="What was written and left out, for machines.")
@place_options
def export(
    run: str,
    formats: tuple[str, ...],
    out: Path | None,
    with_gated_text: bool,
    hub_tasks: tuple[str, ...],
    as_json: bool,
    runs: Path,
    data: Path | None,
    machine: Path | None,
) -> None:
    """Write the scores and samples of RUN in formats that other projects read.

    FORMAT is lighteval, inspect, every-eval-ever, hf-eval-results, csv, or all of them. Each goes into a
    folder of its own, in place of the former export of RUN there. What a format has no place for is left
    out and named.
    """
    from reports.exports import chosen, renew
    from reports.exports import hub_tasks as tasks_of

    place = Place(runs, data, machine)
    writers, tasks = chosen(formats), tasks_of(hub_tasks)
    store, (name, _, row) = place.store(), run.partition("/")
    source = gathered(store, run, place.machine().data, with_gated_text, tasks)
    warn(source, with_gated_text)
    home = out or store.root / name / "exports"
    written = {format_: renew(write, source, row, home / format_) for format_, write in writers.items()}
    tell(written, as_json)
    check(written, formats)


def gathered(
    store: "RunStore", run: str, data: Path | None, gated_texts: bool, tasks: dict[str, tuple[str, str]]
) -> "Source":
    """The run's entries and finished evaluations, of one row where it is named."""
    from harness.adaptive import as_reached
    from harness.errors import StageError
    from reports.assemble import entries_of
    from reports.exports import finished
    from reports.exports.source import Source

    name, _, row = run.partition("/")
    if row:
        evaluated(store, run)
    recipe, labels = find_run(store, name, None)
    marks = as_reached(store, name, labels)
    every, _ = entries_of(store, recipe, marks)
    entries = [one for one in every if row in ("", one.row)]
    found = finished(store, name, entries, marks, data, gated_texts)
    if not found:
        raise StageError(f"{run} has no finished evaluation", "Run it to its end first.")
    return Source(run=name, entries=tuple(entries), evaluations=tuple(found), hub_tasks=tasks)


def warn(source: "Source", gated_texts: bool) -> None:
    """Says on standard error what became of gated texts."""
    gated = dict.fromkeys(one.name for one in source.evaluations if one.benchmark.gated)
    if not gated:
        return
    if gated_texts:
        told = "this export holds texts of a gated data set: its terms forbid publishing them"
    else:
        told = "prompts and responses are left out, the data set is gated (--with-gated-text adds them)"
    click.echo(f"{', '.join(gated)}: {told}", err=True)


def tell(written: "dict[str, Written]", as_json: bool) -> None:
    """Prints each file and what was left out."""
    import msgspec

    if as_json:
        told = {
            name: {
                "files": [str(file) for file in one.files],
                "left_out": [{"evaluation": label, "reason": reason} for label, reason in one.left_out],
            }
            for name, one in written.items()
        }
        click.echo(msgspec.json.format(msgspec.json.encode(told), indent=2).decode())
        return
    for name, one in written.items():
        for file in one.files:
            click.echo(f"{name}: {file}")
        for label, reason in one.left_out:
            click.echo(f"{name}: {label} left out: {reason}")


def check(written: "dict[str, Written]", asked: tuple[str, ...]) -> None:
    """Raises StageError where a format that was asked for by name has nothing in it."""
    from harness.errors import StageError

    if empty := [name for name in asked if name in written and not written[name].files]:
        reasons = "; ".join(f"{label}: {reason}" for label, reason in written[empty[0]].left_out)
        raise StageError(f"nothing could be exported as {empty[0]}: {reasons}")
