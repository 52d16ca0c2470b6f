"""The plan as it is printed: nothing cut, nothing double, nothing without its mark."""

import io
import json
import re
from dataclasses import replace

import pytest
from rich.console import Console

from harness.capacity import Span
from harness.cost import Amount, Volume
from harness.finish import Clock, Finish
from harness.plan import Entry, Lack, Plan, Totals, gigabytes, totals
from harness.throughput import Hours
from reports.plan import amount, as_json, device_hours, duration, lines, print_plan, ranges

GUESSED = Hours(value=12_345.6, device="GPU", origin="assumed")
NO_GPU = Lack(what="no GPU for 117B parameters", remedy="2 × 80 GB or more")
NO_MODEL = Lack(what="model org/teacher is not here", remedy="it will be downloaded")

SAMPLED = Entry(
    label="02-sampled-low", name="02-sampled-low", key="sample-1", state="missing", changed=(),
    kind="generate", model="org/teacher", engine="vllm",
    setting="T 0.6, 8 draws, up to 65,536 tokens, effort high", requests=855_200, tokens_in=179.1e6,
    tokens_out=11.8e9, disk=167e9, scratch=0.0, hours=GUESSED, money=24_691.2, left=1.0,
    volume=Volume(domains={"math": Amount(rows=855_200, questions=106_900)}), lacks=(NO_GPU,),
)  # fmt: skip
ASKED = replace(
    SAMPLED, label="eval/released/gpqa_diamond", name="eval/released/gpqa_diamond · ask", key="ask-1",
    setting="T 1.0, 64 draws", requests=12_672, disk=2e9,
)  # fmt: skip
MARKED = replace(
    ASKED, name="eval/released/gpqa_diamond", key="mark-1", kind="grade", setting="", requests=0, tokens_in=0,
    tokens_out=0, disk=1e9, hours=Hours(value=0.0, device="CPU", origin="assumed"), money=0.0,
    lacks=(NO_MODEL,),
)  # fmt: skip


def plan(*stages: Entry, price: float = 2.0, **fields: object) -> Plan:
    return Plan(
        recipe="dasd-4b", device="CPU", gpus=0, gpu_tflops=989.0, price_per_gpu_hour=price, currency="USD",
        stages=stages, total=totals(stages), left=totals(stages, left=True), peak_disk=1.5e12, free_disk=6e10,
        assumed=(("response tokens, math at T 0.6", 19_240.0, "§6.2"),),
        unknown={}, **fields,
    )  # fmt: skip


def printed(made: Plan, width: int = 80, terminal: bool = False, **options: bool) -> str:
    file = io.StringIO()
    print_plan(made, Console(file=file, width=width, force_terminal=terminal, no_color=True), **options)
    return file.getvalue()


def table(text: str) -> list[str]:
    return text.split("\n\n")[0].splitlines()


@pytest.mark.parametrize(("width", "terminal"), [(80, False), (300, True), (100, True), (60, True)])
def test_no_figure_is_ever_cut(width: int, terminal: bool) -> None:
    text = printed(plan(SAMPLED, ASKED, MARKED), width, terminal)
    for figure in ("855.2K", "179.1M", "11.8B", "~12,346", "24.7K", "167 GB", "12.7K", "3 GB", "~24,691"):
        assert figure in text
    assert "…" not in text


@pytest.mark.parametrize("width", [100, 200])
def test_a_table_fits_into_its_terminal(width: int) -> None:
    text = re.sub(r"\x1b\[[0-9;]*m", "", printed(plan(SAMPLED, ASKED, MARKED), width, terminal=True))
    assert max(map(len, table(text))) <= width


def test_piped_a_stage_is_one_line_without_colours_or_trailing_blanks() -> None:
    text = printed(plan(SAMPLED, ASKED, MARKED))
    assert "\x1b" not in text
    assert all(line == line.rstrip() for line in text.splitlines())
    (line,) = (line for line in text.splitlines() if "02-sampled-low" in line)
    assert line.startswith("missing")
    assert line.endswith("effort high")


def test_an_evaluation_and_its_grading_are_one_line_with_what_both_lack() -> None:
    (line,) = lines(plan(ASKED, MARKED))
    assert line.name == "eval/released/gpqa_diamond"
    assert line.figures[0] == "12.7K"
    assert line.figures[4] == "3 GB"
    assert line.marks == "1–2"


@pytest.mark.parametrize(
    ("asked", "marked", "state"),
    [("done", "done", "done"), ("done", "missing", "partial"), ("missing", "missing", "missing")],
)
def test_an_answered_but_ungraded_evaluation_is_partial(asked: str, marked: str, state: str) -> None:
    (line,) = lines(plan(replace(ASKED, state=asked), replace(MARKED, state=marked)))
    assert line.state == state


def test_each_lack_is_told_once_and_named_by_number_in_every_stage() -> None:
    text = printed(plan(SAMPLED, replace(SAMPLED, name="06-sampled-high", lacks=(NO_MODEL, NO_GPU))))
    assert text.count(NO_GPU.what) == 1
    assert " 1 no GPU for 117B parameters: 2 × 80 GB or more" in text
    (line,) = (line for line in text.splitlines() if "06-sampled-high" in line)
    assert "  1–2  " in line


def test_numbers_in_a_row_are_a_range() -> None:
    assert ranges([1, 2, 3, 5, 7, 8]) == "1–3 5 7–8"
    assert ranges([]) == ""


def test_without_a_price_there_is_no_money() -> None:
    assert "USD" in printed(plan(SAMPLED))
    assert "USD" not in printed(plan(SAMPLED, price=0.0))


def test_a_changed_field_is_told() -> None:
    text = printed(plan(replace(SAMPLED, changed=("sampling.temperature: 0.6 → 0.7",))))
    assert "changed: sampling.temperature: 0.6 → 0.7" in text


def test_reckoned_hours_are_marked_also_in_the_sum_and_explained() -> None:
    measured = replace(SAMPLED, hours=replace(GUESSED, origin="calibrated"))
    reckoned = printed(plan(SAMPLED, measured))
    assert reckoned.count("~24,691") == 2
    assert "989 TFLOP/s" in reckoned
    assert "harness calibrate dasd-4b" in reckoned
    assert "~" not in printed(plan(measured))


def test_hours_of_an_unknown_model_are_a_question_mark() -> None:
    assert device_hours(None) == "?"
    assert device_hours(Hours(value=0.0, device="CPU", origin="assumed")) == "–"
    assert device_hours(Hours(value=1e-6, device="CPU", origin="calibrated")) == "<0.001 CPU"


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "–"), (0.2, "<1"), (9_999, "9,999"), (105_000, "105.0K"), (1_445.6e6, "1,445.6M"),
        (20.3e9, "20.3B"),
    ],
)  # fmt: skip
def test_counts_are_written_as_the_report_writes_them(number: float, text: str) -> None:
    assert amount(number) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "–"), (999, "1 kB"), (65.3e9, "65.3 GB"), (999.6e9, "1 TB"), (5.9e12, "5.9 TB")],
)
def test_bytes_have_no_more_digits_than_a_guess(size: float, text: str) -> None:
    assert gigabytes(size) == text


def test_assumptions_are_listed_with_their_sources_on_request() -> None:
    assert "19,240" not in printed(plan(SAMPLED))
    assert "response tokens, math at T 0.6: 19,240 (§6.2)" in printed(plan(SAMPLED), assumptions=True)


def test_machines_read_everything() -> None:
    read = json.loads(as_json(plan(SAMPLED, ASKED, MARKED)))
    assert [stage["name"] for stage in read["stages"]] == [SAMPLED.name, ASKED.name, MARKED.name]
    assert read["stages"][0]["hours"] == {"value": 12_345.6, "device": "GPU", "origin": "assumed"}
    assert read["total"]["requests"] == 855_200 + 12_672
    assert set(read["total"]) == set(Totals.__dataclass_fields__)


# When it will be finished -------------------------------------------------------------------

FINISH = Finish(
    hours=Span(least=290.0, likely=336.0, most=400.0), tail=10.0, starts=0.5, grading=0.0, gpus=8,
    device="H100", supposed=False, assumed_speeds=False, order=(SAMPLED.name,),
)  # fmt: skip
CLOCK = Clock(
    hours=FINISH.hours, start=0.1, tail=10.0, copies=8, devices=1, slots=512, idle=0, bound_by_requests=False,
    unknown="",
)  # fmt: skip


def clocked(finish: Finish, *clocks: Clock) -> str:
    stages = (replace(SAMPLED, name=f"s{number}", clock=clock) for number, clock in enumerate(clocks))
    return printed(plan(*stages, finish=finish))


def test_one_line_says_when_all_will_be_finished_and_what_the_tail_is_of_it() -> None:
    line = (
        "Finished in about 14 days on 8 × H100 (between 12 and 17; the tail of long responses is 3% of it).\n"
    )
    text = clocked(FINISH, CLOCK)
    assert line in text
    assert "as if" not in text


def test_starts_and_grading_are_told_where_they_count() -> None:
    found = replace(
        FINISH, hours=Span.certain(1.0), tail=0.0, starts=0.6, grading=0.1, gpus=0, device="CPU (X)"
    )
    assert (
        "Finished in about 60 minutes on CPU (X) (the tail of long responses is less than 1% of it, starting "
        "servers and trainers 60%, grading after all else 10%)."
    ) in clocked(found, CLOCK)


def test_gpus_that_are_not_here_and_speeds_that_were_not_measured_are_owned_up_to() -> None:
    text = clocked(replace(FINISH, supposed=True, assumed_speeds=True), CLOCK)
    assert "as if they were in this machine (there is none)" in text
    assert "may be off by more" in text
    assert "which --gpus does not change" in clocked(replace(FINISH, supposed=True, gpus=0), CLOCK)


def test_what_is_not_counted_is_named_and_idle_gpus_and_too_few_requests_are_told() -> None:
    unknown = replace(CLOCK, unknown="needs 2 GPUs together")
    text = clocked(FINISH, replace(CLOCK, idle=2, bound_by_requests=True), unknown)
    assert "on 8 × H100, without what is not counted (" in text
    assert "not counted: s1, needs 2 GPUs together" in text
    assert "too few requests at once for their GPUs: 1 " in text
    assert "up to 2 GPUs have nothing to do" in text


def test_nothing_left_is_not_the_same_as_nothing_known() -> None:
    never = replace(FINISH, hours=Span(), tail=0.0, starts=0.0)
    assert "Nothing is left to do.\n" in clocked(never)
    unknown = replace(CLOCK, hours=Span(), unknown="it is somebody else's machine")
    text = clocked(never, unknown)
    assert (
        "When it will be finished is not known:\n  not counted: s0, it is somebody else's machine\n" in text
    )


@pytest.mark.parametrize(
    ("hours", "text"),
    [
        (0.004, "14 seconds"), (0.2, "12 minutes"), (1.4, "84 minutes"), (41.2, "41 hours"), (336, "14 days"),
        (24_000, "1,000 days"),
    ],
)  # fmt: skip
def test_a_time_is_told_in_the_unit_that_people_would_use(hours: float, text: str) -> None:
    assert duration(hours) == text


def test_machines_read_hours_by_the_clock_of_each_stage() -> None:
    read = json.loads(as_json(plan(replace(SAMPLED, clock=CLOCK), finish=FINISH)))
    assert read["stages"][0]["clock"]["hours"] == {"least": 290.0, "likely": 336.0, "most": 400.0}
    assert read["finish"]["hours"]["likely"] == 336.0
