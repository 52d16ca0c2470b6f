"""What the page says of where it comes from, and what it never says: keys, homes, gated texts."""

import json
import shlex
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.aime import aime24
from benchmarks.gpqa import gpqa_diamond
from benchmarks.micro import micro_code, micro_math
from harness.cli import cli
from harness.cli.found import find_recipe
from harness.cli.invoked import invoked
from harness.endpoint import Endpoint
from harness.evaluate import Ask, Mark
from harness.files import write_json
from harness.hub import Checkpoint, Lock
from harness.integrity import MANIFEST
from harness.machine import Machine
from harness.recipe import evaluation
from harness.runs import Stored, commands_of, write_recipe
from harness.store import RunStore
from harness.types import Question
from harness.workplace import harness_version, workplace
from reports.differences import differences
from reports.discreet import command_line, discreet
from reports.page import Section
from reports.provenance import commits, pins_in, pins_section, prompt_sections, provenance_sections
from reports.published import load_ambiguities, load_published
from reports.readings import readings_section
from reports.table import Measurement, build_entries
from tests.fakes.engine import running
from tests.until_resolved import evaluate

SECRET = "sk-very-secret"
GATED = Question(
    id="rec1", domain="science", prompt="A gated text.", gold="right text",
    data={"options": ["right text", "wrong 1", "wrong 2", "wrong 3"], "field": "Physics"},
)  # fmt: skip


# What nobody else should read


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (f"http://me:{SECRET}@host:8000/v1?key={SECRET}#x", "http://host:8000/v1"),
        (f"https://{SECRET}@host/v1", "https://host/v1"),
        ("https://host/v1", "https://host/v1"),
        (f"--api-key {SECRET} --dtype float32", "--api-key … --dtype float32"),
        (f"--hf-token={SECRET}", "--hf-token=…"),
        (f"{Path.home()}/models/x", "~/models/x"),
        (f"{Path.home()}", "~"),
        (f"{Path.home()}stead/x", f"{Path.home()}stead/x"),
        ("org/name@0123abc", "org/name@0123abc"),
        ("--max-tokens 8192", "--max-tokens 8192"),
        (f"HF_TOKEN={SECRET} python", "HF_TOKEN=… python"),
        (f"max_tokens=5 api_key='{SECRET} x', seed=7", "max_tokens=5 api_key=…, seed=7"),
        (f'{{"api_key": "{SECRET}", "seed": 7}}', '{"api_key": …, "seed": 7}'),
        (f"Authorization: Basic {SECRET}", "Authorization: Basic …"),
        (f"a header Bearer {SECRET}.x/y=", "a header Bearer …"),
        (f"said {SECRET}", "said …"),
        ("the bearer of news; a token, a key: both", "the bearer of news; a token, a key: both"),
    ],
)
def test_keys_addresses_and_homes_are_left_out(text: str, told: str) -> None:
    assert discreet(text) == told


def test_a_command_line_is_read_by_a_shell_as_it_was_meant() -> None:
    words = ("harness", "evaluate", "~/my models/x", "--system", "Say 'no'; $HOME\n", "-b", "aime24:8")
    line = command_line(words)
    assert shlex.split(line) == list(words)
    assert "~/'my models/x'" in line


def test_no_command_tells_where_a_server_stands() -> None:
    inner = f"http://inner.corp:8000/{SECRET}/v1"
    assert (
        command_line(["harness", "evaluate", "m", "--base-url", inner]) == "harness evaluate m --base-url URL"
    )
    assert command_line([f"--base-url={inner}", "--limit", "5"]) == "--base-url=URL --limit 5"


def test_a_commands_words_are_those_that_were_given() -> None:
    arguments = [
        "tiny", "-b", "micro_math:8", "-b", "micro_code",
        "--base-url", f"http://me:{SECRET}@host/v1?k={SECRET}", "--limit", "5", "--set", "seconds=30",
        "--until-resolved", "--runs", "/somewhere", "--machine", "m.toml",
    ]  # fmt: skip
    command = cli.get_command(cli.make_context("harness", ["list"]), "evaluate")
    assert command is not None
    with command.make_context("evaluate", arguments):
        told = invoked()
    assert told == (
        "harness", "evaluate", "tiny", "--benchmark", "micro_math:8", "--benchmark", "micro_code",
        "--base-url", "URL", "--limit", "5", "--set", "seconds=30", "--until-resolved",
    )  # fmt: skip


# Prompts


def test_a_gated_question_is_rendered_without_its_text(tmp_path: Path) -> None:
    ask = Ask(model=Stored(stored="sft-1"), benchmark=gpqa_diamond, engine="vllm", system="Be brief.")
    example = ask.example([GATED])
    assert example is not None
    told = " ".join(message.content for message in example.messages)
    assert not [text for text in (GATED.prompt, GATED.gold, *GATED.data["options"]) if text in told]
    assert "Answer the following multiple choice question" in told
    assert "{Question}" in told
    assert "{Correct Answer}" in told


def test_a_gated_benchmark_that_has_no_placeholders_shows_nothing() -> None:
    class Closed(type(micro_math)):  # type: ignore[misc]
        gated = True

    closed = Closed(name="closed")
    assert closed.public(GATED) is None
    assert Ask(model=Stored(stored="a"), benchmark=closed, engine="vllm").example([GATED]) is None


def test_other_questions_are_shown_as_they_are_asked() -> None:
    question = Question(id="1", domain="math", prompt="What is 1+1?", gold="2")
    ask = Ask(model=Stored(stored="a"), benchmark=aime24, engine="vllm")
    (first, *_) = ask.requests([question])
    assert ask.example([question]) == first


def marked(store: RunStore, sent: dict[str, Any], benchmark: Any = micro_math, row: str = "final") -> Mark:
    ask = Ask(model=Stored(stored=f"sft-{row}"), benchmark=benchmark, engine="vllm")
    mark = Mark(asked=ask, grader=benchmark.grader)
    for stage in (ask, mark):
        store.path(stage).mkdir(parents=True)
        write_json(store.path(stage) / MANIFEST, {"seconds": 1.0})
    write_json(store.path(ask) / "prompt.json", sent)
    write_json(store.path(ask) / "asked.json", {"questions": 1, "draws": 1})
    return mark


SENT = {
    "path": "/chat/completions",
    "body": {"model": "m", "max_tokens": 160, "temperature": 1.0, "seed": 7,
             "messages": [{"role": "user", "content": "Compute 1+1.\u202e<b>"}]},
    "rendered": None,
}  # fmt: skip


def test_messages_stand_for_a_template_that_only_the_server_knows(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    mark = marked(store, SENT)
    (section,) = prompt_sections(store, {"eval/final/micro_math": mark})
    assert section.copyable == "[user]\nCompute 1+1.\ufffd<b>"
    assert "/chat/completions: max_tokens 160, temperature 1.0, seed 7" in section.note
    assert "renders its own chat template" in section.note


def test_rows_that_were_sent_the_same_share_a_prompt(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    labels = {f"eval/{row}/micro_math": marked(store, SENT, row=row) for row in ("base", "final")}
    other = {**SENT, "rendered": "<|im_start|>system\nBe brief."}
    labels["eval/loud/micro_math"] = marked(store, other, row="loud")
    shared, alone = prompt_sections(store, labels)
    assert "base, final" in shared.title
    assert alone.copyable == "<|im_start|>system\nBe brief."


def test_a_prompt_that_nobody_kept_is_said_to_be_missing(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    mark = marked(store, SENT)
    (store.path(mark.asked) / "prompt.json").unlink()
    (section,) = prompt_sections(store, {"eval/final/micro_math": mark})
    assert (section.title, section.copyable) == ("Prompt of micro_math, as sent to final", "")
    assert section.note.startswith("Not recorded: ")
    assert section.note.endswith("which kept no prompt.")


# The command


@pytest.mark.parametrize(
    ("name", "engine", "entry", "words"),
    [
        ("dasd-micro", "transformers", None, "dasd-micro --engine transformers"),
        ("dasd-4b", None, "data", "dasd-4b --from data --engine vllm"),
    ],
)
def test_a_recipes_command_names_its_engine_and_entry(
    tmp_path: Path, name: str, engine: str | None, entry: str | None, words: str
) -> None:
    section = next(iter(provenance_sections(RunStore(tmp_path), find_recipe(name, engine, entry), {})))
    assert section.copyable == f"harness reproduce {words}"


def test_the_command_of_a_run_on_another_engine_is_not_that_of_the_page(tmp_path: Path) -> None:
    store, made = RunStore(tmp_path), find_recipe("dasd-micro")
    write_recipe(store, replace(made, commands=(("harness", "reproduce", "dasd-micro"),)))
    write_recipe(store, find_recipe("dasd-micro", "transformers"))
    assert commands_of(store, "dasd-micro") == ()


# Pins


def test_every_repository_is_found_however_deep() -> None:
    identity = {
        "class": "Collect",
        "sources": [{"table": {"repo": "org/data", "revision": "unpinned"}, "count": 3}],
        "benchmark": {"dataset": "org/test", "revision": "a" * 40, "sampling": {"seed": 0}},
        "source": "plain text without a pin",
    }
    assert set(pins_in(identity)) == {("org/data", "unpinned", ""), ("org/test", "a" * 40, "")}


def test_what_is_unpinned_is_told_with_what_the_lock_says(tmp_path: Path) -> None:
    lock = Lock(tmp_path / "harness.lock")
    lock.add("org/model", "revision", "b" * 40)
    stages = [
        Checkpoint(source="org/model", revision="unpinned"),
        Checkpoint(source="micro base", sha256="c" * 64),
        Checkpoint(source="org/other", revision="unpinned"),
    ]
    store = RunStore(tmp_path)
    store.path(stages[2]).mkdir(parents=True)
    write_json(store.path(stages[2]) / "source.json", {"source": "org/other", "origin": "d" * 40})
    taken = commits(store, [stages[2]], lock)
    names = {stage.key: stage.source for stage in stages}
    rows = {row[0]: row[1:3] for row in pins_section(stages, names, taken).rows}
    assert rows == {
        "org/model": [f"unpinned; harness.lock: {'b' * 40}", None],
        "micro base": [None, "c" * 64],
        "org/other": [f"unpinned; taken from: {'d' * 40}", None],
    }


# Machines


def test_a_machine_has_no_name_and_no_folder(tmp_path: Path) -> None:
    import socket

    told = workplace(Machine(gpus=0, data=tmp_path, environments=tmp_path))
    text = json.dumps(told)
    assert told["cores"] >= 1
    assert told["memory_gb"] > 0
    assert "price_per_gpu_hour" not in told
    assert told["packages"]["math-verify"]
    assert str(tmp_path) not in text
    assert str(Path.home()) not in text
    assert socket.gethostname() not in text


def test_a_price_is_kept_with_the_stage_that_it_was_paid_for() -> None:
    told = workplace(Machine(gpus=0, price_per_gpu_hour=2.0, currency="EUR"))
    assert (told["price_per_gpu_hour"], told["currency"]) == (2.0, "EUR")


def test_the_version_of_a_checkout_names_its_commit() -> None:
    version, *rest = harness_version().split(", ")
    assert version[0].isdigit()
    assert not rest or rest[0].startswith("commit ")


# What differs from the claims' protocol


def asked_otherwise(store: RunStore, **sampling: Any) -> tuple[dict[str, Mark], list[Any]]:
    benchmark = replace(aime24, sampling=replace(aime24.sampling, **sampling))
    mark = marked(store, SENT, benchmark)
    measurement = Measurement(row="final", benchmark="aime24", grades=[], questions=30, draws=1)
    entries = build_entries("dasd-4b", load_published("dasd_4b"), [measurement])
    return {"eval/final/aime24": mark}, [
        replace(one, questions=30) if one.row == "final" else one for one in entries
    ]


def test_the_papers_own_settings_differ_in_nothing(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    labels, entries = asked_otherwise(store)
    (silent,) = differences(store, labels, entries, load_published("dasd_4b"))
    assert silent.startswith("§7.3 does not tell the engine, its precision, the system prompt")
    assert "vllm, no version recorded" in silent


def test_every_other_setting_is_named_with_both_values(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    labels, entries = asked_otherwise(store, draws=4, temperature=0.6, max_tokens=1000, top_k=20)
    told = list(differences(store, labels, entries, load_published("dasd_4b")))
    assert told[:4] == [
        "responses a question: 4 here, 64 in §7.3 (all)",
        "temperature: 0.6 here, 1.0 in §7.3 (all)",
        "token limit of a response: 1,000 here, 102,400 in §7.3 (all)",
        "top k: 20 here, not named in §7.3 (all)",
    ]


def test_the_token_limits_of_the_paper_are_those_of_the_benchmarks() -> None:
    from benchmarks.livecodebench import lcb_v5, lcb_v6

    protocol = load_published("dasd_4b").protocol
    assert protocol is not None
    for benchmark in (aime24, gpqa_diamond, lcb_v5, lcb_v6):
        assert protocol.max_tokens[benchmark.name] == benchmark.sampling.max_tokens
        assert (protocol.temperature, protocol.top_p) == (
            benchmark.sampling.temperature,
            benchmark.sampling.top_p,
        )


# Sensitivity


def test_without_it_the_page_says_what_could_be_tried_and_how() -> None:
    marks = [Mark(asked=Ask(model=Stored(stored="a"), benchmark=one, engine="vllm"), grader=2)
             for one in (micro_math, micro_code)]  # fmt: skip
    (section,) = readings_section("dasd-micro", marks, load_ambiguities("dasd_4b"))
    assert section.copyable == "harness report dasd-micro --sensitivity"
    assert [(row[2], row[3]) for row in section.rows] == [
        ("lenient: whole text", "micro_math, micro_code"),
        ("standard input before-2025-05-23", "micro_code"),
        ("30 s a test", "micro_code"),
    ]
    assert section.rows[1][0] == "Which version of the LCB grader?"
    assert readings_section("dasd-micro", [], ()) == []


# A whole run


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, Any], Endpoint]]:
    """A run of the real command against a server, and its report."""
    runs = tmp_path_factory.mktemp("runs")
    with running("--sums", "0.57") as endpoint:
        evaluate(endpoint, runs, "--system", "Be brief.", draws=2)
        yield runs, json.loads((runs / "tiny" / "report.json").read_bytes()), endpoint


def sections(report: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {one["title"]: one for one in report["sections"]}


def test_the_page_has_the_command_that_made_it(told: tuple[Path, dict[str, Any], Endpoint]) -> None:
    runs, report, endpoint = told
    section = sections(report)["The command that reproduces this page"]
    words = shlex.split(section["copyable"])
    assert endpoint.base_url not in (runs / "tiny" / "recipe.json").read_text()
    assert "URL stands for the address of the server" in section["note"]
    assert words == [
        "harness", "evaluate", "tiny", "--benchmark", "micro_math:2", "--base-url", "URL",
        "--system", "Be brief.", "--claims", "dasd-micro/final",
    ]  # fmt: skip
    store = RunStore(runs)
    before = commands_of(store, "tiny")
    write_recipe(store, evaluation(model="org/m", benchmarks=[micro_math], engine="vllm", name="tiny"))
    assert commands_of(store, "tiny") == before != ()


def test_the_page_has_the_prompt_as_it_was_sent(told: tuple[Path, dict[str, Any], Endpoint]) -> None:
    _, report, _ = told
    section = sections(report)["Prompt of micro_math, as sent to final"]
    question = micro_math.load(None)[0]
    assert section["copyable"] == f"[system]\nBe brief.\n\n[user]\n{question.prompt}"


def test_the_page_names_machine_versions_and_engine(told: tuple[Path, dict[str, Any], Endpoint]) -> None:
    _, report, _ = told
    found = sections(report)
    (machine,) = found["Machines and code"]["rows"]
    assert machine[-1] == "all"
    assert machine[-2] == harness_version()
    (engine,) = found["Engines"]["rows"]
    assert engine[0] == "remote"
    assert "math-verify" in [row[0] for row in found["Packages"]["rows"]]


def test_the_hash_of_the_verdicts_is_that_of_the_file(told: tuple[Path, dict[str, Any], Endpoint]) -> None:
    import hashlib

    runs, report, _ = told
    (file,) = runs.glob("stages/mark-*/grades.jsonl")
    rows = {row[1]: row[2:] for row in sections(report)["Hashes of results"]["rows"]}
    content = file.read_bytes()
    assert rows["grades.jsonl"] == [len(content), hashlib.sha256(content).hexdigest()]


def test_the_page_says_what_was_asked_otherwise(told: tuple[Path, dict[str, Any], Endpoint]) -> None:
    _, report, _ = told
    assert "responses a question: 2 here, 4 in our own runs (all)" in report["differences"]


def test_a_run_of_which_no_command_is_known_says_so(told: tuple[Path, dict[str, Any], Endpoint]) -> None:
    runs, _, _ = told
    recipe = evaluation(model="org/m", benchmarks=[micro_math], engine="vllm", name="other")
    row = next(iter(recipe.models))
    known = replace(recipe, models={row: replace(recipe.models[row], model=Stored(stored="x"))})
    first = next(iter(provenance_sections(RunStore(runs), known, {})))
    assert isinstance(first, Section)
    assert first.copyable == ""
    assert "did not write its command down" in first.note
