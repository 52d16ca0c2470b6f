"""`harness serve`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli import completing
from harness.cli.found import benchmarks, recipes
from harness.cli.options import Place, place_options, trust_option
from harness.cli.running import running
from harness.errors import UsageError

if TYPE_CHECKING:
    from harness.serving import Model, Ready
    from harness.stage import Stage


@click.command()
@click.argument("model", shell_complete=completing.checkpoint)
@click.option(
    "--engine",
    default="vllm",
    show_default=True,
    shell_complete=completing.engine,
    help="vllm, sglang or transformers.",
)
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
@trust_option
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
    trusts_code: bool,
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

    place = Place(runs, data, machine, trusts_code=trusts_code)
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


def checkpoint_to_serve(model: str, place: Place) -> "Model":
    """The checkpoint that MODEL names, downloaded where need be. What is said goes to standard error."""
    from contextlib import redirect_stdout

    from harness.models import Known, find_model

    with redirect_stdout(sys.stderr), running(place) as (store, context):

        def build(stage: "Stage") -> Path:
            store.build(stage, context)
            return context.path(stage)

        return find_model(model, Known(store=store, recipes=recipes(), benchmarks=benchmarks(), build=build))


def text_of(given: str | None) -> str | None:
    """TEXT, or what the file of @FILE holds without the line break at its end."""
    if given is None or not given.startswith("@"):
        return given
    try:
        return Path(given[1:]).read_text(encoding="utf-8").removesuffix("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--system {given}: {error}", "Give @FILE of a text file, or the text.") from error
