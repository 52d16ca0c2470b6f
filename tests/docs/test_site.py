"""The site is built as `make docs` builds it, without a network, and then read."""

import html
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from docs.hooks import every_command
from harness.batch import BatchPending
from harness.errors import HarnessError, UsageError
from harness.nightly.gate import EXIT_CODES
from tests.docs.follow import ROOT

FOREIGN = re.compile(r"^\s*(?:https?:)?//", re.IGNORECASE)
CSS_REFERENCE = re.compile(r"""(?:url\(|@import)\s*["']?([^"')\s]+)""")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("docs") / "site"
    nowhere = "http://127.0.0.1:9"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1", "http_proxy": nowhere, "https_proxy": nowhere},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder


class Fetched(HTMLParser):
    """What a browser fetches of its own accord when it shows a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.found += [given[name] for name in ("src", "srcset", "poster", "data") if name in given]
        if tag == "link" and given.get("rel") != "canonical":
            self.found.append(given.get("href", ""))
        self.found += CSS_REFERENCE.findall(given.get("style", ""))


def fetched(page: str) -> list[str]:
    parser = Fetched()
    parser.feed(page)
    return parser.found


def test_a_page_fetches_nothing_from_elsewhere(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 30
    found = {page.name: fetched(page.read_text(encoding="utf-8")) for page in pages}
    assert all(found.values())
    assert [(name, one) for name, of in found.items() for one in of if FOREIGN.match(one)] == []
    sheets = [one for file in site.rglob("*.css") for one in CSS_REFERENCE.findall(file.read_text())]
    assert [one for one in sheets if FOREIGN.match(one)] == []


def test_what_a_page_fetches_is_noticed() -> None:
    assert fetched('<script src="https://a/b.js"></script><a href="https://c">c</a>') == ["https://a/b.js"]
    assert fetched('<link rel="stylesheet" href="//a/b.css"><p style="background:url(https://c)">') == [
        "//a/b.css",
        "https://c",
    ]


def test_every_command_has_its_help_in_the_reference(site: Path) -> None:
    text = html.unescape(re.sub(r"<[^>]+>", "", (site / "reference" / "cli.html").read_text("utf-8")))
    commands = [context.command_path for context in every_command()]
    assert {"harness", "harness plan", "harness data pin"} <= set(commands)
    assert [name for name in commands if f"Usage: {name} " not in text] == []


def test_every_exit_code_is_in_the_table() -> None:
    page = (ROOT / "docs" / "reference" / "cli.md").read_text(encoding="utf-8")
    documented = {int(code) for code in re.findall(r"^\| (\d+) \|", page, re.MULTILINE)}
    assert documented == {0, HarnessError.exit_code, UsageError.exit_code, BatchPending.exit_code, 130}
    [nightly] = re.findall(r"^\| `harness nightly` \| (.+) \|$", page, re.MULTILINE)
    assert nightly.split(" | ") == sorted(EXIT_CODES, key=lambda outcome: EXIT_CODES[outcome])


def test_the_reference_holds_what_a_file_of_ones_own_needs(site: Path) -> None:
    for page, name in (
        ("benchmark", "harness.benchmark.Benchmark.grade"),
        ("recipe", "harness.recipe.Recipe"),
        ("engine", "harness.engines.Engine.command"),
        ("sandbox", "harness.sandboxes.SandboxKind"),
        ("stage", "harness.stage.Stage.run"),
        ("statistics", "harness.statistics.judge"),
    ):
        assert f'id="{name}"' in (site / "reference" / f"{page}.html").read_text("utf-8"), name
