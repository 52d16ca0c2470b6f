"""Runs that are drawn until resolved: what they ask, what they keep, and what a kill must not change."""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.micro import micro_math
from harness.adaptive import (
    Saving,
    as_reached,
    draw_until_resolved,
    in_words,
    keep_rounds,
    look,
    rounds_kept,
    with_draws,
)
from harness.adopt import adopt_draws, known_verdict, known_verdicts
from harness.endpoint import Endpoint
from harness.errors import UsageError
from harness.evaluate import Ask, Mark
from harness.files import write_json, write_rows
from harness.machine import Machine
from harness.progress import PlainProgress
from harness.rows import keys_of, read_rows
from harness.runs import Stored
from harness.serve import ServerPool
from harness.stage import Service, Stage
from harness.statistics import Claim
from harness.store import Context, Runner, RunStore
from harness.types import Generation, Grade
from tests.fakes.engine import FakeEngine, running
from tests.pipeline.rows import row
from tests.until_resolved import (
    asked,
    asked_for,
    command,
    entry,
    evaluate,
    every_row,
    killed_after_a_round,
    reported,
    rows_of,
    without_speed,
)

COMMAND = [sys.executable, "-m", "harness.cli"]


@pytest.fixture(scope="module")
def server() -> Iterator[Endpoint]:
    with running("--sums", "0.57", "--delay", "0.01") as endpoint:
        yield endpoint


@pytest.fixture(scope="module")
def stopped(server: Endpoint, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A run of a model like the reference, and what it said."""
    runs = tmp_path_factory.mktemp("stopped")
    return runs, evaluate(server, runs, "--until-resolved")


def test_a_model_like_the_reference_is_called_so_before_all_draws_are_made(
    stopped: tuple[Path, str],
) -> None:
    runs, said = stopped
    found = entry(runs)
    assert found["verdict"] == "reproduced"
    assert 4 < found["draws"] < 64
    assert found["in_rounds"]["saved"]["generations"] == 40 * (64 - found["draws"])
    assert "4 of 64 draws: 55.6 for 56.4 ± 15.0" in said
    assert f"stopped after {found['draws']} of 64 draws" in said
    page = (runs / "tiny" / "report.md").read_text()
    assert "## Drawn until resolved" in page
    assert f"reproduced (stopped after {found['draws']} of 64 draws: decided; " in page
    assert "The ordinary test, which looks once, does not apply" in page


def test_a_model_far_from_the_reference_is_found_out_in_the_first_round(tmp_path: Path) -> None:
    with running("--sums", "0.05") as endpoint:
        evaluate(endpoint, tmp_path, "--until-resolved")
    assert (entry(tmp_path)["verdict"], entry(tmp_path)["draws"]) == ("not reproduced", 4)


def test_killed_after_a_round_it_asks_for_nothing_twice_and_decides_the_same(
    server: Endpoint, stopped: tuple[Path, str], tmp_path: Path
) -> None:
    runs, _ = stopped
    killed_after_a_round(server, tmp_path)
    there, before = every_row(tmp_path), len(asked(server))
    evaluate(server, tmp_path, "--until-resolved")
    assert not asked_for(there) & set(asked(server)[before:])
    assert without_speed(rows_of(reported(tmp_path))) == without_speed(rows_of(reported(runs)))
    same = ("verdict", "draws", "interval", "measured", "in_rounds")
    assert [entry(tmp_path)[name] for name in same] == [entry(runs)[name] for name in same]


def test_a_later_full_run_begins_with_the_draws_that_are_there_and_still_pays_for_having_looked(
    server: Endpoint, stopped: tuple[Path, str]
) -> None:
    runs, _ = stopped
    first, before = rows_of(reported(runs)), len(asked(server))
    evaluate(server, runs, "--name", "full")
    assert entry(runs, "full")["draws"] == 64
    assert entry(runs, "full")["in_rounds"] is None
    assert not asked_for(first) & set(asked(server)[before:])
    before = len(asked(server))
    evaluate(server, runs)
    assert len(asked(server)) == before
    assert 0.03 < entry(runs)["in_rounds"]["level"] < 0.05
    wider = [entry(runs, name)["interval"] for name in ("tiny", "full")]
    assert wider[0][0] < wider[1][0] < wider[1][1] < wider[0][1]
    full = without_speed(rows_of(reported(runs)))
    assert without_speed(first).items() <= full.items()
    evaluate(server, runs, "--until-resolved")
    assert entry(runs)["draws"] < 64


def test_other_rounds_under_the_same_name_are_refused_and_more_draws_get_no_verdict(
    server: Endpoint, tmp_path: Path
) -> None:
    """Each would be a fresh 5 % on the same draws."""
    evaluate(server, tmp_path, "--until-resolved", draws=4)
    before = len(asked(server))
    done = subprocess.run(
        command(server, tmp_path, "--until-resolved", draws=8), capture_output=True, text=True, check=False
    )
    assert (done.returncode, len(asked(server))) == (64, before)
    told = " ".join(done.stderr.split())
    assert "registered for 4 draws" in told
    assert "tiny/rounds.json" in told.replace(" ", "")
    assert "--name" in told
    evaluate(server, tmp_path, draws=24)
    found = entry(tmp_path)
    assert (found["draws"], found["verdict"], found["interval"]) == (24, "inconclusive", None)
    assert found["reason"] == "registered for 4 draws: after 24 there is no verdict"
    evaluate(server, tmp_path, "--name", "other", draws=24)
    assert entry(tmp_path, "other")["verdict"] == "reproduced"


def test_a_regraded_run_keeps_its_sequential_verdict(stopped: tuple[Path, str]) -> None:
    runs, _ = stopped
    done = subprocess.run(
        [*COMMAND, "regrade", "tiny", "--name", "again", "--runs", str(runs)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert entry(runs, "again")["in_rounds"] == entry(runs)["in_rounds"] is not None


def test_claims_that_share_an_evaluation_are_decided_together(server: Endpoint, tmp_path: Path) -> None:
    """The model is like the student and at the margin of the teacher, whose claim keeps both going."""
    said = evaluate(server, tmp_path, "--until-resolved", "--claims", "dasd-micro/final,teacher", draws=10)
    found = json.loads((tmp_path / "tiny" / "report.json").read_bytes())["entries"]
    assert {one["row"]: one["draws"] for one in found} == {"final": 10, "teacher": 10}
    assert [one["verdict"] for one in found] == ["reproduced", "inconclusive"]
    assert found[1]["reason"] == "undecided after all 10 draws"
    assert "eval/final/micro_math, 8 of 10 draws: 63.1 for 56.4 ± 15.0, Δ +6.7" in said
    assert len(list((tmp_path / "stages").glob("ask-*"))) == 4


def test_what_nothing_is_claimed_about_is_drawn_in_full(server: Endpoint, tmp_path: Path) -> None:
    said = evaluate(server, tmp_path, "--until-resolved", "--claims", "dasd-4b/released", draws=6)
    assert "nothing is claimed, so there is nothing to decide: all draws" in said
    assert (entry(tmp_path)["draws"], entry(tmp_path)["verdict"]) == (6, None)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--until-resolved",), "nothing is claimed about m"),
        (("--until-resolved", "--claims", "dasd-micro/final", "--limit", "3"), "--limit is not a score"),
        (("--claims", "dasd-micro/finel"), "no value is published for 'finel'. Did you mean 'final'?"),
        (("--claims", "dasd-micro"), "no value is published for ''"),
        (("--claims", "dasd-mico/final"), "unknown recipe 'dasd-mico'"),
    ],
)
def test_nothing_to_decide_is_bad_usage(options: tuple[str, ...], said: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [
            *COMMAND, "evaluate", "m", "-b", "micro_math", "--base-url", "http://127.0.0.1:9/v1",
            "--runs", str(tmp_path), *options,
        ],
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 64
    assert said in done.stderr
    assert "Traceback" not in done.stderr


# Draws and verdicts that are there already ----------------------------------------------------


class Served(Context):
    """A context whose server is of some release."""

    release = "1.0"

    def endpoint(self, service: Service) -> Endpoint:
        return Endpoint(
            base_url="http://127.0.0.1:9/v1",
            model="tiny",
            engine=FakeEngine(),
            fingerprint={"engine": "fake", "version": self.release},
            accepts=(),
        )


@pytest.fixture
def place(tmp_path: Path) -> Iterator[tuple[RunStore, Served]]:
    store, machine = RunStore(tmp_path), Machine()
    with ServerPool(machine) as pool:
        yield store, Served(store, machine, PlainProgress(), pool)


def asking(draws: int) -> Ask:
    benchmark = replace(micro_math, count=2, sampling=replace(micro_math.sampling, draws=draws))
    return Ask(model=Stored(stored="served-1"), benchmark=benchmark, engine="fake")


def begun(store: RunStore, ask: Ask, draws: int, text: str = "\\boxed{1}") -> list[str]:
    """An Ask with some draws of all questions, whole or not. Returns the questions."""
    path, questions = store.path(ask), [one.id for one in ask.benchmark.load(None)]
    path.mkdir(parents=True)
    write_json(path / "identity.json", ask.identity)
    write_json(path / "session.json", {"engine": "fake", "version": "1.0"})
    rows = [replace(row(text, one), draw=draw) for draw in range(draws) for one in questions]
    write_rows(path / "generations.jsonl", rows)
    return questions


def test_more_draws_begin_with_fewer_and_say_whose_they_are_now(place: tuple[RunStore, Served]) -> None:
    store, context = place
    questions = begun(store, asking(4), draws=4)
    out = store.path(asking(8))
    out.mkdir()
    assert adopt_draws(asking(8), questions, out, context) == 8
    rows = list(read_rows(out / "generations.jsonl", Generation))
    assert {one.draw for one in rows} == set(range(4))
    assert {one.sampling.draws for one in rows} == {8}
    assert adopt_draws(asking(8), questions, out, context) == 0


def test_draws_that_are_all_there_come_with_how_they_were_asked_for(place: tuple[RunStore, Served]) -> None:
    store, context = place
    questions = begun(store, asking(4), draws=4)
    write_json(store.path(asking(4)) / "prompt.json", {"rendered": "Compute 1+1."})
    fewer = store.path(asking(2))
    fewer.mkdir()
    adopt_draws(asking(2), questions, fewer, context)
    assert json.loads((fewer / "prompt.json").read_bytes()) == {"rendered": "Compute 1+1."}


def test_draws_of_another_release_are_not_mixed_in_but_do_where_none_is_missing(
    place: tuple[RunStore, Served],
) -> None:
    store, context = place
    context.release = "2.0"
    questions = begun(store, asking(4), draws=4)
    for draws, adopted in ((8, 0), (2, 4)):
        out = store.path(asking(draws))
        out.mkdir()
        assert adopt_draws(asking(draws), questions, out, context) == adopted
        assert len(keys_of(out / "generations.jsonl")) == adopted


def test_draws_under_another_system_prompt_are_none_of_ours(place: tuple[RunStore, Served]) -> None:
    store, context = place
    questions = begun(store, replace(asking(4), system="Be brief."), draws=4)
    out = store.path(asking(8))
    out.mkdir()
    assert adopt_draws(asking(8), questions, out, context) == 0


def test_a_verdict_counts_for_the_same_text_and_the_same_grader_only(place: tuple[RunStore, Served]) -> None:
    store, _ = place
    [first, _] = begun(store, asking(4), draws=4)
    mark = Mark(asked=asking(4), grader=2)
    graded = store.path(mark)
    graded.mkdir()
    write_json(graded / "identity.json", mark.identity)
    verdict = Grade(question=first, draw=0, correct=True, extracted="1", truncated=False)
    undecided = replace(verdict, draw=1, correct=None, reason="sandbox: gone")
    write_rows(graded / "grades.jsonl", [verdict, undecided])
    known = known_verdicts(Mark(asked=asking(8), grader=2), store.stages)
    assert known_verdict(known, row("\\boxed{1}", first)) == verdict
    assert known_verdict(known, row("\\boxed{2}", first)) is None
    assert known_verdict(known, replace(row("\\boxed{1}", first), draw=1)) is None
    assert not known_verdicts(Mark(asked=asking(8), grader=3), store.stages)


def test_a_round_that_is_no_score_of_the_benchmark_decides_nothing(place: tuple[RunStore, Served]) -> None:
    store, _ = place
    questions, mark, said = begun(store, asking(4), draws=4), Mark(asked=asking(4), grader=2), list[str]()
    write_json(store.path(asking(4)) / "asked.json", {"questions": 2, "draws": 4})
    store.path(mark).mkdir()
    wrong = Grade(question="", draw=0, correct=False, extracted="1", truncated=False)
    partial = replace(wrong, detail={"not_a_score": "partial tests"})
    grades = [replace(partial, question=one, draw=draw) for one in questions for draw in range(4)]
    write_rows(store.path(mark) / "grades.jsonl", grades)
    claim = Claim(value=99.0, margin=1.0, draws=64)
    assert not look(store, "eval/a/x", mark, [claim], (4, 8), said.append)
    assert said == ["eval/a/x: not a score (partial tests), so nothing can be decided: all draws"]


class Answered(Runner):
    """Has each question right in as many draws as it is asked for."""

    def build(self, name: str, labels: dict[str, Stage]) -> None:
        for mark in (one for one in labels.values() if isinstance(one, Mark)):
            if self.store.state(mark) != "done":
                self.answer(mark)
        self.store.view(name, labels)

    def answer(self, mark: Mark) -> None:
        ask, path = mark.asked, self.store.path(mark)
        draws = ask.drawn.draws
        questions = begun(self.store, ask, draws)
        write_json(self.store.path(ask) / "asked.json", {"questions": len(questions), "draws": draws})
        right = Grade(question="", draw=0, correct=True, extracted="1", truncated=False)
        path.mkdir()
        grades = [replace(right, question=one, draw=draw) for draw in range(draws) for one in questions]
        write_rows(path / "grades.jsonl", grades)
        write_json(path / "stage.json", {})


@pytest.mark.parametrize("rows", [("base", "released"), ("released", "base")])
def test_a_row_without_a_claim_ends_with_the_row_whose_evaluation_it_shares(
    rows: tuple[str, str], place: tuple[RunStore, Served]
) -> None:
    store, context = place
    marks = {f"eval/{name}/x": Mark(asked=asking(16), grader=2) for name in rows}
    claims = {"eval/released/x": [Claim(value=50.0, margin=1.0, draws=64)]}
    said = list[str]()
    reached = draw_until_resolved(Answered(store, context), "run", marks, claims, said.append)
    [draws] = {mark.asked.drawn.draws for mark in reached.values()}
    assert 4 < draws < 16
    assert set(rounds_kept(store.root / "run")) == set(marks)
    assert as_reached(store, "run", dict(marks)) == reached
    assert not any("nothing is claimed" in one for one in said)


def test_all_draws_are_the_ordinary_evaluation() -> None:
    mark = Mark(asked=asking(64), grader=2)
    assert with_draws(mark, 64).key == mark.key
    assert with_draws(mark, 8).asked.key == asking(8).key


def test_rounds_are_kept_beside_those_that_a_run_has(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    keep_rounds(store, "run", {})
    assert not (tmp_path / "run").exists()
    keep_rounds(store, "run", {"eval/a/x": (4, 8)})
    keep_rounds(store, "run", {"eval/a/y": (4,)})
    assert rounds_kept(tmp_path / "run") == {"eval/a/x": (4, 8), "eval/a/y": (4,)}
    assert json.loads((tmp_path / "run" / "rounds.json").read_bytes())["eval/a/x"] == [4, 8]


def test_registered_rounds_are_never_replaced(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    keep_rounds(store, "run", {"eval/a/x": (4, 6, 8)})
    keep_rounds(store, "run", {"eval/a/x": (4, 6, 8)})
    with pytest.raises(UsageError) as refused:
        keep_rounds(store, "run", {"eval/a/y": (4,), "eval/a/x": (4, 8, 16)})
    assert str(tmp_path / "run" / "rounds.json") in refused.value.message
    assert "registered for 8 draws, looked at after 4, 6 and 8" in refused.value.message
    assert "--name" in refused.value.remedy
    assert rounds_kept(tmp_path / "run") == {"eval/a/x": (4, 6, 8)}


def test_saved_tokens_are_told_as_the_estimate_that_they_are() -> None:
    assert in_words(Saving(generations=1680, tokens=21_345_678)) == (
        "1,680 generations, about 21,300,000 tokens"
    )
    assert in_words(Saving(generations=40, tokens=0)) == "40 generations, about 0 tokens"
