"""Shell completion, by click's protocol and in a real bash: the right names, and nothing heavy imported."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

from harness.cli import cli
from harness.cli.found import benchmarks, recipes
from harness.discover import engines
from harness.setup import ENVIRONMENTS

ROOT = Path(__file__).parent.parent
MAIN = "import sys; sys.argv[0] = 'harness'; from harness.cli import main; main()"
LOADED = """
import atexit, sys
sys.argv[0] = "harness"
heavy = ("pipeline", "benchmarks", "reports", "msgspec", "numpy", "rich", "docker", "huggingface_hub")
atexit.register(lambda: print([name for name in heavy if name in sys.modules], file=sys.stderr))
from harness.cli import main
main()
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment whose cache holds the names already, as `harness completion` leaves it."""
    cache = tmp_path_factory.mktemp("cache")
    made = {**os.environ, "XDG_CACHE_HOME": str(cache), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", MAIN, "completion", "bash"]
    subprocess.run(command, env=made, check=True, capture_output=True)
    return made


def offered(home: dict[str, str], line: str, folder: Path | None = None, code: str = MAIN) -> list[str]:
    """What a bash is told for the last word of a line."""
    told = asked(home, line, folder, code).stdout.splitlines()
    return [one.partition(",")[2] for one in told if one.startswith("plain,")]


def asked(
    home: dict[str, str], line: str, folder: Path | None = None, code: str = MAIN
) -> subprocess.CompletedProcess[str]:
    words = line.split(" ")
    variables = {"COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1), "_HARNESS_COMPLETE": "bash_complete"}
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True, text=True, env={**home, **variables}, cwd=folder, check=False,
    )  # fmt: skip


def evaluated(runs: Path, *rows: str) -> Path:
    """A runs folder with finished evaluations."""
    for row in rows:
        run, _, name = row.partition("/")
        (runs / run / "eval" / name).mkdir(parents=True)
    return runs


def test_every_name_that_a_command_takes_is_offered(home: dict[str, str]) -> None:
    assert offered(home, "harness plan ") == list(recipes())
    assert offered(home, "harness evaluate MODEL -b ") == list(benchmarks())
    assert offered(home, "harness evaluate MODEL --engine ") == list(engines())
    assert offered(home, "harness setup ") == [*ENVIRONMENTS, "sandbox"]
    assert set(offered(home, "harness doctor ")) == {*recipes(), *benchmarks()}
    assert "dasd-4b/released" in offered(home, "harness evaluate MODEL --claims dasd-4b/")
    assert "doctor" in offered(home, "harness d")


def test_what_a_recipe_can_start_from_is_that_recipes_own(home: dict[str, str]) -> None:
    assert offered(home, "harness reproduce dasd-4b --from ") == list(recipes()["dasd-4b"].entries)
    assert offered(home, "harness reproduce dasd-micro --from ") == list(recipes()["dasd-micro"].entries)
    assert "stage1" in offered(home, "harness reproduce dasd-micro --until st")


def test_runs_and_rows_are_those_of_the_folder_that_the_line_names(
    home: dict[str, str], tmp_path: Path
) -> None:
    evaluated(tmp_path / "runs", "here/a")
    other = evaluated(tmp_path / "other", "mine/first", "mine/second", "yours/first")
    assert offered(home, "harness compare h", tmp_path) == ["here"]
    assert offered(home, f"harness compare --runs {other} ", tmp_path) == ["mine", "yours"]
    assert offered(home, f"harness compare --runs {other} mine/", tmp_path) == ["mine/first", "mine/second"]
    assert offered(home, f"harness report --runs {other} y", tmp_path) == ["yours"]


def test_a_run_whose_name_would_move_the_cursor_or_run_a_command_is_not_offered(
    home: dict[str, str], tmp_path: Path
) -> None:
    runs = evaluated(tmp_path / "runs", "fine/a", "bad\x1b[2J/a", "two\nlines/a", "x$(touch pwned)/a")
    assert offered(home, f"harness compare --runs {runs} ", tmp_path) == ["fine"]


def test_a_model_that_is_no_row_is_left_to_the_shell_as_a_folder(home: dict[str, str]) -> None:
    assert asked(home, "harness serve ./check").stdout == "dir,./check\n"
    assert "dasd-micro/final" in offered(home, "harness serve dasd-micro/f")


def test_no_key_waits_for_the_pipeline(home: dict[str, str], tmp_path: Path) -> None:
    for line in ("harness plan dasd-m", "harness compare ", "harness evaluate M -b a", "harness "):
        done = asked(home, line, tmp_path, LOADED)
        assert done.stdout
        assert done.stderr.strip() == "[]"


@pytest.mark.parametrize("content", ["", "{", "[]", '{"of": "another version", "recipes": {"old": {}}}'])
def test_a_cache_that_is_broken_or_of_other_files_is_looked_up_anew(
    content: str, home: dict[str, str]
) -> None:
    (kept,) = Path(home["XDG_CACHE_HOME"]).rglob("completion.json")
    kept.write_text(content)
    assert offered(home, "harness plan dasd-4") == ["dasd-4b"]
    assert "dasd-4b" in json.loads(kept.read_text())["recipes"]


def test_a_cache_that_cannot_be_written_costs_time_and_nothing_else(
    home: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    there = {**home, "XDG_CACHE_HOME": str(tmp_path / "file")}
    done = asked(there, "harness plan dasd-4")
    assert (done.stdout, done.stderr) == ("plain,dasd-4b\n", "")


def test_bash_completes_a_line_with_the_printed_script(home: dict[str, str], tmp_path: Path) -> None:
    binary = tmp_path / "bin" / "harness"
    binary.parent.mkdir()
    binary.write_text(f'#!/bin/sh\nexec {sys.executable} -c {shlex.quote(MAIN)} "$@"\n')
    binary.chmod(0o755)
    typed = (
        "source <(harness completion bash) || exit 1\n"
        "COMP_WORDS=(harness plan dasd-mic) COMP_CWORD=2\n"
        "_harness_completion harness dasd-mic plan\n"
        'printf "%s\\n" "${COMPREPLY[@]}"; complete -p harness\n'
    )
    done = subprocess.run(
        ["bash", "--norc", "-c", typed],
        capture_output=True, text=True, check=False,
        env={**home, "PATH": f"{binary.parent}:{os.environ['PATH']}"},
    )  # fmt: skip
    *names, registered = done.stdout.splitlines()
    assert names == ["dasd-micro", "dasd-micro-shape"], done.stderr
    assert registered == "complete -o nosort -F _harness_completion harness"


def test_each_shell_gets_a_script_of_its_own(home: dict[str, str]) -> None:
    for shell, word in (("bash", "COMPREPLY"), ("zsh", "#compdef harness"), ("fish", "complete --no-files")):
        done = subprocess.run(
            [sys.executable, "-c", MAIN, "completion", shell],
            capture_output=True, text=True, env=home, check=True,
        )  # fmt: skip
        assert word in done.stdout
        assert f"_HARNESS_COMPLETE={shell}_complete" in done.stdout


def test_no_argument_or_option_for_a_known_name_is_without_completion() -> None:
    known = {"recipe", "run", "engine", "a", "b", "other", "entry"}
    context = click.Context(cli)
    without = [
        f"{command.name} {parameter.name}"
        for name in cli.list_commands(context)
        if (command := cli.get_command(context, name))
        for parameter in command.params
        if parameter.name in known and parameter._custom_shell_complete is None
    ]
    assert without == []
