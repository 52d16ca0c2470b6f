"""The trend page: one file without a network, in which nothing of a model's becomes markup."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from harness.nightly.config import Asked, Gate, Nightly
from harness.nightly.history import Flip, Night
from reports.nightly import JUDGED, cells
from reports.trend import write_trend
from tests.nightly_history import NAME, made_history

CONFIG = Nightly(name=NAME, checkpoints=(Asked(model="x", benchmarks=("aime24",)),))


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory) -> list[Night]:
    history = made_history(tmp_path_factory.mktemp("made") / "h.sqlite", nights=9, drop_on=9)
    found = history.nights(NAME)
    history.close()
    return found


def page(folder: Path, nights: list[Night], config: Nightly = CONFIG) -> str:
    write_trend(folder / "trend.html", config, nights)
    return (folder / "trend.html").read_text(encoding="utf-8")


class Balanced(HTMLParser):
    """Raises where an element is closed that is not open."""

    EMPTY = ("meta", "br", "link")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attributes: object) -> None:
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_shows_each_line_its_gate_and_the_published_value_that_it_does_not_gate_on(
    tmp_path: Path, nights: list[Night]
) -> None:
    text = page(tmp_path, nights)
    for line in ("dasd-4b/aime24", "dasd-4b/gpqa_diamond", "dasd-4b/lcb_v6"):
        assert text.count(f">{line}</") == 2
    assert text.count("<svg") == 6
    assert "published: shown, not gated on" in text
    assert text.count('<span class="regression">regression</span>') >= 2
    assert "no response is replayed from a cache" in text
    parser = Balanced()
    parser.feed(text)
    assert parser.open == []


def test_both_tables_of_the_page_have_what_the_terminal_has(tmp_path: Path, nights: list[Night]) -> None:
    text = page(tmp_path, nights)
    head = "".join(f'<th scope="col">{name}</th>\n' for name in JUDGED)
    assert head in text
    assert head.replace("\n", "") in text
    for result in nights[-1].results:
        for cell in cells(JUDGED, result)[1:]:
            assert text.count(f"<td>{cell}</td>") >= 2


def test_the_page_asks_no_network_and_is_the_same_each_time(tmp_path: Path, nights: list[Night]) -> None:
    text = page(tmp_path, nights)
    assert not re.search(r"""(?:src|href)=["'](?!#)""", text.replace('xlink:href="#', ""))
    assert not re.search(r"@import|url\((?!#)", text)
    assert page(tmp_path, nights) == text
    identifiers = re.findall(r'\bid="([^"]+)"', text)
    named = [one for one in identifiers if one.endswith(("-title", "-desc")) or one.startswith("line-")]
    assert len(named) == len(set(named))


def test_what_comes_from_outside_is_escaped(tmp_path: Path, nights: list[Night]) -> None:
    bad = "<script>alert(1)</script>"
    (result, *_) = nights[-1].results
    result = replace(
        result,
        checkpoint=bad,
        benchmark=bad,
        changed=(bad,),
        versions={"engine": bad, "version": bad},
        flips=(Flip(question=bad, before=1.0, last=1.0, tonight=0.0),),
        judged=replace(result.judged, reason=bad),
    )
    text = page(tmp_path, [replace(nights[-1], results=(result,), label=bad)])
    assert "<script" not in text
    assert text.count("&lt;script&gt;") > 8


def test_a_history_without_a_score_or_without_a_night_is_a_page_too(
    tmp_path: Path, nights: list[Night]
) -> None:
    assert "No night is over yet" in page(tmp_path, [])
    empty = [replace(one, score=None, responses=0, error=None) for one in nights[0].results]
    text = page(tmp_path, [replace(nights[0], results=tuple(empty))])
    assert "<svg" not in text


def test_the_page_says_what_its_level_is(tmp_path: Path, nights: list[Night]) -> None:
    assert "noise alone turns 1 % of nights red" in page(tmp_path, nights)
    by_k = Nightly(name=NAME, checkpoints=CONFIG.checkpoints, gate=Gate(k=3.0))
    assert "each test alone" in page(tmp_path, nights, by_k)
