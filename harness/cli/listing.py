"""`harness list`."""

import sys

import click

from harness.cli.document import print_document
from harness.cli.found import benchmarks, recipes
from harness.cli.options import json_option


@click.command("list")
@json_option
def list_(as_document: bool) -> None:
    """Recipes, benchmarks and engines."""
    from harness.discover import engines

    modules = {name: sys.modules[type(engine).__module__] for name, engine in engines().items()}
    summaries = {name: first_line(module.__doc__) for name, module in modules.items()}
    if as_document:
        print_document(document(summaries))
        return
    say_names("Recipes", {name: recipe.summary for name, recipe in recipes().items()})
    say_names(
        "Benchmarks",
        {name: f"{found.sampling.draws} draws, {found.dataset}" for name, found in benchmarks().items()},
    )
    say_names("Engines", summaries)


def document(engines: dict[str, str]) -> dict[str, object]:
    """What is printed, with what a script needs to name a row or an entry."""
    return {
        "recipes": {
            name: {
                "summary": one.summary,
                "engine": one.engine,
                "entries": one.entries,
                "rows": list(one.models),
                "benchmarks": [each.name for each in one.benchmarks],
            }
            for name, one in recipes().items()
        },
        "benchmarks": {
            name: {"dataset": one.dataset, "revision": one.revision, "draws": one.sampling.draws}
            for name, one in benchmarks().items()
        },
        "engines": {name: {"summary": summary} for name, summary in engines.items()},
    }


def say_names(title: str, names: dict[str, str]) -> None:
    click.echo(f"{title}:")
    for name, text in names.items():
        click.echo(f"  {name:18} {text}")


def first_line(text: str | None) -> str:
    return (text or "").strip().split("\n")[0]
