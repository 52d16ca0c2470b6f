"""`harness preflight`."""

import sys
from pathlib import Path

import click

from harness.cli import completing
from harness.cli.document import aside, print_document
from harness.cli.found import asked_benchmark
from harness.cli.options import Place, json_option, place_options
from harness.cli.running import running
from harness.errors import UsageError

PREFLIGHT_TOKENS = 128  # where neither a benchmark nor --max-tokens says how long a response may be


@click.command()
@click.argument("model", shell_complete=completing.checkpoint)
@click.option(
    "-b",
    "--benchmark",
    "wanted",
    multiple=True,
    metavar="NAME[:DRAWS]",
    shell_complete=completing.benchmark,
    help="What a run would ask.",
)
@click.option(
    "--engine",
    shell_complete=completing.engine,
    help="vllm, sglang, transformers or remote. [default: vllm]",
)
@click.option("--base-url", help="An OpenAI-compatible server that is already running.")
@click.option("--max-tokens", type=click.IntRange(min=1), help="Token limit of a response.")
@click.option("--temperature", type=click.FloatRange(min=0.0))
@click.option("--system", help="System prompt that a run would send.")
@click.option("--require-seed", is_flag=True, help="Fail where seeds are not honoured.")
@json_option
@place_options
def preflight(
    model: str,
    wanted: tuple[str, ...],
    engine: str | None,
    base_url: str | None,
    max_tokens: int | None,
    temperature: float | None,
    system: str | None,
    require_seed: bool,
    as_document: bool,
    runs: Path,
    data: Path | None,
    machine: Path | None,
) -> None:
    """See whether a server of MODEL does what a run would ask of it, before anything is spent.

    Every run does so by itself and keeps the outcome in preflight.json beside its rows. Exits with 1
    where a check would stop the run.
    """
    from harness.discover import find_engine
    from harness.preflight.ahead import preflights
    from harness.recipe import evaluation
    from harness.types import Sampling
    from reports.preflight import print_preflight

    place = Place(runs, data, machine, base_url)
    chosen = find_engine(engine or ("remote" if base_url else "vllm")).name
    if chosen == "batch":
        raise UsageError("nobody answers while a batch file waits", "Give --engine remote --base-url URL.")
    found = evaluation(
        model=model,
        benchmarks=[asked_benchmark(text, max_tokens, temperature, {}) for text in wanted],
        engine=chosen,
        base_url=place.machine().engine("remote").base_url if chosen == "remote" else None,
        system=system,
    )
    sampling = Sampling(
        temperature=1.0 if temperature is None else temperature, max_tokens=max_tokens or PREFLIGHT_TOKENS
    )
    with aside(as_document), running(place) as (store, context):
        reports = dict(preflights(found, store, context, sampling, require_seed))
    if as_document:
        print_document(reports)
    else:
        for name, report in reports.items():
            print_preflight(report, f"{model} through {chosen}: {name}")
    if any(report.stopping for report in reports.values()):
        sys.exit(1)
