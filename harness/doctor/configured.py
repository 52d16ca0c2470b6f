"""machine.toml: whether it can be read, and whether what it names is known."""

from collections.abc import Callable
from pathlib import Path

from harness.discover import engines, suggestion
from harness.doctor.examine import begin
from harness.doctor.finding import SECONDS, Finding, State
from harness.errors import HarnessError
from harness.machine import Machine
from harness.setup import ENVIRONMENTS


def machine_of(load: Callable[[], Machine], file: Path | None, data: Path | None) -> tuple[Machine, Finding]:
    """The machine, and what is to be said about its file. Where that is wrong, everything else is looked at
    as if there were none."""
    try:
        machine = begin(load).result(SECONDS)
    except HarnessError as error:
        return Machine(gpus=0, data=data), told("missing", error.message, error.remedy or "correct that line")
    except TimeoutError:
        return Machine(gpus=0, data=data), told(
            "missing", "the GPUs are not counted in time: the driver hangs", HANGS
        )
    known = [*engines(), *ENVIRONMENTS]
    if strange := [name for name in machine.engines if name not in known]:
        words = f"[engines.{strange[0]}] names no engine. {suggestion(strange[0], known)}"
        return machine, told("warning", words, "correct that name")
    path = file or Path("machine.toml")
    return machine, told("ok", str(path) if path.exists() else "none: the defaults hold")


HANGS = "restart the machine, or gpus = 0 in machine.toml"


def told(state: State, found: str, remedy: str = "") -> Finding:
    return Finding(area="machine", name="machine.toml", state=state, found=found, remedy=remedy)
