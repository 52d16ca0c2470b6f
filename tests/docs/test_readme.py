"""README's commands exist with the options it gives them; the cheap ones are run. All of them are run in a
fresh clone by `make acceptance NAME=readme_commands`."""

import re
import shlex
from pathlib import Path

import click
import pytest

from harness.cli import cli
from tests.docs.follow import ROOT, Step, follow, fresh_clone, is_as_told, read_page

README = ROOT / "README.md"
PAGE = read_page(README, figures=True)
CHEAP = ("harness doctor", "harness plan")
SHOWN = re.compile(r"^(?:\$ |> )?(harness [^\n|;>&]+)", re.MULTILINE)
BLOCK = re.compile(r"^```(?:console|bash)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def shown_commands() -> list[str]:
    return [line for block in BLOCK.findall(README.read_text()) for line in SHOWN.findall(block)]


def parse(words: list[str]) -> None:
    """Raises click's UsageError for what the command line would not take."""
    command: click.Command = cli
    context = click.Context(cli)
    while isinstance(command, click.Group):
        name, found, words = command.resolve_command(context, words)
        assert found is not None, name
        command, context = found, click.Context(found, parent=context)
    command.make_parser(context).parse_args(list(words))


@pytest.mark.parametrize("line", shown_commands())
def test_a_command_of_the_readme_is_one(line: str) -> None:
    parse(shlex.split(line)[1:])


def test_a_command_that_is_none_is_noticed() -> None:
    with pytest.raises(click.UsageError):
        parse(["evaluate", "model", "--benchmarks", "aime24"])


def test_the_five_tasks_are_there_with_their_commands() -> None:
    named = " ".join(shown_commands())
    for verb in ("evaluate", "convert", "reproduce", "serve", "nightly", "doctor", "plan"):
        assert f"harness {verb}" in named


def test_the_cheap_commands_print_what_the_readme_says(tmp_path: Path) -> None:
    """Without the data that CI has: README's reader has none."""
    steps = tuple(step for step in PAGE.steps if step.command.startswith(CHEAP))
    assert len(steps) == 2
    clone = fresh_clone(tmp_path / "clone")
    page = type(PAGE)(path=PAGE.path, content=PAGE.content, steps=tuple(map(bare, steps)), figures=True)
    assert follow(page, clone) == []


def bare(step: Step) -> Step:
    return Step(command=f"unset HARNESS_DATA; {step.command}", expected=step.expected)


def test_another_number_is_as_told_only_where_figures_are_measured() -> None:
    assert is_as_told(["│ 27.5 ± 3.3 │ 40 × 8 │"], ["│ 9.25 ± 13.3 │ 40 × 8 │"], figures=True)
    assert is_as_told(["Δ +2.3 [-1.9, +6.5]"], ["Δ -0.3 [-4.9, +1.5]"], figures=True)
    assert not is_as_told(["│ 27.5 ± 3.3 │"], ["│ 9.25 ± 3.3 │"])
    assert not is_as_told(["│ 27.5 │ reproduced │"], ["│ 27.5 │ inconclusive │"], figures=True)


def test_every_picture_and_page_that_the_readme_names_is_there() -> None:
    links = re.findall(r"\]\(([^)#]+)", README.read_text())
    missing = [link for link in links if "://" not in link and not (ROOT / link).exists()]
    assert missing == []
