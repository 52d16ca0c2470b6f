"""One fault, struck in a process of its own.

    python -m tests.faults.one "generate: whole responses" 7 FOLDER

The folder must be empty. How it ended is the last line of standard output, as JSON.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec

from tests.faults import fault, kills, surroundings
from tests.faults.fault import Fault, Outcome
from tests.faults.struck import Trouble


def every() -> Iterator[Fault]:
    """All faults: kills first, then those of the surroundings."""
    yield from fault.faults(kills)
    yield from fault.faults(surroundings)


def named(name: str) -> Fault:
    """The fault of this name. Raises KeyError where there is none, or more than one."""
    found = [one for one in every() if one.name == name]
    if len(found) != 1:
        raise KeyError(f"{len(found)} faults are called {name!r}")
    return found[0]


def main() -> None:
    name, seed, folder = sys.argv[1:]
    try:
        outcome = named(name).run(Path(folder).resolve(), int(seed))
    except Trouble as trouble:
        outcome = Outcome(ending=trouble.ending, note=str(trouble))
    print(msgspec.json.encode(outcome).decode())


if __name__ == "__main__":
    main()
