"""Attacks on the sandboxes: how one is described, carried out through the real grader, and judged.

An attack is a file of `attacks/`: a program as a model would submit it, behind a docstring and lines
`#: name = value` of TOML. It prints (or returns) `GOT …` for each thing that it got and `TRIED` at its end.
Its task cannot be solved: what is expected is a random word that never enters the sandbox.
"""

import json
import random
import re
import secrets
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import HarnessError
from harness.grading.code import CodeTest, CodeVerdict, grade_program
from harness.sandboxes import Accept, Execution, Limits, Outcome, Program, Sandbox, accept_all
from tests.sandboxes import traps
from tests.sandboxes.traps import Traps
from tests.tally import Ending

ATTACKS = Path(__file__).parent / "attacks"
LOOK = Path(__file__).parent / "look.py"
QUICK = Limits(seconds=5)
JUDGE_MEMORY = 400 * 2**20
"""Bytes that the harness may grow by while it judges one program, whatever that prints."""


@dataclass(frozen=True, kw_only=True)
class Attack:
    """`endings` are the statuses of a program that may be the right account of this one.

    `slow` attacks take more than a few seconds and run with FULL=1 only.
    """

    name: str
    title: str
    code: str
    endings: tuple[str, ...] = ("ok",)
    function: str | None = None
    seconds: float = 10.0
    slow: bool = False


@dataclass(frozen=True, kw_only=True)
class Result:
    """How one attack ended, with the reasons."""

    attack: str
    sandbox: str
    ending: Ending
    notes: tuple[str, ...] = ()
    grew: int = 0


def read_attacks() -> list[Attack]:
    """Every attack of the folder, by name."""
    return [read_attack(path) for path in sorted(ATTACKS.glob("*.py"))]


def read_attack(path: Path) -> Attack:
    code = path.read_text(encoding="utf-8")
    settings = "\n".join(line[2:] for line in code.splitlines() if line.startswith("#:"))
    title = code.partition('"""')[2].partition("\n")[0].rstrip('"')
    about = tomllib.loads(settings)
    if "endings" in about:
        about["endings"] = tuple(about["endings"])
    return Attack(name=path.stem, title=title, code=code, **about)


def sampled(attacks: list[Attack], count: int, seed: int) -> list[Attack]:
    """`count` quick attacks, the same for the same seed."""
    quick = [attack for attack in attacks if not attack.slow]
    chosen = random.Random(seed).sample(quick, min(count, len(quick)))
    return sorted(chosen, key=lambda attack: attack.name)


class Recording:
    """A sandbox that keeps the outcomes, which the grader does not return."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.name = sandbox.name
        self.outcomes: tuple[Outcome, ...] = ()

    def run(
        self, program: Program, inputs: list[str], limits: Limits, accept: Accept = accept_all
    ) -> Execution:
        execution = self.sandbox.run(program, inputs, limits, accept)
        self.outcomes = execution.outcomes
        return execution

    def close(self) -> None:
        self.sandbox.close()


@dataclass(kw_only=True)
class Range:
    """One sandbox under attack, one program at a time, and what a fresh guest of it looks like."""

    sandbox: Sandbox
    traps: Traps
    fresh: dict[str, Any]

    def carry_out(self, attack: Attack) -> Result:
        """Plants another sample's secret, runs the attack, then innocent programs, then looks around."""
        sample = f"sample-{secrets.token_hex(16)}"
        mark = f"sample-{secrets.token_hex(16)}"
        wanted = f"expected-{secrets.token_hex(16)}"
        notes: dict[Ending, list[str]] = {"escaped": [], "wrongly graded": [], "lost": []}
        recording = Recording(self.sandbox)
        try:
            self.plant(sample)
            before = peak_memory(reset=True)
            verdict = self.submit(attack, recording, mark, wanted)
            grew = peak_memory() - before
            notes["wrongly graded"] += misjudged(attack, verdict, recording.outcomes)
            notes["escaped"] += stolen(recording.outcomes, self.traps.canary, sample, wanted)
            notes["escaped"] += self.traps.sprung()
            notes["wrongly graded"] += innocents(self.sandbox)
            notes["escaped"] += self.leftovers()
        except HarnessError as error:
            notes["lost"].append(f"{type(error).__name__}: {error}")
            grew = 0
        if grew > JUDGE_MEMORY:
            notes["lost"].append(f"the harness grew by {grew / 2**20:.0f} MB")
        ending: Ending = next((kind for kind, found in notes.items() if found), "survived")
        return Result(
            attack=attack.name, sandbox=self.sandbox.name, ending=ending, grew=grew,
            notes=tuple(note for found in notes.values() for note in found),
        )  # fmt: skip

    def plant(self, sample: str) -> None:
        """Another sample of the same problem, whose code, input, output and file hold the secret."""
        code = f"import pathlib\nword = '{sample}'\npathlib.Path('/tmp/sample').write_text(word)\nprint(word)"
        test = CodeTest(input=sample, output=sample)
        for _ in range(3):
            if not grade_program(code, [test], None, self.sandbox, QUICK).passed:
                raise HarnessError("another sample, which was right, is graded wrong")

    def submit(self, attack: Attack, recording: Recording, mark: str, wanted: str) -> CodeVerdict:
        given = traps.told(self.traps.facts(), mark)
        expected = json.dumps(wanted) if attack.function else wanted
        tests = [CodeTest(input=given, output=expected)] * 2
        return grade_program(attack.code, tests, attack.function, recording, Limits(seconds=attack.seconds))

    def leftovers(self) -> list[str]:
        now = look(self.sandbox)
        return [
            f"the next program sees {name}: {now[name]!r} instead of {self.fresh[name]!r}"
            for name in now
            if now[name] != self.fresh[name]
        ]


def look(sandbox: Sandbox) -> dict[str, Any]:
    """What a program sees of its surroundings."""
    outcome = sandbox.run(Program(code=LOOK.read_text()), [""], Limits(seconds=60)).outcomes[0]
    if outcome.status != "ok":
        raise HarnessError(f"the program that looks around ended with {outcome.status}: {outcome.message}")
    seen: dict[str, Any] = json.loads(outcome.output)
    return seen


def misjudged(attack: Attack, verdict: CodeVerdict, outcomes: tuple[Outcome, ...]) -> list[str]:
    """Reasons why the verdict is not the right one."""
    last = outcomes[-1]
    found = ["it passes"] if verdict.passed else []
    if last.status not in attack.endings:
        found.append(f"it ended with {last.status} ({last.message or last.output[:200]})")
    elif last.status == "ok" and "TRIED" not in last.output:
        found.append(f"it did not get to its end: {last.output[:200]}")
    return found


def stolen(outcomes: Iterable[Outcome], canary: str, sample: str, wanted: str) -> list[str]:
    """What a program printed that it cannot know, and what it says that it got."""
    text = "\n".join(f"{outcome.output}\n{outcome.message}" for outcome in outcomes)
    found = re.findall(r"GOT [^\n\"]{0,200}", text)
    words = {"the host's canary": canary, "another sample": sample, "the expected output": wanted}
    return found[:5] + [name for name, word in words.items() if word in text]


def innocents(sandbox: Sandbox) -> list[str]:
    """What is wrong with the verdicts on programs that only solve, or fail to solve, their task."""
    stdin = [CodeTest(input="3\n", output="9\n"), CodeTest(input="11\n", output="121\n")]
    value = [CodeTest(input="[3, 1, 2]", output="[1, 2, 3]")]
    threads = (
        "import threading\nfound = []\n"
        "each = [threading.Thread(target=found.append, args=(1,)) for _ in range(8)]\n"
        "[t.start() for t in each]\n[t.join() for t in each]\nn = int(input())\n"
        "open('/tmp/x', 'w').write('y' * 2**20)\nprint(n * n if len(found) % 8 == 0 else 0)"
    )
    cases = (
        ("a right program", "n = int(input())\nprint(n * n)", stdin, None, True),
        ("a right program with threads and a file", threads, stdin, None, True),
        ("a wrong program", "print(9)", stdin, None, False),
        (
            "a right function",
            "class Solution:\n    def f(self, a):\n        return sorted(a)",
            value,
            "f",
            True,
        ),
        ("a wrong function", "class Solution:\n    def f(self, a):\n        return a", value, "f", False),
    )
    found = []
    for name, code, tests, function, right in cases:
        verdict = grade_program(code, tests, function, sandbox, QUICK)
        if verdict.passed != right:
            found.append(f"{name} after it got {verdict.results} ({verdict.message})")
    return found


def peak_memory(*, reset: bool = False) -> int:
    """Bytes: the most memory that this process held since the last reset, or now where it is reset."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    status = Path("/proc/self/status").read_text()
    name = "VmRSS" if reset else "VmHWM"
    return int(re.search(rf"{name}:\s+(\d+) kB", status).group(1)) * 1024  # type: ignore[union-attr]
