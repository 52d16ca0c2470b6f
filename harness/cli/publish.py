"""`harness publish`."""

from pathlib import Path

import click

from harness.cli import completing
from harness.cli.found import find_recipe
from harness.cli.options import Place, place_options, recipe_options


@click.command()
@click.argument("recipe", shell_complete=completing.recipe)
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
