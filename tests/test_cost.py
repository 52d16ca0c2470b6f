"""What a stage will cost: what is counted, what is guessed, and what a guess must not change."""

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from benchmarks.micro import micro_code, micro_math
from harness.cost import Amount, Answers, Assumed, Assumptions, Estimator, Size, Volume, Work, some, thinned
from harness.errors import DataError
from harness.evaluate import Ask, Mark
from harness.files import write_rows
from harness.hardware import Hardware
from harness.hub import Checkpoint
from harness.integrity import MANIFEST
from harness.machine import Machine, load_machine
from harness.plan import Entry, Lack, Plan, disk_needed, make_plan, short_of_disk, totals
from harness.recipe import Recipe, Row
from harness.stage import Stage
from harness.store import RunStore
from harness.throughput import FILE, Hours, Rate, hours, keep_rates, read_rates
from harness.types import Sampling
from pipeline.draft import Draft
from pipeline.filter import Filter, Thresholds
from pipeline.mix import Mix
from pipeline.revise import Revise
from pipeline.sample import Sample
from pipeline.score import Score
from pipeline.select import Select
from pipeline.sft import Sft
from tests.pipeline.rows import row

TEACHER = Checkpoint(source="org/teacher", revision="unpinned")
STUDENT = Checkpoint(source="org/student", revision="unpinned")
BILLION = Size(parameters=1e9, active=1e9, bytes=2e9, source="a test")
ASSUMED = Assumptions(
    prompt={"math": Assumed(value=100, source="a test"), "code": Assumed(value=500, source="a test")},
    response={
        ("math", 0.6): Assumed(value=2_000, source="a test"),
        ("code", 0.6): Assumed(value=1_000, source="a test"),
    },
    benchmarks={"micro_math": Answers(questions=40, prompt=50, response=300, source="a test")},
    passing={"sample": Assumed(value=0.5, source="a test")},
    truncated=Assumed(value=0.3, source="a test"),
    models={"org/teacher": replace(BILLION, active=1e8), "org/student": BILLION},
)
COLD = Sampling(temperature=0.6, max_tokens=4_096, draws=4)


@dataclass(frozen=True, kw_only=True)
class Posed(Stage):
    """So many questions, as a Collect leaves them."""

    math: int = 100
    code: int = 10

    def expected(self, estimator: Estimator) -> Volume:
        counts = {"math": self.math, "code": self.code}
        return Volume(
            domains={
                name: Amount(rows=count, questions=count, prompt=count * estimator.prompt(name))
                for name, count in counts.items()
            }
        )


SAMPLE = Sample(questions=Posed(), teacher=TEACHER, engine="vllm", sampling=COLD)
KEPT = Filter(responses=SAMPLE, student=STUDENT, thresholds=Thresholds(max_tokens=4_096))


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return RunStore(tmp_path / "runs")


@pytest.fixture
def estimator(store: RunStore) -> Estimator:
    return Estimator(store, ASSUMED)


def finish(store: RunStore, stage: Stage, texts: list[str], done: bool = True) -> Path:
    """Rows of a stage, one a question, and its manifest where it is done."""
    folder = store.path(stage)
    folder.mkdir(parents=True)
    write_rows(folder / "generations.jsonl", [row(text, f"q{n}") for n, text in enumerate(texts)])
    if done:
        (folder / MANIFEST).write_text(json.dumps({"seconds": 7200.0}))
    return folder


# Counting -----------------------------------------------------------------------------------


def test_a_finished_stage_is_counted_and_an_unfinished_one_is_not(store: RunStore) -> None:
    finish(store, SAMPLE, ["one two three", "four"])
    other = replace(SAMPLE, engine="sglang")
    finish(store, other, ["one two three"], done=False)
    estimator = Estimator(store, ASSUMED)
    counted = estimator.volume(SAMPLE)
    assert counted.measured
    assert counted.domains == {"math": Amount(rows=2, questions=2, prompt=2, response=4)}
    assert estimator.volume(other).total.rows == 440
    assert not estimator.volume(other).measured


def test_a_finished_stage_is_read_once_for_all_plans(store: RunStore) -> None:
    folder = finish(store, SAMPLE, ["one two three"])
    first = Estimator(store, ASSUMED).volume(SAMPLE)
    (folder / "generations.jsonl").unlink()
    assert Estimator(store, ASSUMED).volume(SAMPLE) == first


def test_several_answers_to_a_question_are_one_question(store: RunStore) -> None:
    folder = finish(store, SAMPLE, ["one"])
    write_rows(folder / "generations.jsonl", [row("one", "q", 0), row("two", "q", 1)])
    assert Estimator(store).volume(SAMPLE).total == Amount(rows=2, questions=1, prompt=2, response=2)


def test_what_follows_a_finished_stage_is_reckoned_from_its_rows(store: RunStore) -> None:
    finish(store, SAMPLE, ["one two three", "four five"])
    assert Estimator(store, ASSUMED).volume(KEPT).total.response == pytest.approx(0.5 * 5)


def test_weights_on_this_machine_are_weighed(tmp_path: Path, store: RunStore) -> None:
    write_safetensors(tmp_path, {"a": [3, 5], "b": [7]})
    model = Checkpoint(source="mine", sha256="0", path=tmp_path)
    size = Estimator(store).size(model)
    assert size is not None
    assert size.parameters == 22


@pytest.mark.parametrize(
    "content", [b"", b"\xff" * 8 + b"{}", b"\x02" + b"\0" * 7 + b"[]", b"nonsense at all"]
)
def test_a_file_that_only_claims_to_be_weights_has_no_size(
    tmp_path: Path, store: RunStore, content: bytes
) -> None:
    (tmp_path / "model.safetensors").write_bytes(content)
    model = Checkpoint(source="mine", sha256="0", path=tmp_path)
    estimator = Estimator(store)
    assert estimator.size(model) is None
    assert "size of mine" in estimator.unknown


def write_safetensors(folder: Path, shapes: dict[str, list[int]]) -> None:
    header = {"__metadata__": {"format": "pt"}, **{name: {"shape": shape} for name, shape in shapes.items()}}
    text = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text)


# Guessing -----------------------------------------------------------------------------------


def test_a_guess_is_part_of_no_identity() -> None:
    def recipe(assumed: Assumptions | None) -> Recipe:
        return Recipe(
            name="r", summary="", stages={"sampled": SAMPLE}, models={"student": Row(model=STUDENT)},
            benchmarks=(micro_math,), engine="vllm", assumed=assumed,
        )  # fmt: skip

    keys = [[stage.key for stage in recipe(one).labels().values()] for one in (None, ASSUMED)]
    assert keys[0] == keys[1]


def test_sampling_asks_every_question_so_often_and_writes_the_mean_of_its_domain(
    estimator: Estimator,
) -> None:
    work = estimator.work(SAMPLE)
    assert work.requests == 4 * 110
    assert work.tokens_in == 4 * (100 * 100 + 10 * 500)
    assert work.tokens_out == 4 * (100 * 2_000 + 10 * 1_000)


def test_only_the_questions_that_are_wanted_of_a_domain_are_asked(estimator: Estimator) -> None:
    work = estimator.work(replace(SAMPLE, per_domain=(("math", 30), ("code", 99))))
    assert work.requests == 4 * (30 + 10)


def test_without_an_assumption_the_limit_is_taken_and_said(store: RunStore) -> None:
    estimator = Estimator(store)
    assert estimator.work(SAMPLE).tokens_out == 440 * COLD.max_tokens
    assert estimator.unknown["response tokens of math at temperature 0.6"] == "priced at the limit, 4,096"


def test_a_mean_above_the_limit_is_cut_to_it(store: RunStore) -> None:
    short = replace(SAMPLE, sampling=replace(COLD, max_tokens=500))
    assert Estimator(store, ASSUMED).work(short).tokens_out == 440 * 500


def test_a_question_goes_only_with_its_last_candidate(estimator: Estimator) -> None:
    kept = estimator.volume(KEPT).domains["math"]
    assert kept.rows == 200
    assert kept.questions == pytest.approx(100 * (1 - 0.5**4))
    assert kept.response / kept.rows == 2_000


def test_selection_takes_its_budget_and_no_more_than_there_are(estimator: Estimator) -> None:
    def rows(**fields: object) -> dict[str, float]:
        chosen = Select(responses=KEPT, method="random", **fields)  # type: ignore[arg-type]
        return {name: one.rows for name, one in estimator.volume(chosen).domains.items()}

    questions = 1 - 0.5**4
    assert rows() == pytest.approx({"math": 100 * questions, "code": 10 * questions})
    assert rows(budget=(("math", 7),)) == pytest.approx({"math": 7, "code": 10 * questions})
    assert rows(budget=(("math", 10_000),))["math"] == pytest.approx(100 * questions)
    assert rows(keep_in=(("code", 50),))["code"] == pytest.approx(20)


def test_scoring_reads_prompts_and_responses(estimator: Estimator) -> None:
    work = estimator.work(Score(responses=KEPT, model=STUDENT))
    total = estimator.volume(KEPT).total
    assert (work.kind, work.engine) == ("score", "torch")
    assert work.tokens_in == total.prompt + total.response
    assert work.tokens_out == 0


def test_training_reads_every_token_once_an_epoch(estimator: Estimator) -> None:
    once, six = (estimator.work(Sft(base=STUDENT, data=KEPT, epochs=epochs)) for epochs in (1, 6))
    total = estimator.volume(KEPT).total
    assert once.tokens_in == total.prompt + total.response
    assert six.tokens_in == 6 * once.tokens_in
    assert once.disk == BILLION.bytes
    assert once.scratch > BILLION.bytes + 12 * BILLION.parameters


def test_a_trained_model_is_as_large_and_fast_as_its_root(estimator: Estimator) -> None:
    twice = Sft(base=Sft(base=STUDENT, data=KEPT), data=KEPT)
    assert estimator.name(twice) == "org/student"
    assert estimator.size(twice) == BILLION


def test_drafts_are_one_a_question_and_longer_by_those_that_meet_the_cap(estimator: Estimator) -> None:
    drafts = drafted(questions=20)
    total, data = estimator.volume(drafts).total, estimator.volume(KEPT).total
    assert total.rows == total.questions == pytest.approx(20)
    longer = total.response / total.rows / (data.response / data.rows)
    assert longer == pytest.approx(1 + 0.3 * 0.5)


def test_more_drafts_than_questions_are_as_many_as_questions(estimator: Estimator) -> None:
    found = estimator.volume(drafted(questions=9_999)).total
    assert found.rows == pytest.approx(estimator.volume(KEPT).total.questions)


def test_the_teacher_goes_on_from_truncated_drafts_alone_and_reads_what_is_kept_of_them(
    estimator: Estimator,
) -> None:
    revised = Revise(drafts=drafted(questions=20), teacher=TEACHER, engine="vllm", sampling=COLD)
    found, data = estimator.volume(revised).domains["math"], estimator.volume(KEPT).domains["math"]
    assert estimator.volume(revised).total.rows == pytest.approx(0.3 * 20)
    mean = data.response / data.rows
    assert found.prompt / found.rows == pytest.approx(100 + 0.75 * 1.5 * mean)
    assert found.response / found.rows == pytest.approx(0.5 * 0.75 * 1.5 * mean)


def test_a_mixture_has_the_rows_of_both_kinds(estimator: Estimator) -> None:
    mix = Mix(mixed=KEPT, off_policy=SAMPLE, off_policy_rows=44, minimum=1)
    assert estimator.volume(mix).total.rows == pytest.approx(220 + 44)


def drafted(questions: int) -> Draft:
    return Draft(student=STUDENT, data=KEPT, engine="vllm", sampling=COLD, questions=questions, cap=1.5)


def test_an_evaluation_asks_every_draw_of_its_limit(estimator: Estimator) -> None:
    asked = Ask(model=STUDENT, benchmark=micro_math, engine="vllm")
    assert estimator.work(asked).requests == 40 * 4
    assert estimator.work(replace(asked, limit=3)).requests == 3 * 4
    assert estimator.work(replace(asked, limit=99)).requests == 40 * 4


def test_grading_computes_nothing_but_may_need_a_sandbox(estimator: Estimator) -> None:
    asked = Ask(model=STUDENT, benchmark=micro_code, engine="vllm")
    work = estimator.work(Mark(asked=asked, grader=1))
    assert (work.kind, work.sandbox, work.tokens_out) == ("grade", True, 0)
    assert "questions and answers of micro_code" in estimator.unknown


def test_parts_of_nothing_are_nothing() -> None:
    assert thinned(Volume(), 0.5).total == Amount()
    assert some(Volume(), 100).total == Amount()
    assert some(Volume(domains={"math": Amount()}), 100).total == Amount()


# Hours --------------------------------------------------------------------------------------


WRITING = Work(kind="generate", model=TEACHER, engine="vllm", requests=1, tokens_in=0, tokens_out=3.6e6)
FAST = Rate(
    kind="generate", model="org/teacher", engine="vllm", tokens_per_second=1_000, device="GPU X",
    devices=8, tokens=1, seconds=1.0,
)  # fmt: skip


def test_a_measured_speed_counts_before_a_reckoned_one() -> None:
    found = hours(WRITING, "org/teacher", BILLION, [FAST], Machine(gpus=8))
    assert found == Hours(value=1.0, device="GPU", origin="calibrated")


@pytest.mark.parametrize("changed", [{"kind": "score"}, {"model": "org/other"}, {"engine": "sglang"}])
def test_the_speed_of_other_work_does_not_count(changed: dict[str, str]) -> None:
    found = hours(WRITING, "org/teacher", BILLION, [replace(FAST, **changed)], Machine(gpus=8))  # type: ignore[arg-type]
    assert found is not None
    assert found.origin == "assumed"


def test_reckoned_hours_are_operations_over_a_share_of_the_peak() -> None:
    machine = Machine(gpus=0, gpu_tflops=1_000)
    training = Work(kind="train", model=STUDENT, engine="trl", tokens_in=3.6e9)
    found = hours(training, "org/student", BILLION, [], machine)
    assert found is not None
    assert found.value == pytest.approx(3.6e9 * 6e9 / (0.4 * 1e15) / 3600)
    assert found.device == "GPU"


def test_attention_over_long_rows_counts_where_the_model_has_a_shape() -> None:
    training = Work(kind="train", model=STUDENT, engine="trl", tokens_in=1e9, context=32_768)
    plain, shaped = (
        hours(training, "org/student", replace(BILLION, attention=shape), [], Machine(gpus=1))
        for shape in (0.0, 1e5)
    )
    assert plain is not None
    assert shaped is not None
    assert shaped.value / plain.value == pytest.approx(1 + 2 * 1e5 * 32_768 / 1e9)


def test_packed_rows_that_attend_to_each_other_attend_to_half_the_sequence(estimator: Estimator) -> None:
    apart, together = (
        estimator.work(Sft(base=STUDENT, data=KEPT, trainer="llamafactory", packing=packing))
        for packing in ("isolated", "attending")
    )
    assert apart.context == pytest.approx(estimator.volume(KEPT).total.length / 2)
    assert together.context == 32_768


def test_long_prompts_take_time_before_the_first_token() -> None:
    short, long = (
        hours(replace(WRITING, tokens_in=tokens), "org/teacher", BILLION, [], Machine(gpus=1))
        for tokens in (0, 3.6e6)
    )
    assert short is not None
    assert long is not None
    assert long.value / short.value == pytest.approx(1 + 0.10 / 0.40)


def test_a_model_of_unknown_size_has_no_hours_rather_than_none_needed() -> None:
    assert hours(WRITING, "org/teacher", None, [], Machine(gpus=1)) is None


def test_speeds_of_another_machine_are_not_read(tmp_path: Path) -> None:
    keep_rates(tmp_path, [FAST])
    keep_rates(tmp_path, [replace(FAST, device="GPU Y")])
    assert read_rates(tmp_path, "GPU X") == [FAST]
    assert read_rates(tmp_path, "GPU Z") == []


def test_the_newer_of_two_speeds_stays(tmp_path: Path) -> None:
    other = replace(FAST, engine="sglang")
    keep_rates(tmp_path, [FAST, other])
    keep_rates(tmp_path, [replace(FAST, tokens_per_second=5.0)])
    assert {rate.engine: rate.tokens_per_second for rate in read_rates(tmp_path, "GPU X")} == {
        "vllm": 5.0,
        "sglang": 1_000,
    }


def test_a_broken_table_of_speeds_is_named(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text('[{"kind": "generate"}]')
    with pytest.raises(DataError, match="no table of speeds"):
        read_rates(tmp_path, "GPU X")


def test_a_whole_number_is_a_price(tmp_path: Path) -> None:
    file = tmp_path / "machine.toml"
    file.write_text('price_per_gpu_hour = 2\ncurrency = "EUR"\ngpu_tflops = 312\n')
    machine = load_machine(file)
    assert (machine.price_per_gpu_hour, machine.currency, machine.gpu_tflops) == (2.0, "EUR", 312.0)


# The whole plan -----------------------------------------------------------------------------


def planned(store: RunStore, machine: Machine, *stages: Stage) -> Plan:
    recipe = Recipe(
        name="demo", summary="", stages={f"s{n}": stage for n, stage in enumerate(stages)},
        models={}, benchmarks=(), engine="vllm", assumed=ASSUMED,
    )  # fmt: skip
    here = Hardware(device="GPU X", gpus=machine.gpus)
    return make_plan(store, recipe, machine, here, [FAST], nothing)


def nothing(stage: Stage, work: Work, estimator: Estimator) -> Iterator[Lack]:
    yield from ()


def test_every_stage_is_in_the_plan_once_inputs_first(store: RunStore) -> None:
    plan = planned(store, Machine(gpus=8), KEPT, SAMPLE)
    names = [one.name for one in plan.stages]
    assert names == ["01-s0 · posed", "01-s0 · checkpoint", "02-s1", "01-s0 · checkpoint", "01-s0"]
    assert [one.kind for one in plan.stages if one.name == "02-s1"] == ["generate"]


def test_a_finished_stage_costs_what_it_took_on_all_gpus_and_nothing_is_left_of_it(store: RunStore) -> None:
    finish(store, SAMPLE, ["one two three"])
    plan = planned(store, Machine(gpus=8, price_per_gpu_hour=2.0), SAMPLE)
    (entry,) = (one for one in plan.stages if one.key == SAMPLE.key)
    assert entry.hours == Hours(value=16.0, device="GPU", origin="measured")
    assert (entry.money, entry.left, entry.lacks) == (32.0, 0.0, ())
    assert plan.total.gpu_hours == 16.0
    assert plan.left.gpu_hours == 0.0


def test_the_last_start_of_a_resumed_stage_is_not_told_as_what_the_stage_took(store: RunStore) -> None:
    folder = finish(store, SAMPLE, ["one two three"])
    (folder / MANIFEST).write_text(json.dumps({"seconds": 1.0, "resumed": True}))
    (entry,) = (one for one in planned(store, Machine(gpus=8), SAMPLE).stages if one.key == SAMPLE.key)
    assert entry.hours is not None
    assert entry.hours.origin != "measured"
    assert entry.left == 0.0


def test_rows_that_are_there_are_not_paid_for_again(store: RunStore) -> None:
    finish(store, SAMPLE, ["x"] * 110, done=False)
    plan = planned(store, Machine(gpus=8), SAMPLE)
    (entry,) = (one for one in plan.stages if one.key == SAMPLE.key)
    assert entry.state == "partial"
    assert entry.left == pytest.approx(0.75)
    assert plan.left.requests == pytest.approx(330)
    assert plan.total.requests == 440


def test_the_first_stage_that_does_not_fit_on_the_disk_lacks_it(store: RunStore) -> None:
    plan = planned(store, Machine(gpus=8), SAMPLE)
    stages = [
        replace(plan.stages[0], disk=disk, scratch=scratch, left=left)
        for disk, scratch, left in ((50.0, 0.0, 0.0), (10.0, 0.0, 1.0), (20.0, 75.0, 1.0), (30.0, 0.0, 1.0))
    ]
    needed = list(disk_needed(stages))
    assert needed == [0.0, 10.0, 105.0, 60.0]
    short = [bool(one.lacks) for one in short_of_disk(stages, needed, free=100.0)]
    assert short == [False, False, True, False]


def test_hours_of_cpu_and_gpu_are_not_one_sum(store: RunStore) -> None:
    one: Entry = planned(store, Machine(gpus=8), SAMPLE).stages[0]
    found = totals(
        [
            replace(one, hours=Hours(value=2.0, device="CPU", origin="calibrated")),
            replace(one, hours=Hours(value=3.0, device="GPU", origin="assumed")),
            replace(one, hours=None),
        ]
    )
    assert (found.cpu_hours, found.gpu_hours) == (2.0, 3.0)
