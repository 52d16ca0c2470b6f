"""Pictures of a report: what they show, what model text cannot do to them, and that bytes repeat."""

import functools
import json
import math
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from xml.dom import minidom

import numpy as np
import pytest

from harness.files import write_json, write_rows
from reports.diagnostics import selection_sections, training_sections
from reports.page import Report, write_report
from reports.plots import (
    Class,
    Picture,
    Probabilities,
    Shares,
    Step,
    class_shares,
    common_bins,
    density,
    identifier,
    loss_curve,
    probability_densities,
    sentence_probabilities,
    steps_of,
)

SCRIPT = "</title><script>alert(1)</script> $\\frac{ \x1b[31m \x00 #0072b2"


@dataclass(frozen=True)
class Spoken:
    text: str
    kind: Class
    teacher: float
    student: float


SENTENCES = [
    Spoken("First.", "teacher", -0.1, -2.0),
    Spoken(SCRIPT, "student", -2.0, -0.1),
    Spoken("Last", "shared", -0.5, -0.5),
]


@functools.cache
def pictures() -> tuple[Picture, ...]:
    few, many = np.array([0.5, 0.7]), np.linspace(0.2, 0.9, 50)
    return (
        probability_densities("p", SCRIPT, [Probabilities(model="teacher", candidates=many, kept=few)]),
        class_shares("c", SCRIPT, [Shares(label=SCRIPT, teacher=0.25, shared=0.5, student=0.25)]),
        loss_curve("l", SCRIPT, [Step(at=1, loss=2.0, learning_rate=1e-5), Step(at=2, loss=1.0)]),
        sentence_probabilities("s", SCRIPT, SENTENCES),
    )


def elements(picture: Picture, tag: str) -> list[minidom.Element]:
    return minidom.parseString(picture.svg).getElementsByTagName(tag)


def spoken(picture: Picture) -> list[str]:
    return [element.firstChild.data for element in elements(picture, "text")]


def divergence(home: Path) -> Path:
    """Two candidates a question: the kept one has the Teacher Sentences."""
    home.mkdir()
    rows = [
        {
            "question": f"{domain}-{question}", "draw": draw, "domain": domain, "sentences": 4,
            "teacher_sentences": 3 * draw, "student_sentences": 1, "mean": 0.1,
            "teacher": math.log(0.8), "student": math.log(0.7 - 0.3 * draw), "kept": draw == 1,
        }
        for domain in ("code", "math") for question in range(5) for draw in range(2)
    ]  # fmt: skip
    write_rows(home / "divergence.jsonl", rows)
    return home


@pytest.mark.parametrize("place", range(4))
def test_text_of_a_model_stays_text(place: int) -> None:
    picture = pictures()[place]
    assert elements(picture, "script") == []
    assert "\x1b" not in picture.svg
    assert "\x00" not in picture.svg


def test_control_characters_in_a_label_break_no_picture() -> None:
    drawn = class_shares("c", "t", [Shares(label="a\x00\x1b[31m", teacher=0.5, shared=0.5, student=0)])
    assert "\ufffd" in drawn.svg
    assert "\x1b" not in drawn.svg


def test_words_are_not_recoloured_and_dollars_are_no_formula() -> None:
    assert any("$\\frac{" in text and "#0072b2" in text for text in spoken(pictures()[1]))


@pytest.mark.parametrize("place", range(4))
def test_a_screen_reader_finds_title_and_description(place: int) -> None:
    root = minidom.parseString(pictures()[place].svg).documentElement
    assert root.getAttribute("role") == "img"
    known = {
        element.getAttribute("id")
        for tag in ("title", "desc")
        for element in elements(pictures()[place], tag)
    }
    assert set(root.getAttribute("aria-labelledby").split()) <= known


@pytest.mark.parametrize("place", range(4))
def test_every_colour_follows_the_page(place: int) -> None:
    outside = re.sub(r"var\(--\w+, #\w+\)", "", pictures()[place].svg)
    styles = re.findall(r'(?:style|fill|stroke)="([^"]*)"', outside)
    assert not [style for style in styles if "#" in style and "url(#" not in style]


def test_the_same_numbers_give_the_same_bytes_in_another_process() -> None:
    script = "import sys; from tests.reports.test_plots import pictures; " + (
        "sys.stdout.buffer.write(repr([one.svg for one in pictures()]).encode())"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        check=True,
        env={"PYTHONHASHSEED": "7"},
        text=False,
    )
    assert done.stdout.decode() == repr([one.svg for one in pictures()])


def test_two_pictures_of_a_page_share_no_id() -> None:
    one, other = (
        class_shares(name, "t", [Shares(label="a", teacher=1, shared=0, student=0)]) for name in "ab"
    )
    ids = [set(re.findall(r' id="([^"]*)"', each.svg)) for each in (one, other)]
    assert ids[0]
    assert not ids[0] & ids[1]


def test_each_sentence_says_its_words_when_pointed_at() -> None:
    titles = [element.firstChild.data for element in elements(pictures()[3], "title")]
    assert "1, teacher: First. (teacher 0.905, student 0.135)" in titles
    assert len(titles) == 1 + len(SENTENCES)


def test_classes_are_told_by_letter_too() -> None:
    letters = [text for text in spoken(pictures()[3]) if text in ("T", "S")]
    assert letters == ["T", "S"]


def test_densities_have_area_one_whatever_their_number() -> None:
    rng = np.random.default_rng(0)
    few, many = rng.uniform(0.3, 0.9, 7), rng.uniform(0.3, 0.9, 1000)
    bins = common_bins(np.concatenate([few, many]))
    for values in (few, many):
        assert density(values, bins).sum() * (bins[1] - bins[0]) == pytest.approx(1)
    assert density(np.array([]), bins).sum() == 0


@pytest.mark.parametrize("values", [[], [1.0], [0.0, 0.0], [0.5] * 3, [0.001] + [0.99] * 500])
def test_no_value_is_lost_even_where_all_are_one_or_one_lies_far_out(values: list[float]) -> None:
    bins = common_bins(np.array(values))
    assert bins[0] < bins[-1]
    assert density(np.array(values), bins).sum() * (bins[1] - bins[0]) == pytest.approx(1 if values else 0)


def test_values_far_out_do_not_squeeze_the_rest_and_are_told() -> None:
    values = np.array([0.001] + [0.99] * 500)
    assert common_bins(values)[0] >= 0.9
    told = probability_densities(
        "p", "t", [Probabilities(model="teacher", candidates=values, kept=values[1:])]
    )
    assert "1 values below 0.95 are drawn in the first bin" in told.description


def test_a_long_log_is_drawn_in_few_points() -> None:
    steps = [Step(at=at, loss=1 / at, learning_rate=1e-5) for at in range(1, 20_001)]
    assert len(loss_curve("l", "t", steps).svg) < 60_000


def test_lines_without_a_finite_loss_are_left_out_and_counted(tmp_path: Path) -> None:
    log = [{"loss": 1.0, "step": 1}, {"loss": None, "step": 2}, {"eval_loss": 3.0, "step": 2}]
    assert [step.at for step in steps_of(log)[0]] == [1]
    write_json(tmp_path / "losses.json", log)
    (section,) = training_sections({"05-stage1": tmp_path})
    assert "2 lines of the log have no finite loss" in section.note


def test_a_log_without_steps_is_drawn_over_epochs() -> None:
    steps, unit = steps_of([{"loss": 1.0, "epoch": 0.5}, {"loss": 0.5, "epoch": 1.0}])
    assert (unit, [step.at for step in steps]) == ("epoch", [0.5, 1.0])
    assert "epoch" in spoken(loss_curve("l", "t", steps, unit))


def test_shares_before_and_after_are_over_sentences_and_by_domain(tmp_path: Path) -> None:
    (section,) = selection_sections({"05-selected-low": divergence(tmp_path / "select")})
    rows = {row[0]: row[1:] for row in section.rows}
    assert rows["math, all"] == [10, 40, "37.5%", "37.5%", "25.0%", "0.800", "0.550"]
    assert rows["math, kept"] == [5, 20, "75.0%", "0.0%", "25.0%", "0.800", "0.400"]
    assert rows["all domains, kept"][0] == 10


def test_a_selection_that_compared_nothing_has_no_section(tmp_path: Path) -> None:
    write_rows(tmp_path / "divergence.jsonl", [])
    assert list(selection_sections({"05-selected-low": tmp_path})) == []


def test_pictures_stand_in_the_page_and_their_numbers_in_all_three_files(tmp_path: Path) -> None:
    select = divergence(tmp_path / "select")
    (tmp_path / "sft").mkdir()
    write_json(tmp_path / "sft" / "losses.json", [{"loss": 1 / step, "step": step} for step in range(1, 30)])
    done = {"05-selected-low": select, "06-stage1": tmp_path / "sft"}
    sections = [*selection_sections(done), *training_sections(done)]
    write_report(tmp_path, Report(recipe="r", summary="s", entries=[], sections=sections))
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    told = json.loads((tmp_path / "report.json").read_bytes())
    assert page.count('role="img"') == 3
    assert "<svg" not in json.dumps(told)
    assert "<svg" not in (tmp_path / "report.md").read_text(encoding="utf-8")
    for text in (page, (tmp_path / "report.md").read_text(encoding="utf-8"), json.dumps(told)):
        assert "37.5%" in text
    assert not re.search(r'(?:src|href)="http', page)


def test_a_name_for_a_picture_is_an_id_whatever_the_label() -> None:
    assert identifier('05/"sel ected"<x>') == "05-sel-ected-x"
    assert identifier("…") == "picture"
