"""The viewer: what it lists, what it shows of a sample, and that nothing a model wrote takes effect."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote, urlencode

import pytest
from playwright.sync_api import expect

from benchmarks.micro import MicroMath, micro_code, micro_math
from harness.benchmark import Benchmark
from harness.errors import UsageError
from reports.view.choosing import choose, wanted_of
from reports.view.difference import LONGEST_LINE, MOST_CHARACTERS, MOST_LINES, difference
from reports.view.failing import failing_of
from reports.view.found import find_evaluations
from reports.view.index import length_of, natural, read_columns, together
from reports.view.questions import Library
from reports.view.text import LONGEST, visible, whole_or_ends
from tests.browser.chromium import browser, needs_chromium, opened
from tests.reports.viewed import MODEL, Run, Sample, program, sample, sums

ROOT = Path(__file__).parents[2]
HOSTILE = (
    "<script>window.hit = 1</script></script></pre></details><img src=x onerror='window.hit = 2'>"
    "<svg onload='window.hit = 3'></svg>[click](javascript:window.hit=4) <a href='//evil.example'>x</a> "
    '"><style>*{display:none}</style>{{ 7 * 7 }} \x1b[31mred \u202etxet\u202c nul:\x00. \ud7ff\u2028end\r\n'
)


@contextmanager
def viewing(runs: Path, *arguments: str) -> Iterator[str]:
    """The URL of the real command, without its last slash."""
    command = [sys.executable, "-m", "harness.cli", "view", *arguments, "--runs", str(runs), "--port", "0"]
    with subprocess.Popen(
        [*command, "--json"], stdout=subprocess.PIPE, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}
    ) as process:
        try:
            assert process.stdout is not None
            yield json.loads(process.stdout.readline())["url"].rstrip("/")
        finally:
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=60) == 0


def fetched(url: str, **headers: str) -> tuple[int, str, dict[str, str]]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers)) as answer:
            return answer.status, answer.read().decode(), dict(answer.headers)
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(), dict(error.headers)


def listed(url: str, **query: str) -> list[str]:
    """The samples that a page of the list has, as their addresses say."""
    _, text, _ = fetched(f"{url}/?{urlencode(query)}")
    return re.findall(r'class="open" href="/sample/([^"?]+)', text)


def path_of(one: Sample, benchmark: str = micro_math.name) -> str:
    row, _ = one
    return f"/sample/{MODEL}/{benchmark}/{row.draw}/{quote(row.question, safe='')}"


def odd(draw: int = 0) -> list[Sample]:
    """One of each verdict but plain right and wrong."""
    question = micro_math.load(None)[20]
    return [
        sample(question, draw, "", correct=False, extracted=None, finish="length", reason="truncated"),
        sample(question, draw + 1, "7", correct=False, extracted=None, reason="no answer", lenient=True),
        sample(question, draw + 2, "7", correct=None, extracted=None, reason="sandbox: it went away"),
    ]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs of the same questions, which differ in some verdicts; one has programs too."""
    runs = tmp_path_factory.mktemp("runs")
    one, other = Run(runs=runs, name="one"), Run(runs=runs, name="other")
    one.write(micro_math, [*sums(), *odd()])
    other.write(micro_math, sums(right=lambda number, draw: number % 2 == 0))
    question = micro_code.load(None)[0]
    one.write(
        micro_code,
        [
            program(question, 0, "print(1)\nprint(2)", [True, True, -2], "wrong answer", -2),
            program(question, 1, "import x", [-4], "load error: ModuleNotFoundError: x", -4),
            program(question, 2, "print(3)", [True, True], "", None),
            program(question, 3, "print(3)", [-4], "runtime error: ValueError", -4),
        ],
    )
    return runs


@pytest.fixture(scope="module")
def url(two: Path) -> Iterator[str]:
    with viewing(two, "one", "other") as found:
        yield found


# The list -----------------------------------------------------------------------------------


def chosen(runs: Path, query: list[tuple[str, str]], other: str | None = None) -> list[tuple[str, int]]:
    """The keys that a query leaves, in its order."""
    store = Run(runs=runs, name="one").store
    others = together([read_columns(one) for one in find_evaluations(store, other)]) if other else None
    parts = [read_columns(one) for one in find_evaluations(store, "one") if one.benchmark == "micro_math"]
    samples = together(parts, others, [(0, 0)] if others else [])
    found = choose(samples, wanted_of(query))
    return [(samples.questions[samples.question[place]], int(samples.draw[place])) for place in found.places]


def test_every_verdict_is_counted_once(two: Path) -> None:
    store = Run(runs=two, name="one").store
    samples = together([read_columns(one) for one in find_evaluations(store, "one")])
    facets = {facet.name: dict(facet.values) for facet in choose(samples, wanted_of([])).facets}
    assert sum(facets["verdict"].values()) == len(samples) == 24 + 3 + 4
    assert (
        facets["verdict"]["truncated"] == facets["verdict"]["no answer"] == facets["verdict"]["ungraded"] == 1
    )
    assert facets["error"] == {"sandbox": 1, "−2 wrong answer": 1, "−4 runtime error": 2}
    assert facets["lenient"] == {"right by the lenient rule only": 1}


def test_a_facet_counts_what_the_other_filters_leave_and_not_its_own(two: Path) -> None:
    store = Run(runs=two, name="one").store
    samples = together([read_columns(one) for one in find_evaluations(store, "one")])
    found = choose(samples, wanted_of([("benchmark", "micro_code"), ("verdict", "wrong")]))
    facets = {facet.name: dict(facet.values) for facet in found.facets}
    assert facets["verdict"] == {"correct": 1, "wrong": 3}
    assert facets["benchmark"] == {"micro_math": samples_wrong(two), "micro_code": 3}


def samples_wrong(runs: Path) -> int:
    return len(chosen(runs, [("verdict", "wrong")]))


def test_two_values_of_a_facet_take_either(two: Path) -> None:
    either = chosen(two, [("verdict", "truncated"), ("verdict", "ungraded")])
    assert [draw for _, draw in either] == [0, 2]


def test_flips_are_told_as_compare_tells_them_and_only_where_both_have_a_verdict(two: Path) -> None:
    ours = {(row.question, row.draw): bool(grade and grade.correct) for row, grade in sums()}
    theirs = {
        (row.question, row.draw): bool(grade and grade.correct)
        for row, grade in sums(right=lambda number, draw: number % 2 == 0)
    }
    gained = {key for key in ours if theirs[key] and not ours[key]}
    lost = {key for key in ours if ours[key] and not theirs[key]}
    assert gained
    assert lost
    assert set(chosen(two, [("flip", "gained")], "other")) == gained
    assert set(chosen(two, [("flip", "lost")], "other")) == lost
    assert set(chosen(two, [("flip", "same")], "other")) == ours.keys() - gained - lost


def test_order_by_tokens_is_that_of_the_rows_and_draws_break_ties(two: Path) -> None:
    tokens = {(row.question, row.draw): row.completion_tokens for row, _ in [*sums(), *odd()]}
    up = [tokens[key] for key in chosen(two, [("sort", "tokens")])]
    assert up == sorted(tokens.values())
    assert [tokens[key] for key in chosen(two, [("sort", "-tokens")])] == sorted(
        tokens.values(), reverse=True
    )


def test_questions_are_counted_in_numbers_not_in_letters() -> None:
    names = ["2024-I-10", "2024-I-9", "2024-II-1", "x", "10"]
    assert sorted(names, key=natural) == ["10", "2024-I-9", "2024-I-10", "2024-II-1", "x"]


def test_nonsense_in_an_address_shows_everything(url: str) -> None:
    status, text, _ = fetched(f"{url}/?sort=up&page=-3&page=many&verdict=&flip=%00&q={'x' * 300}&other=1")
    assert status == 200
    assert "No sample is like that" in text
    assert len(listed(url, sort="up", page="99999999")) == 31


def test_a_search_takes_any_part_of_an_id(two: Path) -> None:
    name = micro_math.load(None)[3].id
    assert {question for question, _ in chosen(two, [("q", name[1:].upper())])} == {name}


def test_the_length_of_a_row_is_read_from_its_end_and_no_text_passes_for_it(tmp_path: Path) -> None:
    question = micro_math.load(None)[0]
    text = 'x","finish_reason":"length","prompt_tokens":1,"completion_tokens":999,"'
    run = Run(runs=tmp_path, name="one")
    run.write(micro_math, [sample(question, 0, text, tokens=5), sample(question, 1, text * 200, tokens=6)])
    (columns,) = [read_columns(one) for one in find_evaluations(run.store, "one")]
    assert columns.tokens.tolist() == [5, 6]
    rewritten = columns.evaluation.rows
    rewritten.write_text("\n".join(json.dumps(json.loads(line)) for line in rewritten.open()) + "\n")
    rewritten.with_name("generations.jsonl.places").unlink()
    assert read_columns(columns.evaluation).tokens.tolist() == [5, 6], "spaces between the fields"
    with rewritten.open("rb") as file:
        assert length_of(file, 0, len(file.readline())).finish == "stop"


# A run under way ----------------------------------------------------------------------------


def test_a_run_under_way_is_shown_as_far_as_it_is_and_grows(tmp_path: Path) -> None:
    run, (first, *rest) = Run(runs=tmp_path, name="one"), sums(count=1, draws=3)
    run.write(micro_math, [first], finished=False)
    with viewing(tmp_path, "one") as url:
        assert len(listed(url)) == 1
        run.write(micro_math, [(row, None) for row, _ in rest], finished=False)
        rows = find_evaluations(run.store, "one")[0].rows
        with rows.open("ab") as torn:
            torn.write(b'{"question":"half a row')
        for _ in range(100):
            if len(listed(url)) == 3:
                break
            subprocess.run(["sleep", "0.1"], check=True)
        assert len(listed(url, verdict="not graded yet")) == 2
        assert "2 not graded yet" in fetched(f"{url}/")[1]


def test_a_run_that_has_nothing_yet_says_so(tmp_path: Path) -> None:
    Run(runs=tmp_path, name="one").write(micro_math, [], finished=False)
    with viewing(tmp_path, "one") as url:
        assert "There is no row yet" in fetched(f"{url}/")[1]


def test_unknown_runs_and_rows_are_answered_with_the_nearest(two: Path) -> None:
    store = Run(runs=two, name="one").store
    with pytest.raises(UsageError, match="Did you mean 'other'"):
        find_evaluations(store, "othr")
    with pytest.raises(UsageError, match=f"no row 'stud'.*{MODEL}"):
        find_evaluations(store, "one/stud")


# A sample -----------------------------------------------------------------------------------


def test_a_sample_tells_what_was_asked_and_answered_and_how(url: str) -> None:
    one = sums()[0]
    row, grade = one
    _, text, _ = fetched(url + path_of(one))
    assert grade is not None
    for told in (
        "Think first.",
        row.prompt,
        row.answer,
        str(row.seed),
        "vllm 0.32.0",
        "float32",
        "request-0",
    ):
        assert str(visible(told)) in text
    assert re.search(r"<details class=\"part thinking\"><summary>Thinking", text), "thinking is folded"
    question = micro_math.load(None)[0]
    assert re.search(rf"<dt>expected</dt><dd><code class=\"answer\"><bdi>{question.gold}<", text)
    assert re.search(rf"<dt>extracted</dt><dd><code class=\"answer\"><bdi>{grade.extracted}<", text)


def test_a_program_stands_with_the_test_that_it_failed(url: str) -> None:
    question = micro_code.load(None)[0]
    tests, _ = micro_code.tests(question)
    _, text, _ = fetched(f"{url}/sample/{MODEL}/micro_code/0/{quote(question.id, safe='')}")
    assert f"Failed test 3 of {len(tests)}" in text
    assert str(visible(tests[2].input.strip())) in text
    assert str(visible(tests[2].output.strip())) in text
    assert '<span class="line">print(1)\n</span><span class="line">print(2)\n</span>' in text


def test_where_the_whole_program_failed_no_test_is_named() -> None:
    whole = failing_of({"results": [-4], "message": "load error: SyntaxError"})
    first = failing_of({"results": [-4], "message": "runtime error: ValueError"})
    assert whole is not None
    assert whole.number is None
    assert first is not None
    assert first.number == 1
    assert failing_of({"results": [True, True]}) is None
    assert failing_of({}) is None


class GoneBenchmark(MicroMath):
    """Of a kind that the command does not know."""


def test_without_the_data_set_the_sample_is_shown_and_says_what_is_missing(tmp_path: Path) -> None:
    Run(runs=tmp_path, name="one").write(GoneBenchmark(name="micro_math"), sums(count=1, draws=1))
    with viewing(tmp_path, "one") as url:
        status, text, _ = fetched(url + path_of(sums(count=1, draws=1)[0]))
        assert status == 200
        assert "no benchmark of the kind &#39;GoneBenchmark&#39;" in text
        assert len(listed(url)) == 1


def test_a_data_set_that_broke_its_loader_is_read_again_once_it_is_mended(two: Path) -> None:
    evaluation = next(iter(find_evaluations(Run(runs=two, name="one").store, "one")))
    known: dict[str, Benchmark] = {}

    def benchmarks() -> dict[str, Benchmark]:
        if not known:
            raise LookupError("a column is missing")
        return known

    async def pages() -> int:
        with ThreadPoolExecutor(1) as threads:
            library = Library(benchmarks=benchmarks, data=None, threads=threads)
            with pytest.raises(LookupError):
                await library.of(evaluation, 60)
            known.update(micro_math=micro_math, micro_code=micro_code)
            loaded = await library.of(evaluation, 60)
        assert loaded is not None
        return len(loaded.questions)

    assert asyncio.run(pages()) > 0


def test_the_next_sample_is_the_next_of_those_that_are_wanted(url: str) -> None:
    wrong = listed(url, verdict="wrong")
    _, text, _ = fetched(f"{url}/sample/{wrong[1]}?verdict=wrong")
    assert re.search(r'rel="prev" href="/sample/([^"?]+)', text)[1] == wrong[0]  # type: ignore[index]
    assert re.search(r'rel="next" href="/sample/([^"?]+)', text)[1] == wrong[2]  # type: ignore[index]
    assert f"2 of {len(wrong)}" in text


def test_a_row_and_a_verdict_are_given_as_they_are_stored(url: str, two: Path) -> None:
    row, grade = sums()[5]
    assert grade is not None
    path = path_of((row, grade)).removeprefix("/sample")
    assert json.loads(fetched(f"{url}/stored/ours/row{path}")[1])["text"] == row.text
    assert json.loads(fetched(f"{url}/stored/ours/grade{path}")[1])["extracted"] == grade.extracted
    assert json.loads(fetched(f"{url}/stored/theirs/row{path}")[1])["question"] == row.question
    assert fetched(f"{url}/stored/theirs/row{path}-")[0] == 404


def test_two_runs_stand_beside_each_other_and_line_by_line(url: str) -> None:
    one = next(
        each
        for each in sums()
        if each[1] and not each[1].correct and each[0].question == sums()[0][0].question
    )
    _, whole, _ = fetched(url + path_of(one))
    _, lines, _ = fetched(url + path_of(one) + "?texts=lines")
    assert whole.count('class="response"') == 2
    assert "the same in both" in lines
    assert '<tr class="changed">' in lines


# Hostile text -------------------------------------------------------------------------------


def test_only_this_machine_s_names_are_answered_and_no_page_may_run_a_script_of_its_own(url: str) -> None:
    status, text, _ = fetched(url, Host="evil.example")
    assert status == 403
    assert "sum-" not in text
    assert fetched(url, Host="localhost:9999")[0] == 200, "a tunnel has another port"
    _, _, headers = fetched(url)
    assert "default-src 'none'; script-src 'self'" in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert fetched(f"{url}/static/../view/page.html.j2")[0] == 404
    assert fetched(f"{url}/static/%2e%2e%2f%2e%2e%2fpublish.py")[0] == 404


def test_where_other_computers_are_let_in_they_need_the_secret_of_the_address(two: Path) -> None:
    with viewing(two, "one", "--host", "0.0.0.0") as url:
        here, _, secret = url.replace("0.0.0.0", "127.0.0.1").rpartition("/")
        assert len(secret) >= 20
        assert fetched(f"{here}/{secret}/", Host="cluster.example")[0] == 200
        for path in ("/", f"/{secret[:-1]}/", f"/{secret[:-1]}x/", "/static/view.js", "/favicon.ico"):
            status, text, _ = fetched(here + path)
            assert status == 404
            assert secret not in text


def test_nothing_can_be_changed(url: str) -> None:
    for method in ("POST", "PUT", "DELETE"):
        request = urllib.request.Request(f"{url}/", method=method)
        with pytest.raises(urllib.error.HTTPError, match="405") as refused:
            urllib.request.urlopen(request)
        assert "default-src 'none'" in refused.value.headers["Content-Security-Policy"]
        assert refused.value.headers["X-Content-Type-Options"] == "nosniff"


def test_what_cannot_be_seen_is_named() -> None:
    shown = str(visible("a\x00b\x1b[0m\u202ec\r\n\td\ufeff\u2066 水"))
    assert re.sub(r"<span[^>]*>([^<]*)</span>", r"{\1}", shown) == (
        "a{NUL}b{ESC}[0m{U+202E}c{CR}\n\td{U+FEFF}{U+2066} 水"
    )
    assert "<b>" not in str(visible("<b>\x00&amp;"))
    assert "&amp;amp;" in str(visible("&amp;"))


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A run in which the model, the extractor and the grader's message are hostile, beside another such."""
    runs = tmp_path_factory.mktemp("hostile")
    sum_, code = micro_math.load(None)[0], micro_code.load(None)[0]
    for name in ("one", "other"):
        run = Run(runs=runs, name=name)
        run.write(
            micro_math,
            [
                sample(sum_, draw, HOSTILE + name, thinking=HOSTILE, correct=False, extracted=HOSTILE,
                       prompt=HOSTILE, reason=HOSTILE)
                for draw in range(3)
            ],
        )  # fmt: skip
        run.write(micro_code, [program(code, 0, HOSTILE, [True, -4], f"runtime error: {HOSTILE}", -4)])
    with viewing(runs, "one", "other") as url:
        yield url


@needs_chromium
def test_no_text_takes_effect_in_a_browser(hostile: str) -> None:
    question, code = micro_math.load(None)[0], micro_code.load(None)[0]
    addresses = [
        "/",
        f"/?error={quote(HOSTILE)}&q={quote(HOSTILE)}",
        f"/sample/{MODEL}/micro_math/0/{quote(question.id, safe='')}",
        f"/sample/{MODEL}/micro_math/0/{quote(question.id, safe='')}?texts=lines&error={quote(HOSTILE)}",
        f"/sample/{MODEL}/micro_code/0/{quote(code.id, safe='')}",
        f"/sample/{quote(HOSTILE.replace(chr(0), ''), safe='')}/x/0/y",
    ]
    with browser() as chromium:
        for address in addresses:
            with opened(hostile + address, using=chromium) as view:
                view.page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true })")
                assert view.page.evaluate("window.hit") is None
                assert (
                    view.page.locator("main :is(script, img, svg, style, a[href^='javascript:'])").count()
                    == 0
                )
                assert all(asked.startswith(hostile) for asked in view.requests)
                complaints = [one for one in view.complaints if "404" not in one]
                assert complaints == [], address


@needs_chromium
def test_everything_can_be_reached_by_keys_and_by_readers_of_the_screen(url: str) -> None:
    with browser() as chromium, opened(url + "/", using=chromium) as view:
        page = view.page
        assert view.accessibility() == []
        page.keyboard.press("j")
        page.keyboard.press("j")
        second = page.locator(".samples a.open").nth(1)
        assert second.evaluate("one => one === document.activeElement")
        wanted = second.get_attribute("href")
        page.keyboard.press("Enter")
        page.wait_for_url(f"**{wanted}")
        assert not page.locator("details.thinking").first.evaluate("one => one.open")
        page.keyboard.press("t")
        assert page.locator("details.thinking").first.evaluate("one => one.open")
        assert view.accessibility() == []
        page.keyboard.press("j")
        expect(page).to_have_title(re.compile("draw 2"))
        page.keyboard.press("ArrowLeft")
        expect(page).to_have_title(re.compile("draw 1"))
        page.keyboard.press("Escape")
        page.wait_for_url(url + "/")
        page.keyboard.press("/")
        page.keyboard.type(micro_math.load(None)[3].id)
        page.keyboard.press("Enter")
        page.wait_for_url("**/?q=*")
        assert page.locator(".samples a.open").count() == 4
        assert view.complaints == []


@needs_chromium
def test_without_scripts_filters_search_and_samples_work(url: str) -> None:
    with browser() as chromium, opened(url + "/", scripts=False, using=chromium) as view:
        view.page.get_by_role("link", name="ungraded").click()
        assert view.page.locator(".samples a.open").count() == 1
        view.page.locator(".samples a.open").click()
        assert "sandbox: it went away" in view.page.content()


# Bounded work -------------------------------------------------------------------------------


def test_long_texts_are_cut_in_the_middle_and_say_so() -> None:
    shown = whole_or_ends("a" * LONGEST + "bcd" + "e" * LONGEST)
    assert len(shown.start) + len(shown.end) <= LONGEST
    assert len(shown.start) + len(shown.end) + shown.left_out == shown.characters == 2 * LONGEST + 3


def test_long_lines_of_two_texts_are_cut_in_the_middle_and_say_so(tmp_path: Path) -> None:
    question, size = micro_math.load(None)[0], 2_000_000
    for name in ("one", "other"):
        Run(runs=tmp_path, name=name).write(micro_math, [sample(question, 0, name + size * "x")])
    with viewing(tmp_path, "one", "other") as url:
        page = f"{url}{path_of(sample(question, 0, ''))}"
        status, text, _ = fetched(f"{page}?texts=lines")
    assert status == 200
    assert "onexx" in text
    assert "otherxx" in text
    assert f"{size + len('one') - LONGEST_LINE:,} characters left out" in text
    assert len(text) < 3 * LONGEST_LINE


def test_many_long_lines_of_two_texts_are_not_all_shown() -> None:
    left, right = (f"{word}{'x' * LONGEST_LINE}\n" * 40 for word in ("one", "other"))
    found = difference(left, right)
    shown = [side for line in found.lines for side in line.shown]
    assert sum(len(side.start) + len(side.end) for side in shown) == MOST_CHARACTERS
    assert found.cut + len(found.lines) == 41


def test_two_texts_without_a_line_in_common_or_with_one_line_throughout_are_told_apart_roughly() -> None:
    """Each line stands in the other text a hundred times: a full alignment would take minutes."""
    left = "\n".join(str(number * 7 % 150) for number in range(15_000))
    right = "\n".join(str(number * 11 % 150) for number in range(15_000))
    found = difference(left, right)
    assert found.rough
    assert len(found.lines) == MOST_LINES
    assert found.cut > 0
    assert not difference("a\n" * 9_000, "a\n" * 9_001).equal


def test_a_difference_keeps_the_numbers_of_both_sides_and_skips_what_is_equal() -> None:
    left = [str(number) for number in range(30)]
    right = [*left[:10], "new", *left[10:20], "20 changed", *left[21:]]
    lines = difference("\n".join(left), "\n".join(right)).lines
    added = next(line for line in lines if line.kind == "added")
    changed = next(line for line in lines if line.kind == "changed")
    assert (added.right, added.right_number, added.left_number) == ("new", 11, None)
    assert (changed.left_number, changed.right_number, changed.right) == (21, 22, "20 changed")
    shown = sum(line.kind == "same" for line in lines)
    assert shown + sum(line.skipped for line in lines) == 29
