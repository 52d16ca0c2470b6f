"""`harness list`."""

import sys

import click

from harness.cli.found import benchmarks, recipes


@click.command("list")
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


def say_names(title: str, names: dict[str, str]) -> None:
    click.echo(f"{title}:")
    for name, text in names.items():
        click.echo(f"  {name:18} {text}")


def first_line(text: str | None) -> str:
    return (text or "").strip().split("\n")[0]
