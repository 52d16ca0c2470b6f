"""The how-tos are followed in a fresh clone, as far as there is time; the whole is an acceptance program."""

from pathlib import Path

import pytest

from harness.sandboxes import docker, in_ci
from tests.docs.follow import ROOT, Step, follow, fresh_clone, is_as_told, read_page, steps_of

HOWTO = ROOT / "docs" / "howto"


@pytest.mark.engine
@pytest.mark.parametrize(
    ("name", "commands"),
    [("benchmark", None), ("recipe", 1), ("engine", None), ("sandbox", 3)],
)
def test_a_howto_adds_one_file_and_prints_what_it_says(
    tmp_path: Path, name: str, commands: int | None
) -> None:
    if name == "sandbox" and (trouble := docker.trouble()) and not in_ci():
        pytest.skip(f"Docker cannot run here: {trouble}")
    clone = fresh_clone(tmp_path / "clone")
    assert follow(read_page(clone / "docs" / "howto" / f"{name}.md"), clone, commands) == []


def test_every_howto_shows_exactly_one_file_and_ends_with_something_that_ran() -> None:
    pages = {file.stem: read_page(file) for file in HOWTO.glob("*.md")}
    assert {name: page.path.rpartition("/")[0] for name, page in pages.items()} == {
        "benchmark": "benchmarks",
        "recipe": "pipeline/recipes",
        "engine": "harness/engines",
        "sandbox": "harness/sandboxes",
    }
    assert all(len(page.steps) > 2 for page in pages.values())


def test_a_line_that_is_missing_or_too_many_is_noticed() -> None:
    printed = ["one", "two  2", "three"]
    assert is_as_told(["one", "two 2", "three"], printed)
    assert is_as_told(["…", "three"], printed)
    assert is_as_told(["one", "t…2", "…"], printed)
    assert is_as_told(["…"], [])
    assert not is_as_told(["one", "…", "two 2"], printed)
    assert not is_as_told(["one", "three"], printed)
    assert not is_as_told(["one", "two 3", "three"], printed)
    assert not is_as_told(["one", "two 2", "three", "four"], printed)
    assert not is_as_told([], printed)


def test_a_command_may_go_on_over_lines() -> None:
    block = "$ cat <<'E'\n> a\n>\n> b\n> E\na\n\nb\n$ true\n"
    assert list(steps_of(block)) == [
        Step(command="cat <<'E'\na\n\nb\nE", expected=("a", "", "b")),
        Step(command="true", expected=()),
    ]
