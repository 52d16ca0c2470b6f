"""Attacks on both sandboxes, sampled with a fixed seed, and that the suite itself would notice."""

import json
import struct
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from harness.grading.code import CodeVerdict, judge_value
from harness.sandboxes import Accept, Execution, Limits, Outcome, Program, accept_all, open_sandbox, seccomp
from tests.sandboxes import attacking, bombs, traps
from tests.sandboxes.attacking import Attack, Range
from tests.sandboxes.conftest import needs, settings

SAMPLE, SEED = 20, 7
QUICK_BOMBS = ("1 GB of zeros", "256 MB after a short string", "code after a string", "JSON nested in a test")
REFUSED = seccomp.ERRNO | seccomp.EPERM
MALFORMED = (
    '{"fraction": ["0x1"]}', '{"fraction": []}', '{"fraction": ["0x1", "0x0"]}', '{"complex": ["1"]}',
    '{"decimal": "sNaN"}', '{"decimal": "x"}', '{"numpy": ["<f8"]}', '{"numpy": ["f8,", [], [1]]}',
    '{"numpy": ["(99,99)f8", [], [1]]}', '{"numpy": ["O", [], [1]]}',
    '{"numpy": ["<i8", [1e308], [1]]}', '{"numpy": ["<u1", [1], [99999999999999999999]]}',
    '{"numpy": ["<f8", [-1, -1], [1]]}', '{"dict": [[[], 1]]}', '{"dict": [1]}', '{"dict": 1}',
    '{"int": "0x"}', '{"int": {"a": 1}}', '{"float": "1e"}', '{"a": 1, "b": 2}', "{}", "[" * 100_000,
    "", "nan", "[1", "\x00", "[" + "[]," * 2_000_000 + "1]",
)  # fmt: skip


@pytest.mark.parametrize("name", ["docker", "bubblewrap"])
def test_attacks_get_nothing_and_spoil_nothing(name: str) -> None:
    needs(name)
    with traps.laid() as laid, closing(open_sandbox(settings(name), print)) as sandbox:
        ground = Range(sandbox=sandbox, traps=laid, fresh=attacking.look(sandbox))
        attacks = attacking.sampled(attacking.read_attacks(), SAMPLE, SEED)
        results = [ground.carry_out(attack) for attack in attacks]
    assert [result for result in results if result.ending != "survived"] == []
    assert len(results) == SAMPLE


class Unconfined:
    """Programs on the bare host: what the suite must not take for a sandbox."""

    name = "none"

    def run(
        self, program: Program, inputs: list[str], limits: Limits, accept: Accept = accept_all
    ) -> Execution:
        done = subprocess.run(
            [sys.executable, "-c", program.code], input=inputs[0], capture_output=True, text=True, check=False
        )
        outcome = Outcome(status="ok", output=done.stdout)
        accept(0, outcome)
        return Execution(outcomes=(outcome,))

    def close(self) -> None:
        return


@pytest.mark.parametrize(
    "code",
    [
        "import json\nprint(open(json.loads(input())['canary_file']).read(), 'TRIED')",
        "import json\nopen(json.loads(input())['folder'] + '/new', 'w').close()\nprint('TRIED')",
        "import json, socket\nto = ('127.0.0.1', json.loads(input())['ports']['tcp4'])\n"
        "socket.create_connection(to).close()\nprint('TRIED')",
    ],
)
def test_the_suite_notices_what_gets_out(code: str) -> None:
    with traps.laid() as laid:
        ground = Range(sandbox=Unconfined(), traps=laid, fresh={})
        recording = attacking.Recording(ground.sandbox)
        verdict = ground.submit(Attack(name="probe", title="", code=code), recording, "mark", "wanted")
        assert not verdict.passed
        laid.wait()
        assert attacking.stolen(recording.outcomes, laid.canary, "another", "wanted") or laid.sprung()


def test_the_suite_notices_a_wrong_verdict_and_an_attack_that_never_happened() -> None:
    attack = Attack(name="probe", title="", code="")
    ok, broken = (Outcome(status="ok", output="TRIED"),), (Outcome(status="load_error"),)
    assert not attacking.misjudged(attack, CodeVerdict(passed=False, results=[]), ok)
    assert attacking.misjudged(attack, CodeVerdict(passed=True, results=[]), ok)
    assert attacking.misjudged(attack, CodeVerdict(passed=False, results=[]), broken)
    assert attacking.misjudged(attack, CodeVerdict(passed=False, results=[]), (Outcome(status="ok"),))


@pytest.mark.parametrize("output", MALFORMED, ids=range(len(MALFORMED)))
def test_a_malformed_value_is_a_wrong_answer_and_no_error_of_the_judge(output: str) -> None:
    assert judge_value(output, "[1]") is False


def test_a_long_list_that_is_expected_is_still_read() -> None:
    numbers = json.dumps(list(range(1_500_000)))
    assert judge_value(numbers, numbers) is True


@pytest.mark.parametrize("name", QUICK_BOMBS)
def test_bombs_in_private_tests_are_refused(name: str, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    assert bombs.held(name, bombs.bomb(name, marker), marker) == []


def filtered(arch: int, number: int, *arguments: int) -> int:
    """What the kernel would make of one system call by the filter."""
    data = struct.pack("=iIQ6Q", number, arch, 0, *arguments, *[0] * (6 - len(arguments)))
    lines = list(struct.iter_unpack("=HBBI", seccomp.program()))
    place, held = 0, 0
    while True:
        code, then, otherwise, value = lines[place]
        place += 1
        match code:
            case seccomp.RETURN:
                return int(value)
            case seccomp.LOAD:
                (held,) = struct.unpack_from("=I", data, value)
            case seccomp.JUMP:
                place += value
            case seccomp.EQUAL:
                place += then if held == value else otherwise
            case seccomp.AT_LEAST:
                place += then if held >= value else otherwise
            case seccomp.ANY_BIT:
                place += then if held & value else otherwise


@pytest.mark.parametrize("processor", [seccomp.X86_64, seccomp.AARCH64], ids=["x86_64", "aarch64"])
def test_the_filter_refuses_what_it_names_and_lets_the_rest_be(processor: seccomp.Processor) -> None:
    arch, looked_into = processor.arch, {processor.clone, processor.clone3, processor.socket}
    looked_into |= {processor.setpriority, processor.fcntl, processor.ioctl}
    looked_into |= {*processor.own.values(), *processor.signals.values()}
    refused = set(processor.refused.values())
    assert {filtered(arch, number) for number in refused} == {REFUSED}
    assert {filtered(arch, number) for number in set(range(460)) - refused - looked_into} == {seccomp.ALLOW}
    assert {filtered(arch, number, 1) for number in processor.own.values()} == {REFUSED}
    assert {filtered(arch, number, 0) for number in processor.own.values()} == {seccomp.ALLOW}
    assert {filtered(arch, number, 1, 9) for number in processor.signals.values()} == {REFUSED}
    assert {filtered(arch, number, 2, 9) for number in processor.signals.values()} == {seccomp.ALLOW}
    assert [filtered(arch, processor.fcntl, 0, command) == REFUSED for command in (8, 1, 3)] == [
        True,
        False,
        False,
    ]
    assert filtered(arch, processor.ioctl, 0, 0x8901) == REFUSED
    allowed = {family for family in range(50) if filtered(arch, processor.socket, family) == seccomp.ALLOW}
    assert allowed == set(seccomp.FAMILIES)
    assert filtered(arch, processor.clone, 0x10000011) == REFUSED
    assert filtered(arch, processor.clone, 0x003D0F00) == seccomp.ALLOW
    assert filtered(arch, processor.clone3) == seccomp.ERRNO | seccomp.ENOSYS
    assert filtered(arch, processor.setpriority, 0, 0, 5) == seccomp.ALLOW
    assert filtered(arch, processor.setpriority, 0, 1, 5) == REFUSED
    assert filtered(arch, processor.setpriority, 2, 0, 5) == REFUSED


def test_the_filter_refuses_every_other_gate() -> None:
    assert filtered(0x40000003, 1) == REFUSED
    assert filtered(seccomp.X86_64.arch, seccomp.X32 | 1) == REFUSED
