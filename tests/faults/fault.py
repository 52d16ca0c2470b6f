"""What a fault is: something done to a real command at work, and how that ended."""

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from tests.tally import Ending


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How one fault ended. `note` says what was seen: the message that a user reads, or what is wrong.

    `strikes` is how often the fault struck: a run may be killed several times before it may finish.
    """

    ending: Ending
    note: str = ""
    strikes: int = 1


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One fault, struck by `run(folder, seed)` in an empty folder of its own.

    The same seed strikes alike: moments, places and victims are drawn from it. `kind` is the line of the
    table in which it is counted, such as `generate` or `wire`. `slow` faults, of more than about 5 s, run
    with FULL=1 only. `needs` says why it cannot be struck here, or nothing.
    """

    name: str
    kind: str
    run: Callable[[Path, int], Outcome]
    slow: bool = False
    needs: Callable[[], str] = lambda: ""


def faults(package: ModuleType) -> Iterator[Fault]:
    """The module-level faults of a package's modules, by module and name."""
    for found in sorted(pkgutil.iter_modules(package.__path__), key=lambda one: one.name):
        module = importlib.import_module(f"{package.__name__}.{found.name}")
        yield from (value for value in vars(module).values() if isinstance(value, Fault))
