"""Stored script injection, tried in Chromium on the pages that other tests read as text alone: the trend of
the nights and the sentences of a response. The report and the viewer are tried in `tests/reports/`.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from harness.nightly.config import Asked, Nightly
from harness.nightly.history import Flip
from reports.plots import Class
from reports.sentences import Explained, write_sentences
from reports.trend import write_trend
from tests.browser.chromium import View, browser, needs_chromium, opened
from tests.nightly_history import NAME, made_history

HOSTILE = (
    "<script>window.hit = 1</script></script></title></style></svg></pre></textarea>-->]]>"
    "<img src=x onerror='window.hit = 2'><svg onload='window.hit = 3'></svg><body onload=window.hit=4>"
    "\"' autofocus onfocus='window.hit = 5' x='<iframe srcdoc=\"<script>parent.hit = 6</script>\"></iframe>"
    "<a href='javascript:window.hit = 7'>click</a><base href='//evil.example/'><style>@import"
    " '//evil.example'</style>{{ 7*7 }}"
)
CONTROL = "\u2028\x00\x1b[31m"
HIT = "window.hit === undefined ? '' : String(window.hit)"
PLANTED = (
    "document.querySelectorAll(\"script:not([data-own]), img, iframe, base, a[href^='javascript']\").length"
)


@dataclass(frozen=True)
class Sentence:
    text: str
    kind: Class
    teacher: float = -0.1
    student: float = -1.5


def check(view: View, own_scripts: int = 0) -> None:
    """Nothing ran, nothing was asked for, and no element came of the text."""
    assert view.page.evaluate(HIT) == ""
    assert view.requests == []
    assert view.complaints == []
    assert view.page.evaluate(PLANTED) <= own_scripts
    assert "window.hit = 1" in view.page.inner_text("body")


@needs_chromium
def test_no_text_of_a_night_or_a_response_becomes_script(tmp_path: Path) -> None:
    history = made_history(tmp_path / "h.sqlite", nights=3, drop_on=3)
    nights = history.nights(NAME)
    history.close()
    (result, *_) = nights[-1].results
    bad = replace(
        result,
        checkpoint=HOSTILE,
        benchmark=HOSTILE,
        changed=(HOSTILE + CONTROL,),
        versions={"engine": HOSTILE, "version": HOSTILE},
        flips=(Flip(question=HOSTILE, before=1.0, last=1.0, tonight=0.0),),
        judged=replace(result.judged, reason=HOSTILE),
    )
    config = Nightly(name=NAME, checkpoints=(Asked(model=HOSTILE, benchmarks=("aime24",)),))
    write_trend(tmp_path / "trend.html", config, [replace(nights[-1], results=(bad,), label=HOSTILE)])
    kinds: tuple[Class, ...] = ("teacher", "student", "shared")
    told = Explained(
        title=HOSTILE + CONTROL,
        prompt=HOSTILE,
        facts={HOSTILE: HOSTILE},
        margin=0.5,
        sentences=[Sentence(HOSTILE + CONTROL, kind) for kind in kinds],
    )
    write_sentences(tmp_path / "sentences.html", told)
    write_sentences(tmp_path / "sentences.svg", told)
    with browser() as started:
        for name in ("trend.html", "sentences.html"):
            with opened(tmp_path / name, using=started) as view:
                check(view)
        with opened(tmp_path / "sentences.svg", using=started) as view:
            assert view.page.evaluate(HIT) == ""
            assert view.requests == []


@needs_chromium
@pytest.mark.parametrize("text", ["<script>window.hit = 1</script>", "<img src=x onerror='window.hit = 1'>"])
def test_a_page_that_does_not_escape_would_be_caught(tmp_path: Path, text: str) -> None:
    (tmp_path / "bad.html").write_text(f"<!doctype html><title>x</title><p>{text}</p>")
    with opened(tmp_path / "bad.html") as view:
        view.page.wait_for_function("window.hit === 1")
