"""Preflight: each way in which a server is known to lie, and a server that does not."""

import json
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from harness.asking import Request
from harness.chat import ChatTemplate, load_template
from harness.endpoint import Endpoint
from harness.engines import OPENAI_PARAMETERS
from harness.engines.remote import remote
from harness.engines.vllm import vllm
from harness.errors import ServerError
from harness.files import write_json
from harness.preflight import FILE, Preflights, look_through, plain_wanted, preflight, wanted_by
from harness.preflight.report import Check, Report, merged
from harness.preflight.temperature import tempered
from harness.preflight.wanted import LOOKED_THROUGH, Wanted
from harness.types import Message, Sampling
from tests.fakes.engine import WARM, FakeFixedEngine, request, running
from tests.fakes.toy_model_server import prefix, write_checkpoint

TOY = Path(__file__).parent / "fakes" / "toy_model_server.py"
SAMPLING = Sampling(temperature=1.0, max_tokens=100)
PLAIN = plain_wanted(SAMPLING)
SYSTEM = plain_wanted(SAMPLING, system="Be brief.")
GREEDY = replace(SAMPLING, temperature=0.0)


@dataclass(frozen=True, kw_only=True)
class Toy:
    """The toy model's checkpoint, and the process that serves it in as many ways as are wanted."""

    folder: Path
    process: Endpoint


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Toy]:
    folder = write_checkpoint(tmp_path_factory.mktemp("models") / "toy")
    with running(model="toy", engine=vllm, server=TOY) as process:
        yield Toy(folder=folder, process=process)


def toy(toys: Toy, *switches: str, **changes: Any) -> Endpoint:
    """A server of the toy model as vLLM would be asked, with its checkpoint at hand."""
    url = toys.process.base_url.removesuffix("/v1") + f"/{prefix('--root', str(toys.folder), *switches)}/v1"
    here = {"base_url": url, "folder": toys.folder, "template": load_template(toys.folder)}
    return replace(toys.process, **{**here, **changes})


def looked_at(toys: Toy, *switches: str, wanted: Wanted = PLAIN, **changes: Any) -> Report:
    return preflight(toy(toys, *switches, **changes), wanted)


def failed(report: Report) -> list[str]:
    return [check.name for check in report.checks if check.outcome == "failed"]


def stopping(report: Report) -> list[str]:
    return [check.name for check in report.stopping]


def found(report: Report, name: str) -> Check:
    return next(check for check in report.checks if check.name == name)


def asked_count(endpoint: Endpoint) -> int:
    with urllib.request.urlopen(endpoint.base_url.removesuffix("/v1") + "/asked") as answer:
        return int(json.load(answer)["asked"])


def wanting_tokens() -> Wanted:
    return replace(PLAIN, first=replace(PLAIN.first, logprobs=True))


def test_an_honest_server_passes_everything(model: Toy) -> None:
    report = looked_at(model, "--thinks", wanted=replace(SYSTEM, first=replace(SYSTEM.first, logprobs=True)))
    assert {check.name: check.outcome for check in report.checks} == {
        "model": "passed",
        "streaming": "not applicable",
        "temperature": "passed",
        "seed": "passed",
        "context": "passed",
        "prompt": "passed",
        "system prompt": "passed",
        "reasoning effort": "not applicable",
        "top_p": "passed",
        "top_k": "passed",
        "min_p": "passed",
        "repetition_penalty": "passed",
        "server defaults": "passed",
        "whole distribution": "passed",
        "logprobs": "passed",
        "logprobs before temperature": "passed",
        "prompt_logprobs": "passed",
        "reasoning": "passed",
        "truncated": "passed",
        "stopped": "passed",
        "usage": "passed",
    }
    assert report.honoured == ("temperature", "seed")
    report.refuse()


def test_a_wrong_model_id_stops_before_anything_else_is_asked(model: Toy) -> None:
    endpoint = toy(model, model="giant")
    report = preflight(endpoint, PLAIN)
    assert asked_count(endpoint) == 1
    assert stopping(report) == ["model"]
    assert "the server lists toy" in found(report, "model").observed
    with pytest.raises(ServerError, match="giant") as caught:
        report.refuse()
    assert "--served-model-name" in caught.value.remedy


def test_an_answer_of_another_model_stops(model: Toy) -> None:
    assert stopping(looked_at(model, "--answer-model", "impostor")) == ["model"]


def test_another_checkpoint_under_the_right_name_stops(model: Toy, tmp_path: Path) -> None:
    other = write_checkpoint(tmp_path / "other")
    report = looked_at(model, folder=other)
    assert stopping(report) == ["model"]
    assert "made from toy" in found(report, "model").observed


def test_a_checkpoint_on_another_computer_is_not_called_wrong(model: Toy) -> None:
    report = looked_at(model, "--root", "/elsewhere/models--org--name/snapshots/" + "a1" * 20)
    assert found(report, "model").outcome == "passed"
    facts = found(report, "model").facts
    assert (facts["checkpoint"], facts["revision"]) == ("org/name", "a1" * 20)


def test_a_context_that_the_server_tells_and_the_longest_request_does_not_fit(model: Toy) -> None:
    requests = [replace(PLAIN.first, sampling=replace(SAMPLING, max_tokens=most)) for most in (60, 900, 100)]
    report = looked_at(model, "--context", "800", wanted=wanted_by(requests, SAMPLING))
    assert stopping(report) == ["context"]
    assert found(report, "context").facts == {"context": 800}
    assert "+ 900 max_tokens" in found(report, "context").expected
    assert "--max-model-len" in found(report, "context").remedy


def test_a_context_that_nobody_tells_is_tried(model: Toy) -> None:
    elsewhere: dict[str, Any] = {"folder": None, "template": None}
    wanted = plain_wanted(replace(SAMPLING, max_tokens=700))
    for context, outcome in (("700", "failed"), ("1000", "passed")):
        report = looked_at(model, "--silent-context", "--context", context, wanted=wanted, **elsewhere)
        assert found(report, "context").outcome == outcome


def test_a_prompt_that_does_not_fit_at_all_says_so(model: Toy) -> None:
    long = replace(PLAIN.first, messages=(Message(role="user", content="x" * 900),))
    report = looked_at(model, "--context", "800", wanted=wanted_by([PLAIN.first, long], SAMPLING))
    assert stopping(report) == ["context"]
    assert "the longest prompt alone" in found(report, "context").observed


def test_a_seed_that_is_not_honoured_is_failed_and_noted(model: Toy) -> None:
    report = looked_at(model, "--ignore", "seed")
    assert (failed(report), stopping(report), report.honoured) == (["seed"], [], ("temperature",))
    (note,) = report.noted
    assert "the seed is not honoured" in note


def test_a_seed_that_is_not_honoured_stops_a_run_that_requires_it(model: Toy) -> None:
    assert stopping(looked_at(model, "--ignore", "seed", wanted=replace(PLAIN, seeds=True))) == ["seed"]


def test_a_default_that_we_overrule_is_found_and_stops_nothing(model: Toy) -> None:
    report = looked_at(model, "--default", '{"top_k": 20, "temperature": 0.6}')
    assert (failed(report), stopping(report)) == (["server defaults"], [])
    check = found(report, "server defaults")
    assert "temperature, top_k;" in check.observed
    assert "--generation-config vllm" in check.remedy


@pytest.mark.parametrize("switch", ["--default", "--force"])
def test_a_top_k_that_nobody_can_overrule_stops(model: Toy, switch: str) -> None:
    switches = [switch, '{"top_k": 20}', "--openai-only"]
    report = looked_at(model, *switches, accepts=OPENAI_PARAMETERS, engine=remote)
    assert stopping(report) == ["whole distribution"]


def test_a_forced_top_k_stops_although_it_is_sent_as_off(model: Toy) -> None:
    report = looked_at(model, "--force", '{"top_k": 20}')
    assert stopping(report) == ["whole distribution"]
    assert found(report, "server defaults").outcome == "passed"


def test_a_model_that_is_sure_of_itself_is_not_called_a_liar(model: Toy) -> None:
    report = looked_at(model, "--sure")
    assert found(report, "temperature").outcome == "could not be told"
    assert found(report, "whole distribution").outcome == "could not be told"
    assert stopping(report) == []
    assert tempered(-1e-9, 1.0) > -1e-8
    assert tempered(-0.5, 0.5) > -0.5 > tempered(-0.5, 2.0)
    assert tempered(0.0, 0.6) == 0.0


def test_a_server_that_tells_no_likely_tokens_is_not_judged_by_them(model: Toy) -> None:
    report = looked_at(model, "--no-tops", "--force", '{"top_k": 20}')
    assert found(report, "whole distribution").outcome == "could not be told"


@pytest.mark.parametrize(
    ("name", "value"), [("top_k", 20), ("top_p", 0.9), ("min_p", 0.1), ("repetition_penalty", 1.1)]
)
def test_a_parameter_that_is_ignored_stops_only_a_run_that_sets_it(
    model: Toy, name: str, value: float
) -> None:
    endpoint = toy(model, "--ignore", name)
    off = preflight(endpoint, PLAIN)
    on = preflight(endpoint, plain_wanted(replace(SAMPLING, **{name: value})))  # type: ignore[arg-type]
    assert (failed(off), stopping(off)) == ([name], [])
    assert stopping(on) == [name]


def test_a_temperature_that_is_ignored_stops(model: Toy) -> None:
    assert "temperature" in stopping(looked_at(model, "--force", '{"temperature": 0.0}'))
    assert "temperature" in stopping(looked_at(model, "--force", '{"temperature": 1.0}'))
    greedy = plain_wanted(GREEDY)
    assert "temperature" in stopping(looked_at(model, "--force", '{"temperature": 1.0}', wanted=greedy))
    assert looked_at(model, wanted=greedy).honoured == ("temperature",)


def test_a_template_that_drops_the_system_prompt(model: Toy) -> None:
    endpoint = toy(model, "--drop-system")
    without, within = preflight(endpoint, PLAIN), preflight(endpoint, SYSTEM)
    assert stopping(without) == ["prompt"]
    assert failed(without) == stopping(within) == ["prompt", "system prompt"]
    assert "--chat-template" in found(within, "prompt").remedy


def test_a_checkpoint_whose_own_template_drops_the_system_prompt(model: Toy) -> None:
    from tests.fakes.toy_model_server import WITHOUT_SYSTEM

    template = ChatTemplate(source=WITHOUT_SYSTEM)
    assert stopping(looked_at(model, "--drop-system", wanted=SYSTEM, template=template)) == ["system prompt"]


def test_a_system_prompt_of_the_servers_own_is_another_prompt(model: Toy) -> None:
    report = looked_at(model, "--own-system", "You are Toy.", wanted=PLAIN)
    assert found(report, "system prompt").outcome == "passed"


def test_special_tokens_that_are_read_as_characters(model: Toy) -> None:
    assert "prompt" in stopping(looked_at(model, "--plain-specials"))


def test_a_prompt_is_compared_by_its_length_where_no_ids_are_told(model: Toy) -> None:
    report = looked_at(model, "--no-ids")
    assert found(report, "prompt").outcome == "passed"
    assert found(report, "prompt").facts == {}
    assert "their ids are not told" in found(report, "prompt").observed
    assert "prompt" in stopping(looked_at(model, "--no-ids", "--drop-system"))


def test_without_a_template_nothing_is_said_of_the_prompt(model: Toy) -> None:
    report = looked_at(model, folder=None, template=None)
    assert found(report, "prompt").outcome == "could not be told"
    assert len(found(report, "prompt").facts["sha256"]) == 64
    assert found(report, "system prompt").outcome == "passed"


def test_a_server_that_counts_nothing_is_not_said_to_drop_the_system_prompt(model: Toy) -> None:
    report = looked_at(model, "--no-usage", wanted=SYSTEM)
    assert found(report, "system prompt").outcome == "could not be told"
    assert (found(report, "usage").outcome, stopping(report)) == ("failed", [])


def test_log_probabilities_that_a_run_needs(model: Toy) -> None:
    endpoint = toy(model, "--no-logprobs")
    unneeded, needed = preflight(endpoint, PLAIN), preflight(endpoint, wanting_tokens())
    assert stopping(unneeded) == []
    assert stopping(needed) == ["logprobs"]
    with pytest.raises(ServerError, match="sends no log-probabilities"):
        needed.refuse()


def test_log_probabilities_after_temperature_stop_a_run_that_needs_the_models(model: Toy) -> None:
    report = looked_at(model, "--processed-logprobs", wanted=wanting_tokens())
    assert stopping(report) == ["logprobs before temperature"]
    assert "raw_logprobs" in found(report, "logprobs before temperature").remedy


def test_reasoning_is_found_wherever_it_is_and_missed_where_it_is_lost(model: Toy) -> None:
    ways = {"tags": "in the text", "apart": "apart, in reasoning_content", "lost": "lost"}
    for way, told in ways.items():
        report = looked_at(model, "--thinks", "--reasoning", way)
        assert found(report, "reasoning").observed.startswith(told)
        assert stopping(report) == (["reasoning"] if way == "lost" else [])


def test_an_answer_that_goes_on_beyond_max_tokens_stops(model: Toy) -> None:
    assert "truncated" in stopping(looked_at(model, "--ignore", "max_tokens"))


def test_an_answer_that_is_cut_off_and_said_to_be_whole_stops(model: Toy) -> None:
    assert "truncated" in stopping(looked_at(model, "--finish", "stop"))


def test_a_stop_that_is_told_as_cut_off_stops(model: Toy) -> None:
    assert "stopped" in stopping(looked_at(model, "--finish", "length"))
    assert "stopped" in stopping(looked_at(model, "--ignore", "stop"))


def test_long_answers_are_streamed_in_the_preflight_as_in_the_run(model: Toy) -> None:
    streaming: dict[str, Any] = {"stream_from": 50}
    assert found(looked_at(model, **streaming), "streaming").outcome == "passed"
    report = looked_at(model, "--no-stream", **streaming)
    assert stopping(report) == ["streaming"]
    assert "stream_from = 0" in found(report, "streaming").remedy


def test_every_replica_is_asked_and_one_that_differs_stops(model: Toy) -> None:
    one, two, other = toy(model), toy(model), toy(model, "--context", "2000")
    agreeing = preflight(replace(one, replicas=(two,)), PLAIN)
    differing = preflight(replace(one, replicas=(two, other)), PLAIN)
    assert (agreeing.replicas, stopping(agreeing)) == (2, [])
    assert stopping(differing) == ["replicas"]
    assert "context" in found(differing, "replicas").observed


def test_the_worst_of_the_replicas_counts_and_chance_is_no_difference() -> None:
    def report(outcome: Any, stops: bool) -> Report:
        check = Check(name="seed", outcome=outcome, observed=outcome, stops=stops)
        return Report(endpoint={}, replicas=1, checks=(check,))

    noted = merged([report("passed", False), report("failed", False)])
    assert noted.honoured == ()
    assert (failed(noted), stopping(noted)) == (["seed"], [])
    wanted = merged([report("passed", True), report("failed", True)])
    assert failed(wanted) == ["seed", "replicas"]
    assert failed(merged([report("passed", True), report("could not be told", True)])) == []


def test_a_second_benchmark_on_a_warm_server_is_not_asked_for_again(model: Toy) -> None:
    preflights = Preflights()
    longer = replace(PLAIN, longest=replace(PLAIN.first, sampling=replace(SAMPLING, max_tokens=5000)))
    endpoint = toy(model)
    first = preflights.of(endpoint, PLAIN)
    count = asked_count(endpoint)
    assert preflights.of(endpoint, PLAIN) is first
    assert asked_count(endpoint) == count
    assert stopping(preflights.of(endpoint, longer)) == ["context"]
    assert asked_count(endpoint) == count + 1
    preflights.of(endpoint, SYSTEM)
    assert asked_count(endpoint) > 2 * count - 10


def test_what_is_stored_is_the_same_each_time_and_names_no_host(model: Toy, tmp_path: Path) -> None:
    stored = []
    for number in (1, 2):
        write_json(tmp_path / f"{number}{FILE}", looked_at(model))
        stored.append((tmp_path / f"{number}{FILE}").read_text())
    assert stored[0] == stored[1]
    assert "127.0.0.1" not in stored[0]
    assert str(model.folder) not in stored[0]


def test_the_requests_that_were_looked_through_come_again() -> None:
    many = [request(str(number)) for number in range(LOOKED_THROUGH + 3)]
    seen, again = look_through(iter(many))
    assert len(seen) == LOOKED_THROUGH
    assert list(again) == many


def test_the_longest_request_counts_prompt_prefix_and_room() -> None:
    requests: list[Request] = [
        request("a"),
        request("b", prefix="so far " * 500),
        request("c", sampling=replace(WARM, max_tokens=400)),
    ]
    assert wanted_by(requests, WARM).longest is requests[1]


def test_an_engine_that_samples_as_it_was_started_is_not_asked_for_anything_else(model: Toy) -> None:
    started: dict[str, Any] = {"sampling": SAMPLING, "accepts": ("temperature", "top_p")}
    fixed = toy(model, "--ignore", "seed", engine=FakeFixedEngine(), **started)
    report = preflight(fixed, PLAIN)
    with pytest.raises(ServerError, match="no chat template"):
        preflight(replace(fixed, template=None), PLAIN)
    assert (stopping(report), report.honoured) == ([], ("temperature",))
    assert found(report, "sampling parameters").outcome == "not applicable"
    assert "rendered here" in found(report, "prompt").observed


def test_a_seed_of_the_whole_process_does_not_pass_by_replaying_the_batch() -> None:
    with running("--process-seed", "--delay", "0.1") as endpoint:
        assert preflight(endpoint, plain_wanted(WARM)).honoured == ("temperature",)


def test_a_server_that_is_not_well_is_asked_again_and_one_that_stays_so_is_an_error() -> None:
    with running("--fail", "1") as endpoint:
        preflight(endpoint, plain_wanted(WARM)).refuse()
    with running("--busy", "3") as endpoint:
        preflight(endpoint, plain_wanted(WARM)).refuse()
