"""The page of a report: what it says without a browser, and how it behaves in one."""

import re
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from reports.claim_table import against_authors, claim_table, headline
from reports.interval import drawn, reach
from reports.page import Report, Section, numeric, parts, write_report
from reports.table import Entry
from tests.browser.chromium import browser, needs_chromium, opened
from tests.reports.made import HOSTILE, made_report
from tests.reports.on_page import column, unfold, verdicts_shown

VERDICTS = ("reproduced", "not reproduced", "inconclusive", "not measured")


def claimed(**fields: object) -> Entry:
    return replace(Entry(recipe="r", row="final", benchmark="b", published=50.0, margin=2.0), **fields)


# Words and geometry


def test_the_headline_counts_every_claim_once():
    verdicts = ["reproduced"] * 13 + ["inconclusive", "not reproduced"]
    entries = [claimed(verdict=verdict) for verdict in verdicts] + [claimed(published=None)]
    assert headline(entries) == "13 of 15 claims reproduced, 1 inconclusive, 1 not reproduced"
    assert headline([claimed(verdict="not measured")]) == "0 of 1 claims reproduced, 1 not measured"


def test_the_headline_without_claims_counts_no_number_as_a_score_that_is_none():
    score = claimed(published=None, measured=50.0)
    part, open_ = replace(score, not_a_score=("part",)), replace(score, ungraded=2)
    assert headline([score]) == "1 score; nothing is claimed about it"
    assert headline([score, score]) == "2 scores; nothing is claimed about them"
    told = "1 score, 1 not a score, 1 ungraded in part; nothing is claimed about them"
    assert headline([score, part, open_]) == told
    assert headline([part]) == "1 not a score; nothing is claimed about it"


def test_no_reproduction_is_compared_with_what_is_no_score_or_with_its_own_answers():
    own = claimed(measured=50.0, questions=9, model="m", se_rerun=3.0)
    theirs = replace(own, row="released", measured=51.0, se_rerun=4.0)
    part = replace(theirs, not_a_score=("part",))
    apart = {"eval/final/b": "mark-1", "eval/released/b": "mark-2"}
    assert against_authors([theirs, own], apart) == [(own, -1.0, 5.0)]
    assert against_authors([part, own], apart) == []
    assert against_authors([theirs, replace(own, not_a_score=("part",))], apart) == []
    assert against_authors([theirs, own], dict.fromkeys(apart, "mark-1")) == []


def test_only_a_recipe_that_measures_the_authors_checkpoint_has_a_column_for_it():
    own = claimed(verdict="reproduced", measured=50.0, questions=9, model="m")
    theirs = replace(own, row="released", measured=51.0)
    without, beside = claim_table([own], False), claim_table([theirs, own], False)
    assert without is not None
    assert beside is not None
    assert [column.heading for column in without.columns][2:4] == ["published", "measured ± SE"]
    headings = [column.heading for column in beside.columns]
    assert headings[2:5] == ["published", "authors’ checkpoint, our harness", "our reproduction"]
    assert [[cell.text for cell in cells[3:5]] for _, cells in beside.lines] == [
        ["51.0 ± ?", "–"],
        ["51.0 ± ?", "50.0 ± ?"],
    ]


def test_all_intervals_share_one_scale_and_a_far_one_is_cut():
    near = claimed(delta=0.0, interval=(-1.0, 1.0))
    far = claimed(delta=-40.0, interval=(-41.0, -39.0))
    ends = reach([near, far])
    assert ends == 8.0
    middle, left = drawn(near, ends), drawn(far, ends)
    assert middle is not None
    assert left is not None
    assert (middle.low, middle.delta, middle.high) == (97.5, 110.0, 122.5)
    assert (left.cut_low, left.cut_high, left.low, left.delta) == (True, False, 10.0, 10.0)
    assert middle.told == "the interval lies inside the margin"
    assert left.told == "the interval lies wholly outside the margin"
    assert drawn(claimed(), ends) is None


def test_two_sections_of_one_title_have_anchors_of_their_own():
    twice = [Section(title="Same", columns=["a"], rows=[[1]], group="stage")] * 2
    (part,) = parts(Report(recipe="r", summary="s", entries=[], sections=twice))
    assert [(anchor, section.title) for anchor, section in part.sections] == [
        ("s-same", "Same"),
        ("s-same-2", "Same (2)"),
    ]


def test_columns_of_numbers_stand_to_the_right_and_versions_do_not():
    cells = [
        "1,680",
        "-0.3 ± 0.2",
        "50.0 to 51.2 ○",
        "44 (27.5%)",
        "3 min 17 s",
        "+1.0 [-0.2, +2.2]",
        "0 of 4",
    ]
    other = ["0.32.0", "2026-01-05", "4 GPUs", "sft-1234", "12 of them"]
    row = [*cells, *other]
    section = Section(
        title="t", columns=[str(place) for place in range(len(row))], rows=[row, [None] * len(row)]
    )
    assert numeric(section) == [True] * len(cells) + [False] * len(other)


# In a browser


@pytest.fixture(scope="module")
def report() -> Report:
    return made_report()


@pytest.fixture(scope="module")
def made(report: Report, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of the made report."""
    folder = tmp_path_factory.mktemp("page")
    write_report(folder, report)
    return folder / "report.html"


@pytest.fixture(scope="module")
def chrome() -> Iterator[Browser]:
    with browser() as started:
        yield started


@needs_chromium
@pytest.mark.parametrize("dark", [False, True])
def test_page_is_quiet_complete_and_accessible(report: Report, made: Path, chrome: Browser, dark: bool):
    with opened(made, dark=dark, using=chrome) as view:
        unfold(view)
        assert view.accessibility() == []
        expected = Counter(entry.verdict or "no claim" for entry in report.entries)
        assert set(VERDICTS) < set(expected)
        assert Counter(verdicts_shown(view)) == expected
        assert (view.requests, view.complaints) == ([], [])


@needs_chromium
def test_without_scripts_every_verdict_is_there_and_nothing_that_does_not_work(
    report: Report, made: Path, chrome: Browser
):
    with opened(made, scripts=False, using=chrome) as view:
        assert len(verdicts_shown(view)) == len(report.entries)
        assert view.page.locator("button:visible, select:visible, input:visible").count() == 0


@needs_chromium
def test_keyboard_alone_sorts_and_filters(made: Path, chrome: Browser):
    with opened(made, using=chrome) as view:
        keys = view.page.keyboard
        before = column(view, 3)
        view.page.locator("#claims th button", has_text="published").focus()
        keys.press("Enter")
        head = view.page.locator("#claims th", has_text="published")
        assert head.get_attribute("aria-sort") == "ascending"
        values = [float(text) for text in column(view, 3) if text != "–"]
        assert values == sorted(values)
        assert column(view, 3)[-1] == "–"
        keys.press("Space")
        assert [float(text) for text in column(view, 3) if text != "–"] == values[::-1]
        keys.press("Enter")
        assert column(view, 3) == before
        view.page.get_by_label("Verdict").focus()
        keys.type("not rep")
        assert set(verdicts_shown(view)) == {"not reproduced"}
        assert view.page.locator("output").inner_text() == f"{len(column(view, 1))} of 25 lines"
        view.page.get_by_label("Text").focus()
        keys.type("stage1 lcb")
        assert column(view, 1) == ["stage1"]
        keys.press("Tab")
        keys.press("Enter")
        view.page.locator("output", has_text="25 of 25 lines").wait_for()


@needs_chromium
def test_other_tables_sort_by_what_a_cell_says_and_keep_their_sums_last(tmp_path: Path, chrome: Browser):
    columns = {
        "id": ["2024-I-10", "2024-II-1", "2024-I-9"],
        "wall time": ["1 h 0 min", "59.9 s", "≥ 16 min 50 s"],
        "version": ["1.15.0", "2.0.0", "1.9.0"],
        "rows": ["1,680", "97 (5.8%)", "–"],
        "score": ["9.0 ± 0.2", "-0.3 ± 0.2", "10.0 to 12.0 ○"],
        "hours": ["16 GPU", "≥ 2 GPU", "100 CPU"],
    }
    rows = [*zip(*columns.values(), strict=True), ("all", "0.0 s", "0.0.0", "0", "0", "0 GPU + 0 CPU")]
    section = Section(title="Mixed", columns=list(columns), rows=rows, group="stage", totals=1)
    write_report(tmp_path, Report(recipe="r", summary="s", entries=[], sections=[section]))
    order = {"id": (2, 0, 1), "wall time": (1, 2, 0), "version": (2, 0, 1), "rows": (1, 0, 2),
             "score": (1, 0, 2), "hours": (1, 0, 2)}  # fmt: skip
    with opened(tmp_path / "report.html", using=chrome) as view:
        for place, (name, cells) in enumerate(columns.items(), 1):
            view.page.locator("#s-mixed th button", has_text=name).press("Enter")
            shown = view.page.locator(f"#s-mixed tbody tr > :nth-child({place})").all_inner_texts()
            assert shown[:3] == [cells[number] for number in order[name]], name
            assert view.page.locator("#s-mixed tbody tr:last-child > th").inner_text() == "all"


@needs_chromium
def test_strings_of_strangers_stay_text(made: Path, chrome: Browser):
    with opened(made, using=chrome) as view:
        view.page.wait_for_timeout(100)
        assert view.page.title().startswith("dasd-4b")
        assert view.page.locator("img, main h1").count() == 0
        told = view.page.locator("#s-errors").inner_text()
        assert all(text in told for text in HOSTILE[:5])
        assert "{{ 7 * 7 }} &amp; \ufffdtxet" in told


@needs_chromium
def test_policy_stops_what_escaping_would_let_through(made: Path, chrome: Browser, asked: list[str]):
    url = asked.pop()
    inserted = f"<script>document.title = 'run'</script><img src='{url}/x'><b onclick='1'>"
    broken = made.with_name("broken.html")
    text = made.read_text(encoding="utf-8")
    broken.write_text(text.replace("<main", f"{inserted}<main", 1), encoding="utf-8")
    with opened(broken, using=chrome) as view:
        view.page.evaluate("url => fetch(url + '/y').catch(() => 0)", url)
        assert view.page.title().startswith("dasd-4b")
        assert asked == []
        assert sum("Content Security Policy" in line for line in view.complaints) >= 4
    open_door = made.with_name("open.html")
    open_door.write_text(f"<img src='{url}/x'>", encoding="utf-8")
    with opened(open_door, using=chrome):
        assert asked == ["/x"]


@pytest.fixture
def asked() -> Iterator[list[str]]:
    """What a server of this machine was asked for; its own URL is the first."""
    paths: list[str] = []

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            paths.append(self.path)
            self.send_error(404)

        def log_message(self, *told: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        paths.append(f"http://127.0.0.1:{server.server_port}")
        yield paths
        server.shutdown()


@needs_chromium
def test_print_shows_what_is_folded_and_no_controls(made: Path, chrome: Browser, tmp_path: Path):
    with opened(made, using=chrome, scripts=False) as view:
        view.page.emulate_media(media="print")
        assert view.page.locator("nav:visible, form:visible, button:visible").count() == 0
        assert view.page.get_by_text("right responses that round to it").bounding_box() is not None
        assert len(re.findall(rb"/Type\s*/Page\b", view.pdf(tmp_path / "page.pdf").read_bytes())) > 3
    with opened(made, using=chrome) as view:
        view.pdf(tmp_path / "page.pdf")
        assert view.page.locator("#claims th button").count() == 8
        assert view.page.locator("details[open]").count() == 0
        assert view.complaints == []


@needs_chromium
def test_a_telephone_scrolls_tables_and_not_the_page(made: Path, chrome: Browser):
    with opened(made, width=400, using=chrome) as view:
        assert view.page.evaluate("document.documentElement.scrollWidth") == 400


@needs_chromium
def test_the_command_can_be_copied(made: Path, chrome: Browser):
    with opened(made, using=chrome) as view:
        view.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        view.page.get_by_role("button", name="Copy").press("Enter")
        view.page.get_by_role("button", name="Copied").wait_for()
        copied = view.page.evaluate("navigator.clipboard.readText()")
        assert copied == "harness reproduce dasd-4b --engine vllm\nharness report dasd-4b"
