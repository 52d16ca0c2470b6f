"""`harness evaluate`."""

from pathlib import Path

import click

from harness.cli import completing
from harness.cli.document import aside, print_document
from harness.cli.found import asked_benchmark, in_place_of, windowed
from harness.cli.invoked import invoked
from harness.cli.options import Place, json_option, pairs_of, place_options, until_resolved_option
from harness.cli.running import build, resolve, running, show_report
from harness.errors import UsageError


@click.command()
@click.argument("model", shell_complete=completing.checkpoint)
@click.option(
    "-b",
    "--benchmark",
    "wanted",
    multiple=True,
    required=True,
    metavar="NAME[:DRAWS]",
    shell_complete=completing.benchmark,
)
@click.option(
    "--engine",
    shell_complete=completing.engine,
    help="vllm, sglang, transformers, remote or batch. [default: vllm]",
)
@click.option("--base-url", help="An OpenAI-compatible server that is already running.")
@click.option("--limit", type=click.IntRange(min=1), help="First N questions only: not a score.")
@click.option("--max-tokens", type=click.IntRange(min=1), help="Token limit of a response.")
@click.option("--temperature", type=click.FloatRange(min=0.0))
@click.option("--system", help="System prompt; none is sent without it.")
@click.option("--start", default="", help="LiveCodeBench: contests from this date, over all files.")
@click.option("--end", default="", help="LiveCodeBench: contests up to this date, as the official option.")
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="A setting: prompt=generic.")
@click.option(
    "--claims",
    metavar="RECIPE/ROW[,ROW]",
    shell_complete=completing.claim,
    help="Published values to compare with: dasd-4b/released.",
)
@until_resolved_option
@click.option("--name", help="Name of the run. [default: the model's]")
@json_option
@place_options
def evaluate(
    model: str,
    wanted: tuple[str, ...],
    engine: str | None,
    base_url: str | None,
    limit: int | None,
    max_tokens: int | None,
    temperature: float | None,
    system: str | None,
    start: str,
    end: str,
    settings: tuple[str, ...],
    claims: str | None,
    until_resolved: bool,
    name: str | None,
    as_document: bool,
    runs: Path,
    data: Path | None,
    machine: Path | None,
) -> None:
    """Measure MODEL (a checkpoint folder, a Hub id, or a served model's name) on benchmarks.

    With --claims it takes the place of a recipe's row, and the report says of each published value of
    that row whether it is reproduced.
    """
    from dataclasses import replace

    from harness.discover import find_engine
    from harness.recipe import evaluation

    place = Place(runs, data, machine, base_url)
    engine = find_engine(engine or ("remote" if base_url else "vllm")).name
    if base_url and engine != "remote":
        raise UsageError(
            f"--base-url names a running server, --engine {engine} starts one", "Give one of them."
        )
    url = place.machine().engine(engine).base_url if engine in ("remote", "batch") else None
    if engine == "batch":
        url = url or "files"
    if engine == "remote" and not url:
        raise UsageError("the remote engine has no URL", "Give --base-url URL.")
    found = evaluation(
        model=model,
        benchmarks=[
            windowed(asked_benchmark(text, max_tokens, temperature, pairs_of(settings)), start, end)
            for text in wanted
        ],
        engine=engine,
        base_url=url,
        system=system,
        name=name,
        limit=limit,
    )
    found = replace(in_place_of(found, claims) if claims else found, commands=(invoked(),))
    labels = found.labels()
    with aside(as_document), running(place) as (store, context):
        if until_resolved:
            resolve(store, context, found, labels)
        else:
            build(store, context, found.name, labels)
        told = show_report(store, found, labels)
    if as_document:
        print_document(told)
