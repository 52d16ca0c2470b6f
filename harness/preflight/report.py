"""What a preflight found: one Check a question, and which of them stop a run.

The rule: a failed check stops a run where its rows would be a lie or would be lost, which is another
model, a context that is too small, another sampling than the rows say, a prompt that is not the one
written down, a text that is cut, or log-probabilities that the next stage needs. Everything else is kept
and shown: a seed that is not honoured costs equal text on a second run, and the rows say so themselves.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import msgspec

from harness.errors import ServerError
from harness.files import UNREADABLE
from harness.origin import ORIGIN

FILE = "preflight.json"

Outcome = Literal["passed", "failed", "could not be told", "not applicable"]
HONOURED = {"temperature": "temperature", "seed": "seed", "reasoning effort": "effort"}
WORST: tuple[Outcome, ...] = ("failed", "could not be told", "not applicable", "passed")


@dataclass(frozen=True, kw_only=True)
class Check:
    """One question put to an endpoint. `remedy` is the setting that would mend a failure, `facts` what is
    worth comparing later; `stops` says whether a failure would stop the run that it was made for."""

    name: str
    outcome: Outcome
    observed: str
    expected: str = ""
    remedy: str = ""
    stops: bool = False
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def stopping(self) -> bool:
        return self.outcome == "failed" and self.stops


@dataclass(frozen=True, kw_only=True)
class Report:
    """All checks of one endpoint and its replicas. Holds no host, no key, no path and no time."""

    endpoint: dict[str, str]
    replicas: int
    checks: tuple[Check, ...]

    @property
    def stopping(self) -> tuple[Check, ...]:
        return tuple(check for check in self.checks if check.stopping)

    @property
    def noted(self) -> tuple[str, ...]:
        """A line for each check that failed and stops nothing."""
        failed = (check for check in self.checks if check.outcome == "failed" and not check.stops)
        return tuple(f"preflight: {check.name}: {check.observed} ({check.remedy})" for check in failed)

    @property
    def honoured(self) -> tuple[str, ...]:
        """What every row says that the engine was seen to honour."""
        passed = {check.name for check in self.checks if check.outcome == "passed"}
        return tuple(word for name, word in HONOURED.items() if name in passed)

    def outcome(self, name: str) -> Outcome | None:
        """The outcome of a check by its name; None where it was not made."""
        return next((check.outcome for check in self.checks if check.name == name), None)

    @property
    def made_from(self) -> dict[str, str]:
        """What the server said that its model is made from."""
        facts = next((check.facts for check in self.checks if check.name == "model"), {})
        return {name: str(facts[name]) for name in ORIGIN if name in facts}

    def having(self, check: Check) -> "Report":
        """The report with one check in place of the one of its name."""
        return replace(self, checks=tuple(check if each.name == check.name else each for each in self.checks))

    def refuse(self) -> None:
        """Raises ServerError, which names each remedy, where a check stops the run."""
        if stopping := self.stopping:
            raise ServerError(
                f"{self.endpoint['engine']} {self.endpoint['version']} serving {self.endpoint['model']} "
                "cannot be asked for this run:\n" + "\n".join(map(told, stopping)),
                "\n".join(dict.fromkeys(check.remedy for check in stopping if check.remedy)),
            )


def made_from(file: Path) -> dict[str, str]:
    """What an earlier preflight's server said that its model is made from; nothing where nobody can say."""
    try:
        return msgspec.json.decode(file.read_bytes(), type=Report).made_from
    except (OSError, *UNREADABLE):
        return {}


def told(check: Check) -> str:
    expected = f" (expected: {check.expected})" if check.expected else ""
    return f"  {check.name}: {check.observed}{expected}"


def merged(reports: Sequence[Report]) -> Report:
    """One report of an endpoint and its replicas: of each check the worst, and whether they agree."""
    first = reports[0]
    if len(reports) == 1:
        return first
    by_name = [{check.name: check for check in report.checks} for report in reports]
    names = dict.fromkeys(name for checks in by_name for name in checks)
    same = {name: [checks[name] for checks in by_name if name in checks] for name in names}
    differing = [name for name, checks in same.items() if len(checks) < len(reports) or not agree(checks)]
    checks = [*map(worst, same.values()), agreement(differing, len(reports))]
    return replace(first, replicas=len(reports), checks=tuple(checks))


def agree(checks: Sequence[Check]) -> bool:
    """Whether replicas told the same facts, and none failed where another passed and a run depends on it.

    What only chance decides, or could not be told of one of them, is no difference.
    """
    told = [check.facts for check in checks if check.facts]
    outcomes = {check.outcome for check in checks}
    split = {"passed", "failed"} <= outcomes and any(check.stops for check in checks)
    return not split and all(facts == told[0] for facts in told)


def worst(checks: Iterable[Check]) -> Check:
    return min(checks, key=lambda check: WORST.index(check.outcome))


def agreement(differing: list[str], replicas: int) -> Check:
    """Failed where replicas differ in what a row depends on: one run must not mix two servers."""
    return Check(
        name="replicas",
        outcome="failed" if differing else "passed",
        observed=f"{replicas} replicas differ in: {', '.join(differing)}"
        if differing
        else f"{replicas} replicas agree",
        expected="the same outcome from each",
        remedy="start every replica from the same checkpoint with the same arguments",
        stops=True,
    )
